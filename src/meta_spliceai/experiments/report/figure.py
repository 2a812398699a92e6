"""A stand-alone figure of a leaderboard for a README: the forest plot above the saturation map, drawn by matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from meta_spliceai.colours import KINDS, LOSS_TO_GAIN
from meta_spliceai.errors import InputError, brief
from meta_spliceai.experiments.board.leaderboard import Board, boards
from meta_spliceai.experiments.report.plots import BASES, panel_limit
from meta_spliceai.experiments.report.views import FOREST, MAP_NEEDS
from meta_spliceai.experiments.store.run_record import RunRecord
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.files import atomic_write

MARKS = {"baseline": "s", "base": "D", "learned": "o"}


def write_figure(workspace: Workspace, out: Path) -> Path:
    """Write the picture of the leaderboard with most runs.

    Raises:
        InputError: another ending, or no finished and evaluated run to draw.
    """
    kind = out.suffix.lower().removeprefix(".")
    if kind not in ("svg", "png"):
        raise InputError(f"--figure {out}: give a name that ends in .svg or .png")
    found = boards(workspace)
    if not found:
        raise InputError(f"{workspace.root}: no finished run to draw; start with 'meta-spliceai quickstart'")
    board = max(found, key=lambda one: len({line.run for line in one.lines}))
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    maps = _maps(workspace, board)
    heights = [0.35 * len(board.lines) + 0.6, *[1.1] * len(maps)]
    # Names are text: dollar signs in them begin no formula.
    settings: Any = {"font.size": 8, "svg.hashsalt": "meta-spliceai", "svg.fonttype": "none", "text.parse_math": False}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(11, sum(heights) + 0.6), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.add_gridspec(len(heights), len(FOREST), height_ratios=heights)
        for column, (metric, heading) in enumerate(FOREST.items()):
            _forest(figure.add_subplot(grid[0, column]), board, metric, heading, names=column == 0)
        for row, (title, values, sites) in enumerate(maps, 1):
            _map(figure.add_subplot(grid[row, :]), title, values, sites)
        figure.suptitle(f"{brief(board.data)}: learned models and baselines on held-out sites")
        with atomic_write(out, "wb") as handle:
            figure.savefig(handle, format=kind, dpi=150, metadata={"Date" if kind == "svg" else "Software": None})
    return out


def _forest(axis: Any, board: Board, metric: str, heading: str, *, names: bool) -> None:
    for place, line in enumerate(board.lines):
        value = line.values.get(metric)
        if value is None or value.estimate is None:
            continue
        around = [[value.estimate - value.low], [value.high - value.estimate]] if (
            value.low is not None and value.high is not None) else None  # fmt: skip
        face = "white" if line.kind == "baseline" else KINDS[line.kind]
        axis.errorbar(value.estimate, place, xerr=around, fmt=MARKS[line.kind], color=KINDS[line.kind], mfc=face, ms=5)
    axis.set_yticks(range(len(board.lines)), [brief(line.scorer) for line in board.lines] if names else [])
    axis.set_ylim(len(board.lines) - 0.5, -0.5)
    axis.set_title(heading)
    axis.grid(axis="x", alpha=0.3)
    chance = {"auprc": board.prevalence, "auroc": 0.5, "spearman_effect": 0.0}[metric]
    if chance is not None:
        axis.axvline(chance, ls="--", lw=0.8, color="grey")


def _maps(workspace: Workspace, board: Board) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Title, values (base by site) and sites of each strip, single substitutions in the first background; empty where
    the data set is no saturated exon."""
    folders = {run.name: run for run in workspace.runs()}
    strips: list[tuple[str, pd.DataFrame, str]] = []
    for line in board.lines:
        table = RunRecord(folders[line.run]).predictions() if line.run in folders else None
        if line.kind == "baseline" or table is None or not set(table) >= MAP_NEEDS:
            continue
        strips += [] if strips else [("measured", table, "effect")]
        strips.append((line.scorer, table, f"{line.scorer}.signed"))
    found = []
    for title, table, column in strips:
        first = table[(table["background"] == min(table["background"])) & (table["ref"].str.len() == 1)]
        first = first[first["alt"].str.len() == 1].assign(site=pd.to_numeric(first["site"], errors="coerce"))
        if column in first and not first.empty:
            sites = np.arange(int(first["site"].min()), int(first["site"].max()) + 1)
            wide = first.pivot_table(index="alt", columns="site", values=column, aggfunc="first")
            found.append((title, wide.reindex(index=list(BASES), columns=sites).to_numpy(dtype=float), sites))
    return found


def _map(axis: Any, title: str, values: np.ndarray, sites: np.ndarray) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    limit = panel_limit(pd.Series(values.ravel()))
    colours = LinearSegmentedColormap.from_list("loss to gain", LOSS_TO_GAIN)
    axis.imshow(values, aspect="auto", cmap=colours, vmin=-limit, vmax=limit,
                extent=(sites[0] - 0.5, sites[-1] + 0.5, len(BASES) - 0.5, -0.5))  # fmt: skip
    axis.set_yticks(range(len(BASES)), BASES)
    axis.set_title(f"{brief(title)}: orange is loss, blue is gain", loc="left")
