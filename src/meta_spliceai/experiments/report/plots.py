"""Every plot of the site as a figure of Plotly's, made from records and tables.

Figures are plain dictionaries, as Plotly's JSON has them: its Python classes check each value, which takes half of the
time of a site. The tests have them checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from meta_spliceai.colours import CLASSES, KINDS, LEARNED, LOSS_TO_GAIN
from meta_spliceai.experiments.board.shown import estimate, number

Record = Mapping[str, Any]
Trace = dict[str, Any]
SYMBOLS = {"baseline": "square-open", "base": "diamond", "learned": "circle"}
CALLED = {"baseline": "baseline", "base": "base network", "learned": "learned model"}
POINTS = 2000  # points of one scatter plot; of more, this many are drawn with a fixed seed, and the title says so

FAINT = "#8593a1"
DOTTED = {"dash": "dot", "width": 1, "color": FAINT}
BASES = "ACGT"
LAYOUTS = {
    "Single substitutions": (1, tuple(BASES)),
    "Double substitutions": (2, tuple(a + b for a in BASES for b in BASES)),
}
GREYS = [[0, "#d5dbe1"], [0.5, "#97a3af"], [1, "#28323d"]]
PARTS = {"train": 0, "validation": 1, "test": 2}


@dataclass(frozen=True)
class Plot:
    """A figure (`data` and `layout`) with its accessible name; `height` in CSS pixels."""

    figure: dict[str, Any]
    name: str
    height: int = 400


def text(value: object) -> str:
    """A word from outside as Plotly takes it: it reads tags in its texts."""
    return str(value).replace("&", "&amp;").replace("<", "&lt;")


def plot(name: str, traces: Sequence[Trace], height: int = 400, **layout: Any) -> Plot:
    """Traces as a figure without colours of the theme, which the page's script sets."""
    usual = {
        "margin": {"l": 60, "r": 20, "t": 76, "b": 50},
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        "title": {"text": text(name), "font": {"size": 14}, "x": 0.01, "y": 0.99, "yanchor": "top"},
    }
    return Plot({"data": list(traces), "layout": usual | layout}, name, height)


def lines(x: Any, y: Any, name: str = "", **more: Any) -> Trace:
    """A line through points; without a name it has no place in the legend and says nothing."""
    silent = {} if name else {"showlegend": False, "hoverinfo": "skip"}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "name": text(name), **silent, **more}


def axis(title: str, **more: Any) -> dict[str, Any]:
    return {"title": {"text": text(title)}, "automargin": True, **more}


def marks(kind: str, records: Sequence[Record], y: Sequence[Any], more: Sequence[str], measure: str) -> Trace:
    """Estimates with their intervals, lying."""
    ends = [
        [None if r.get(end) is None or r.get("estimate") is None else abs(r[end] - r["estimate"]) for r in records]
        for end in ("high", "low")
    ]
    said = [
        f"{text(r['scorer'])}: {measure} {estimate(r)}{', ' + note if note else ''}"
        for r, note in zip(records, more, strict=True)
    ]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [r.get("estimate") for r in records],
        "y": y,
        "name": CALLED[kind],
        "legendgroup": kind,
        "marker": {"color": KINDS[kind], "symbol": SYMBOLS[kind], "size": 10},
        "error_x": {"type": "data", "array": ends[0], "arrayminus": ends[1], "thickness": 1.6, "width": 0},
        "customdata": said,
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def forest(name: str, records: Mapping[str, Sequence[Record]], chance: Mapping[str, float | None]) -> Plot | None:
    """Scorers down the side, one panel a metric; a dashed line marks what chance reaches.

    Args:
        records: by metric's heading: scorer, kind, estimate, low, high; the scorers in the order they are drawn.
        chance: by the same headings.
    """
    shown = {heading: mine for heading, mine in records.items() if any(r["estimate"] is not None for r in mine)}
    if not shown:
        return None
    names = list(dict.fromkeys(text(record["scorer"]) for mine in shown.values() for record in mine))
    traces, shapes, axes = [], [], {}
    for n, (heading, mine) in enumerate(shown.items()):
        place = "x" if n == 0 else f"x{n + 1}"
        for kind in CALLED:
            of_kind = [record for record in mine if record["kind"] == kind]
            if of_kind:
                trace = marks(kind, of_kind, [text(r["scorer"]) for r in of_kind], [""] * len(of_kind), heading)
                traces.append({**trace, "xaxis": place, "showlegend": n == 0})
        ends = [n / len(shown) + 0.02 * (n > 0), (n + 1) / len(shown)]
        axes[f"xaxis{n + 1 if n else ''}"] = axis(heading, domain=ends, nticks=5)
        if chance.get(heading) is not None:
            at = chance[heading]
            shapes.append({"type": "line", "xref": place, "yref": "paper", "x0": at, "x1": at, "y0": 0, "y1": 1,
                           "line": {"dash": "dash", "width": 1, "color": FAINT}})  # fmt: skip
    order = {"type": "category", "categoryorder": "array", "categoryarray": names[::-1], "automargin": True}
    return plot(name, traces, 150 + 26 * len(names), **axes, yaxis=order, shapes=shapes)


def blocks(name: str, records: Sequence[Record], group: str, measure: str) -> Plot | None:
    """Estimates in blocks one below the other.

    Args:
        records: scorer, kind, estimate, low, high, the field `group`, and perhaps `aside` (beside the block's name),
            `more` (what a mark says beside its number) and `chance`.
        group: field whose values are the blocks, in the order found.
    """
    known = [record for record in records if record.get("estimate") is not None]
    if not known:
        return None
    aside = {str(record[group]): record.get("aside", "") for record in known}

    def places(of: Sequence[Record]) -> list[list[str]]:
        blocks = [f"{text(r[group])}<br>{text(aside[str(r[group])])}" for r in of]
        return [blocks, [text(r["scorer"]) for r in of]]

    traces = []
    for kind in CALLED:
        mine = [record for record in known if record["kind"] == kind]
        if mine:
            traces.append(marks(kind, mine, places(mine), [str(r.get("more", "")) for r in mine], measure))
    expected = [record for record in known if record.get("chance") is not None]
    if expected:
        marker = {"symbol": "line-ns-open", "size": 14, "color": FAINT}
        chance = [r["chance"] for r in expected]
        traces.append(lines(chance, places(expected), "chance", mode="markers", marker=marker, hoverinfo="x"))
    down = {"type": "multicategory", "autorange": "reversed", "automargin": True, "tickfont": {"size": 11}}
    height = 140 + 21 * len({(r[group], r["scorer"]) for r in known})
    return plot(name, traces, height, xaxis=axis(measure), yaxis=down)


def colours_of(kinds: Sequence[str]) -> list[tuple[str, str]]:
    """Colour and dash of each curve: learned models have colours of their own, baselines dashes."""
    counted = {"learned": 0, "base": 0, "baseline": 0}
    styles = []
    for kind in kinds:
        n = counted[kind]
        counted[kind] += 1
        colour = LEARNED[n % len(LEARNED)] if kind == "learned" else KINDS[kind]
        dash = ("solid", "dot", "dash", "dashdot")[min(n, 3)] if kind != "learned" else "solid"
        styles.append((colour, "dash" if kind == "baseline" and n == 0 else dash))
    return styles


def curves(
    name: str, scorers: Mapping[str, Record], which: str, axes: tuple[str, str], chance: tuple[float, float]
) -> Plot | None:
    """Curves on the grid from 0 to 1 with the bands of learned models.

    Args:
        scorers: by name: `kind`, and the curve under the name `which`, as `views.ranking_curves` gives it.
        chance: height of the line of no information at 0 and at 1.
    """
    traces = [lines([0, 1], list(chance), "chance", hoverinfo="skip", line=DOTTED)]
    styles = colours_of([scorer["kind"] for scorer in scorers.values()])
    for (words, scorer), (colour, dash) in zip(scorers.items(), styles, strict=True):
        curve = scorer[which]
        grid = list(np.linspace(0, 1, len(curve["value"])).round(4))
        if scorer["kind"] == "learned" and None not in curve["low"]:
            around = [*grid, *grid[::-1]], [*curve["high"], *curve["low"][::-1]]
            traces.append(lines(*around, fill="toself", fillcolor=colour, opacity=0.15, line={"width": 0}))
        traces.append(lines(grid, curve["value"], words, line={"color": colour, "dash": dash, "width": 2.2}))
    across, up = (axis(words, range=[0, 1.01]) for words in axes)
    return plot(name, traces, 440, xaxis=across, yaxis=up) if scorers else None


def reliability(records: Sequence[Record]) -> Plot | None:
    """Observed share by stated probability: scorer, kind, and as `curve` bins with Wilson intervals
    (`evaluation.calibration`)."""
    traces = [lines([0, 1], [0, 1], "as stated", hoverinfo="skip", line=DOTTED)]
    for record, (colour, dash) in zip(records, colours_of([one["kind"] for one in records]), strict=True):
        bins = pd.DataFrame(record.get("curve") or [])
        if bins.empty:
            continue
        ends = {"array": list(bins["high"] - bins["observed"]), "arrayminus": list(bins["observed"] - bins["low"])}
        style = {
            "mode": "lines+markers",
            "line": {"color": colour, "dash": dash},
            "customdata": list(bins["n"]),
            "error_y": {"type": "data", **ends, "thickness": 1, "width": 0},
            "hovertemplate": "stated %{x:.2f}, observed %{y:.2f}, %{customdata:,} variants",
        }
        traces.append(lines(list(bins["predicted"]), list(bins["observed"]), record["scorer"], **style))
    axes = {"xaxis": axis("stated probability"), "yaxis": axis("share that is Splice-altering")}
    return plot("Reliability", traces, 440, **axes) if len(traces) > 1 else None


def training(table: pd.DataFrame | None) -> Plot | None:
    """Loss by epoch; with a column `fold`, each fold has lines of its own."""
    if table is None or "epoch" not in table:
        return None
    folds = list(table.groupby("fold")) if "fold" in table else [(None, table)]
    traces = []
    for column, words, kind in (("train_loss", "training", "base"), ("val_loss", "validation", "learned")):
        for n, (fold, part) in enumerate(folds if column in table else ()):
            values = pd.to_numeric(part[column], errors="coerce")
            if np.isfinite(values).any():
                named = words if fold is None else f"{words}, fold {fold}"
                style = {"line": {"color": KINDS[kind], "width": 1.6}, "marker": {"size": 4}}
                group = {"legendgroup": words, "showlegend": n == 0}
                traces.append(lines(list(part["epoch"]), list(values), named, mode="lines+markers", **style, **group))
    name = "Training curves"
    losses = pd.to_numeric(table.get("val_loss", pd.Series(dtype=float)), errors="coerce")
    if len(folds) == 1 and losses.notna().any():
        best = losses.idxmin()
        name += f"; lowest validation loss {number(losses[best], 4)} at epoch {table.loc[best, 'epoch']}"
    return plot(name, traces, 380, xaxis=axis("epoch"), yaxis=axis("loss")) if traces else None


def scatter(
    name: str,
    measured: Float[np.ndarray, " n"],
    predicted: Float[np.ndarray, " n"],
    classes: Sequence[str],
    axes: tuple[str, str],
) -> Plot | None:
    """Measured effect across, prediction up, coloured by class; None when no variant has both."""
    known = np.flatnonzero(np.isfinite(measured) & np.isfinite(predicted))
    if not len(known):
        return None
    shown = known
    if len(known) > POINTS:
        shown = np.sort(np.random.default_rng(0).choice(known, POINTS, replace=False))
        name += f" ({POINTS:,} of {len(known):,} shown)"
    names = np.asarray(classes, dtype=object)[shown].astype(str)
    across, up = measured[shown].astype(np.float32), predicted[shown].astype(np.float32)
    traces = []
    for one in dict.fromkeys(names):
        marker = {"size": 4, "opacity": 0.6, "color": CLASSES.get(one, FAINT)}
        mine = names == one
        traces.append(lines(across[mine], up[mine], one, mode="markers", marker=marker))
    return plot(name, traces, 400, xaxis=axis(axes[0]), yaxis=axis(axes[1]))


def panel_limit(values: pd.Series) -> float:
    """The value at which the colour is strongest: the 98th percentile of |value|; 1 without any."""
    sizes = pd.to_numeric(values, errors="coerce").abs().dropna()
    limit = float(np.percentile(sizes, 98)) if len(sizes) else 0.0
    return limit if limit > 0 else 1.0


def saturation(frame: pd.DataFrame, panels: Mapping[str, str]) -> list[Plot]:
    """Every substitution as a cell, strip under strip over the same sites; the background can be chosen.

    Args:
        frame: one row per variant: `background`, `site` (1-based place in the exon of the first substituted base),
            `ref`, `alt`, `part` and the panels' columns with signed values (negative: loss).
        panels: heading to column, from top to bottom.
    """
    rows = frame[frame["site"].notna() & (frame["ref"].str.len() == frame["alt"].str.len())]
    return [
        drawn
        for name, (length, words) in LAYOUTS.items()
        if (drawn := _map(name, rows[rows["ref"].str.len() == length], words, panels)) is not None
    ]


def _map(name: str, rows: pd.DataFrame, words: Sequence[str], panels: Mapping[str, str]) -> Plot | None:
    if rows.empty:
        return None
    sites = np.arange(int(rows["site"].min()), int(rows["site"].max()) + 1)
    backgrounds = sorted(rows["background"].astype(str).unique())
    traces: list[Trace] = []
    each = len(panels) + 1
    for place, background in enumerate(backgrounds):
        mine = rows[rows["background"].astype(str) == background]
        first = mine.drop_duplicates("site").set_index("site").reindex(sites)
        shared = {"type": "heatmap", "x": sites, "visible": place == 0, "showscale": False}
        parts = {"z": [[PARTS.get(str(part)) for part in first["part"]]], "zmin": 0, "zmax": 2, "colorscale": GREYS,
                 "y": ["part"], "customdata": [[text(part) for part in first["part"]]],
                 "hovertemplate": "site %{x}: %{customdata}<extra></extra>"}  # fmt: skip
        traces.append({**shared, **parts})
        told = [f"{text(ref)}, {text(part)}" for ref, part in zip(first["ref"], first["part"], strict=True)]
        for n, (heading, column) in enumerate(panels.items(), 2):
            table = mine.pivot_table(index="alt", columns="site", values=column, aggfunc="first", dropna=False)
            values = table.reindex(index=list(words), columns=sites).to_numpy(dtype=np.float32)
            limit = panel_limit(rows[column])
            said = f"{text(background)}, site %{{x}}, %{{customdata}}, to %{{y}}: %{{z:+.3f}}"
            said += f"<extra>{text(heading)}</extra>"
            traces.append(
                {**shared, "z": values, "y": list(words), "yaxis": f"y{n}", "zmin": -limit, "zmax": limit, "xgap": 1,
                 "ygap": 1, "hoverongaps": False, "colorscale": _scale(), "showscale": n == 2 and place == 0,
                 "customdata": [told] * len(words), "hovertemplate": said}
            )  # fmt: skip
    step = 0.94 / len(panels)
    axes = {"yaxis": {"domain": [0.97, 1.0], "showticklabels": False}}
    titles = []
    for n, heading in enumerate(panels):
        bottom = 0.94 - step * (n + 1)
        axes[f"yaxis{n + 2}"] = {"domain": [bottom, bottom + 0.86 * step], "type": "category", "autorange": "reversed"}
        titles.append({"text": text(heading), "xref": "paper", "yref": "paper", "x": 0, "y": bottom + 0.86 * step,
                       "xanchor": "left", "yanchor": "bottom", "showarrow": False})  # fmt: skip
    buttons = [
        {"label": text(background), "method": "update",
         "args": [{"visible": [n // each == place for n in range(each * len(backgrounds))]}]}
        for place, background in enumerate(backgrounds)
    ]  # fmt: skip
    menus = [{"buttons": buttons, "x": 1.0, "xanchor": "right", "y": 1.03, "yanchor": "bottom"}]
    name = f"Saturation map, {name.lower()}: orange is loss, blue is gain"
    height = 150 + len(panels) * (60 + 16 * len(words))
    return plot(name, traces, height, xaxis=axis("site", anchor=f"y{each}"), **axes, annotations=titles,
                updatemenus=menus if len(backgrounds) > 1 else [])  # fmt: skip


def _scale() -> list[list[Any]]:
    return [[n / (len(LOSS_TO_GAIN) - 1), colour] for n, colour in enumerate(LOSS_TO_GAIN)]
