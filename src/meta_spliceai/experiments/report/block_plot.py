"""Block plot: numbers in blocks one below the other on a shared axis, one line a scorer, estimate with interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from meta_spliceai.experiments.report.forest_plot import kind_class, mark
from meta_spliceai.experiments.report.svg import Scale, line, number, padded, picture, tag, text, tick_label

ROW, HEAD, LABEL, PANEL = 22, 30, 250, 360
ORDER = {"row zero": 0, "base": 1, "learned": 2}


@dataclass(frozen=True)
class BlockLine:
    """One scorer of a block.

    Attributes:
        scorer: name shown.
        kind: "row zero", "base" or "learned"; decides mark and colour.
        estimate, low, high: the number and its interval; None or NaN ends for no interval.
        more: what the mark says beside the number, such as the counts it is made of.
    """

    scorer: str
    kind: str
    estimate: float
    low: float | None = None
    high: float | None = None
    more: str = ""


@dataclass(frozen=True)
class Block:
    """Lines under one heading.

    Attributes:
        title: heading.
        lines: drawn rows zero first, then base, then learned; the largest of each kind first.
        aside: beside the heading, such as how many variants were judged.
        chance: what a scorer without information reaches; None for no mark.
    """

    title: str
    lines: Sequence[BlockLine]
    aside: str = ""
    chance: float | None = None


def block_plot(blocks: Sequence[Block], measure: str, name: str) -> Markup:
    """The plot; its marks say their numbers to the pointer, and to the arrow keys when the plot has the focus.

    Args:
        blocks: at least one, each with a line or more.
        measure: what is measured, above the axis.
        name: the plot's accessible name.
    """
    every = [one for block in blocks for one in block.lines]
    seen = [value for one in every for value in (one.estimate, one.low, one.high) if value is not None]
    low, high = padded([*seen, *(block.chance for block in blocks if block.chance is not None)], 0.05)
    width = LABEL + PANEL + 76
    scale = Scale(max(low, 0.0), min(high, 1.0), LABEL, LABEL + PANEL)
    height = 34 + sum(HEAD + ROW * len(block.lines) for block in blocks) + 10
    parts = [text(LABEL, 16, measure, "panel-title")]
    for tick in scale.ticks(5):
        parts.append(line(scale(tick), 26, scale(tick), height - 22, "grid"))
        parts.append(text(scale(tick), height - 6, tick_label(tick), "tick", "middle"))
    y = 30.0
    said = []
    for block in blocks:
        parts.append(text(8, y + 16, block.title, "panel-title"))
        if block.aside:
            parts.append(text(LABEL - 10, y + 16, block.aside, "tick", "end"))
        y += HEAD
        if block.chance is not None:
            x = scale(block.chance)
            parts.append(line(x, y - 6, x, y + ROW * len(block.lines) - 4, "chance"))
        for one in sorted(block.lines, key=lambda one: (ORDER.get(one.kind, 3), -one.estimate)):
            middle = y + ROW / 2 - 4
            parts.append(mark(one.kind, 18, middle, 4))
            parts.append(text(32, middle + 4.5, one.scorer, "name"))
            words = f"{block.title}, {one.scorer}: {measure} {number(one.estimate)}"
            if one.low is not None and one.high is not None and math.isfinite(one.low) and math.isfinite(one.high):
                whisker = f"whisker {kind_class(one.kind)}"
                parts.append(line(scale(one.low), middle, scale(one.high), middle, whisker))
                words += f" [{number(one.low, 2)}, {number(one.high, 2)}]"
            words += f", {one.more}" if one.more else ""
            parts.append(tag("g", mark(one.kind, scale(one.estimate), middle, 4.5), data_tip=words))
            parts.append(text(width - 6, middle + 4, number(one.estimate), "value", "end"))
            y += ROW
            said.append(words)
    return picture(width, height, name, "; ".join(said), *parts, class_="plot blocks", tabindex=0)
