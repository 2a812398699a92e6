"""What a run is made with: who is told how it goes on, its clock, its place, what a procedure is given, and what it
gives back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from meta_spliceai.experiments.store.workspace import PROGRESS, RunDirectory, Workspace, now

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from jaxtyping import Float32

    from meta_spliceai.experiments.run.prepare import Prepared
    from meta_spliceai.experiments.spec.experiment import ExperimentSpec
    from meta_spliceai.splice_engine.meta_layer.trainer import TrainingState

SECONDS_BETWEEN_WRITES = 2.0


class Callback(Protocol):
    """What a run talks to; the command line draws bars, tests listen."""

    def say(self, line: str) -> None:
        """A line for the user."""

    def stage(self, name: str, total: int | None = None) -> AbstractContextManager[Callable[[int], None]]:
        """A piece of work with a bar; what is yielded is called with the number of units done since the last call."""

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        """Facts as plain values.

        `run`: the run's folder is known (run, path, row, seed, parameters of the row).
        `training`: how far training is (fold or None, epoch, epochs, share, loss, windows_per_second, memory_bytes).
        `epoch`: an epoch has ended (fold or None, epoch, train_loss, val_loss, val_r, learning_rate, seconds, …).
        `end`: the run has ended (state, reason; for a finished run its record and metrics).
        """


class Silent:
    """Keeps the lines and facts, and says nothing."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.facts: list[tuple[str, dict[str, Any]]] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        self.lines.append(name)
        yield lambda _: None

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        self.facts.append((kind, facts))


def training_reports(callback: Callback, fold: int | None = None) -> Callable[[TrainingState], None]:
    """What `fit` tells its progress to: `training` now and then, and `epoch` after each epoch; `fold` from 1."""

    def report(state: TrainingState) -> None:
        facts = {name: value for name, value in vars(state).items() if name != "ended"}
        callback.tell("training", {"fold": fold, **facts})
        if state.ended is not None:
            callback.tell("epoch", {"fold": fold, "memory_bytes": state.memory_bytes, **state.ended})

    return report


class ProgressFile:
    """A callback that hands everything on and keeps progress.json of a run's folder up to date while it is running.

    The file holds at, stage, done, total, fold, epoch, epochs, share, loss, windows_per_second, memory_bytes, seconds
    and dollars (with a price an hour of the machine); what is not known is absent.
    """

    def __init__(self, callback: Callback, run: RunDirectory, price_per_hour: float | None = None) -> None:
        self.callback, self.run, self.price_per_hour = callback, run, price_per_hour
        self.began, self.written = time.perf_counter(), -math.inf
        self.say = callback.say

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Hand the step on, and write how much of it is done."""
        done = 0
        self.written = -math.inf  # a step's beginning is always written
        self._write({"stage": name, "done": 0, "total": total})
        with self.callback.stage(name, total) as advance:

            def count(units: int) -> None:
                nonlocal done
                done += units
                advance(units)
                self._write({"stage": name, "done": done, "total": total})

            yield count

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        """Hand the facts on, and write those of the training."""
        self.callback.tell(kind, facts)
        if kind == "epoch":
            self.run.require_there()
        if kind == "training":
            self._write({"stage": "training", **facts})

    def close(self) -> None:
        """Take the file away; one that is out of reach with its disk stays."""
        with suppress(OSError):
            (self.run.path / PROGRESS).unlink(missing_ok=True)

    def _write(self, facts: dict[str, Any]) -> None:
        since = time.perf_counter()
        if since - self.written < SECONDS_BETWEEN_WRITES:
            return
        self.run.require_there()
        self.written = since
        seconds, price = since - self.began, self.price_per_hour
        dollars = None if price is None else round(seconds / 3600 * price, 4)
        content = {"at": now(), **facts, "seconds": round(seconds, 1), "dollars": dollars}
        # NaN (no batch has been looked at yet) is no JSON.
        self.run.write_json(PROGRESS, {name: value for name, value in content.items() if value == value})


class Clock:
    """Seconds spent in each step: those that passed, and those of the processor (all threads added up)."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Measure one step; a step measured twice is added up."""
        started, busy = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.add({step: time.perf_counter() - started}, {step: time.process_time() - busy})

    def add(self, seconds: dict[str, float], cpu_seconds: dict[str, float]) -> None:
        """Add seconds that were measured elsewhere, by step (fewer than none: counted twice)."""
        for kept, added in ((self.seconds, seconds), (self.cpu_seconds, cpu_seconds)):
            for step, more in added.items():
                kept[step] = kept.get(step, 0.0) + more

    def in_record(self) -> dict[str, dict[str, float]]:
        named = {"seconds_by_step": self.seconds, "cpu_seconds_by_step": self.cpu_seconds}
        return {name: {step: round(spent, 3) for step, spent in steps.items()} for name, steps in named.items()}


@dataclass(frozen=True)
class Work:
    """A run from its beginning to its record: its folder, the row as it is run, the catalogue (`rows`), "cpu" or
    "cuda", whether it goes on after the last whole epoch, dollars an hour of a rented machine."""

    run: RunDirectory
    spec: ExperimentSpec
    rows: dict[str, ExperimentSpec]
    workspace: Workspace
    device: str
    resume: bool
    callback: Callback
    clock: Clock
    price_per_hour: float | None = None


@dataclass(frozen=True, kw_only=True)
class Job(Work):
    """A run that is ready to be trained; `run_member` runs another row, or finds its finished run, for ensembles."""

    prepared: Prepared
    run_member: Callable[[str], RunDirectory]


@dataclass(frozen=True)
class Trained:
    """A trained model's predictions on every row of the table, what they mean by name, and how training went.

    `work` says what share of the device's rate training reached (see `utilisation`); `notes` are sentences that
    belong on the result.
    """

    predictions: Float32[np.ndarray, "n outputs"]
    columns: Callable[[Float32[np.ndarray, "n outputs"]], dict[str, Float32[np.ndarray, " n"]]]
    curves: pd.DataFrame
    model: dict[str, Any]
    training: dict[str, Any]
    peak_memory_bytes: int
    work: dict[str, Any]
    notes: tuple[str, ...] = ()
