"""Evaluation beyond "altering or not": kinds of effect against observed kinds, positions against observed ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from meta_spliceai.experiments.run.prepare import Prepared
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.plain_values import records
from meta_spliceai.splice_engine.base_layer.channels import ACCEPTOR, DONOR
from meta_spliceai.splice_engine.meta_layer.evaluation.effect_types import evaluate_effect_types
from meta_spliceai.splice_engine.meta_layer.evaluation.localisation import evaluate_localisation
from meta_spliceai.splice_engine.meta_layer.targets import EFFECT_TYPES, GOLD, MARKS, TARGETS

Columns = Mapping[str, Float[np.ndarray, " rows"]]


def evaluate_task(spec: ExperimentSpec, prepared: Prepared, columns: Columns) -> dict[str, Any]:
    """The task's own metrics on the test part, by where the labels are from; empty for tasks that have none.

    Args:
        spec: the row.
        prepared: what it was trained on.
        columns: the head's predictions by name, one value a row of the table.
    """
    found: dict[str, Any] = {}
    for task, evaluate in _EVALUATED_BY.items():
        if spec.target not in (task, "multitask"):
            continue
        found[task] = evaluate(spec, prepared, columns if spec.target == task else _of_task(columns, task))
    return found


def _of_task(columns: Columns, task: str) -> Columns:
    return {name.removeprefix(f"{task}."): values for name, values in columns.items() if name.startswith(f"{task}.")}


def _effect_types(spec: ExperimentSpec, prepared: Prepared, columns: Columns) -> dict[str, Any]:
    labels = TARGETS["effect-type"](prepared.table, prepared.scores)
    test = (prepared.parts == "test") & labels.used
    found: dict[str, Any] = {}
    for mark in MARKS:
        rows = test & (labels.marks == mark)
        if not rows.any():
            found[mark] = {"n": 0}
            continue
        evaluated = evaluate_effect_types(
            [EFFECT_TYPES[int(kind)] for kind in labels.values[rows, 0]],
            [EFFECT_TYPES[int(kind)] for kind in columns["effect_type"][rows]],
            prepared.table["group"].to_numpy()[rows],
            EFFECT_TYPES,
            n_boot=spec.bootstrap,
            seed=spec.seed,
        )
        found[mark] = {
            "n": int(rows.sum()),
            "metrics": records(evaluated.table.reset_index()),
            "confusion": records(evaluated.confusion.reset_index()),
        }
    return found


def _positions(spec: ExperimentSpec, prepared: Prepared, columns: Columns) -> dict[str, Any]:
    labels = TARGETS["position"](prepared.table, prepared.scores)
    test = (prepared.parts == "test") & labels.used
    base = _base_offset(prepared)
    found: dict[str, Any] = {}
    for mark in MARKS:
        rows = test & (labels.marks == mark)
        if not rows.any():
            found[mark] = {"n": 0}
            continue
        predicted = {spec.id: columns["offset"][rows].astype(np.float64)}
        if mark == GOLD:  # on its own peaks the base network would be evaluated by itself
            predicted["base max_window"] = base[rows]
        evaluated = evaluate_localisation(
            [[int(offset)] for offset in labels.values[rows, 0]],
            predicted,
            prepared.table["group"].to_numpy()[rows],
            n_boot=spec.bootstrap,
            seed=spec.seed,
        )
        found[mark] = {"n": int(rows.sum()), "hit_rates": records(evaluated)}
    return found


def _base_offset(prepared: Prepared) -> Float[np.ndarray, " rows"]:
    """Offset of the base network's strongest |Δ| from the variant, transcript orientation."""
    sizes = np.abs(prepared.scores.delta[:, :, [ACCEPTOR, DONOR]]).max(axis=2)
    return sizes.argmax(axis=1).astype(np.float64) - prepared.scores.distance


_EVALUATED_BY: dict[str, Callable[[ExperimentSpec, Prepared, Columns], dict[str, Any]]] = {
    "effect-type": _effect_types,
    "position": _positions,
}
