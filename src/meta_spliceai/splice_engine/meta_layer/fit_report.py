"""What a training run is doing and did: epoch, losses, windows a second; curves, times, memory, classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@dataclass(frozen=True)
class FeatureWork:
    """Distinct sequences of a frozen encoder's features; those that were not in the cache; and the seconds for
    computing, reading and checking them, and for waiting where another process computes them."""

    sequences: int
    computed: int
    seconds: float

    def in_words(self) -> str:
        """What was computed and what was found."""
        found = self.sequences - self.computed
        return f"{self.computed:,} sequences read, {found:,} found in the cache, {self.seconds:.1f} s"


@dataclass(frozen=True)
class FitReport:
    """What a training run did.

    Attributes:
        curves: one row an epoch: epoch (from 1), train_loss, val_loss, val_r (Pearson r of predictions and labels
            over all outputs; NaN where it is not defined), learning_rate, seconds, windows_per_second.
        best_epoch: the epoch (from 1) with the lowest validation loss; the predictor holds its weights.
        epochs_run: epochs in `curves`, those before an interruption included.
        seconds: time spent in the epochs of `curves`.
        windows_per_second: variants (pairs of windows) trained on per second, forward and backward, without validation.
        peak_memory_bytes: most memory held in this process's part of the run (see `peak_memory`).
        resumed_from: the epoch after which this process went on; None if it started from the beginning.
        stopped_because: why training ended, in words.
        classes: training rows of each of the task's classes, by name; empty for a task without classes.
        balance: how an imbalance of these classes was met (see `TrainingConfig.balance`).
        rate: in words, the learning rate where it was scaled to the batch; "" where it was not.
        features: a frozen encoder's features, which are not in `seconds`; None where the encoder is trained.
    """

    curves: pd.DataFrame
    best_epoch: int
    epochs_run: int
    seconds: float
    windows_per_second: float
    peak_memory_bytes: int
    resumed_from: int | None
    stopped_because: str
    train_rows: int
    val_rows: int
    device: str
    precision: str
    classes: dict[str, int]
    balance: str
    rate: str
    features: FeatureWork | None

    @property
    def step_seconds(self) -> float:
        """Time spent in training steps: the epochs without their validation."""
        return self.train_rows * self.epochs_run / self.windows_per_second

    def notes(self) -> tuple[str, ...]:
        """Sentences about training that belong on a result."""
        return tuple(words for words in (self.imbalance(), self.rate) if words)

    def imbalance(self) -> str:
        if not self.classes:
            return ""
        counts = ", ".join(f"{count:,} {name}" for name, count in self.classes.items())
        how = {"none": "each row weighs the same in the loss", "classes": "each class weighs the same in the loss"}
        return f"trained on {counts}; {how[self.balance]}"

    def to_json(self) -> dict[str, Any]:
        """The report without the curves, as plain values."""
        plain = {name: value for name, value in vars(self).items() if name != "curves"}
        return {**plain, "features": None if self.features is None else asdict(self.features)}


@dataclass(frozen=True)
class TrainingState:
    """How far training is.

    Attributes:
        epoch: the epoch that is running or has just ended, from 1.
        epochs: epochs there are at most; early stopping may end sooner.
        share: share of all steps of all epochs that is done, 0 to 1.
        loss: training loss of the latest batch looked at.
        windows_per_second: variants trained on per second in this epoch so far.
        memory_bytes: the most memory held so far (see `peak_memory`).
        ended: for an epoch that has ended, its line of the curves (train_loss, val_loss, val_r, learning_rate, …).
    """

    epoch: int
    epochs: int
    share: float
    loss: float
    windows_per_second: float
    memory_bytes: int
    ended: Mapping[str, float] | None = None


@contextmanager
def training_bar(title: str) -> Iterator[Callable[[TrainingState], None]]:
    """One bar over all epochs; away from a terminal nothing is drawn, because a log gets its lines from the run."""
    fields = "epoch {task.fields[epoch]}  loss {task.fields[loss]}  validation {task.fields[validation]}"
    with _bar(TextColumn(fields), TextColumn("{task.fields[speed]} windows/s")) as bar:
        task = bar.add_task(title, total=1.0, epoch="-", loss="-", validation="-", speed="-")

        def show(state: TrainingState) -> None:
            if state.ended is not None:
                bar.update(task, validation=f"{state.ended['val_loss']:.4f}")
            epoch, speed = f"{state.epoch}/{state.epochs}", f"{state.windows_per_second:.0f}"
            bar.update(task, completed=state.share, epoch=epoch, loss=f"{state.loss:.4f}", speed=speed)

        yield show


@contextmanager
def counting_bar(title: str, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar fed by a function of things done and things in all; away from a terminal nothing is drawn."""
    with _bar(MofNCompleteColumn(), TextColumn(what)) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _bar(*columns: TextColumn | MofNCompleteColumn) -> Progress:
    times = TimeElapsedColumn(), TimeRemainingColumn()
    bar = Progress(TextColumn("{task.description}"), BarColumn(), *columns, *times)
    bar.disable = not bar.console.is_terminal
    return bar
