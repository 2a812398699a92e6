"""Predicted against measured effect, one point a variant, coloured by its class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from meta_spliceai.experiments.report.svg import Scale, axis_x, axis_y, line, number, padded, picture, tag, text

WIDTH, HEIGHT = 400, 392
LEFT, TOP, BOTTOM = 76, 34, 328
DRAWN_AT_MOST = 4000
"""Points of one plot; of more, this many are drawn with a fixed seed, and the plot says so."""
CLASS_STYLES = {"Splice-altering": "c-altering", "Low-frequency": "c-low", "Normal": "c-normal"}
OTHER_CLASS = "c-other"


def scatter_plot(
    measured: Float[np.ndarray, " n"],
    predicted: Float[np.ndarray, " n"],
    classes: Sequence[str],
    title: str,
    measured_label: str,
    predicted_label: str,
    correlation: str,
) -> Markup | None:
    """Measured effect across, prediction up; None when no variant has both.

    Args:
        measured: signed measured effect.
        predicted: signed prediction (or magnitude, where the scorer has no sign).
        classes: class of each variant.
        title: the scorer.
        measured_label: axis title with unit.
        predicted_label: axis title.
        correlation: the correlation with its interval, in words, shown in the corner.
    """
    known = np.isfinite(measured) & np.isfinite(predicted)
    if not known.any():
        return None
    x = Scale(*padded(measured[known].tolist(), 0.04), LEFT, WIDTH - 12)
    y = Scale(*padded(predicted[known].tolist(), 0.06), BOTTOM, TOP)
    parts = [axis_y(y, LEFT, WIDTH - 12, predicted_label), axis_x(x, BOTTOM, TOP, measured_label)]
    for scale, horizontal in ((x, False), (y, True)):
        if min(scale.low, scale.high) < 0 < max(scale.low, scale.high):
            at = scale(0)
            parts.append(line(LEFT, at, WIDTH - 12, at, "zero") if horizontal else line(at, TOP, at, BOTTOM, "zero"))
    groups: dict[str, list[str]] = {}
    shown = np.flatnonzero(known)
    if len(shown) > DRAWN_AT_MOST:
        shown = np.sort(np.random.default_rng(0).choice(shown, DRAWN_AT_MOST, replace=False))
        words = f"{DRAWN_AT_MOST:,} of {int(known.sum()):,} shown"
        parts.append(text(WIDTH - 14, BOTTOM - 8, words, "tick halo", "end"))
    names = np.asarray(classes, dtype=object)
    for m, p, name in zip(measured[shown], predicted[shown], names[shown], strict=True):
        shade = CLASS_STYLES.get(str(name), OTHER_CLASS)
        groups.setdefault(shade, []).append(f"M{x(float(m)):.1f} {y(float(p)):.1f}h0")
    # One path a class: zero-length round-capped strokes are discs, and a thousand of them stay a few kilobytes.
    drawn_last = (OTHER_CLASS, "c-low", "c-normal", "c-altering")
    parts.extend(tag("path", d="".join(groups[s]), class_=f"dots {s}") for s in drawn_last if s in groups)
    parts.append(text(LEFT, 20, title, "panel-title"))
    parts.append(text(WIDTH - 12, 20, correlation, "value", "end"))
    said = f"{int(known.sum())} variants; {correlation}; measured from {number(float(measured[known].min()), 2)} to "
    said += f"{number(float(measured[known].max()), 2)}"
    return picture(WIDTH, HEIGHT, f"Predicted against measured effect: {title}", said, *parts, class_="plot scatter")
