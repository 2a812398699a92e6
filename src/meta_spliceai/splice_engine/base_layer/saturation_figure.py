"""The heat map of a saturated stretch: a column a base, a row a change, colour for what is won or lost."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from meta_spliceai.colours import LOSS_TO_GAIN
from meta_spliceai.errors import InputError, MissingPackageError, brief
from meta_spliceai.files import atomic_write
from meta_spliceai.splice_engine.base_layer.saturation import Stretch

FORMATS = ("png", "svg")
_COLUMNS_A_PANEL = 120
_COLUMNS_AT_MOST = 2400
_ROWS = ("A", "C", "G", "T", "-", "+A", "+C", "+G", "+T")


def check_drawable(out: Path) -> str:
    """The kind of figure, "png" or "svg", once it is sure that it can be drawn.

    Raises:
        InputError: another kind of file.
        MissingPackageError: matplotlib is not installed.
    """
    kind = out.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise InputError(f"figure '{out}' is neither .png nor .svg")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingPackageError(f"drawing {out}", "matplotlib")
    return kind


def draw(table: pd.DataFrame, stretch: Stretch, model_name: str, out: Path) -> int:
    """Draw the table that `saturate` wrote.

    Args:
        table: its columns `site`, `base`, `delta`.
        stretch: what was saturated, for axes and exons.
        model_name: for the title.
        out: a .png or .svg file.

    Returns:
        Bases that one column stands for: 1, or more for a long stretch, of which the largest |Δ| is shown.

    Raises:
        InputError, MissingPackageError: see `check_drawable`.
    """
    kind = check_drawable(out)
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    values, names = matrix(table, stretch)
    bases = math.ceil(values.shape[1] / _COLUMNS_AT_MOST)
    shown = pooled(values, bases)
    per_panel = _COLUMNS_A_PANEL if bases == 1 else 4 * _COLUMNS_A_PANEL
    panels = math.ceil(shown.shape[1] / per_panel)
    limit = max(0.1, float(np.nanmax(np.abs(shown))))
    # Names are text: dollar signs in them begin no formula.
    settings: Any = {"font.size": 7, "svg.hashsalt": "meta-spliceai", "svg.fonttype": "none", "text.parse_math": False}
    with mpl.rc_context(settings):
        height = 0.16 * len(names) + 0.5
        figure = Figure(figsize=(12, panels * height + 1.0), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(panels, 1, squeeze=False)[:, 0]
        for panel, axis in enumerate(axes):
            left = panel * per_panel
            piece = shown[:, left : left + per_panel]
            first = stretch.start + 1 + left * bases
            image = axis.imshow(
                piece,
                aspect="auto",
                cmap=LinearSegmentedColormap.from_list("loss to gain", LOSS_TO_GAIN),
                vmin=-limit,
                vmax=limit,
                interpolation="nearest",
                # Half a column to either side, so that a base's number stands under its middle.
                extent=(first - 0.5, first - 0.5 + piece.shape[1] * bases, len(names) - 0.5, -0.5),
            )
            axis.set_xlim(first - 0.5, first - 0.5 + per_panel * bases)
            axis.set_yticks(range(len(names)), names)
            axis.set_facecolor("0.92")
            axis.ticklabel_format(axis="x", style="plain", useOffset=False)
            for start, end in stretch.gene.exons:
                # A bar above the map: exons as the annotation has them.
                axis.plot(
                    [start + 0.5, end + 0.5], [-0.9, -0.9], color="black", lw=3, solid_capstyle="butt", clip_on=True
                )
            axis.set_ylim(len(names) - 0.5, -1.3)
        axes[-1].set_xlabel(f"position on {brief(stretch.chrom)} (plus strand); black bars are exons")
        each = "" if bases == 1 else f"; each column is the largest |Δ| of {bases} bases"
        figure.suptitle(f"{brief(stretch.title)}: {brief(model_name)}{each}")
        bar = figure.colorbar(image, ax=axes, fraction=0.015, pad=0.01)
        bar.set_label("Δ of largest |Δ|")
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        with atomic_write(out, "wb") as handle:
            figure.savefig(handle, format=kind, dpi=150, metadata=metadata)
    return bases


def matrix(table: pd.DataFrame, stretch: Stretch) -> tuple[Float[np.ndarray, "changes bases"], list[str]]:
    """Δ by change and base, NaN where there is no such change, and the rows' names."""
    names = [name for name in _ROWS if (table["base"] == name).any()]
    values = np.full((len(names), len(stretch)), np.nan)
    row = table["base"].map({name: place for place, name in enumerate(names)}).to_numpy()
    values[row, table["site"].to_numpy() - stretch.start - 1] = table["delta"].to_numpy()
    return values, names


def pooled(values: Float[np.ndarray, "changes bases"], bases: int) -> Float[np.ndarray, "changes columns"]:
    """Each `bases` neighbouring columns as one: the value of the largest magnitude, NaN where all are."""
    if bases == 1:
        return values
    columns = math.ceil(values.shape[1] / bases)
    padded = np.full((len(values), columns * bases), np.nan)
    padded[:, : values.shape[1]] = values
    grouped = padded.reshape(len(values), columns, bases)
    chosen = np.nan_to_num(np.abs(grouped), nan=-1.0).argmax(axis=2)
    return np.take_along_axis(grouped, chosen[:, :, None], axis=2)[:, :, 0]
