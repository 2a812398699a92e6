"""How much was computed, and how long that took: what a share of the device's limit is made of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Tally:
    """What was computed so far.

    Attributes:
        operations: floating-point operations of products and convolutions; a multiplication and an addition are two.
        seconds: spent on them, with all that had to be done beside them.
    """

    operations: float = 0.0
    seconds: float = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the time that a block takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started
