"""A row whose training windows are moved: cut wider, audited wider, predicted as ever."""

from __future__ import annotations

from typing import Any

from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.spec.experiment import parse_spec
from meta_spliceai.experiments.spec.rows import change
from meta_spliceai.experiments.store.workspace import Workspace


def test_a_row_with_moved_windows_runs_and_is_audited_for_all_that_training_may_see(
    workspace: Workspace, toy_values: dict[str, Any]
) -> None:
    still = parse_spec({**toy_values, "training": {**toy_values["training"], "epochs": 1}}, "test")
    moved = change(still, ["training.window_shift=3"])
    losses, windows = [], []
    for row in (still, moved):
        run = run_experiment(row, workspace, "cpu", rows={row.id: row}).run
        assert run is not None
        losses.append(run.read_curves()["train_loss"].iloc[0])
        windows.append((run.data()["window"]["length"], run.data()["split"]["audit"]["window"]))
    assert windows == [(41, 41), (41, 47)]
    assert losses[0] != losses[1]
