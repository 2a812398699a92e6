"""Training that ran out of memory: at which batch size, and which one fits."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

from meta_spliceai.errors import RunError


class OutOfMemory(RunError):
    """Training needs more memory than the device has.

    `tried`: smaller batches were tried, and `fits` is the largest of them that fits, None if not even one row did.
    """

    def __init__(
        self, device: str, batch_size: int, accumulate: int, window: int, tried: bool = False, fits: int | None = None
    ) -> None:
        self.device, self.window = device, window
        self.batch_size, self.accumulate = batch_size, accumulate
        self.fits = fits
        words = f"out of memory at batch {batch_size}"
        if not tried:
            words += (
                f" on {device} with windows of {window}; try batch_size {max(1, batch_size // 2)} with accumulate "
                f"{accumulate * 2} (the same step in smaller pieces)"
            )
        elif fits is None:
            words += f", and at 1 too, on {device} with windows of {window}; it needs a larger device"
        else:
            words += (
                f"; fits at {fits} (the same step in smaller pieces: --set training.batch_size={fits} "
                f"--set training.accumulate={accumulate * batch_size // fits})"
            )
        super().__init__(words)

    def alone(self) -> OutOfMemory:
        """The same error without the frames it was raised through, which hold the memory that ran out."""
        return OutOfMemory(self.device, self.batch_size, self.accumulate, self.window)

    def with_what_fits(self, try_step: Callable[[int], None]) -> OutOfMemory:
        """The same error once halves of the batch have been tried; `try_step` takes a batch size and raises OutOfMemory
        where one step of it does not fit."""
        batch = self.batch_size // 2
        while batch >= 1:
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            try:
                try_step(batch)
            except OutOfMemory:
                batch //= 2
            else:
                break
        return OutOfMemory(self.device, self.batch_size, self.accumulate, self.window, tried=True, fits=batch or None)
