"""Rows within a limit of time: in which order, which may still begin, and what became of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch

from meta_spliceai.experiments.board.shown import duration
from meta_spliceai.experiments.execute.queue import TIME_LIMIT, Request
from meta_spliceai.experiments.plan.choose import priority_of
from meta_spliceai.experiments.plan.planner import Planner
from meta_spliceai.experiments.run.runner import Outcome
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.workspace import Workspace


class Expected(NamedTuple):
    """A row and the seconds it should take; None where the planner has none (a smoke run, a card nobody described)."""

    spec: ExperimentSpec
    seconds: float | None


class Fate(NamedTuple):
    """What became of a row: done (has a result), left (the same command goes on with it) or failed, and why."""

    row_id: str
    state: Literal["done", "left", "failed"]
    why: str


def order_rows(
    specs: Sequence[ExperimentSpec], workspace: Workspace, rows: Mapping[str, ExperimentSpec], device: str
) -> list[Expected]:
    """The rows as they are best run on "cpu" or "cuda": those that others share caches with first, then by priority,
    then the cheap ones; an ensemble after its members. The workspace's finished runs calibrate the planner."""
    planner = Planner(workspace, dict(rows))
    by_id = {spec.id: spec for spec in specs}
    planned: list[Expected] = []
    card = planner.market.known(torch.cuda.get_device_name()) if device == "cuda" else None
    if not any(spec.smoke for spec in specs) and (device == "cpu" or card is not None):
        plan = planner.rows(specs, gpu=card.name if card is not None else "cpu")
        planned = [Expected(by_id.pop(row_id), plan.chosen[row_id].hours * 3600) for row_id in plan.in_order()]
    ranked = sorted(by_id.values(), key=lambda spec: (spec.ensemble is not None, priority_of(spec)))
    return planned + [Expected(spec, None) for spec in ranked]


def longer_last(expected: Sequence[Expected], limit: float | None) -> list[Expected]:
    """Rows that take longer than the whole limit (seconds), and ensembles of them, behind all others.

    They never end in one go. At the end they take the time that is left, and go on from there the next time."""
    longer = {one.spec.id for one in expected if limit is not None and one.seconds is not None and one.seconds > limit}

    def comes_last(one: Expected) -> bool:
        return not longer.isdisjoint((one.spec.id, *(one.spec.ensemble.members if one.spec.ensemble else ())))

    return sorted(expected, key=comes_last)


class Admission:
    """Says of a row whether it may begin: a run that goes on may always, a new one if it should end in time, or if
    it is longer than the whole limit (seconds; None: then it never begins; see `longer_last`). `refused`: why
    rows were not begun."""

    def __init__(self, expected: Sequence[Expected], workspace: Workspace, limit: float | None = None) -> None:
        self.refused: dict[str, str] = {}
        self._seconds = {one.spec.id: one.seconds for one in expected}
        self._workspace, self._limit = workspace, limit

    def __call__(self, request: Request, left: float) -> str:
        """Why the row may not begin with so many seconds left; empty where it may."""
        wanted = self._seconds.get(request.spec.id)
        longer = wanted is not None and self._limit is not None and wanted > self._limit
        if wanted is None or wanted <= left or longer or self._was_begun(request.spec):
            return ""
        why = f"not begun: it should take {duration(wanted)}, and {duration(left)} are left"
        self.refused[request.spec.id] = why
        return why

    def _was_begun(self, spec: ExperimentSpec) -> bool:
        return any(
            run.row_id == spec.id and not run.stale() and run.spec().identity() == spec.identity()
            for run in self._workspace.own_runs()
        )


def fates(expected: Sequence[Expected], outcomes: Sequence[Outcome], refused: Mapping[str, str]) -> list[Fate]:
    """What became of each row, in the order in which they were to run; `refused` says why rows were not begun."""
    by_id = {outcome.spec.id: outcome for outcome in outcomes}
    found = []
    for row_id in (one.spec.id for one in expected):
        outcome = by_id.get(row_id)
        if outcome is None:
            found.append(Fate(row_id, "left", refused.get(row_id, "not begun: the time was over")))
        elif outcome.error is None:
            found.append(Fate(row_id, "done", "finished before" if outcome.reused else "finished"))
        else:
            found.append(Fate(row_id, "left" if TIME_LIMIT in str(outcome.error) else "failed", str(outcome.error)))
    return found
