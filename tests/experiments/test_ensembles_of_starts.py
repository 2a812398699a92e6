"""Several random starts of one row as an ensemble; what a result says of disagreement and of imbalance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, parse_spec
from meta_spliceai.experiments.spec.rows import change
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig


@pytest.fixture
def starts(toy_values: dict[str, Any]) -> dict[str, ExperimentSpec]:
    """The toy row from two random starts, and their ensemble."""
    first = parse_spec({**toy_values, "training": {**toy_values["training"], "epochs": 1}}, "test")
    second = change(first, ["training.start=1"]).model_copy(update={"id": "toy-again"})
    members = {"members": [first.id, second.id], "combine": "mean"}
    both = parse_spec({**first.model_dump(mode="json"), "id": "toy-starts", "ensemble": members}, "test")
    return {row.id: row for row in (first, second, both)}


def finished(row: ExperimentSpec, workspace: Workspace, rows: dict[str, ExperimentSpec]) -> RunDirectory:
    run = run_experiment(row, workspace, "cpu", rows=rows).run
    assert run is not None
    return run


def test_starts_differ_on_the_same_rows_and_their_disagreement_is_kept_and_checked(
    workspace: Workspace, starts: dict[str, ExperimentSpec]
) -> None:
    both = finished(starts["toy-starts"], workspace, starts)
    members = [finished(starts[row], workspace, starts) for row in ("toy-row", "toy-again")]
    predictions = [np.load(member.path / "all_predictions.npy") for member in members]
    assert not np.allclose(*predictions)
    assert members[0].read_split().equals(members[1].read_split())
    shares = list(both.record()["model"]["member_weights"].values())
    mean = np.tensordot(shares, predictions, axes=1)
    apart = np.sqrt(np.tensordot(shares, np.square(predictions - mean), axes=1).mean(axis=1))
    frame = both.read_predictions()
    assert np.allclose(frame["toy-starts.disagreement"], apart, atol=1e-3)
    checked = both.record()["training"]["disagreement"]
    tested = (frame["part"] == "test").to_numpy()
    assert checked["mean"] == pytest.approx(frame["toy-starts.disagreement"][tested].mean(), rel=1e-4)
    assert -1 <= checked["spearman_with_error"] <= 1
    (note,) = [note for note in both.record()["notes"] if "rank correlation" in note]
    assert f"{checked['spearman_with_error']:.2f}" in note


def test_a_result_states_the_imbalance_and_what_was_done_about_it(
    workspace: Workspace, starts: dict[str, ExperimentSpec]
) -> None:
    plain = finished(starts["toy-row"], workspace, starts)
    counts = plain.record()["training"]["classes"]
    assert sum(counts.values()) == plain.record()["training"]["train_rows"]
    assert set(counts) == {"with Δ 0", "with another Δ"}
    (note,) = [note for note in plain.record()["notes"] if note.startswith("trained on")]
    assert note.endswith("each row weighs the same in the loss")
    balanced = change(starts["toy-row"], ["training.balance=classes", "head.name=binary", "target=altering"])
    notes = finished(balanced, workspace, starts).record()["notes"]
    assert any(" Splice-altering; each class weighs the same in the loss" in note for note in notes)


def test_start_zero_is_the_seed_itself_and_further_starts_are_apart() -> None:
    seeds = [TrainingConfig(seed=seed, start=start).own_seed for seed in (0, 1) for start in (0, 1, 2)]
    assert seeds[0] == 0
    assert seeds[3] == 1
    assert len(set(seeds)) == 6
