"""A stand-alone picture of a board, for a README: the forest plot above the saturation map."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from meta_spliceai.errors import InputError
from meta_spliceai.experiments.report.collect import collect_runs
from meta_spliceai.experiments.report.leaderboard import Board, boards, verdict_summary
from meta_spliceai.experiments.report.page import effect_label, packaged
from meta_spliceai.experiments.report.palette import cell_rules, variables
from meta_spliceai.experiments.report.sections import forest_of, map_of
from meta_spliceai.experiments.report.svg import picture, tag, text
from meta_spliceai.experiments.workspace import Workspace
from meta_spliceai.files import atomic_write

WIDTH = 1060
MARGIN = 26


def write_figure(workspace: Workspace, out: Path) -> Path:
    """Write the picture of the board with most runs.

    Args:
        workspace: the folder of runs.
        out: an SVG file; it follows the viewer's light or dark setting.

    Raises:
        InputError: another ending than .svg, or no finished and judged run to draw.
    """
    if out.suffix.lower() != ".svg":
        raise InputError(f"--figure {out}: the picture is an SVG; give a name that ends in .svg")
    found = boards(collect_runs(workspace))
    if not found:
        raise InputError(f"{workspace.root}: no finished run to draw; start with 'meta-spliceai quickstart'")
    drawn = board_figure(found[0])
    with atomic_write(out) as handle:
        handle.write(f'<?xml version="1.0" encoding="UTF-8"?>\n{drawn}\n')
    return out


def board_figure(board: Board) -> Markup:
    """The picture as one SVG with its own style sheet."""
    inner = WIDTH - 2 * MARGIN
    parts: list[Markup] = []
    y = MARGIN + 14.0
    parts.append(text(MARGIN, y, f"{board.dataset}: learned models and simple rivals on held-out sites", "heading"))
    for standing in board.learned:
        y += 22
        parts.append(text(MARGIN, y, f"{standing.name} {verdict_summary(standing)}.", "label"))
    y += 20
    saturation = map_of(board, effect_label(board.runs[0]))
    for drawn in (forest_of(board), *([saturation.figures[0][1]] if saturation else [])):
        height = inner * _height_of(drawn)
        # The inner picture fills this frame, which gives it its place.
        parts.append(tag("svg", drawn, x=MARGIN, y=float(y), width=inner, height=float(height)))
        y += height + 18
    if saturation:
        y += 6
        words = "Bars under the sequence: dark, held-out test sites; grey, validation; light, training."
        words += " Learned strips are faded on sites the model has seen. Outlined cells: the sequence's own base."
        parts.append(text(MARGIN, y, words, "tick"))
        y += 18
    height = round(y + MARGIN - 18)
    style = tag("style", Markup(variables() + cell_rules() + packaged("plots.css")))  # noqa: S704
    backdrop = tag("rect", x=0, y=0, width=WIDTH, height=height, rx=14, class_="backdrop")
    return picture(
        WIDTH,
        height,
        f"Leaderboard of {board.dataset}",
        "; ".join(f"{standing.name} {verdict_summary(standing)}" for standing in board.learned),
        style,
        backdrop,
        *parts,
        class_="plot",
    )


def _height_of(drawn: Markup) -> float:
    """Height over width of a picture, from its viewBox."""
    _, _, width, height = str(drawn).partition('viewBox="')[2].partition('"')[0].split()
    return float(height) / float(width)
