"""Where rows run, as `run` was told: which executor, and its settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.experiments.execute.local import Local
from meta_spliceai.experiments.execute.on_ray import Ray
from meta_spliceai.experiments.execute.on_slurm import Slurm
from meta_spliceai.experiments.execute.queue import Admit, Executor, InProcess, Request, Screen, make_tasks, run_queue
from meta_spliceai.experiments.run.runner import Outcome

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
    screen: Screen,
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
