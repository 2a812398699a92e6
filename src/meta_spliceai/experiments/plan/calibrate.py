"""What finished runs say about the planner's estimates: how far off they were, and by how much to correct them.

Time is corrected step by step with a factor, memory on a card with a factor, memory of a process with a sum: there most
of the peak is an interpreter and its libraries. Runs of the same row settle the matter; without them runs of the same
kind of model on the same data count, then of the same kind of model, then all of the device, each drawn towards the
next wider circle as if that were one more measurement.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from meta_spliceai.experiments.plan.run_work import FEATURES

Basis = Literal["estimate", "calibrated", "measured"]

TRAINED_STEPS = (FEATURES, "training", "predicting")
"""Steps whose speed depends on the kind of model; that of the others depends on the data."""


class Kind(NamedTuple):
    """What makes measurements alike: device, kind of model, data set, and all that decides a result but the seed."""

    device: str
    family: str
    data: str
    row: str


@dataclass(frozen=True)
class Point:
    """A finished run beside its estimate.

    Attributes:
        kind: what it is a measurement of.
        memory: bytes, (estimated, measured); None where not measured.
        steps: for each step, seconds (estimated, measured).
        epoch_share: epochs trained of those allowed; None where training does not stop early.
    """

    run: str
    kind: Kind
    memory: tuple[float, float] | None
    steps: dict[str, tuple[float, float]]
    epoch_share: float | None


@dataclass(frozen=True)
class Calibrated:
    """A number (bytes, seconds or a share): "measured" where runs of the same row decided; on what it rests, in words;
    how many runs that are."""

    value: float
    basis: Basis = "estimate"
    rests_on: str = ""
    sources: int = 0


@dataclass(frozen=True)
class Calibration:
    """All measurements."""

    points: tuple[Point, ...] = ()

    def without(self, run: str) -> Calibration:
        """As if one run had not been: for an honest look at the error."""
        return Calibration(tuple(point for point in self.points if point.run != run))

    def without_row(self, kind: Kind) -> Calibration:
        """As if a row had never been run, with any seed."""
        return Calibration(tuple(point for point in self.points if point.kind.row != kind.row))

    def memory(self, kind: Kind, estimate: float, cuda: bool) -> Calibrated:
        """Peak memory: corrected by a factor on a card, by a sum in a process."""
        known = [(p, p.memory) for p in self.points if p.memory is not None and p.kind.device == kind.device]
        if cuda:
            logs = [(p, math.log(measured / planned)) for p, (planned, measured) in known]
            return _nearest(kind, logs, True, lambda log: estimate * math.exp(log))
        sums = [(p, measured - planned) for p, (planned, measured) in known]
        return _nearest(kind, sums, True, lambda more: estimate + more)

    def step(self, kind: Kind, step: str, estimate: float) -> Calibrated:
        """Seconds of one step."""
        near = [p for p in self.points if p.kind.device == kind.device and min(p.steps.get(step, (0, 0))) > 0]
        logs = [(p, math.log(p.steps[step][1] / p.steps[step][0])) for p in near]
        return _nearest(kind, logs, step in TRAINED_STEPS, lambda log: estimate * math.exp(log))

    def epochs(self, kind: Kind) -> Calibrated:
        """Share of the allowed epochs after which training stops by itself, on any device; 1 where nothing is known."""
        known = [(p, p.epoch_share) for p in self.points if p.epoch_share]
        return _nearest(kind, known, True, float) if known else Calibrated(1.0)


def _nearest(kind: Kind, off: list[tuple[Point, float]], by_model: bool, apply: Callable[[float], float]) -> Calibrated:
    """A number corrected by the nearest runs, drawn towards the wider circles.

    Args:
        kind: of the row.
        off: runs, and by how much each says its estimate was off.
        by_model: whether the kind of model matters.
        apply: the number corrected by so much; by 0 where there are no runs.
    """
    model = [one for one in off if not by_model or one[0].kind.family == kind.family]
    of = f" of {kind.family}" if by_model else ""
    circles = (
        (off, " on this device"),
        (model, of or " on this device"),
        ([one for one in model if one[0].kind.data == kind.data], f"{of} on {kind.data}"),
        ([one for one in off if one[0].kind.row == kind.row], " of this row"),
    )
    corrected, found = None, Calibrated(apply(0.0))
    for circle, words in circles:
        if not circle:
            continue
        same, count = words == " of this row", len(circle)
        middle = statistics.median(value for _, value in circle)
        corrected = middle if same or corrected is None else (count * middle + corrected) / (count + 1)
        rests_on = f"{count} run{'' if count == 1 else 's'}{words}"
        found = Calibrated(apply(corrected), "measured" if same else "calibrated", rests_on, count)
    return found
