"""`meta-spliceai plan` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meta_spliceai.cli import main


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Data are not looked for: a plan says what it does without them.
    monkeypatch.setenv("META_SPLICEAI_MIRROR", str(tmp_path / "none"))


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["plan", *arguments])
    return int(ended.value.code or 0)


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    assert "meta-spliceai plan --budget 2 --deadline 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("validated-delta-10k", "--gpu", "RTX 4080"), "unknown GPU 'RTX 4080' in --gpu; did you mean RTX 4090"),
        (("validated-delta-10x",), "unknown row id 'validated-delta-10x'; did you mean validated-delta-10k"),
        (("validated-delta-10k", "--prices", "none.yaml"), "no table of prices at none.yaml"),
        (("validated-delta-10k", "--set", "training.batch_size=0"), "training.batch_size"),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_a_price_without_a_day(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.yaml").write_text("history:\n  - provider: a\n    source: b\n    prices: []\n")
    assert run("simple-cnn-501", "--prices", "p.yaml") == 2
    assert "p.yaml, line 2: field 'history.0.as_of' is missing" in capsys.readouterr().err


def test_a_plan_as_json_names_every_card_and_its_price(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    assert run("wt1-simple-cnn", "--set", "window=41", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    (row,) = plan["rows"]
    assert {"RTX 3090", "RTX 4090", "A40", "L40S", "H100", "H200"} <= {offer["gpu"] for offer in row["offers"]}
    assert row["best"]["dollars"] > 0
    assert row["best"]["as_of"]
    assert plan["total"]["hours"] == pytest.approx(row["best"]["hours"], rel=1e-3)


def test_a_plan_as_a_table_names_the_days_of_its_prices(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("wt1-simple-cnn", "--set", "window=41", "--gpu", "A40") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "1 of 1 rows" in out
    assert "price: A40 $0.44/h (RunPod Secure Cloud, 2026-08-19" in out
    assert "estimate" in out


def test_a_card_without_a_price_says_how_to_give_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("wt1-simple-cnn", "--set", "window=41", "--gpu", "L40S") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "no price" in out
    assert "--prices FILE" in out


def test_check_without_runs_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--check") == 0
    assert "no finished run in runs" in " ".join(capsys.readouterr().out.split())
