"""Who is told how a run goes on: lines to say, stages with a count of what is done, facts for machines."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from meta_spliceai.experiments.store.workspace import PROGRESS, RunDirectory, now

if TYPE_CHECKING:
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
