"""Every row beyond the wishlist runs in miniature, on real variants with the sparse genome, on a CPU.

Those of the wishlist do so from the wheel alone: see test_installed_wheel.py.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.spec.rows import as_smoke, load_rows
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Evaluation

ROWS = load_rows(own=None)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs and cache shared by all rows, so that base scores are made once."""
    return tmp_path_factory.mktemp("every_row")


@pytest.mark.slow
@pytest.mark.mirror
@pytest.mark.quickstart
@pytest.mark.parametrize("row_id", [row.id for row in ROWS.values() if row.wish is None])
def test_the_row_runs_in_miniature(row_id: str, mirror: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("spliceai", "frame-alignment-checks"):
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"the quickstart extra is not installed ({package})")
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(place / "cache"))
    run = run_experiment(as_smoke(ROWS[row_id]), Workspace(place / "runs"), "cpu", rows=ROWS).run
    assert run is not None
    assert run.state() == "finished"
    assert run.record()["smoke"] is True
    evaluated = Evaluation.from_json(run.metrics())
    assert {scorer.kind for scorer in evaluated.scorers} >= {"baseline", "base"}
    assert run.data()["split"]["audit"]["clean"] is True
