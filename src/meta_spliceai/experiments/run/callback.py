"""Who is told how a run goes on: lines to say, stages with a count of what is done, facts for machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from meta_spliceai.splice_engine.meta_layer.fit_report import TrainingState


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
    """Keeps the lines and says nothing."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.facts: list[tuple[str, dict[str, Any]]] = []

    def say(self, line: str) -> None:
        """Keep the line."""
        self.lines.append(line)

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Keep the stage's name."""
        self.lines.append(name)
        yield lambda _: None

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        """Keep the facts."""
        self.facts.append((kind, facts))


def training_reports(callback: Callback, fold: int | None = None) -> Callable[[TrainingState], None]:
    """What `fit` tells its progress to, so that the callback hears of it.

    Args:
        callback: told `training` now and then and `epoch` after each epoch.
        fold: number of the fold, from 1; None where there is one split.
    """

    def report(state: TrainingState) -> None:
        facts = {name: value for name, value in vars(state).items() if name != "ended"}
        callback.tell("training", {"fold": fold, **facts})
        if state.ended is not None:
            callback.tell("epoch", {"fold": fold, "memory_bytes": state.memory_bytes, **state.ended})

    return report
