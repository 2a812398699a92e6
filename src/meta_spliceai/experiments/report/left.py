"""What is left of the wishlist and what it costs: the rows with the planner's numbers, and the planner's own test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meta_spliceai.errors import MetaSpliceAIError
from meta_spliceai.experiments.report.plots import PlannedPoint
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.experiments.wishlist.progress_of_rows import RowState


@dataclass(frozen=True)
class Cost:
    """What one row takes on the cheapest machine that fits; without numbers where none does.

    Attributes:
        basis: estimate, calibrated or measured, of memory and of time ("calibrated / estimate" where they differ).
        why: where the numbers are from, in words, or why there are none.
    """

    gpu: str = ""
    peak_bytes: int | None = None
    hours: float | None = None
    dollars: float | None = None
    basis: str = ""
    why: str = ""


@dataclass(frozen=True)
class Left:
    """The wishlist with costs.

    Attributes:
        costs: by row id; empty where nothing was planned.
        hours, dollars: of all rows that are left and can run; None where nothing was planned or nothing has a price.
        prices: day and source of the prices, in words.
        warnings: what a reader must know (old prices, why nothing was planned).
        memory, seconds: the planner against what was measured, in GiB and seconds.
    """

    costs: dict[str, Cost] = field(default_factory=dict)
    hours: float | None = None
    dollars: float | None = None
    prices: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    memory: tuple[PlannedPoint, ...] = ()
    seconds: tuple[PlannedPoint, ...] = ()


NOTHING_PLANNED = Left()


def what_is_left(rows: Sequence[RowState], workspace: Workspace, catalogue: dict[str, ExperimentSpec]) -> Left:
    """Plan every row that is not completed, and hold the planner's predictions against the finished runs.

    Args:
        rows: the wishlist's rows with their states.
        workspace: whose runs calibrate the planner.
        catalogue: every row by id.
    """
    # Imported here: planning brings PyTorch, and the page of a small folder does without.
    from meta_spliceai.experiments.plan.planner import Planner
    from meta_spliceai.experiments.plan.scatter import scatter

    planner = Planner(workspace, catalogue)
    try:
        plan = planner.rows([row.spec for row in rows if row.state == "runnable"])
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
