"""The most memory a piece of work held: of the process on a CPU, of the device on CUDA."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


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


NO_MEMORY = ("can't allocate memory", "could not create a primitive", "could not create a memory object")
"""How PyTorch's allocator and oneDNN, which knows no error of its own for it, say that a processor's memory is full."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, of a GPU or of the machine."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
