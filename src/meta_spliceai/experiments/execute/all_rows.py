"""Run rows on the chosen executor within a time limit: their order, which may still start, and the outcome of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.experiments.board.shown import duration
from meta_spliceai.experiments.execute.local import Local
from meta_spliceai.experiments.execute.on_ray import Ray
from meta_spliceai.experiments.execute.on_slurm import Slurm
from meta_spliceai.experiments.execute.queue import (
    Admit,
    Executor,
    InProcess,
    Request,
    make_tasks,
    run_queue,
)
from meta_spliceai.experiments.plan.choose import priority_of
from meta_spliceai.experiments.plan.planner import Planner
from meta_spliceai.experiments.run.callback import Callback
from meta_spliceai.experiments.run.runner import Outcome
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.spec.parts import lacking
from meta_spliceai.experiments.store.workspace import Workspace

EXECUTORS = ("local", "ray", "slurm")
"""Names for `run --executor`; rented machines have a command of their own, `launch`."""


@dataclass(frozen=True)
class Place:
    """Where rows run; InputError: no such executor, or a setting that belongs to another.

    Attributes:
        jobs: rows at a time (local).
        ray_address: the cluster; None to start one on this machine (ray).
        gpus_per_run: GPUs, or a share of one, for each run (ray).
        slurm: settings of the job, `key=value` (slurm).
    """

    executor: str = "local"
    jobs: int = 1
    ray_address: str | None = None
    gpus_per_run: float | None = None
    slurm: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise unknown_value("executor", self.executor, EXECUTORS, where="--executor")
        settings = {
            "--jobs": ("local", self.jobs != 1),
            "--ray-address": ("ray", self.ray_address is not None),
            "--gpus-per-run": ("ray", self.gpus_per_run is not None),
            "--slurm": ("slurm", bool(self.slurm)),
        }
        for option, (executor, given) in settings.items():
            if given and executor != self.executor:
                raise InputError(f"{option} is for --executor {executor}; this is --executor {self.executor}")

    @property
    def several(self) -> bool:
        """Whether rows run at the same time."""
        return self.executor != "local" or self.jobs > 1


def run_at(
    place: Place,
    requests: Sequence[Request],
    screen: Callback,
    deadline: float | None = None,
    admit: Admit | None = None,
) -> list[Outcome]:
    """Run rows at a place (see `run_queue`). A single row on this machine runs in this very process, unless it has to
    be stopped in time. MissingExtraError, MissingResourceError: what the executor needs is not there."""
    executor: Executor = InProcess()
    if place.executor == "ray":
        executor = Ray(requests, screen, place.ray_address, place.gpus_per_run)
    elif place.executor == "slurm":
        executor = Slurm(requests[0].runs_dir, screen, place.slurm)
    elif len(requests) > 1 or place.jobs > 1 or deadline is not None:
        tasks = make_tasks(requests, folds_apart=place.jobs > len(requests)).values()
        folds = any(task.request.part is not None for task in tasks)
        executor = Local(place.jobs if folds else min(place.jobs, len(tasks)), folds)
    return run_queue(requests, executor, screen, deadline=deadline, admit=admit)


class Expected(NamedTuple):
    """A row and the seconds it should take; None where the planner has none (a smoke run, a card nobody described)."""

    spec: ExperimentSpec
    seconds: float | None


class Fate(NamedTuple):
    """The outcome of a row: done (has a result), left (the same command continues it) or failed, and why."""

    row_id: str
    state: Literal["done", "left", "failed"]
    why: str


def order_rows(
    specs: Sequence[ExperimentSpec], workspace: Workspace, rows: Mapping[str, ExperimentSpec], device: str
) -> list[Expected]:
    """The rows in the best order for "cpu" or "cuda": first those that share caches with others, then by priority, then
    cheapest first; an ensemble after its members; last those whose data or weights are not on this machine, which may
    fail. The workspace's finished runs calibrate the planner."""
    known = dict(rows)
    planner = Planner(workspace, known)
    by_id = {spec.id: spec for spec in specs}
    planned: list[Expected] = []
    card = planner.market.known(torch.cuda.get_device_name()) if device == "cuda" else None
    if not any(spec.smoke for spec in specs) and (device == "cpu" or card is not None):
        plan = planner.rows(specs, gpu=card.name if card is not None else "cpu")
        planned = [Expected(by_id.pop(row_id), plan.chosen[row_id].hours * 3600) for row_id in plan.in_order()]
    ranked = sorted(by_id.values(), key=lambda spec: (spec.ensemble is not None, priority_of(spec)))
    ordered = planned + [Expected(spec, None) for spec in ranked]
    return sorted(ordered, key=lambda one: bool(lacking(one.spec, known)))


def longer_last(expected: Sequence[Expected], limit: float | None) -> list[Expected]:
    """Rows that take longer than the whole limit (seconds), and ensembles of them, behind all others.

    They never end in one go. At the end they take the time that is left, and go on from there the next time."""
    longer = {one.spec.id for one in expected if limit is not None and one.seconds is not None and one.seconds > limit}

    def comes_last(one: Expected) -> bool:
        return not longer.isdisjoint((one.spec.id, *(one.spec.ensemble.members if one.spec.ensemble else ())))

    return sorted(expected, key=comes_last)


class Admission:
    """Decides whether a row may start: a resumed run always may, a new one if it is expected to finish in time, or if
    it is longer than the whole limit (see `longer_last`). `refused`: why rows were not started.

    Args:
        expected: the rows and how long each should take.
        workspace: where runs that were begun or finished lie.
        limit: seconds in all; None: a row longer than what is left never begins.
    """

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
    """The outcome of each row, in the planned order; `refused` says why rows were not started."""
    by_id = {outcome.spec.id: outcome for outcome in outcomes}
    found = []
    for row_id in (one.spec.id for one in expected):
        outcome = by_id.get(row_id)
        if outcome is None:
            found.append(Fate(row_id, "left", refused.get(row_id, "not begun: the time was over")))
        elif outcome.state == "finished":
            found.append(Fate(row_id, "done", "finished before" if outcome.reused else "finished"))
        else:
            found.append(Fate(row_id, outcome.state, str(outcome.error)))
    return found
