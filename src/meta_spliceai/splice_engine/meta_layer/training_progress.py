"""How far a training run is: epoch, losses, windows a second, time left; as a bar, or told to somebody."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


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
    told = ("epoch {task.fields[epoch]}  loss {task.fields[loss]}  validation {task.fields[validation]}",)
    columns = (TextColumn("{task.description}"), BarColumn(), *map(TextColumn, told))
    bar = Progress(*columns, TextColumn("{task.fields[speed]} windows/s"), TimeElapsedColumn(), TimeRemainingColumn())
    bar.disable = not bar.console.is_terminal
    with bar:
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
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(what))
    bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn())
    bar.disable = not bar.console.is_terminal
    with bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
