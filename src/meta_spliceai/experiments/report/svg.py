"""Small pieces of SVG: elements with escaped text and attributes, linear scales, ticks, number formats.

Colours are never written here as values: elements carry classes, and the page's style sheet (or the one embedded in a
stand-alone picture) gives a class its colour in light and in dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

MINUS = "−"
LABEL_LETTER = 6.6
"""Average width of a letter of an axis title, pixels."""


def tag(name: str, *children: str | None, **attributes: object) -> Markup:
    """One element; children and attribute values are escaped unless they are Markup already.

    Args:
        name: element name.
        children: text or Markup; None is skipped.
        attributes: `class_` for class, `_` in names becomes `-`, None leaves an attribute out; floats get two decimals.
    """
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    body = Markup("").join(child for child in children if child is not None)
    return Markup(f"<{name}{pairs}>{body}</{name}>") if body else Markup(f"<{name}{pairs}/>")  # noqa: S704


def _plain(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".") if math.isfinite(value) else "0"
    return value


def join(parts: Iterable[str]) -> Markup:
    """Elements one after the other."""
    return Markup("").join(parts)


def text(x: float, y: float, content: object, class_: str = "t", anchor: str | None = None, **more: object) -> Markup:
    """A line of text at a point; `anchor` is start, middle or end."""
    return tag("text", str(content), x=float(x), y=float(y), class_=class_, text_anchor=anchor, **more)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line between two points."""
    return tag("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def polyline(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """An open path through points, in order."""
    steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return tag("polyline", points=steps, class_=class_)


def polygon(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """A closed area, its corners in order."""
    return tag("polygon", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_)


def picture(width: float, height: float, name: str, description: str, *children: str, **more: object) -> Markup:
    """The outer element of a plot: scales with its container and has an accessible name and description."""
    return tag(
        "svg",
        tag("title", name),
        tag("desc", description),
        *children,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=f"{name}. {description}",
        **more,
    )


@dataclass(frozen=True)
class Scale:
    """A linear map from data to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low
        return self.start + (self.end - self.start) * ((value - self.low) / span if span else 0.5)

    def ticks(self, about: int = 5) -> list[float]:
        """Round values inside the scale, about as many as asked for."""
        span = abs(self.high - self.low)
        if span == 0 or not math.isfinite(span):
            return [self.low]
        raw = span / max(about, 1)
        power = 10.0 ** math.floor(math.log10(raw))
        step = next((m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999), 10 * power)
        low, high = min(self.low, self.high), max(self.low, self.high)
        first = math.ceil(low / step - 1e-9)
        return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def padded(values: Iterable[float], share: float = 0.05) -> tuple[float, float]:
    """The range of finite values, widened on both sides by a share of its span; (0, 1) where there are none."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    margin = (high - low) * share or max(abs(low) * share, 0.5)
    return low - margin, high + margin


def number(value: float | None, decimals: int = 3) -> str:
    """A number for people: fixed decimals, a true minus sign, a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    shown = f"{value:.{decimals}f}"
    if float(shown) == 0:
        shown = shown.lstrip("-")
    return shown.replace("-", MINUS)


def tick_label(value: float) -> str:
    """The shortest exact form of a tick's value."""
    return f"{value:g}".replace("-", MINUS)


def axis_x(scale: Scale, y: float, top: float, label: str, about: int = 5) -> Markup:
    """Grid lines, tick labels and the title of a horizontal axis at `y`, its grid reaching up to `top`."""
    parts = []
    for value in scale.ticks(about):
        x = scale(value)
        parts.append(line(x, top, x, y, "grid"))
        parts.append(text(x, y + 16, tick_label(value), "tick", "middle"))
    parts.append(line(min(scale.start, scale.end), y, max(scale.start, scale.end), y, "axis"))
    for i, words in enumerate(in_lines(label, abs(scale.end - scale.start) / LABEL_LETTER)):
        parts.append(text((scale.start + scale.end) / 2, y + 36 + 16 * i, words, "label", "middle"))
    return join(parts)


def in_lines(label: str, letters: float) -> list[str]:
    """A label in one line, or in two of about equal length where it is longer than this many letters."""
    spaces = [i for i, letter in enumerate(label) if letter == " "]
    if len(label) <= letters or not spaces:
        return [label]
    middle = min(spaces, key=lambda i: abs(i - len(label) / 2))
    return [label[:middle], label[middle + 1 :]]


def axis_y(scale: Scale, x: float, right: float, label: str, about: int = 5) -> Markup:
    """Grid lines, tick labels and the title of a vertical axis at `x`, its grid reaching to `right`."""
    parts = []
    for value in scale.ticks(about):
        y = scale(value)
        parts.append(line(x, y, right, y, "grid"))
        parts.append(text(x - 8, y + 4, tick_label(value), "tick", "end"))
    middle = (scale.start + scale.end) / 2
    parts.append(text(0, 0, label, "label", "middle", transform=f"translate({x - 58:.1f} {middle:.1f}) rotate(-90)"))
    return join(parts)
