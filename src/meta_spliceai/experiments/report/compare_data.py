"""What the page needs to put any two runs side by side without a server: facts, numbers, curves, paired resamples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from meta_spliceai.experiments.compare_runs import facts_of
from meta_spliceai.experiments.report.collect import RunRecord
from meta_spliceai.experiments.report.leaderboard import same_test
from meta_spliceai.experiments.report.ranking import RunRanking
from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import OperatingPoints

METRICS = ("auprc", "auroc", "spearman_effect", "pearson_effect", "precision_at_recall_50", "detection_rate_at_fpr_5")
MACHINE = ("python", "cpu", "gpu", "packages")


def compare_data(runs: Sequence[RunRecord], rankings: dict[str, RunRanking]) -> dict[str, Any]:
    """Plain values, ready for JSON.

    Returns:
        `labels` (metric to heading) and `runs`, one a run: name, title, state, reason, link, facts (dotted name to
        text), metrics of its learned scorer and of the base network, losses by epoch, curves on the grid, areas on
        every resample, and the identity of test and resampling plan.
    """
    known = {metric.name: metric.label for metric in OperatingPoints().metrics()}
    return {
        "labels": {name: known.get(name, name) for name in METRICS},
        "runs": [_run(run, rankings.get(run.name)) for run in runs],
    }


def _run(run: RunRecord, ranking: RunRanking | None) -> dict[str, Any]:
    record: dict[str, Any] = {
        "name": run.name,
        "title": run.title,
        "state": run.state,
        "reason": run.reason,
        "smoke": bool(run.spec.get("smoke")),
        "facts": {name: _text(value) for name, value in facts_of(run.spec, run.data, run.info, _machine(run)).items()},
        "metrics": {},
        "base": {},
        "losses": _losses(run.curves),
        "test": same_test(run) if run.evaluation is not None else "",
        "plan": ranking.plan if ranking else "",
        "no_curves": ranking.reason if ranking else "",
    }
    if run.evaluation is None:
        return record
    learned = next((scorer.name for scorer in run.evaluation.scorers if scorer.kind == "learned"), None)
    base = next((scorer.name for scorer in run.evaluation.scorers if scorer.kind == "base"), None)
    for key, scorer in (("metrics", learned), ("base", base)):
        table = run.evaluation.metrics[run.evaluation.metrics["scorer"] == scorer]
        record[key] = {
            str(row["metric"]): [_number(row["estimate"]), _number(row["low"]), _number(row["high"])]
            for row in table.to_dict("records")
            if row["metric"] in METRICS
        }
    curves = ranking.curves.get(learned) if ranking and learned else None
    if curves is not None:
        record["precision"] = [_number(value, 3) for value in curves.precision.value]
        record["sensitivity"] = [_number(value, 3) for value in curves.sensitivity.value]
        record["areas"] = {name: [_number(value) for value in values] for name, values in curves.areas.items()}
    return record


def _machine(run: RunRecord) -> dict[str, Any]:
    return {key: run.environment[key] for key in MACHINE if key in run.environment}


def _losses(curves: pd.DataFrame | None) -> dict[str, list[float | None]]:
    if curves is None or "epoch" not in curves:
        return {}
    # Folds are averaged: two runs are compared by one line each.
    table = curves.apply(pd.to_numeric, errors="coerce").groupby("epoch").mean(numeric_only=True)
    found: dict[str, list[float | None]] = {"epoch": [_number(value) for value in table.index.to_numpy(dtype=float)]}
    for column in ("train_loss", "val_loss"):
        if column in table and np.isfinite(table[column]).any():
            found[column] = [_number(value, 6) for value in table[column]]
    return found


def _number(value: Any, digits: int = 4) -> float | None:
    return round(float(value), digits) if isinstance(value, int | float) and math.isfinite(value) else None


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
