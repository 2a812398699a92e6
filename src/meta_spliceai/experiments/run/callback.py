"""Who is told how a run goes on: lines to say, steps with a count of what is done, facts for machines."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from meta_spliceai.experiments.store.workspace import PROGRESS, RunDirectory, now

if TYPE_CHECKING:
    from meta_spliceai.splice_engine.meta_layer.trainer import TrainingState

SECONDS_BETWEEN_ADVANCES = 1.0
SECONDS_BETWEEN_WRITES = 2.0


class Callback:
    """What a run talks to; the command line draws bars, tests listen, this one keeps silent."""

    def say(self, line: str) -> None:
        """A line for the user."""

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """A step; what is yielded is called with the number of units done since the last call."""
        began = told = time.perf_counter()
        done, seconds = 0, None
        self.tell("step", {"step": name, "done": 0, "total": total})

        def advance(units: int) -> None:
            nonlocal done, told
            done += units
            if time.perf_counter() - told >= SECONDS_BETWEEN_ADVANCES:
                told = time.perf_counter()
                self.tell("step", {"step": name, "done": done, "total": total})

        try:
            yield advance
            seconds = round(time.perf_counter() - began, 3)
        finally:
            self.tell("step-end", {"step": name, "seconds": seconds})

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        """Facts as plain values.

        `run`: the run's folder is known (run, path, row, seed, parameters of the row).
        `step`: how far a step is (step, done, total); done is 0 at its beginning.
        `step-end`: a step has ended (step, seconds; None where it failed).
        `training`: how far training is (fold or None, epoch, epochs, share, loss, windows_per_second, memory_bytes).
        `epoch`: an epoch has ended (fold or None, epoch, train_loss, val_loss, val_r, learning_rate, seconds, …).
        `end`: the run has ended (state, reason; for a finished run its record and metrics).
        """


class Silent(Callback):
    """Keeps the lines, the names of steps and the facts, and says nothing."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.facts: list[tuple[str, dict[str, Any]]] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        if kind == "step" and not facts["done"]:
            self.lines.append(facts["step"])
        elif not kind.startswith("step"):
            self.facts.append((kind, facts))


def training_reports(callback: Callback, fold: int | None = None) -> Callable[[TrainingState], None]:
    """What `fit` tells its progress to: `training` now and then, and `epoch` after each epoch; `fold` from 1."""

    def report(state: TrainingState) -> None:
        facts = {name: value for name, value in vars(state).items() if name != "ended"}
        callback.tell("training", {"fold": fold, **facts})
        if state.ended is not None:
            callback.tell("epoch", {"fold": fold, "memory_bytes": state.memory_bytes, **state.ended})

    return report


class ProgressFile(Callback):
    """A callback that hands everything on and keeps progress.json of a run's folder up to date while it is running.

    The file holds at, stage, done, total, fold, epoch, epochs, share, loss, windows_per_second, memory_bytes, seconds
    and dollars (with a price an hour of the machine); what is not known is absent.
    """

    def __init__(self, callback: Callback, run: RunDirectory, price_per_hour: float | None = None) -> None:
        self.callback, self.run, self.price_per_hour = callback, run, price_per_hour
        self.began, self.written = time.perf_counter(), -math.inf

    def say(self, line: str) -> None:
        self.callback.say(line)

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        """Hand the facts on, and write how far steps and training are."""
        self.callback.tell(kind, facts)
        if kind == "epoch":
            self.run.require_there()
        if kind == "step":
            if not facts["done"]:
                self.written = -math.inf  # a step's beginning is always written
            self._write({"stage": facts["step"], "done": facts["done"], "total": facts["total"]})
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
