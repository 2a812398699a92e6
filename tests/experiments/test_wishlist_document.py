"""The wishlist as a document: read, rendered, and read again without losing a row."""

from __future__ import annotations

from pathlib import Path

import pytest

from meta_spliceai.errors import InputError
from meta_spliceai.experiments.board.shown import Table, as_markdown
from meta_spliceai.experiments.plan.gpu_prices import load_market, load_prices, read_history, refreshed_file
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, Wish
from meta_spliceai.experiments.spec.rows import load_rows
from meta_spliceai.experiments.wishlist.add_row import rows_as_yaml, write_rows
from meta_spliceai.experiments.wishlist.document import (
    RowState,
    mend,
    read_hours,
    read_priority,
    read_vram,
    read_wishlist,
    render_wishlist,
    split_row,
    write_guess,
)

HEAD = "### 1. A section\n\n| Experiment | Model | VRAM | Time Est. | Priority |\n|---|---|---|---|---|\n"


def mangled(text: str, encoding: str) -> str:
    return text.encode().decode(encoding)


@pytest.fixture(scope="module")
def catalogue() -> dict[str, ExperimentSpec]:
    return load_rows(own=None)


def states(rows: dict[str, ExperimentSpec], **last_runs: str) -> list[RowState]:
    return [
        RowState(spec, "completed", last_run=last_runs[spec.id.replace("-", "_")])
        if spec.id.replace("-", "_") in last_runs
        else RowState(spec, "runnable")
        for spec in rows.values()
        if spec.wish is not None
    ]


FINISHED = {
    "event": "finished",
    "at": "2026-02-03T04:05:06+00:00",
    "run": "simple-cnn-501-aaaabbbbcccc",
    "row": "simple-cnn-501",
    "seed": 3,
    "device": "cpu",
    "seconds": 233.0,
    "peak_memory_bytes": 992_854_016,
    "peak_gpu_memory_bytes": None,
    "notes": ["25,000 were asked for | all are used"],
    "verdicts": ["beats position alone: AUPRC difference +0.1 [+0.0, +0.2]", "does not beat base own_site: …"],
    "metrics": [
        {"scorer": "base own_site", "kind": "base", "metric": "auprc", "estimate": 0.5, "low": 0.4, "high": 0.6},
        {"scorer": "simple-cnn-501", "kind": "learned", "metric": "auprc", "estimate": 0.61, "low": 0.5, "high": 0.7},
        {"scorer": "simple-cnn-501", "kind": "learned", "metric": "spearman_effect", "estimate": -0.2, "low": None},
    ],
}


@pytest.mark.parametrize("text", ["→", "⭐ HIGH", "🎯 Experiments", "✅", "📝 How", "größer – „so“"])
@pytest.mark.parametrize("encoding", ["mac_roman", "latin-1"])
def test_mangled_letters_are_put_right(text, encoding):
    assert mend(mangled(text, encoding))[0] == text


@pytest.mark.parametrize("text", ["2–4h", "r=0.41 → r>0.55", "⭐ HIGH", "Δ ± µ é ü", "naïve café"])
def test_right_letters_stay(text):
    assert mend(text) == (text, 0)


@pytest.mark.parametrize(
    ("cell", "value"),
    [("12GB", (12.0, False)), ("48GB+", (48.0, True)), ("48+ GB", (48.0, True)), ("~7.5 GiB", (7.5, False)),
     ("-", (None, False)), ("", (None, False))],
)  # fmt: skip
def test_memory_cells(cell, value):
    assert read_vram(cell) == value


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("2-4h", (2, 4)),
        ("2–4 hours", (2, 4)),
        ("3h", (3, 3)),
        ("30-90 min", (0.5, 1.5)),
        ("5min", (0.083, 0.083)),
        ("–", None),
    ],
)
def test_time_cells(cell, value):
    assert read_hours(cell) == value


@pytest.mark.parametrize(
    ("hours", "cell"),
    [
        ((2, 4), "2-4h"),
        ((0.5, 1.5), "0.5-1.5h"),
        ((0.083, 0.083), "5min"),
        ((0.1, 0.2), "6-12min"),
        ((0.01, 0.5), "0.01-0.5h"),
    ],
)
def test_a_guess_below_an_hour_is_written_in_minutes(hours, cell):
    assert write_guess(Wish(hours=hours)).time == cell


@pytest.mark.parametrize(
    ("read", "cell"),
    [(read_vram, "lots"), (read_vram, "0GB"), (read_vram, "-3GB"), (read_hours, "4-2h"), (read_hours, "soon"),
     (read_hours, "0h"), (read_priority, "URGENT")],
)  # fmt: skip
def test_cells_that_say_nothing_are_refused_with_the_cell(read, cell):
    with pytest.raises(InputError, match=cell):
        read(cell)


@pytest.mark.parametrize(
    "wish",
    [
        Wish(vram_gb=48, vram_or_more=True, hours=(12, 24), priority="low"),
        Wish(vram_gb=8, hours=(1, 1), priority="high", starred=True),
        Wish(hours=(0.1, 0.25)),
        Wish(),
    ],
)
def test_a_written_guess_is_read_back(wish):
    guess = write_guess(wish)
    assert read_vram(guess.vram) == (wish.vram_gb, wish.vram_or_more)
    assert read_hours(guess.time) == wish.hours
    assert read_priority(guess.priority) == (wish.priority, wish.starred)


@pytest.mark.parametrize("cells", [("a", "b"), ("a | b", ""), ("", "x\ny"), ("ends with |", "b")])
def test_a_table_line_keeps_its_cells(cells):
    assert split_row(as_markdown(Table(cells, [])).splitlines()[0]) == [" ".join(cell.split()) for cell in cells]


def test_every_row_of_the_catalogue_survives_render_and_import(catalogue):
    rows = states(catalogue)
    document = render_wishlist(rows, [], load_prices(), load_market(refreshed=False))
    read = read_wishlist(document, catalogue)
    assert read.not_understood == []
    assert [row.spec for row in read.rows] == [row.spec for row in rows]
    assert {row.status for row in read.rows} == {"known"}


def test_the_newest_price_of_each_card_stands_with_its_day_beside_the_wishlists_own(catalogue, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path / "cache"))
    mine = "history: [{as_of: %s, provider: %s, source: a bill, prices: [{gpu: L40S, dollars_per_hour: %s}]}]"
    refreshed_file().parent.mkdir(parents=True)
    refreshed_file().write_text(mine % ("2026-11-21", "refreshed here", "0.01"))
    document = render_wishlist(states(catalogue), [], load_prices(), load_market(refreshed=False))
    assert "refreshed here" not in document  # another machine would write another document
    (tmp_path / "wishlist").mkdir()
    (tmp_path / "wishlist" / "gpus.yaml").write_text(mine % ("2026-11-20", "our cluster", "0.55"))
    document = render_wishlist(states(catalogue), [], load_prices(), load_market(refreshed=False))
    own, newest = document.split("### Newest Known Prices")
    assert "(as of 2025-12)" in own
    assert "| L40S | 48GB | $0.55 | 2026-11-20 | our cluster |" in newest.splitlines()
    assert "our cluster: a bill" in newest
    read = read_wishlist(document, catalogue)
    assert read.not_understood == []


def test_the_same_ledger_gives_the_same_bytes(catalogue):
    rows = states(catalogue, simple_cnn_501=FINISHED["run"])
    assert render_wishlist(rows, [FINISHED], load_prices(), load_market(refreshed=False)) == render_wishlist(
        rows, [FINISHED], load_prices(), load_market(refreshed=False)
    )


def test_a_completed_row_stands_under_completed_with_its_numbers(catalogue):
    text = render_wishlist(
        states(catalogue, simple_cnn_501=FINISHED["run"]), [FINISHED], load_prices(), load_market(refreshed=False)
    )
    [line] = [line for line in text.splitlines() if line.startswith("| SimpleCNN 501nt | 2026-02-03")]
    assert split_row(line)[2:] == [
        "AUPRC 0.610 [0.500, 0.700] (base own_site: 0.500); Spearman r with the measured effect −0.200",
        "beats 1 of 2 baselines in AUPRC; 25,000 were asked for | all are used; "
        "measured: 0.99 GB of memory, 3.9 min; run simple-cnn-501-aaaabbbbcccc, seed 3, cpu",
    ]
    assert "*None yet*" not in text


def test_a_card_s_memory_and_the_price_stand_among_the_notes(catalogue):
    entry = {**FINISHED, "seconds": 7200.0, "peak_gpu_memory_bytes": 61_000_000, "dollars": 0.88}
    text = render_wishlist(
        states(catalogue, simple_cnn_501=FINISHED["run"]), [entry], load_prices(), load_market(refreshed=False)
    )
    assert "measured: 0.06 GB of GPU memory, 2.00 h, $0.88; run simple-cnn-501-aaaabbbbcccc" in text


def test_the_original_keeps_every_row(mirror: Path, catalogue):
    original = (mirror / "wishlist" / "GPU_EXPERIMENT_WISHLIST.md").read_text(encoding="utf-8")
    read = read_wishlist(original, catalogue)
    assert read.not_understood == []
    assert len(read.rows) == 20
    assert {row.status for row in read.rows} == {"known"}, [r for r in read.rows if r.status != "known"]
    assert read.mended == 7
    assert sum(read.other_tables.values()) == 7
    rendered = render_wishlist(states(catalogue), [], load_prices(), load_market(refreshed=False)).splitlines()
    table_lines = [split_row(line) for line in rendered if line.startswith("|")]
    for line in mend(original)[0].splitlines():
        if line.startswith("|") and not set(line) <= set("|- "):
            cells = split_row(line)
            if cells[0] == "Experiment":
                continue  # rendered tables have two further columns
            assert any(found[: len(cells)] == cells for found in table_lines), line


def test_new_rows_are_put_together_from_what_they_name(catalogue):
    text = HEAD.replace("Model", "Context") + (
        "| SimpleCNN 2001nt | 2,000nt | 20GB | 6-9h | LOW |\n| HyenaDNA-small + Quantile | 301nt | 12GB | 2h | HIGH |\n"
    )
    first, second = read_wishlist(text, catalogue).rows
    assert (first.status, first.spec.id, first.spec.window, first.spec.encoder.name) == (
        "new", "simplecnn-2001nt", 2001, "simple-cnn",
    )  # fmt: skip
    assert (second.spec.encoder.name, second.spec.head.name, second.spec.window) == (
        "hyenadna-small-32k", "quantile", 301,
    )  # fmt: skip
    assert first.spec.section == "A section"


def test_a_changed_guess_is_noticed(catalogue):
    text = HEAD + "| HyenaDNA-small + ValidatedDelta | hyenadna-small-32k | 1GB | 2-4h | ⭐ HIGH |\n"
    [row] = read_wishlist(text, catalogue).rows
    assert row.status == "changed"
    assert row.spec.wish.vram_gb == 1
    assert row.spec.encoder == catalogue["hyenadna-small-validated-delta"].encoder


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("| X | y | lots | 1h | LOW |", "lots"),
        ("| SimpleCNN odd | y | 1GB | 1h | SOON |", "SOON"),
        ("| SimpleCNN | 1GB |", "2 cells under 5 headings"),
        ("| Mystery model | y | 1GB | 1h | LOW |", "names no model"),
        ("| | simple-cnn | 1GB | 1h | LOW |", "no title"),
        ("| SimpleCNN 501nt | a | 12GB | 2-3h | HIGH |\n| SimpleCNN 501nt | a | 12GB | 2-3h | HIGH |", "twice"),
    ],
)
def test_a_row_that_is_not_understood_is_named_with_its_line(catalogue, line, reason):
    read = read_wishlist(HEAD + line + "\n", catalogue)
    [miss] = read.not_understood
    assert reason in miss.reason
    assert (HEAD + line).splitlines()[miss.line - 1].strip() == miss.text


def test_another_table_is_named_row_by_row(catalogue):
    read = read_wishlist("## x\n\n| Name | Colour |\n|---|---|\n| a | b |\n", catalogue)
    assert read.rows == []
    assert "Name, Colour" in read.not_understood[0].reason


def test_written_rows_are_what_the_catalogue_reads(catalogue, tmp_path):
    wished = [spec for spec in catalogue.values() if spec.wish is not None]
    write_rows(wished, tmp_path)
    again = load_rows(own=tmp_path)
    assert {spec.id: spec for spec in wished} == {spec.id: again[spec.id] for spec in wished}
    with pytest.raises(InputError, match="already"):
        write_rows(wished, tmp_path)
    write_rows(wished, tmp_path, replace=True)
    assert all(text.startswith("section: ") for text in rows_as_yaml(wished).values())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("history: [{provider: a, source: b}]", "as_of"),
        ("history: [{as_of: 2025-12, provider: a, source: b, prices: [{gpu: A40, dollars_per_hour: -1}]}]", "-1"),
        ("history: [{as_of: '2025', provider: a, source: b}]", "2025"),
        ("history: [{as_of: 2025-12, provider: a, source: b, price: 1}]", "price"),
        ("history: [", "YAML"),
    ],
)
def test_a_price_needs_its_day(text, said):
    with pytest.raises(InputError, match=said):
        read_history(text, "gpus.yaml")


def test_an_option_s_value_is_refused_by_the_option_s_name():
    with pytest.raises(InputError, match="--vram 'lots': write it as 12GB"):
        read_vram("lots", "--vram")
    with pytest.raises(InputError, match="--hours 'soon': write it as 3h"):
        read_hours("soon", "--hours")
