"""The wishlist's document and its results page say what the kept runs say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from meta_spliceai.experiments.plan.gpu_prices import load_market, load_prices
from meta_spliceai.experiments.spec.rows import load_rows
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.experiments.wishlist.document import read_wishlist, render_wishlist, state_of_rows
from meta_spliceai.resources.resolve import shipped_encoders

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from wishlist_results import (  # noqa: E402
    Result,
    _outcome,
    encoders_table,
    folds_run,
    on_the_wishlist,
    packaged_encoder,
    read_results,
    rows_table,
)

COMPLETED = "## ✅ Completed Experiments"


def completed_in(document: str) -> list[str]:
    """Lines of the Completed table."""
    part = document.split(COMPLETED)[1].split("\n---")[0]
    return [line for line in part.splitlines() if line.startswith("|")]


def test_completed_rows_are_those_of_the_ledger() -> None:
    workspace = Workspace(ROOT / "results")
    rows = load_rows(own=None)
    states = state_of_rows(rows, workspace)
    text = render_wishlist(states, workspace.finished(), load_prices(), load_market(refreshed=False))
    assert completed_in((ROOT / "WISHLIST.md").read_text(encoding="utf-8")) == completed_in(text), (
        "run: meta-spliceai wishlist render --ledger results"
    )


def test_the_document_reads_back_as_the_catalogues_rows() -> None:
    rows = load_rows(own=None)
    found = read_wishlist((ROOT / "WISHLIST.md").read_text(encoding="utf-8"), rows)
    wished = {spec.id for spec in rows.values() if spec.wish is not None}
    assert {(row.spec.id, row.status) for row in found.rows} == {(row_id, "known") for row_id in wished}


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((0.5, 0.6, 0.7), "a GPU is not worth it on these data"),
        ((0.9, 0.92, 0.95), "worth running on a GPU"),
        ((0.7, 0.82, 0.9), "the test is too small to tell them apart"),
    ],
)
def test_whether_a_gpu_would_pay_follows_from_the_interval(interval: tuple[float, ...], words: str) -> None:
    low, middle, high = interval
    learned = {"scorer": "model", "kind": "learned", "metric": "auprc", "estimate": middle, "low": low, "high": high}
    base = {"scorer": "base max_window", "kind": "base", "metric": "auprc", "estimate": 0.8, "low": 0.7, "high": 0.9}
    entry = {"row": "simple-cnn-501", "metrics": [learned, base], "test": {"rows": 1234}}
    said = _outcome(Result(entry, load_rows(own=None)["simple-cnn-501"]))
    assert said.startswith(f"AUPRC {middle:.3f} [{low:.3f}, {high:.3f}] on 1,234 tested variants at full scale")
    assert words in said


@pytest.mark.parametrize(("folds", "words"), [(22, ""), (21, ", here 21, one for each chromosome that toy has")])
def test_another_number_of_chromosomes_than_wished_is_explained(folds: int, words: str) -> None:
    rows = load_rows(own=None)
    entry = {"folds": [{"folds": folds}], "data": {"name": "toy"}}
    said = folds_run(Result(entry, rows["validated-delta-loco"]))
    assert said.startswith(words)
    assert bool(said) == bool(words)
    assert folds_run(Result(entry, rows["validated-delta-cv5"])) == ""


def test_a_row_completed_with_a_packaged_encoder_leaves_that_of_the_published_weights_open() -> None:
    table = rows_table(ROOT).splitlines()
    for result in on_the_wishlist(read_results(ROOT)):
        if result.entry.get("as_wished"):
            open_rows = [line for line in table if line.startswith(f"| {result.spec.title} | open: ")]
            assert len(open_rows) == packaged_encoder(result), result.entry["run"]


def test_packaged_encoders_stand_beside_markov_models_that_they_beat() -> None:
    header, _, *rows = (line.strip("| ").split(" | ") for line in encoders_table(ROOT).splitlines())
    assert [row[0] for row in rows] == list(shipped_encoders())
    assert header[3:] == ["bits a base", "Markov model of order 5", "of order 8"]
    for row in rows:
        assert float(row[3]) < float(row[5]) < float(row[4]) < 2
