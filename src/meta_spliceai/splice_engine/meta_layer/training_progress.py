"""A bar for a training run: epoch, losses, windows a second, time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


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
