"""A row run with an encoder that was trained here names it everywhere, and does not complete the row as wished."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, parse_spec
from meta_spliceai.experiments.spec.rows import change
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.experiments.wishlist.document import state_of_rows
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome
from meta_spliceai.splice_engine.meta_layer.pretraining import PretrainingConfig, corpus_of, pretrain

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.mark.slow
def test_a_row_with_an_own_encoder_names_it_and_stays_open(
    toy_row: ExperimentSpec, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    contigs = {name: random.integers(0, 4, 2_000).astype(np.uint8) for name in ("chr1", "chr2")}
    config = PretrainingConfig(length=64, batch_size=2, steps=3, check_batches=1)
    report = pretrain(corpus_of(MemoryGenome(contigs, "toy", "toy"), ["2"]), config, tmp_path / "own", "cpu")
    wished = parse_spec(
        {
            **toy_row.model_dump(mode="json"),
            "encoder": {"name": "hyenadna-tiny-1k", "settings": {"hidden_dim": 8, "freeze_encoder": True}},
            "training": {"epochs": 1, "batch_size": 64},
        },
        "test",
    )
    rows = {wished.id: wished}
    row = change(wished, [f"encoder.settings.weights={tmp_path / 'own'}"])
    run = run_experiment(row, workspace, "cpu", rows=rows).run
    assert run is not None
    (entry,) = workspace.ledger.finished()
    told = (
        f"trained, not better than a Markov model: 0.0 Mb of toy without 2, 3 steps, {report.held_out_bits:.4f} bits a "
        f"base (Markov models, order 5: {report.markov_bits[5]:.4f}, order 8: {report.markov_bits[8]:.4f})"
    )
    assert entry["weights_origin"].startswith(f"folder own ({told}; sha256 ")
    assert f"not the published weights: {entry['weights_origin']}" in entry["notes"]
    assert entry["as_wished"] is False
    assert [state.state for state in state_of_rows(rows, workspace)] != ["completed"]

    monkeypatch.syspath_prepend(TOOLS)
    import wishlist_results

    monkeypatch.setattr(wishlist_results, "LEDGER", workspace.root.name)
    monkeypatch.setattr(wishlist_results, "load_rows", lambda own: rows)
    wishlist_results.read_results.cache_clear()
    table = wishlist_results.rows_table(workspace.root.parent)
    wishlist_results.read_results.cache_clear()
    own, published = (line for line in table.splitlines() if line.startswith("| A toy row"))
    assert f"not as wished, weights {entry['weights_origin']}" in own
    assert published.startswith("| A toy row | open")
    sys.modules.pop("wishlist_results")
