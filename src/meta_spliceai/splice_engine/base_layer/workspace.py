"""Scratch memory that is asked for once and used again: fresh pages cost more than the arithmetic done on them."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Workspace:
    """Named float32 buffers on one device, each as large as its largest use so far.

    What a buffer holds when it is taken is whatever its last use left there, always finite.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._buffers: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """The named buffer in this shape; a later `take` of the same name is the same memory."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            buffer = torch.zeros(size, device=self.device)
            self._buffers[name] = buffer
        return buffer[:size].view(shape)
