"""What finished runs and probes say about the planner's estimates: how far off they were, and by how much to mend them.

Time is mended step by step with a factor, memory on a card with a factor, memory of a process with a sum: there most of
the peak is an interpreter and its libraries, which weigh the same whatever they work on.

Runs of the same row (another seed, another version of the code) settle the matter. Without them the nearest count: runs
of the same kind of model on the same data, or a probe of the row; then runs of the same kind of model; then all of the
device. Each nearer circle is drawn towards the next wider one as if that were one more measurement, so that a single
neighbour is not believed blindly.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from meta_spliceai.experiments.plan.bench_work import FEATURES

Basis = Literal["estimate", "calibrated", "measured"]

TRAINED_STEPS = (FEATURES, "training", "predicting")
"""Steps whose speed depends on the kind of model; that of the others depends on the data."""


class Kind(NamedTuple):
    """What makes measurements alike.

    Attributes:
        device: where.
        family: kind of model.
        data: the data set's name.
        row: everything that decides a result but the seed, as a text.
    """

    device: str
    family: str
    data: str
    row: str


@dataclass(frozen=True)
class Point:
    """One measurement beside its estimate.

    Attributes:
        source: the run's or the probe's name.
        probe: a few steps of training, not a run.
        kind: what it is a measurement of.
        memory: bytes, (estimated, measured); None where not measured.
        steps: for each step, seconds (estimated, measured).
        epoch_share: epochs trained of those allowed; None for probes and where training does not stop early.
    """

    source: str
    probe: bool
    kind: Kind
    memory: tuple[float, float] | None
    steps: dict[str, tuple[float, float]]
    epoch_share: float | None


@dataclass(frozen=True)
class Mended:
    """A calibrated number.

    Attributes:
        value: bytes, seconds or a share.
        basis: "estimate", "calibrated", or "measured" where runs of the same row decided.
        sources: measurements behind it.
        rests_on: which these are, in words; empty for an estimate.
    """

    value: float
    basis: Basis
    sources: int
    rests_on: str = ""


class _Circle(NamedTuple):
    """Measurements that are equally near."""

    points: list[Point]
    words: str
    settles: bool = False


@dataclass(frozen=True)
class Calibration:
    """All measurements."""

    points: tuple[Point, ...] = ()

    def without(self, source: str) -> Calibration:
        """As if one run had not been: for an honest look at the error."""
        return Calibration(tuple(point for point in self.points if point.source != source))

    def without_row(self, kind: Kind) -> Calibration:
        """As if a row had never been run, with any seed, nor probed."""
        return Calibration(tuple(point for point in self.points if point.kind.row != kind.row))

    def memory(self, kind: Kind, estimate: float, cuda: bool) -> Mended:
        """Peak memory, mended."""
        known = [point for point in self.points if point.memory is not None and point.kind.device == kind.device]
        if not cuda:
            # A probe's process has read no data and judges nothing: it says what libraries weigh, and no more.
            circles = _circles(kind, [point for point in known if not point.probe], by_model=True)
            circles = circles or [_Circle(known, _counted(known, "probe"))] * bool(known)
            return _mended(circles, lambda one: _of(one.memory, _difference), lambda shift: estimate + shift, estimate)
        return _mended(
            _circles(kind, known, by_model=True),
            lambda one: _of(one.memory, _log_ratio),
            lambda log: estimate * math.exp(log),
            estimate,
        )

    def step(self, kind: Kind, step: str, estimate: float) -> Mended:
        """Seconds of one step, mended."""
        usable = [
            point
            for point in self.points
            if point.kind.device == kind.device and step in point.steps and min(point.steps[step]) > 0
        ]
        return _mended(
            _circles(kind, usable, by_model=step in TRAINED_STEPS),
            lambda one: _of(one.steps[step], _log_ratio),
            lambda log: estimate * math.exp(log),
            estimate,
        )

    def epochs(self, kind: Kind) -> Mended:
        """Share of the allowed epochs after which training stops by itself; 1 where nothing is known. The device does
        not matter."""
        known = [point for point in self.points if point.epoch_share]
        return _mended(_circles(kind, known, by_model=True), lambda one: one.epoch_share or 1.0, float, 1.0)


def _circles(kind: Kind, points: Sequence[Point], by_model: bool) -> list[_Circle]:
    """Circles of measurements around a row, the nearest first, each within the next; empty ones left out."""

    def alike(point: Point) -> bool:
        return point.kind.family == kind.family if by_model else True

    runs = [point for point in points if not point.probe]
    same = [point for point in runs if point.kind.row == kind.row]
    own_probe = [point for point in points if point.probe and point.kind.row == kind.row]
    near = [point for point in runs if alike(point) and point.kind.data == kind.data]
    model = [point for point in runs if alike(point)] or [p for p in points if p.probe and alike(p)]
    found = [
        _Circle(same, _counted(same, "run") + " of this row", settles=True),
        _Circle(own_probe, "this row's probe"),
        _Circle(near, _counted(near, "run") + (f" of {kind.family}" if by_model else "") + f" on {kind.data}"),
        _Circle(model, _counted(model) + (f" of {kind.family}" if by_model else " on this device")),
        _Circle(runs or list(points), _counted(runs or list(points)) + " on this device"),
    ]
    return [circle for circle in found if circle.points]


def _mended(
    circles: list[_Circle],
    read: Callable[[Point], float],
    apply: Callable[[float], float],
    estimate: float,
) -> Mended:
    """A number mended by the nearest circle, drawn towards the wider ones.

    Args:
        circles: the nearest first.
        read: by how much a measurement says its estimate was off.
        apply: mends the number by so much.
        estimate: the number itself, for where there are no measurements.
    """
    if not circles:
        return Mended(estimate, "estimate", 0)
    off: float | None = None
    for circle in reversed(circles):
        values = [read(point) for point in circle.points]
        middle = statistics.median(values)
        off = middle if off is None or circle.settles else (len(values) * middle + off) / (len(values) + 1)
    nearest = circles[0]
    basis: Basis = "measured" if nearest.settles else "calibrated"
    return Mended(apply(off or 0.0), basis, len(nearest.points), nearest.words)


def _of(pair: tuple[float, float] | None, read: Callable[[float, float], float]) -> float:
    return 0.0 if pair is None else read(*pair)


def _log_ratio(estimated: float, measured: float) -> float:
    return math.log(measured / estimated)


def _difference(estimated: float, measured: float) -> float:
    return measured - estimated


def _counted(points: Sequence[Point], what: str = "measurement") -> str:
    return f"{len(points)} {what}{'' if len(points) == 1 else 's'}"
