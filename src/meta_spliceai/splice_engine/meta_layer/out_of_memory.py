"""Training that ran out of memory: at which batch size, and which one fits."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

from meta_spliceai.errors import RunError


class OutOfMemory(RunError):
    """Training needs more memory than the device has.

    Attributes:
        batch_size, accumulate: as training was set.
        device, window: where, and bases of a window.
        tried: smaller batches were tried; `fits` is the largest of them that fits, None if not even one row did.
    """

    def __init__(
        self, device: str, batch_size: int, accumulate: int, window: int, tried: bool = False, fits: int | None = None
    ) -> None:
        self.device = device
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.window = window
        self.tried = tried
        self.fits = fits
        super().__init__(self._words())

    def _words(self) -> str:
        words = f"out of memory at batch {self.batch_size}"
        if not self.tried:
            half = max(1, self.batch_size // 2)
            return (
                f"{words} on {self.device} with windows of {self.window}; try batch_size {half} with accumulate "
                f"{self.accumulate * 2} (the same step in smaller pieces)"
            )
        if self.fits is None:
            return f"{words}, and at 1 too, on {self.device} with windows of {self.window}; it needs a larger device"
        accumulate = self.accumulate * self.batch_size // self.fits
        return (
            f"{words}; fits at {self.fits} (the same step in smaller pieces: --set training.batch_size={self.fits} "
            f"--set training.accumulate={accumulate})"
        )

    def alone(self) -> OutOfMemory:
        """The same error without the frames it was raised through, which hold the memory that ran out."""
        return OutOfMemory(self.device, self.batch_size, self.accumulate, self.window)

    def with_what_fits(self, try_step: Callable[[int], None]) -> OutOfMemory:
        """The same error once halves of the batch have been tried.

        Args:
            try_step: one step at a batch size; raises OutOfMemory where it does not fit.
        """
        batch = self.batch_size // 2
        while batch >= 1:
            free_memory()
            try:
                try_step(batch)
            except OutOfMemory:
                batch //= 2
            else:
                break
        return OutOfMemory(self.device, self.batch_size, self.accumulate, self.window, tried=True, fits=batch or None)


def free_memory() -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
