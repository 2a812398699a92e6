"""What a run is made with: its clock, its place, what a procedure is given, and what it gives back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from jaxtyping import Float32

    from meta_spliceai.experiments.run.callback import Callback
    from meta_spliceai.experiments.run.prepare import Prepared
    from meta_spliceai.experiments.spec.experiment import ExperimentSpec


class Clock:
    """Seconds spent in each step: those that passed, and those of the processor (all threads added up)."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Measure one step; a step measured twice is added up."""
        started, busy = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.add({step: time.perf_counter() - started}, {step: time.process_time() - busy})

    def add(self, seconds: dict[str, float], cpu_seconds: dict[str, float]) -> None:
        """Add seconds that were measured elsewhere, by step (fewer than none: counted twice)."""
        for kept, added in ((self.seconds, seconds), (self.cpu_seconds, cpu_seconds)):
            for step, more in added.items():
                kept[step] = kept.get(step, 0.0) + more

    def in_record(self) -> dict[str, dict[str, float]]:
        named = {"seconds_by_step": self.seconds, "cpu_seconds_by_step": self.cpu_seconds}
        return {name: {step: round(spent, 3) for step, spent in steps.items()} for name, steps in named.items()}


@dataclass(frozen=True)
class Work:
    """A run from its beginning to its record: its folder, the row as it is run, the catalogue (`rows`), "cpu" or
    "cuda", whether it goes on after the last whole epoch, dollars an hour of a rented machine."""

    run: RunDirectory
    spec: ExperimentSpec
    rows: dict[str, ExperimentSpec]
    workspace: Workspace
    device: str
    resume: bool
    callback: Callback
    clock: Clock
    price_per_hour: float | None = None


@dataclass(frozen=True, kw_only=True)
class Job(Work):
    """A run that is ready to be trained; `run_member` runs another row, or finds its finished run, for ensembles."""

    prepared: Prepared
    run_member: Callable[[str], RunDirectory]


@dataclass(frozen=True)
class Trained:
    """A trained model's predictions on every row of the table, what they mean by name, and how training went.

    `work` says what share of the device's rate training reached (see `utilisation`); `notes` are sentences that
    belong on the result.
    """

    predictions: Float32[np.ndarray, "n outputs"]
    columns: Callable[[Float32[np.ndarray, "n outputs"]], dict[str, Float32[np.ndarray, " n"]]]
    curves: pd.DataFrame
    model: dict[str, Any]
    training: dict[str, Any]
    peak_memory_bytes: int
    work: dict[str, Any]
    notes: tuple[str, ...] = ()
