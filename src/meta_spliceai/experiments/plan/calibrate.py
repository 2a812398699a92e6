"""What finished runs and probes say about the planner's estimates: how far off they were, and by how much to mend them.

For time, a factor for each step of a run: the median of measured over estimated, of runs on the same device with the
same kind of model, else of all runs on that device. For memory on a card a factor likewise; on a processor a sum, and
with enough runs a line, because there the peak is that of a process that holds an interpreter and its libraries before
it holds any number.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

TRAINED_STEPS = ("training", "predicting")
"""Steps whose speed depends on the kind of model."""


ENOUGH_FOR_A_LINE = 4
"""Different estimates that it takes to fit a line through the measurements of a processor, not only a sum."""

STEEPNESS = (0.8, 3.0)
"""Slopes such a line may have; outside, the measurements say too little."""


@dataclass(frozen=True)
class Point:
    """One measurement beside its estimate.

    Attributes:
        source: the run's or the probe's name.
        probe: a few steps of training, not a run.
        device: where.
        family: kind of model.
        memory: bytes, (estimated, measured); None where not measured.
        steps: for each step, seconds (estimated, measured).
        epoch_share: epochs trained of those allowed; None for probes and where training does not stop early.
    """

    source: str
    probe: bool
    device: str
    family: str
    memory: tuple[float, float] | None
    steps: dict[str, tuple[float, float]]
    epoch_share: float | None


@dataclass(frozen=True)
class Mended:
    """A calibrated number.

    Attributes:
        value: bytes or seconds.
        basis: "estimate" or "calibrated".
        sources: measurements behind it.
    """

    value: float
    basis: str
    sources: int


@dataclass(frozen=True)
class Calibration:
    """All measurements."""

    points: tuple[Point, ...] = ()

    def without(self, source: str) -> Calibration:
        """As if one run had not been: for an honest look at the error."""
        return Calibration(tuple(point for point in self.points if point.source != source))

    def memory(self, device: str, family: str, estimate: float, cuda: bool) -> Mended:
        """Peak memory, mended."""
        known = [point for point in self.points if point.memory is not None and point.device == device]
        # What an interpreter holds does not depend on the model.
        near = self._near(device, family, known) if cuda else known
        runs = [point for point in near if not point.probe]
        pairs = [point.memory for point in (runs or near) if point.memory is not None]
        if not pairs:
            return Mended(estimate, "estimate", 0)
        if cuda:
            factor = statistics.median(measured / estimated for estimated, measured in pairs)
            return Mended(estimate * factor, "calibrated", len(pairs))
        if len({round(estimated / 1e6) for estimated, _ in pairs}) >= ENOUGH_FOR_A_LINE:
            # Libraries hold copies of what they work on, so what is counted counts more than once.
            line = statistics.linear_regression(*zip(*pairs, strict=True))
            if STEEPNESS[0] <= line.slope <= STEEPNESS[1]:
                return Mended(line.intercept + line.slope * estimate, "calibrated", len(pairs))
        offset = statistics.median(measured - estimated for estimated, measured in pairs)
        return Mended(estimate + offset, "calibrated", len(pairs))

    def step(self, device: str, family: str, step: str, estimate: float) -> Mended:
        """Seconds of one step, mended."""
        usable = [point for point in self.points if step in point.steps and min(point.steps[step]) > 0]
        here = [point for point in usable if point.device == device]
        near = self._near(device, family, usable) if step in TRAINED_STEPS else here
        runs = [point for point in near if not point.probe]
        pairs = [point.steps[step] for point in (runs or near)]
        if not pairs:
            return Mended(estimate, "estimate", 0)
        factor = statistics.median(measured / estimated for estimated, measured in pairs)
        return Mended(estimate * factor, "calibrated", len(pairs))

    def epochs(self, family: str) -> Mended:
        """Share of the allowed epochs after which training stops by itself; 1 where nothing is known."""
        shares = [point.epoch_share for point in self.points if point.epoch_share and point.family == family]
        shares = shares or [point.epoch_share for point in self.points if point.epoch_share]
        known = [share for share in shares if share is not None]
        if not known:
            return Mended(1.0, "estimate", 0)
        return Mended(statistics.median(known), "calibrated", len(known))

    def _near(self, device: str, family: str, points: Sequence[Point]) -> list[Point]:
        here = [point for point in points if point.device == device]
        return [point for point in here if point.family == family] or here
