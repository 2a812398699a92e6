"""What a plan says of a row: every machine with its memory, hours and dollars, and the one that is best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from meta_spliceai.experiments.plan.calibrate import Basis
from meta_spliceai.experiments.spec.experiment import ExperimentSpec

State = Literal["planned", "completed", "out of memory", "cannot run"]

PRIORITIES = ("high", "medium", "low")


@dataclass(frozen=True)
class Offered:
    """A row on one machine.

    Attributes:
        hours: expected, training stopped early as comparable runs were; `hours_most` with all epochs.
        dollars: for `hours`; None without a price (the processor at hand costs nothing).
        dollars_per_hour, as_of, provider, source: the price; None and empty where there is none.
        batch_size, accumulate: how it is trained there; `largest_batch` is the largest power of two that fits.
        memory_basis, time_basis: estimate, calibrated or measured.
        phase: what holds the peak.
        steps: expected seconds by step.
        why: where the numbers are from, in words.
    """

    gpu: str
    fits: bool
    peak_bytes: int
    hours: float
    hours_most: float
    dollars: float | None
    dollars_per_hour: float | None
    as_of: str
    provider: str
    source: str
    batch_size: int
    accumulate: int
    largest_batch: int
    memory_basis: Basis
    time_basis: Basis
    phase: str
    steps: dict[str, float]
    why: str

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            **vars(self),
            "hours": round(self.hours, 5),
            "hours_most": round(self.hours_most, 5),
            "dollars": None if self.dollars is None else round(self.dollars, 5),
            "steps": {name: round(seconds, 3) for name, seconds in self.steps.items()},
        }


@dataclass(frozen=True)
class RowPlan:
    """A row on every machine.

    Attributes:
        spec: the row.
        state: planned, completed (its result is there, and costs nothing again), out of memory (its latest run did not
            fit), or cannot run (a part is missing).
        offers: one a machine.
        best: the cheapest that fits; the fastest of those without a price where none has one; None where none fits.
        notes: what a reader must know.
        shared: what this row computes that later rows find done, as a key; empty for nothing.
        drawn: variants it draws.
    """

    spec: ExperimentSpec
    state: State
    offers: tuple[Offered, ...]
    best: Offered | None
    notes: tuple[str, ...]
    shared: str
    drawn: int = 0

    @property
    def steps(self) -> dict[str, float]:
        """Seconds by step on the best machine."""
        return {} if self.best is None else self.best.steps

    @property
    def basis_memory(self) -> Basis:
        """Where the peak is from."""
        return "estimate" if self.best is None else self.best.memory_basis

    @property
    def basis_time(self) -> Basis:
        """Where the hours are from."""
        return "estimate" if self.best is None else self.best.time_basis

    @property
    def why(self) -> str:
        """Where the best offer's numbers are from, in words."""
        return "no card has memory enough" if self.best is None else self.best.why

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "id": self.spec.id,
            "title": self.spec.title,
            "section": self.spec.section,
            "state": self.state,
            "best": None if self.best is None else self.best.to_json(),
            "offers": [offer.to_json() for offer in self.offers],
            "notes": list(self.notes),
            "wish": None if self.spec.wish is None else self.spec.wish.model_dump(mode="json"),
        }


def best_of(offers: Sequence[Offered]) -> Offered | None:
    """The cheapest that fits; the fastest of those that fit where none has a price; None where none fits."""
    fitting = [offer for offer in offers if offer.fits]
    priced = [offer for offer in fitting if offer.dollars is not None]
    if priced:
        return min(priced, key=lambda offer: (offer.dollars, offer.hours))
    return min(fitting, key=lambda offer: offer.hours, default=None)
