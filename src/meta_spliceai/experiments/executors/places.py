"""The place that `run` was told to run rows at, and its own settings."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.experiments.executors import EXECUTORS
from meta_spliceai.experiments.executors.request import Request, carry_out
from meta_spliceai.experiments.executors.screen import Screen
from meta_spliceai.experiments.runner import Outcome


@dataclass(frozen=True)
class Place:
    """Where rows run.

    Attributes:
        executor: see `EXECUTORS`.
        jobs: rows at a time (local).
        ray_address: the cluster; None to start one on this machine (ray).
        gpus_per_run: GPUs, or a share of one, for each run (ray).
        slurm: settings of the job, `key=value` (slurm).

    Raises:
        InputError: no such executor, or a setting that belongs to another.
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
    admit: Callable[[Request, float], str] | None = None,
) -> list[Outcome]:
    """Run rows at a place.

    A single row on this machine runs in this very process; whatever else in processes of its own.

    Args:
        place: where.
        requests: the rows.
        screen: shows what happens.
        deadline, admit: see `run_queue`; only on this machine.

    Raises:
        MissingExtraError: the executor's package is not installed.
        InputError: a bad setting of the executor.
        KeyboardInterrupt: the user stopped it.
    """
    if place.executor == "ray":
        from meta_spliceai.experiments.executors.on_ray import run_on_ray

        return run_on_ray(requests, screen, address=place.ray_address, gpus_per_run=place.gpus_per_run)
    if place.executor == "slurm":
        from meta_spliceai.experiments.executors.on_slurm import run_on_slurm

        return run_on_slurm(requests, screen, settings=place.slurm)
    if len(requests) == 1 and place.jobs == 1 and deadline is None:
        return [run_here(requests[0], screen)]
    from meta_spliceai.experiments.executors.local import run_queue

    return run_queue(requests, screen, jobs=place.jobs, deadline=deadline, admit=admit)


def run_here(request: Request, screen: Screen) -> Outcome:
    """Run one row in this process.

    Raises:
        KeyboardInterrupt: the user, or whoever sent SIGTERM, stopped it.
    """
    screen.say(f"row {request.spec.id}")
    with ending_by_sigterm():
        answer = carry_out(request, screen.row(request.spec.id))
    if answer.error is not None:
        screen.say(f"error: {request.spec.id}: {answer.error}")
    return answer.outcome(request)


@contextmanager
def ending_by_sigterm() -> Iterator[None]:
    """SIGTERM, with which a scheduler or a rented machine announces its end, stops a run as Ctrl-C does: what is done
    is kept, and the run says why it stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt("told to stop (SIGTERM)")

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
