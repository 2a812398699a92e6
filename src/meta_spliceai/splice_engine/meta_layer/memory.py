"""The most memory a piece of work held (of the process on a CPU, of the device on CUDA), and training that ran out of
it: at which batch size, and which one fits."""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from meta_spliceai.errors import RunError

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")

NO_MEMORY = ("can't allocate memory", "could not create a primitive", "could not create a memory object")
"""How PyTorch's allocator and oneDNN, which knows no error of its own for it, say that a processor's memory is full."""


def reset_peak(device: torch.device) -> None:
    """Start a new measurement. Where the system cannot reset the process's peak, it counts from the process's start."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _RESET.exists():
        try:
            _RESET.write_text("5")  # Linux: forget the peak resident size
        except PermissionError:
            return


def peak_memory(device: torch.device) -> int:
    """Bytes: CUDA's largest allocation, or the largest resident size of the process, since the last reset."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if _STATUS.exists():
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(largest) * (1 if sys.platform == "darwin" else 1024)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, of a GPU or of the machine."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


class OutOfMemory(RunError):
    """Training needs more memory than the device has. `tried`: smaller batches were tried, and `fits` is the largest of
    them that fits, None if not even one row did."""

    def __init__(
        self, device: str, batch_size: int, accumulate: int, window: int, tried: bool = False, fits: int | None = None
    ) -> None:
        self.asked = device, batch_size, accumulate, window
        self.batch_size, self.fits = batch_size, fits
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
        return OutOfMemory(*self.asked)

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
        return OutOfMemory(*self.asked, tried=True, fits=batch or None)
