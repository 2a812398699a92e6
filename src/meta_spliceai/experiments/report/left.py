"""What is left of the wishlist and what it costs: the rows with the planner's numbers, and the planner's own test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from meta_spliceai.errors import MetaSpliceAIError
from meta_spliceai.experiments.report.plots import PlannedPoint
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.experiments.wishlist.progress_of_rows import RowState


@dataclass(frozen=True)
class Cost:
    """What the planner says of one row.

    Attributes:
        gpu: the cheapest machine that fits; empty where none does.
        peak_bytes: memory there.
        hours: time there.
        dollars: price of it; None without one.
        basis: estimate, calibrated or measured, of memory and of time ("calibrated / estimate" where they differ).
        why: where the numbers are from, in words, or why there are none.
        shared: what this row computes is used by later rows too, which then cost less.
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

    costs: dict[str, Cost]
    hours: float | None = None
    dollars: float | None = None
    prices: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    memory: tuple[PlannedPoint, ...] = ()
    seconds: tuple[PlannedPoint, ...] = ()


NOTHING_PLANNED = Left({})


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

    planner = Planner(workspace, catalogue, ledgers=workspace.ledgers)
    costs: dict[str, Cost] = {}
    wanted = [row.spec for row in rows if row.state == "runnable"]
    try:
        plan = planner.rows(wanted)
    except MetaSpliceAIError as error:
        return Left({}, warnings=(f"Nothing was planned: {error}",))
    for planned in plan.rows:
        best = planned.best
        why = "; ".join([planned.why, *planned.notes])
        if best is None:
            costs[planned.spec.id] = Cost(why=why)
            continue
        bases = dict.fromkeys((best.memory_basis, best.time_basis))
        costs[planned.spec.id] = Cost(best.gpu, best.peak_bytes, best.hours, best.dollars, " / ".join(bases), why)
    table = scatter(workspace, workspace.ledgers, planner)
    memory, times = [], []
    for r in table.to_dict("records"):
        # Without another run to learn from, what is called calibrated is the estimate.
        learned = r["memory_calibrated"] if r["memory_error"] == r["memory_error"] else math.nan
        sizes = (r["memory_measured"], r["memory_estimate"], learned)
        if sizes[0] == sizes[0]:  # the peak of a process that had run other rows before is not this row's
            memory.append(PlannedPoint(str(r["run"]), *(v / 2**30 for v in sizes)))
        learned = r["seconds_calibrated"] if r["seconds_error"] == r["seconds_error"] else math.nan
        times.append(PlannedPoint(str(r["run"]), r["seconds_measured"], r["seconds_estimate"], learned))
    return Left(costs, plan.hours, plan.dollars, tuple(plan.prices), tuple(plan.warnings), tuple(memory), tuple(times))
