"""Cards and prices: never without a day, never silently old, and the user's own go first."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from meta_spliceai.errors import InputError, MissingResourceError
from meta_spliceai.experiments.plan import gpu_prices
from meta_spliceai.experiments.plan.gpu_prices import (
    Market,
    load_market,
    load_prices,
    price_table,
    read_history,
    refresh_prices,
    refreshed_file,
)
from tests.file_server import FileServer

OWN = """history:
  - as_of: 2024-01-05
    provider: my cluster
    source: the bill
    prices: [{gpu: nvidia h200, dollars_per_hour: 0.5}]
"""


@pytest.fixture
def market(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Market:
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return load_market()


def test_the_wishlists_own_table_stays_in_the_history() -> None:
    table = load_prices()
    assert table.as_of == "2025-12"
    assert {price.gpu: price.dollars_per_hour for price in table.prices} == {
        "RTX 4090": 0.44,
        "A40": 0.79,
        "A100 (80GB)": 1.89,
    }


def test_every_card_asked_for_is_described(market: Market) -> None:
    wanted = {"RTX 3090", "RTX 4090", "A40", "A100 40GB", "A100 80GB", "L40S", "H100", "H200"}
    assert wanted <= set(market.gpus)
    assert all(gpu.source for gpu in market.gpus.values())
    assert all(offer.as_of and offer.source for offer in market.offers.values())


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB"),
        ("a100-80gb", "A100 80GB"),
        ("rtx4090", "RTX 4090"),
    ],
)
def test_cards_are_known_by_their_other_names(market: Market, driver: str, name: str) -> None:
    assert market.find(driver).name == name


def test_an_unknown_card_is_told_the_nearest(market: Market) -> None:
    with pytest.raises(InputError, match=r"unknown GPU 'RTX 4080' in --gpu; did you mean RTX 4090"):
        market.find("RTX 4080", "--gpu")


def test_the_users_price_goes_before_a_newer_one(market: Market, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(OWN)
    assert market.offers["H200"].dollars_per_hour != 0.5
    assert load_market(file).offers["H200"].dollars_per_hour == 0.5
    (tmp_path / "wishlist").mkdir()
    (tmp_path / "wishlist" / "gpus.yaml").write_text(OWN.replace("0.5", "0.7"))
    assert load_market().offers["H200"].dollars_per_hour == 0.7
    assert load_market(file).offers["H200"].dollars_per_hour == 0.5


def test_prices_of_one_cloud_are_its_own_and_the_users(market: Market, tmp_path: Path) -> None:
    rented = load_market(cloud="runpod").offers
    assert rented
    assert all(offer.provider.startswith("RunPod") for offer in rented.values())
    assert {offer.provider.split()[0] for offer in market.offers.values()} > {"RunPod"}
    assert not load_market(cloud="aws").offers
    (tmp_path / "mine.yaml").write_text(OWN)
    assert set(load_market(tmp_path / "mine.yaml", cloud="aws").offers) == {"H200"}


def test_old_prices_are_named_with_their_day(tmp_path: Path, market: Market) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(OWN)
    assert "H200 (2024-01-05)" in load_market(file).old_prices(date(2024, 3, 6))
    assert "61 days" in load_market(file).old_prices(date(2024, 3, 6))
    assert "H200" not in load_market(file).old_prices(date(2024, 3, 5))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "history:\n  - provider: a\n    source: b\n",
            r"mine, line 2: field 'history.0.as_of' is missing: month or day",
        ),
        (
            "history:\n  - as_of: 2026-01-02\n    provider: a\n    source: b\n    prices:\n      - gpu: A40\n"
            "        dollars_per_hour: -1\n",
            r"mine, line 7: field 'history.0.prices.0.dollars_per_hour' = -1: input should be greater than 0",
        ),
        ("history:\n  - as_of: 2026-13\n    provider: a\n    source: b\n", "line 2: .*not a day of the calendar"),
        ("tables: 1\n", "line 1: field 'tables': no such field; fields here: gpus, history"),
        (
            "history:\n  - as_of: 2026-01-02\n    provider: a\n    source: b\n    pricez: 3\n",
            "line 5: field 'history.0.pricez': no such field; fields here: as_of, provider, source, recommendations, ",
        ),
        ("history:\n  - as_of: yesterday\n    provider: a\n    source: b\n", "YYYY-MM or YYYY-MM-DD"),
        ("gpus:\n  - name: X\n", r"line 2: field 'gpus.0.vram_gb' is missing \(and 5 more\): its memory"),
        ("gpus:\n  - name: X\n    vram: 3\n", r"line 3: field 'gpus.0.vram': no such field; fields here: name, "),
        ("{}", "neither 'gpus' nor a 'history'"),
        ("history: [", "mine, line 1: not valid YAML"),
        ("history:\n  - as_of: 2026-13-02\n", r"mine: not valid YAML \(month must be in 1..12\)"),
        (
            "history:\n  - sauce: b\n    as_of: 2026-01-02\n    provider: a\n",
            r"line 2: field 'history.0.sauce': no such field; fields here: as_of, .* \(and 1 more\)",
        ),
        (
            "history:\n  - as_of: 2026-01-02\n    as_of: 2025-01-02\n",
            "mine, line 3: field 'as_of' stands twice, first on line 2",
        ),
    ],
)
def test_a_bad_file_names_line_field_and_what_is_allowed(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_history(text, "mine")


def test_a_price_of_a_card_nobody_described_is_refused_in_a_users_file(tmp_path: Path, market: Market) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(OWN.replace("nvidia h200", "H20O"))
    with pytest.raises(
        InputError, match=r"unknown GPU 'H20O' in .*mine.yaml, line 5: field 'history.0.prices.0.gpu' .*mean H200"
    ):
        load_market(file)
    card = "name: H20O, vram_gb: 1, bandwidth_gb_s: 1, fp32_tflops: 1, tf32_tflops: 1, bf16_tflops: 1, source: a"
    file.write_text(f"gpus: [{{{card}}}]\n{file.read_text()}")
    assert load_market(file).offers["H20O"].dollars_per_hour == 0.5


def test_a_price_of_a_day_to_come_is_refused(tmp_path: Path, market: Market) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(OWN.replace("2024", "2924"))
    with pytest.raises(
        InputError, match=r"mine.yaml, line 2: field 'history.0.as_of' = '2924-01-05': this day is still to come"
    ):
        load_market(file)


def test_prices_that_are_no_text_are_named(tmp_path: Path, market: Market) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"history: \xff\n")
    with pytest.raises(InputError, match=r"mine\.yaml: not UTF-8 text"):
        load_market(tmp_path / "mine.yaml")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingResourceError, match="no prices at"):
        load_market(tmp_path / "none.yaml")


SKYPILOT = """InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Region,SpotPrice,Price,GpuInfo
1x_A,H100-SXM,1.0,8.0,117.0,US,0.9,2.99,
1x_B,H100-SXM,1.0,8.0,117.0,CA,0.8,2.79,
8x_B,H100-SXM,8.0,64.0,936.0,CA,0.8,1.79,
1x_C,A100-80GB,1.0,8.0,117.0,US,,,
1x_D,RTX4090,1.0,6.0,24.0,US,0.2,0.4,
1x_E,V100,1.0,6.0,24.0,US,0.2,0.3,
cpu,,,6.0,24.0,US,0.2,0.3,
"""


def test_skypilots_catalogue_becomes_dated_prices(tmp_path: Path, market: Market) -> None:
    file = tmp_path / "vms.csv"
    file.write_text(SKYPILOT)
    table = price_table(file, "runpod", market, "2026-09-21")
    assert table["as_of"] == "2026-09-21"
    assert table["prices"] == [
        {"gpu": "H100", "dollars_per_hour": 2.79},
        {"gpu": "RTX 4090", "dollars_per_hour": 0.4},
    ]


def test_a_catalogue_in_another_format_is_refused(tmp_path: Path, market: Market) -> None:
    file = tmp_path / "vms.csv"
    file.write_text("InstanceType,Price\na,1\n")
    with pytest.raises(InputError, match="column AcceleratorName, AcceleratorCount missing"):
        price_table(file, "runpod", market, "2026-09-21")
    file.write_text("AcceleratorName,AcceleratorCount,Price\nH100,1,cheap\n")
    with pytest.raises(InputError, match="line 2: Price = 'cheap'"):
        price_table(file, "runpod", market, "2026-09-21")


def test_catalogues_are_fetched_and_their_prices_count(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    with FileServer() as server:
        monkeypatch.setattr(gpu_prices, "CATALOGUE", server.address + "/{provider}/vms.csv")
        with pytest.raises(MissingResourceError, match=r"gave no price \(runpod: no catalogue \(.*give your own"):
            refresh_prices(market, ["runpod"])
        server.files["/runpod/vms.csv"] = SKYPILOT.encode()
        server.files["/lambda/vms.csv"] = SKYPILOT.splitlines()[0].encode()
        file, found, left_out = refresh_prices(market, ["runpod", "lambda", "vast"])
    today = datetime.now(UTC).date()
    assert found == [f"runpod: 2 cards, {today}"]
    assert [line.partition(" (")[0] for line in left_out] == [
        "lambda: no card we know, or no price",
        "vast: no catalogue",
    ]
    assert file == refreshed_file()
    offer = load_market().offers["RTX 4090"]
    assert (offer.provider, offer.dollars_per_hour, offer.as_of) == ("runpod", 0.4, str(today))
    assert f"RTX 4090 ({today})" in load_market().old_prices(today + timedelta(days=61))
