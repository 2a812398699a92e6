"""The planner's own test: what it said against what was measured, memory and time, for every row that has been run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from meta_spliceai.experiments.report.svg import join, line, picture, polygon, tag, text

WIDTH, HEIGHT = 460, 420
LEFT, RIGHT, TOP, BOTTOM = 74, 446, 30, 368


@dataclass(frozen=True)
class PlannedPoint:
    """One finished run.

    Attributes:
        name: the run.
        measured: what it took, in the plot's unit.
        estimate: what the planner says from first principles; NaN for nothing.
        calibrated: what it says having learned from all other runs; NaN for nothing.
    """

    name: str
    measured: float
    estimate: float
    calibrated: float


def planned_plot(points: Sequence[PlannedPoint], title: str, unit: str, bar: float) -> Markup | None:
    """Predicted by measured on logarithmic axes, with the band within which a prediction counts as good.

    Args:
        points: finished runs.
        title: what is compared.
        unit: of both axes.
        bar: half width of the band as a share (0.15: within 15 %).

    Returns:
        The plot; None where no run has a prediction and a measurement above zero.
    """
    drawn = [
        (kind, point, value)
        for point in points
        for kind, value in (("estimate", point.estimate), ("calibrated", point.calibrated))
        if _positive(point.measured) and _positive(value)
    ]
    if not drawn:
        return None
    values = [v for _, point, value in drawn for v in (point.measured, value)]
    low, high = math.log10(min(values)) - 0.25, math.log10(max(values)) + 0.25

    def across(value: float) -> float:
        return LEFT + (RIGHT - LEFT) * (math.log10(value) - low) / (high - low)

    def up(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (math.log10(value) - low) / (high - low)

    ends = 10**low, 10**high
    band = [(across(v), up(v * (1 + bar))) for v in ends] + [(across(v), up(v * (1 - bar))) for v in ends[::-1]]
    clip = "clip-" + "".join(letter if letter.isalnum() else "-" for letter in title.casefold())
    frame = tag("rect", x=LEFT, y=TOP, width=RIGHT - LEFT, height=BOTTOM - TOP)
    parts = [
        text(LEFT, 18, title, "panel-title"),
        tag("defs", tag("clipPath", frame, id=clip)),
        tag("g", polygon(band, "within"), clip_path=f"url(#{clip})"),
    ]
    for value in _decades(low, high):
        parts.append(line(across(value), TOP, across(value), BOTTOM, "grid"))
        parts.append(line(LEFT, up(value), RIGHT, up(value), "grid"))
        parts.append(text(across(value), BOTTOM + 16, f"{value:g}", "tick", "middle"))
        parts.append(text(LEFT - 8, up(value) + 4, f"{value:g}", "tick", "end"))
    parts.append(line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis"))
    parts.append(line(across(ends[0]), up(ends[0]), across(ends[1]), up(ends[1]), "chance"))
    parts.append(text((LEFT + RIGHT) / 2, BOTTOM + 38, f"measured, {unit}", "label", "middle"))
    middle = (TOP + BOTTOM) / 2
    parts.append(
        text(
            0, 0, f"predicted, {unit}", "label", "middle", transform=f"translate({LEFT - 52} {middle:.1f}) rotate(-90)"
        )
    )
    marks, outside = [], []
    for kind, point, value in drawn:
        off = (value - point.measured) / point.measured
        if kind == "calibrated" and abs(off) > bar:
            x, y, right = across(point.measured), up(value), across(point.measured) > (LEFT + RIGHT) / 2
            row = point.name.rpartition("-")[0] or point.name
            marks.append(text(x - 9 if right else x + 9, y + 4, row, "tick", "end" if right else "start"))
            outside.append(f"{row} {off:+.0%}")
        words = f"{point.name}, {kind}: {value:.3g} {unit} predicted, {point.measured:.3g} measured ({off:+.0%})"
        marks.append(
            tag("circle", cx=across(point.measured), cy=up(value), r=5.0, class_=f"guess {kind}", data_tip=words)
        )
    calibrated = [abs(value / point.measured - 1) for kind, point, value in drawn if kind == "calibrated"]
    inside = sum(error <= bar for error in calibrated)
    said = f"{len(points)} runs; {inside} of {len(calibrated)} calibrated predictions within {bar:.0%}"
    if outside:
        said += f"; outside: {', '.join(outside)}"
    return picture(WIDTH, HEIGHT, title, said, *parts, join(marks), class_="plot planned", tabindex=0)


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _decades(low: float, high: float) -> list[float]:
    """Round values between two powers of ten: decades, with 2 and 5 between them where there are few."""
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    found = [m * 10.0**p for p in range(math.floor(low), math.ceil(high) + 1) for m in steps]
    return [value for value in found if low <= math.log10(value) <= high]
