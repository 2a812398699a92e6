"""How far a run is, in a file of its own folder, for whoever looks from another process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from meta_spliceai.experiments.run.callback import Callback
from meta_spliceai.experiments.store.workspace import RunDirectory, now

PROGRESS = "progress.json"
"""at, stage, done, total, fold, epoch, epochs, share, loss, windows_per_second, memory_bytes, seconds, dollars; a field
that is not known is absent. The file is there while the run is running, and goes when it ends."""

SECONDS_BETWEEN_WRITES = 2.0


class ProgressFile:
    """A callback that hands everything on and keeps `progress.json` up to date.

    Args:
        callback: handed everything.
        run: whose progress it is.
        price_per_hour: dollars an hour of the machine; None where it has no price.
    """

    def __init__(
        self,
        callback: Callback,
        run: RunDirectory,
        price_per_hour: float | None = None,
    ) -> None:
        self.callback = callback
        self.run = run
        self.price_per_hour = price_per_hour
        self.began = time.perf_counter()
        self.written = -SECONDS_BETWEEN_WRITES
        self.say = callback.say

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Hand the step on, and write how much of it is done."""
        done = 0
        self._write({"stage": name, "done": 0, "total": total}, now_or_never=True)
        with self.callback.stage(name, total) as advance:

            def count(units: int) -> None:
                nonlocal done
                done += units
                advance(units)
                self._write({"stage": name, "done": done, "total": total})

            yield count

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        """Hand the facts on, and write those of the training."""
        self.callback.tell(kind, facts)
        if kind == "epoch":
            self.run.require_there()
        if kind == "training":
            self._write({"stage": "training", **facts})

    def close(self) -> None:
        """Take the file away; one that is out of reach with its disk stays."""
        with suppress(OSError):
            (self.run.path / PROGRESS).unlink(missing_ok=True)

    def _write(self, facts: dict[str, Any], now_or_never: bool = False) -> None:
        since = time.perf_counter()
        if not now_or_never and since - self.written < SECONDS_BETWEEN_WRITES:
            return
        self.run.require_there()
        self.written = since
        seconds = since - self.began
        price = self.price_per_hour
        content = {
            "at": now(),
            **facts,
            "seconds": round(seconds, 1),
            "dollars": None if price is None else round(seconds / 3600 * price, 4),
        }
        # NaN (no batch has been looked at yet) is no JSON.
        self.run.write_json(PROGRESS, {name: value for name, value in content.items() if value == value})
