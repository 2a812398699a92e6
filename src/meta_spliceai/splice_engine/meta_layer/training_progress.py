"""How far a training run is: epoch, losses, windows a second, time left; as a bar, or told to somebody."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from meta_spliceai.splice_engine.meta_layer.peak_memory import peak_memory

SECONDS_BETWEEN_LOOKS = 1.0
"""A running loss is looked at this often at most: each look waits for the device."""


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


class TrainingReporter(pl.Callback):
    """Tells a function how training goes on: now and then within an epoch, and after each one."""

    def __init__(self, report: Callable[[TrainingState], None]) -> None:
        self.report = report
        self.looked = 0.0
        self.loss = float("nan")

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if time.perf_counter() - self.looked >= SECONDS_BETWEEN_LOOKS:
            self.loss = float(outputs["loss"])
            self._tell(trainer, pl_module, batch_idx + 1)
            self.looked = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        ended = pl_module.curves[-1]
        self.loss = ended["train_loss"]
        self._tell(trainer, pl_module, int(trainer.num_training_batches), ended)

    def _tell(
        self, trainer: pl.Trainer, pl_module: Any, batches: int, ended: Mapping[str, float] | None = None
    ) -> None:
        epochs = int(pl_module.settings.epochs)
        done = trainer.current_epoch + batches / max(1, int(trainer.num_training_batches))
        speed = ended["windows_per_second"] if ended is not None else pl_module.windows_per_second()
        self.report(
            TrainingState(
                trainer.current_epoch + 1, epochs, done / epochs, self.loss, speed, peak_memory(pl_module.device), ended
            )
        )


class TrainingBar(pl.Callback):
    """Shows one bar over all epochs. Away from a terminal nothing is drawn."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epoch {task.fields[epoch]}  loss {task.fields[loss]}  validation {task.fields[validation]}"),
            TextColumn("{task.fields[speed]} windows/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        # Rich would print the finished bar into a log file; a log gets its lines from the run itself.
        self.bar.disable = not self.bar.console.is_terminal

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        batches = int(trainer.num_training_batches)
        total = pl_module.settings.epochs * batches
        done = trainer.current_epoch * batches
        self.task = self.bar.add_task(
            self.title, total=total, completed=done, epoch="-", loss="-", validation="-", speed="-"
        )
        self.bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        # Reading the loss waits for the device, so it is done seldom.
        if batch_idx % 20 == 0 and not self.bar.disable:
            self.bar.update(
                self.task,
                epoch=f"{trainer.current_epoch + 1}/{trainer.max_epochs}",
                loss=f"{float(outputs['loss']):.4f}",
                speed=f"{pl_module.windows_per_second():.0f}",
            )
        self.bar.advance(self.task)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.bar.update(self.task, validation=f"{float(trainer.callback_metrics['val_loss']):.4f}")

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.bar.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        self.bar.stop()


@contextmanager
def counting_bar(title: str, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar fed by a function of things done and things in all; away from a terminal nothing is drawn."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(what))
    bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn())
    bar.disable = not bar.console.is_terminal
    with bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
