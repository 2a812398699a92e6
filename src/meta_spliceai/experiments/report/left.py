"""What is left of the wishlist and what it costs: the rows with the planner's numbers, and the planner's own test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from meta_spliceai.errors import MetaSpliceAIError
from meta_spliceai.experiments.plan.planner import Planner, scatter
from meta_spliceai.experiments.report.plots import PlannedPoint
from meta_spliceai.experiments.report.views import Cost, Left
from meta_spliceai.experiments.spec.rows import load_rows
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.experiments.wishlist.document import state_of_rows


def what_is_left(workspace: Workspace) -> Left:
    """Plan every row that is not completed, and hold the planner's predictions against the finished runs, which
    calibrate it."""
    catalogue = load_rows()
    runnable = [row.spec for row in state_of_rows(catalogue, workspace) if row.state == "runnable"]
    planner = Planner(workspace, catalogue)
    try:
        plan = planner.rows(runnable)
    except MetaSpliceAIError as error:
        return Left(warnings=(f"Nothing was planned: {error}",))
    costs = {}
    for planned in plan.rows:
        best = planned.best
        why = "; ".join(["no card has memory enough" if best is None else best.why, *planned.notes])
        cost = Cost(why=why)
        if best is not None:
            basis = " / ".join(dict.fromkeys((best.memory_basis, best.time_basis)))
            cost = Cost(best.gpu, best.peak_bytes, best.hours, best.dollars, basis, why)
        costs[planned.spec.id] = cost
    runs = scatter(planner).to_dict("records")
    # The peak of a process that had run other rows before is not this row's.
    memory = [_point(run, "memory", 2**30) for run in runs if not math.isnan(run["memory_measured"])]
    seconds = [_point(run, "seconds", 1) for run in runs]
    return Left(costs, plan.hours, plan.dollars, plan.prices, plan.warnings, tuple(memory), tuple(seconds))


def _point(run: Mapping[Any, Any], what: str, unit: float) -> PlannedPoint:
    # Without another run to learn from, what is called calibrated is the estimate.
    learned = math.nan if math.isnan(run[f"{what}_error"]) else run[f"{what}_calibrated"]
    return PlannedPoint(str(run["run"]), run[f"{what}_measured"] / unit, run[f"{what}_estimate"] / unit, learned / unit)
