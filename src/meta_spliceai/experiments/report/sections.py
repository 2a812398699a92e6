"""From runs on disk to the plots of a board: which columns go where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from markupsafe import Markup

from meta_spliceai.experiments.report.forest_plot import ForestMetric, ForestRow, forest_plot
from meta_spliceai.experiments.report.leaderboard import Board, Standing
from meta_spliceai.experiments.report.saturation_map import MapPanel, SaturationMap, saturation_map
from meta_spliceai.experiments.report.scatter_plot import scatter_plot
from meta_spliceai.experiments.report.svg import number

LEARNED_STYLES = ("s-learned", "s-learned-2", "s-learned-3", "s-learned-4")
FOREST = (
    ("auprc", "AUPRC"),
    ("auroc", "AUROC"),
    ("spearman_effect", "Spearman r, measured effect"),
)
SCATTER_NEEDS = {"variant_id", "classification", "effect"}
MAP_BASE = "base own_site"
MAP_NEEDS = ("variant_id", "background", "site", "ref", "alt", "part", "effect")


@dataclass(frozen=True)
class Series:
    """A scorer that has a curve: name, style class, and the area under it with its interval."""

    name: str
    style: str
    area: tuple[float, float, float]


def forest_of(board: Board, most: int = len(FOREST)) -> Markup:
    """The board's forest plot over the headline metrics that were judged, `most` of them at most."""
    prevalence = prevalence_of(board)
    chance = {"auprc": prevalence, "auroc": 0.5, "spearman_effect": 0.0}
    chosen = [(key, title) for key, title in FOREST if key in board.metrics] or [(board.headline, board.headline)]
    chosen = chosen[:most]
    metrics = [ForestMetric(key, title, chance.get(key)) for key, title in chosen]
    rows = [
        ForestRow(standing.name, standing.kind, {key: standing.number(key) for key, _ in chosen})
        for standing in board.standings
    ]
    return forest_plot(rows, metrics)


def prevalence_of(board: Board) -> float | None:
    """Share of altering variants among those of the headline metric; None where not recorded."""
    for standing in board.standings:
        table = standing.evaluation.metrics
        known = table[(table["metric"] == board.headline) & table["prevalence"].notna()]
        if not known.empty:
            return float(known.iloc[0]["prevalence"])
    return None


def styles_of(board: Board) -> dict[str, str]:
    """Style class of every standing's curve: colour by kind, a colour of its own for up to four learned models."""
    styles: dict[str, str] = {}
    learned = base = zero = 0
    for standing in board.standings:
        if standing.kind == "learned":
            styles[standing.name] = LEARNED_STYLES[learned % len(LEARNED_STYLES)]
            learned += 1
        elif standing.kind == "base":
            styles[standing.name] = "s-base" if base == 0 else "s-base-2"
            base += 1
        else:
            styles[standing.name] = ("s-zero", "s-zero-2", "s-zero-3")[min(zero, 2)]
            zero += 1
    return styles


def merged_test_rows(board: Board) -> pd.DataFrame | None:
    """Test variants with all that the first run that kept most of them says, the frame all of the board's runs share:
    a run that was kept without labels borrows those of another one."""
    tables = [rows for run in board.runs if (rows := run.test_rows()) is not None]
    return max(tables, key=lambda rows: len(SCATTER_NEEDS & set(rows)), default=None)


def why_no_scatters(board: Board) -> str:
    """Why nothing can be drawn of predicted against measured, if nothing was."""
    rows = merged_test_rows(board)
    if rows is None:
        return "the runs have no predictions"
    if not set(rows) >= SCATTER_NEEDS:
        return "the predictions were kept without the data set's classes and measured effects"
    return "the data set has no measured effect, or no prediction with a sign was recorded"


def aligned(standing: Standing, ids: pd.Series, suffix: str, whole: bool = False) -> Float[np.ndarray, " n"]:
    """A scorer's values on the given variants, NaN where its run has none.

    Args:
        suffix: "score" or "signed".
        whole: look in all parts instead of the test part.
    """
    table = standing.run.predictions if whole else standing.run.test_rows()
    column = f"{standing.scorer.name}.{suffix}"
    if table is None or column not in table or "variant_id" not in table:
        return np.full(len(ids), np.nan)
    values = pd.to_numeric(table[column], errors="coerce")
    values.index = pd.Index(table["variant_id"])
    return values[~values.index.duplicated()].reindex(ids).to_numpy(dtype=np.float64)


def aligned_values(rows: pd.DataFrame, column: str) -> Float[np.ndarray, " rows"] | None:
    """A column of scores as numbers; None where the table has no such column."""
    return pd.to_numeric(rows[column], errors="coerce").to_numpy(dtype=np.float64) if column in rows else None


def scatters_of(board: Board, effect_label: str) -> list[Markup]:
    """Predicted against measured for every base and learned scorer that has a sign, on the test variants."""
    rows = merged_test_rows(board)
    if rows is None or not set(rows) >= SCATTER_NEEDS:
        return []
    measured = pd.to_numeric(rows["effect"], errors="coerce").to_numpy(dtype=np.float64)
    plots = []
    for standing in board.standings:
        if standing.kind == "row zero":
            continue
        estimate, low, high = standing.number("spearman_effect")
        correlation = f"ρ = {number(estimate, 2)}"
        if np.isfinite(low) and np.isfinite(high):
            correlation += f" [{number(low, 2)}, {number(high, 2)}]"
        drawn = scatter_plot(
            measured,
            aligned(standing, rows["variant_id"], "signed"),
            list(rows["classification"]),
            standing.name,
            effect_label,
            "predicted Δ, signed",
            correlation,
        )
        if drawn is not None:
            plots.append(drawn)
    return plots


def map_of(board: Board, effect_label: str) -> SaturationMap | None:
    """The saturation map where the data set is one: measured, base and learned; None for any other data set."""
    tables = [run.predictions for run in board.runs if run.predictions is not None]
    frames = [table for table in tables if set(MAP_NEEDS) <= set(table)]
    if not frames:
        return None
    frame = max(frames, key=len).reset_index(drop=True).copy()
    frame["effect"] = pd.to_numeric(frame["effect"], errors="coerce")
    frame["site"] = pd.to_numeric(frame["site"], errors="coerce")
    panels = [MapPanel(f"Measured: {effect_label}", "effect")]
    bases = [s for s in board.standings if s.kind == "base"]
    chosen: Sequence[Standing] = [s for s in bases if s.scorer.name == MAP_BASE] or bases[:1]
    for i, standing in enumerate([*chosen, *board.learned]):
        column = f"strip {i}"
        frame[column] = aligned(standing, frame["variant_id"], "signed", whole=True)
        if frame[column].notna().any():
            learned = standing.kind == "learned"
            panels.append(MapPanel(f"{'Learned' if learned else 'Base'}: {standing.name}", column, learned))
    return saturation_map(frame, panels)
