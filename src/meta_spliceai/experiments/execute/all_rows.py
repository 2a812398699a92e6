"""All rows within a limit of time: in which order, which of them may still begin, and what became of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from meta_spliceai.experiments.execute.durations import in_words
from meta_spliceai.experiments.execute.queue import TIME_LIMIT
from meta_spliceai.experiments.execute.request import Request
from meta_spliceai.experiments.plan.planner import Planner
from meta_spliceai.experiments.run.runner import Outcome
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.workspace import Workspace

_PRIORITIES = ("high", "medium", "low", None)


@dataclass(frozen=True)
class Expected:
    """A row and the seconds it should take; None where the planner has none (a smoke run, a card nobody described)."""

    spec: ExperimentSpec
    seconds: float | None


@dataclass(frozen=True)
class Fate:
    """What became of a row: done (has a result), left (the same command goes on with it) or failed, and why."""

    row_id: str
    state: Literal["done", "left", "failed"]
    why: str


def order_rows(
    specs: Sequence[ExperimentSpec], workspace: Workspace, rows: Mapping[str, ExperimentSpec], device: str
) -> list[Expected]:
    """The rows as they are best run: those that others share caches with first, then by priority, then the cheap ones;
    an ensemble after its members.

    Args:
        specs: the rows.
        workspace: whose finished runs calibrate the planner.
        rows: the catalogue.
        device: "cpu" or "cuda".
    """
    planned: list[Expected] = []
    if not any(spec.smoke for spec in specs):
        planner = Planner(workspace, dict(rows))
        machine: str | None = "cpu"
        if device == "cuda":
            import torch

            known = planner.market.known(torch.cuda.get_device_name())
            machine = known.name if known is not None else None
        if machine is not None:
            plan = planner.rows(specs, gpu=machine)
            by_id = {spec.id: spec for spec in specs}
            planned = [Expected(by_id[row_id], plan.chosen[row_id].hours * 3600) for row_id in plan.in_order()]
    there = {one.spec.id for one in planned}
    return planned + [Expected(spec, None) for spec in sorted(specs, key=_rank) if spec.id not in there]


def _rank(spec: ExperimentSpec) -> tuple[bool, int]:
    """Single rows before ensembles, then high priority before low."""
    return spec.ensemble is not None, _PRIORITIES.index(spec.wish.priority if spec.wish else None)


def longer_last(expected: Sequence[Expected], limit: float | None) -> list[Expected]:
    """Rows that take longer than the whole limit, and ensembles of them, behind all others.

    They never end in one go. At the end they take the time that is left, and go on from there the next time.

    Args:
        expected: the rows in the order in which they are best run.
        limit: seconds in all; None without a limit.
    """
    longer = {one.spec.id for one in expected if limit is not None and one.seconds is not None and one.seconds > limit}

    def comes_last(one: Expected) -> bool:
        return not longer.isdisjoint((one.spec.id, *(one.spec.ensemble.members if one.spec.ensemble else ())))

    return sorted(expected, key=comes_last)


class Admission:
    """Says of a row whether it may begin: a run that goes on may always, a new one if it should end in time, or if it
    is longer than the whole limit (see `longer_last`).

    Attributes:
        refused: row: why it was not begun.

    Args:
        expected: the rows and how long each should take.
        workspace: where runs that were begun or finished lie.
        limit: seconds in all; None: a row longer than what is left never begins.
    """

    def __init__(self, expected: Sequence[Expected], workspace: Workspace, limit: float | None = None) -> None:
        self.refused: dict[str, str] = {}
        self._seconds = {one.spec.id: one.seconds for one in expected}
        self._workspace = workspace
        self._limit = limit

    def __call__(self, request: Request, left: float) -> str:
        """Why the row may not begin with so many seconds left; empty where it may."""
        wanted = self._seconds.get(request.spec.id)
        longer = wanted is not None and self._limit is not None and wanted > self._limit
        if wanted is None or wanted <= left or longer or self._was_begun(request.spec):
            return ""
        why = f"not begun: it should take {in_words(wanted)}, and {in_words(left)} are left"
        self.refused[request.spec.id] = why
        return why

    def _was_begun(self, spec: ExperimentSpec) -> bool:
        return any(
            run.row_id == spec.id and not run.stale() and run.spec().identity() == spec.identity()
            for run in self._workspace.own_runs()
        )


def fates(expected: Sequence[Expected], outcomes: Sequence[Outcome], refused: Mapping[str, str]) -> list[Fate]:
    """What became of each row, in the order in which they were to run.

    Args:
        expected: the rows.
        outcomes: of those that began.
        refused: row: why it was not begun.
    """
    by_id = {outcome.spec.id: outcome for outcome in outcomes}
    found = []
    for one in expected:
        outcome = by_id.get(one.spec.id)
        if outcome is None:
            found.append(Fate(one.spec.id, "left", refused.get(one.spec.id, "not begun: the time was over")))
        elif outcome.error is None:
            found.append(Fate(one.spec.id, "done", "finished before" if outcome.reused else "finished"))
        else:
            state: Literal["left", "failed"] = "left" if TIME_LIMIT in str(outcome.error) else "failed"
            found.append(Fate(one.spec.id, state, str(outcome.error)))
    return found
