"""Forest plot: one line a scorer, one panel a metric, estimate with its interval."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from meta_spliceai.experiments.report.svg import Scale, join, line, number, padded, picture, tag, text, tick_label

ROW = 30
TOP = 46
PANEL = 236
GAP = 34
LABEL = 26
"""Where a scorer's name begins, behind its mark."""

CHARACTER = 7.6
"""Width of a character of a name, on the wide side."""

LABELS = (236, 300)
"""The least and the most that names may take of the width."""

_RUN = re.compile(r" \((?:.*-)?([0-9a-f]{4})[0-9a-f]{8}\)$")


@dataclass(frozen=True)
class ForestRow:
    """A scorer's line.

    Attributes:
        label: name shown.
        kind: "row zero", "base" or "learned"; decides mark and colour.
        values: metric -> (estimate, low, high); a metric that is absent or NaN shows a dash.
    """

    label: str
    kind: str
    values: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class ForestMetric:
    """A panel: the metric's key, its heading, and the value a scorer without information would have (None: no line)."""

    key: str
    title: str
    chance: float | None = None


def mark(kind: str, x: float, y: float, size: float = 5.0) -> Markup:
    """The sign of a kind of scorer: open square for a row zero, diamond for a base model, disc for a learned one."""
    shade = f"mark {kind_class(kind)}"
    if kind == "row zero":
        side = size * 1.7
        return tag("rect", x=x - side / 2, y=y - side / 2, width=side, height=side, class_=shade)
    if kind == "base":
        reach = size * 1.35
        path = f"M{x:.1f} {y - reach:.1f}L{x + reach:.1f} {y:.1f}L{x:.1f} {y + reach:.1f}L{x - reach:.1f} {y:.1f}Z"
        return tag("path", d=path, class_=shade)
    return tag("circle", cx=float(x), cy=float(y), r=float(size), class_=shade)


def kind_class(kind: str) -> str:
    """The style class of a kind of scorer."""
    return {"row zero": "k-zero", "base": "k-base"}.get(kind, "k-learned")


def short_name(label: str) -> str:
    """A scorer's name as it fits beside a plot: of the run that tells it from another of the same name, the first four
    digits of its hash; the rest is cut in the middle where it is too long."""
    run = _RUN.search(label)
    ending = f" · {run[1]}" if run else ""
    name = label[: run.start()] if run else label
    room = int((LABELS[1] - LABEL) / CHARACTER) - len(ending)
    return (name if len(name) <= room else f"{name[: room - 1]}…") + ending


def forest_plot(rows: Sequence[ForestRow], metrics: Sequence[ForestMetric]) -> Markup:
    """Scorers down the side, metrics across; a dashed line marks what chance reaches."""
    names = [short_name(row.label) for row in rows]
    label_width = max([LABELS[0], *(round(LABEL + CHARACTER * len(name)) for name in names)])
    height = TOP + ROW * len(rows) + 34
    width = label_width + len(metrics) * PANEL + (len(metrics) - 1) * GAP + 12
    parts = [
        tag("rect", x=0, y=TOP + ROW * i, width=width, height=ROW, class_="stripe") for i in range(0, len(rows), 2)
    ]
    for i, row in enumerate(rows):
        y = TOP + ROW * (i + 0.5)
        parts.append(mark(row.kind, 12, y, 4.5))
        parts.append(tag("g", tag("title", row.label), text(LABEL, y + 4.5, names[i], "name")))
    for j, metric in enumerate(metrics):
        left = label_width + j * (PANEL + GAP)
        parts.append(_panel(rows, metric, left, left + PANEL))
    said = "; ".join(
        f"{row.label}: " + ", ".join(f"{m.title} {_in_words(row.values.get(m.key))}" for m in metrics) for row in rows
    )
    return picture(width, height, "Scorers compared", said, *parts, class_="plot forest")


def _in_words(value: tuple[float, float, float] | None) -> str:
    if value is None or not math.isfinite(value[0]):
        return "not available"
    return f"{number(value[0])} ({number(value[1])} to {number(value[2])})"


def _panel(rows: Sequence[ForestRow], metric: ForestMetric, left: float, right: float) -> Markup:
    seen = [v for row in rows if (value := row.values.get(metric.key)) for v in value]
    if metric.chance is not None:
        seen.append(metric.chance)
    low, high = padded(seen, 0.06)
    scale = Scale(low, high, left, right - 52)
    bottom = TOP + ROW * len(rows)
    parts = [text(left, 18, metric.title, "panel-title")]
    for tick in scale.ticks(4):
        parts.append(line(scale(tick), TOP, scale(tick), bottom, "grid"))
        parts.append(text(scale(tick), bottom + 17, tick_label(tick), "tick", "middle"))
    parts.append(line(left, bottom, right - 52, bottom, "axis"))
    if metric.chance is not None:
        x = scale(metric.chance)
        parts.append(line(x, TOP - 6, x, bottom, "chance"))
        parts.append(text(x, TOP - 10, f"chance {number(metric.chance, 2)}", "tick", "middle"))
    for i, row in enumerate(rows):
        y = TOP + ROW * (i + 0.5)
        found = row.values.get(metric.key)
        if found is None or not math.isfinite(found[0]):
            parts.append(text(right, y + 4, "–", "value", "end"))
            continue
        estimate, lower, upper = found
        if math.isfinite(lower) and math.isfinite(upper):
            parts.append(line(scale(lower), y, scale(upper), y, f"whisker {kind_class(row.kind)}"))
        parts.append(mark(row.kind, scale(estimate), y))
        parts.append(text(right, y + 4, number(estimate), "value", "end"))
    return join(parts)
