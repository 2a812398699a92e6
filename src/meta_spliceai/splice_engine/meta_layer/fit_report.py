"""What a training run did: curves, times, memory, classes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class FeatureWork:
    """What it took to have a frozen encoder's features.

    Attributes:
        sequences: distinct ones.
        computed: those that were not in the cache.
        seconds: for computing, reading and checking them, and for waiting where another process computes them.
    """

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
        curves: one row an epoch: epoch (from 1), train_loss, val_loss, val_r (Pearson r of predictions and labels over
            all outputs; NaN where it is not defined), learning_rate, seconds, windows_per_second.
        best_epoch: the epoch (from 1) with the lowest validation loss; the predictor holds its weights.
        epochs_run: epochs in `curves`, those before an interruption included.
        seconds: time spent in the epochs of `curves`.
        windows_per_second: variants (pairs of windows) trained on per second, forward and backward, without validation.
        peak_memory_bytes: most memory held in this process's part of the run (see `peak_memory`).
        resumed_from: the epoch after which this process went on; None if it started from the beginning.
        stopped_because: why training ended, in words.
        train_rows, val_rows: variants trained and validated on.
        classes: training rows of each of the task's classes, by name; empty for a task without classes.
        balance: how an imbalance of these classes was met (see `TrainingConfig.balance`).
        rate: in words, the learning rate where it was scaled to the batch; "" where it was not.
        device, precision: what it ran on.
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
        """The classes and what was done about their imbalance, as a sentence for a result; "" without classes."""
        if not self.classes:
            return ""
        counts = ", ".join(f"{count:,} {name}" for name, count in self.classes.items())
        how = {"none": "each row weighs the same in the loss", "classes": "each class weighs the same in the loss"}
        return f"trained on {counts}; {how[self.balance]}"

    def to_json(self) -> dict[str, Any]:
        """The report without the curves, as plain values."""
        plain = {name: value for name, value in vars(self).items() if name != "curves"}
        return {**plain, "features": None if self.features is None else asdict(self.features)}
