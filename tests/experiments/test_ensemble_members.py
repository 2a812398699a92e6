"""Which rows an ensemble can combine, and what its weights are fitted on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.experiments.run.prepare import Clock, Work, load_rows_of, prepare
from meta_spliceai.experiments.run.procedures import train_ensemble
from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, parse_spec
from meta_spliceai.experiments.spec.rows import change
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.splice_engine.meta_layer.models.ensembles import fit_shares
from tests.experiments.silent import Silent

Rows = dict[str, ExperimentSpec]


def rows_of(toy_values: dict[str, Any], *assignments: str) -> Rows:
    """Two rows that differ in their start, each changed by the assignments, and their ensemble."""
    first = change(parse_spec(toy_values, "test"), ["training.epochs=2", *assignments])
    second = change(first, ["training.start=1"]).model_copy(update={"id": "toy-again"})
    both = {**toy_values, "id": "toy-both", "ensemble": {"members": ["toy-row", "toy-again"]}}
    return {row.id: row for row in (first, second, parse_spec(both, "test"))}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"ensemble": {"members": ["a", "a"]}}, "field 'ensemble.members' .* 'a' is named twice; for several starts"),
        ({"ensemble": {"members": ["a", "b"]}, "split": {"name": "group", "folds": 5}}, "an ensemble has no folds"),
        (
            {"ensemble": {"members": ["a", "b"]}, "target": "altering"},
            "an ensemble combines rows that learn 'validated-delta'; target is 'altering'",
        ),
    ],
)
def test_an_ensemble_that_cannot_be_is_refused_as_it_is_read(
    changed: dict[str, Any], words: str, toy_values: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=words):
        parse_spec({**toy_values, **changed}, "mine.yaml")


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (["head.name=binary", "target=altering"], "'toy-again' learns 'altering'; only rows that learn"),
        (["split.folds=3"], "'toy-again' has folds; make a row of it with one split"),
        (["fusion.words=false"], "'toy-again' is a fusion"),
    ],
)
def test_rows_that_answer_something_else_are_no_members(
    member: list[str], words: str, toy_values: dict[str, Any], workspace: Workspace
) -> None:
    rows = rows_of(toy_values)
    rows["toy-again"] = change(rows["toy-again"], member)
    with pytest.raises(InputError, match=words):
        run_experiment(rows["toy-both"], workspace, "cpu", rows=rows)
    assert workspace.runs() == []


def test_an_ensemble_is_no_member_and_its_members_are_named(toy_values: dict[str, Any], workspace: Workspace) -> None:
    rows = rows_of(toy_values)
    nested = {**toy_values, "id": "nested", "ensemble": {"members": ["toy-both", "toy-row"]}}
    rows["nested"] = parse_spec(nested, "test")
    with pytest.raises(InputError, match="'toy-both' is an ensemble itself; name its members: toy-row, toy-again"):
        run_experiment(rows["nested"], workspace, "cpu", rows=rows)


def test_members_with_other_heads_are_refused_with_what_each_answers(
    toy_values: dict[str, Any], workspace: Workspace
) -> None:
    rows = rows_of(toy_values)
    rows["toy-again"] = change(rows["toy-again"], ["head.name=quantile"])
    with pytest.raises(RunError, match=r"'toy-again' gives q50_neither.*the first one delta_neither"):
        run_experiment(rows["toy-both"], workspace, "cpu", rows=rows)


@pytest.mark.slow
def test_weights_of_quantile_rows_are_fitted_to_the_middle_quantile_with_its_direction(
    toy_values: dict[str, Any], workspace: Workspace
) -> None:
    rows = rows_of(toy_values, "head.name=quantile")
    run = run_experiment(rows["toy-both"], workspace, "cpu", rows=rows).run
    assert run is not None
    members = [workspace.find(name) for name in run.record()["model"]["members"]]
    predictions = np.stack([np.load(member.path / "all_predictions.npy") for member in members])
    weights = list(run.record()["model"]["member_weights"].values())
    np.testing.assert_allclose(
        np.load(run.path / "all_predictions.npy"), np.tensordot(weights, predictions, axes=1), atol=1e-6
    )
    spec = rows["toy-both"]
    prepared = prepare(spec, load_rows_of(spec.data), "cpu", Silent(), Clock())
    validation = prepared.splits[0].indices("validation")
    validation = validation[prepared.targets.used[validation]]
    beside = predictions[:, validation, :3] * predictions[:, validation, -3:]
    assert weights == pytest.approx(fit_shares(beside, prepared.targets.values[validation]).tolist(), abs=1e-6)


def test_weights_see_the_labels_of_the_validation_part_and_no_others(
    toy_values: dict[str, Any], workspace: Workspace
) -> None:
    rows = rows_of(toy_values)
    spec = rows["toy-both"]
    run = run_experiment(spec, workspace, "cpu", rows=rows).run
    assert run is not None
    prepared = prepare(spec, load_rows_of(spec.data), "cpu", Silent(), Clock())
    names = dict(zip(("toy-row", "toy-again"), run.record()["model"]["members"], strict=True))

    kept = list(run.record()["model"]["member_weights"].values())
    lighter = int(np.argmin(kept))
    its_predictions = np.load(workspace.find(list(names.values())[lighter]).path / "all_predictions.npy")

    def weights_with(part: str) -> list[float]:
        """The weights, if the labels of one part were what the member that weighs less predicts."""
        values = prepared.targets.values.copy()
        inside = prepared.splits[0].indices(part)
        values[inside] = its_predictions[inside]
        other = replace(prepared, targets=replace(prepared.targets, values=values))
        work = Work(
            run=run,
            spec=spec,
            rows=rows,
            workspace=workspace,
            device="cpu",
            resume=False,
            callback=Silent(),
            clock=Clock(),
        )
        return list(train_ensemble(work, other).model["member_weights"].values())

    assert sum(kept) == pytest.approx(1)
    assert weights_with("test") == pytest.approx(kept, abs=1e-9)
    assert weights_with("train") == pytest.approx(kept, abs=1e-9)
    assert weights_with("validation")[lighter] == pytest.approx(1, abs=1e-3)
