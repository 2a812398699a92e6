"""Out of memory is a state that says which batch fits."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from meta_spliceai.errors import RunError
from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.spec.rows import change
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.splice_engine.meta_layer import training


def memory_for(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """A device on which a step of more rows does not fit."""
    original = training.Trainer.batch_loss

    def step(self: Any, batch: torch.Tensor, shifts: torch.Tensor | None = None) -> Any:
        if len(batch) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, batch, shifts)

    monkeypatch.setattr(training.Trainer, "batch_loss", step)


def test_out_of_memory_names_the_batch_that_fits_and_that_one_does(
    toy_row: ExperimentSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {toy_row.id: toy_row}
    memory_for(monkeypatch, 10)
    with pytest.raises(RunError, match=r"^out of memory at batch 32; fits at 8 "):
        run_experiment(toy_row, workspace, "cpu", rows=rows)
    (run,) = workspace.runs()
    assert run.state() == "failed"
    assert run.reason().startswith("out of memory at batch 32; fits at 8 ")
    words = run.reason().partition("(")[2]
    advice = [word.strip(")") for word in words.split() if word.startswith("training.")]
    assert advice == ["training.batch_size=8", "training.accumulate=4"]
    outcome = run_experiment(change(toy_row, advice), workspace, "cpu", rows=rows)
    assert outcome.run is not None
    assert outcome.run.state() == "finished"


@pytest.mark.slow
def test_where_not_even_one_row_fits_it_is_said(
    toy_row: ExperimentSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_for(monkeypatch, 0)
    with pytest.raises(RunError, match=r"^out of memory at batch 32, and at 1 too, on cpu with windows of 41"):
        run_experiment(toy_row, workspace, "cpu", rows={toy_row.id: toy_row})
