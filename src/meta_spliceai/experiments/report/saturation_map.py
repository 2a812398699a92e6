"""The saturation map: every substitution of an exon as a cell, measured, base model and learned models one above the
other over the same sites, so that a column is a site and can be followed by eye.

The cells' geometry is drawn here once for each number of substituted bases; the page's script only changes the cells'
classes when another background is chosen. Without the script the first background stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from meta_spliceai.experiments.report.svg import join, number, picture, tag, text

STEPS = 10
"""Colour steps on each side of zero; class q0 is the strongest loss, q10 zero, q20 the strongest gain."""

CELL = 20
LEFT = 44
BASES = "ACGT"
PARTS = {"train": "p-train", "validation": "p-val", "test": "p-test"}


@dataclass(frozen=True)
class MapPanel:
    """One strip of the map.

    Attributes:
        title: heading with unit.
        column: column of the frame with a signed value a variant.
        learned: cells of sites the model was trained on are drawn faded.
    """

    title: str
    column: str
    learned: bool = False


@dataclass(frozen=True)
class SaturationMap:
    """The drawn map.

    Attributes:
        figures: one (name, SVG) for single and, where there are any, for double substitutions.
        backgrounds: names that can be chosen; the first one is the one drawn.
        data: what the script needs to draw the others (plain values).
    """

    figures: tuple[tuple[str, Markup], ...]
    backgrounds: tuple[str, ...]
    data: dict[str, object]


@dataclass(frozen=True)
class _Layout:
    name: str
    length: int
    words: tuple[str, ...]
    row: int


LAYOUTS = (
    _Layout("Single substitutions", 1, tuple(BASES), 20),
    _Layout("Double substitutions", 2, tuple(a + b for a in BASES for b in BASES), 11),
)


def shade(value: float, limit: float) -> int:
    """The colour step of a value: 0 … 20, zero at 10; -1 for NaN."""
    if not math.isfinite(value):
        return -1
    return max(0, min(2 * STEPS, STEPS + math.floor(value / limit * STEPS + 0.5)))


def panel_limit(values: pd.Series) -> float:
    """The value at which the colour is strongest: the 98th percentile of |value|, one significant step above zero."""
    sizes = pd.to_numeric(values, errors="coerce").abs().dropna()
    limit = float(np.percentile(sizes, 98)) if len(sizes) else 0.0
    if limit <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(limit))
    return round(math.ceil(limit / power * 10) / 10 * power, 6)


def saturation_map(
    frame: pd.DataFrame, panels: Sequence[MapPanel], backgrounds: Sequence[str] = ()
) -> SaturationMap | None:
    """Draw the map; None when the frame has no site of one or two substituted bases.

    Args:
        frame: one row a variant: `background`, `site` (1-based position in the exon of the first substituted base),
            `ref`, `alt` (equal length), `part`, and the panels' columns.
        panels: strips from top to bottom.
        backgrounds: backgrounds in the order they are offered; all of the frame's, sorted, where empty.
    """
    rows = frame[frame["site"].notna() & (frame["ref"].str.len() == frame["alt"].str.len())].copy()
    rows["length"] = rows["ref"].str.len()
    rows = rows[rows["length"].isin([layout.length for layout in LAYOUTS])]
    if rows.empty:
        return None
    rows["site"] = rows["site"].astype(int)
    rows["background"] = rows["background"].astype(str)
    names = tuple(backgrounds) or tuple(sorted(rows["background"].unique()))
    sites = list(range(int(rows["site"].min()), int((rows["site"] + rows["length"] - 1).max()) + 1))
    limits = [panel_limit(rows[panel.column]) for panel in panels]
    layouts = [layout for layout in LAYOUTS if (rows["length"] == layout.length).any()]
    tables = {name: _table(rows[rows["background"] == name], panels, layouts, sites) for name in names}
    figures = tuple(
        (layout.name, _figure(layout, i, tables[names[0]], panels, limits, sites, names[0]))
        for i, layout in enumerate(layouts)
    )
    data: dict[str, object] = {
        "steps": STEPS,
        "sites": sites,
        "panels": [
            {"title": panel.title, "limit": limit, "learned": panel.learned}
            for panel, limit in zip(panels, limits, strict=True)
        ],
        "layouts": [{"words": layout.words, "length": layout.length} for layout in layouts],
        "backgrounds": tables,
    }
    return SaturationMap(figures, names, data)


def _table(
    rows: pd.DataFrame, panels: Sequence[MapPanel], layouts: Sequence[_Layout], sites: Sequence[int]
) -> dict[str, object]:
    """One background: wild-type base and part of every site; values[layout][panel][word][site] (None: no value), and
    seen[layout][word], a string with "1" at each site whose variant is not a test variant."""
    column = {site: i for i, site in enumerate(sites)}
    wild = ["·"] * len(sites)
    parts = [""] * len(sites)
    values: list[list[list[list[float | None]]]] = [
        [[[None] * len(sites) for _ in layout.words] for _ in panels] for layout in layouts
    ]
    seen = [[["0"] * len(sites) for _ in layout.words] for layout in layouts]
    index = {layout.length: (i, {word: k for k, word in enumerate(layout.words)}) for i, layout in enumerate(layouts)}
    for row in rows.to_dict("records"):
        at, (layout, words) = column[row["site"]], index[row["length"]]
        for offset, base in enumerate(row["ref"]):
            wild[at + offset] = base
        if row["length"] == 1 or not parts[at]:
            parts[at] = str(row["part"]) or parts[at]
        word = words.get(row["alt"])
        if word is None:
            continue
        if row["part"] != "test":
            seen[layout][word][at] = "1"
        for p, panel in enumerate(panels):
            value = float(row[panel.column])
            values[layout][p][word][at] = round(value, 3) if math.isfinite(value) else None
    return {"wild": wild, "parts": parts, "values": values, "seen": [["".join(row) for row in rows] for rows in seen]}


def _figure(
    layout: _Layout,
    index: int,
    table: dict,
    panels: Sequence[MapPanel],
    limits: Sequence[float],
    sites: Sequence[int],
    background: str,
) -> Markup:
    head, gap = 26, 18
    block = layout.row * len(layout.words)
    width = LEFT + CELL * len(sites) + 4
    top = 46
    height = top + len(panels) * (head + block + gap) + 4
    parts = [_ruler(table, sites, top)]
    for p, (panel, limit) in enumerate(zip(panels, limits, strict=True)):
        y = top + p * (head + block + gap) + head
        parts.append(text(LEFT, y - 9, panel.title, "panel-title"))
        parts.append(_key(width - 4, y - 20, limit))
        for k, word in enumerate(layout.words):
            if layout.length == 1 or k % 4 == 0:
                parts.append(
                    text(
                        LEFT - 8,
                        y + layout.row * (k + 0.5) + 4,
                        word if layout.length == 1 else f"{word[0]}·",
                        "tick mono",
                        "end",
                    )
                )
        cells = []
        for k, word in enumerate(layout.words):
            for i in range(len(sites)):
                value = table["values"][index][p][k][i]
                cells.append(
                    tag(
                        "rect",
                        x=LEFT + CELL * i,
                        y=y + layout.row * k,
                        width=CELL - 1,
                        height=layout.row - 1,
                        class_=cell_class(
                            value,
                            limit,
                            wild="".join(table["wild"][i : i + layout.length]) == word,
                            faded=panel.learned and table["seen"][index][k][i] == "1",
                        ),
                    )
                )
        parts.append(tag("g", *cells, class_="cells", data_panel=p))
    parts.append(tag("g", class_="cursor"))
    said = f"background {background}, {len(sites)} sites, strips: " + "; ".join(panel.title for panel in panels)
    said += ". Use the arrow keys to read single cells."
    return picture(
        width,
        height,
        f"Saturation map, {layout.name.lower()}",
        said,
        *parts,
        class_="plot map",
        tabindex=0,
        data_layout=index,
        data_row=layout.row,
        data_top=top + head,
        data_block=head + block + gap,
        data_left=LEFT,
        data_cell=CELL,
    )


def cell_class(value: float | None, limit: float, *, wild: bool, faded: bool) -> str:
    """Classes of a cell: wild type, no value, or a colour step; `faded` where a learned model has seen the variant."""
    if value is None:
        return "qw" if wild else "qn"
    return f"q{shade(value, limit)}" + (" faded" if faded else "")


def _ruler(table: dict, sites: Sequence[int], top: int) -> Markup:
    """Above the strips: site numbers, the background's own bases, and the part each site fell into."""
    parts = []
    for i, site in enumerate(sites):
        middle = LEFT + CELL * i + (CELL - 1) / 2
        if site % 5 == 0 or i == 0:
            parts.append(text(middle, 12, site, "tick", "middle"))
        parts.append(text(middle, 30, table["wild"][i], "base mono", "middle"))
    marks = [
        tag("rect", x=LEFT + CELL * i, y=top - 9, width=CELL - 1, height=5, class_=PARTS.get(part, "p-none"))
        for i, part in enumerate(table["parts"])
    ]
    return join([tag("g", *parts, class_="ruler"), tag("g", *marks, class_="parts")])


def _key(right: float, y: float, limit: float) -> Markup:
    """The colour key of one strip, ending at `right`."""
    decimals = 1 if limit >= 1 else 2 if limit >= 0.1 else 3
    step = 7
    start = right - 46 - step * (2 * STEPS + 1)
    swatches = [
        tag("rect", x=start + step * i, y=y + 3, width=step, height=9, class_=f"q{i}") for i in range(2 * STEPS + 1)
    ]
    return join(
        [
            text(start - 6, y + 12, number(-limit, decimals), "tick", "end"),
            *swatches,
            text(right - 40, y + 12, f"+{number(limit, decimals)}", "tick", "start"),
        ]
    )
