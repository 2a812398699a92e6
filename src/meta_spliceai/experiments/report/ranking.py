"""Curves of a run's scorers on its own test, and how a board or a run puts them side by side."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from meta_spliceai.experiments.report.collect import RunRecord
from meta_spliceai.experiments.report.leaderboard import Board
from meta_spliceai.experiments.report.ranking_curves import (
    RankingCurves,
    precision_recall_plot,
    ranking_curves,
    roc_plot,
)
from meta_spliceai.experiments.report.sections import Series, aligned_values, prevalence_of, styles_of
from meta_spliceai.splice_engine.meta_layer.evaluation.sides import NEGATIVES, binary_labels

NEEDED = {"variant_id": "names", "classification": "classes", "group": "groups"}
"""Columns that curves are made of, with the word for what they hold."""


@dataclass(frozen=True)
class RunRanking:
    """A run's curves.

    Attributes:
        curves: by scorer.
        plan: identity of rows, labels and groups; two runs with the same one share their resamples.
        prevalence: share of positives among the judged rows; NaN without curves.
        reason: why there are no curves; empty where there are.
    """

    curves: dict[str, RankingCurves]
    plan: str = ""
    prevalence: float = np.nan
    reason: str = ""


def ranking_of_run(run: RunRecord) -> RunRanking:
    """Curves of every scorer of a run, or why there are none: a ledger may keep a run without the data set's labels."""
    rows = run.test_rows()
    if rows is None or run.evaluation is None:
        return RunRanking({}, reason="the run has no predictions that were judged")
    missing = [word for column, word in NEEDED.items() if column not in rows]
    if missing:
        return RunRanking(
            {}, reason=f"the predictions were kept without the {' and '.join(missing)} of the test variants"
        )
    labels = binary_labels(rows, run.evaluation.settings.get("negatives") or NEGATIVES)
    rows, labels = rows[np.isfinite(labels)], labels[np.isfinite(labels)]
    order = np.argsort(rows["variant_id"].astype(str).to_numpy(), kind="stable")
    rows, positive = rows.iloc[order].reset_index(drop=True), labels[order] == 1
    groups = rows["group"].astype(object)
    if groups.isna().any() or (groups.astype(str) == "").any():
        return RunRanking({}, reason="a test variant has no group")
    if not positive.any() or positive.all():
        return RunRanking({}, reason="the test has variants of one class only")
    curves = {}
    for scorer in run.evaluation.scorers:
        values = aligned_values(rows, scorer.score_column)
        found = ranking_curves(values, positive, groups) if values is not None else None
        if found is not None:
            curves[scorer.name] = found
    known = pd.util.hash_pandas_object(
        pd.DataFrame({"id": rows["variant_id"].astype(str), "group": groups.astype(str), "positive": positive}),
        index=False,
    )
    digest = hashlib.sha256(known.to_numpy().tobytes()).hexdigest()[:16]
    reason = "" if curves else "no scorer says how likely a variant is altering"
    return RunRanking(curves, digest, float(positive.mean()), reason)


@dataclass(frozen=True)
class RankingView:
    """Both plots of a board with their legend.

    Attributes:
        precision, roc: the plots; None where no scorer of the board has curves.
        legend: drawn scorers with their AUPRC and AUROC.
        not_drawn: reason to the runs whose curves are missing for it.
    """

    precision: Markup | None
    roc: Markup | None
    legend: list[tuple[Series, tuple[float, float, float]]]
    not_drawn: dict[str, list[str]]


def ranking_view(board: Board, rankings: dict[str, RunRanking]) -> RankingView:
    """The board's curves, and why others are missing.

    Args:
        board: the scorers, from one run or several.
        rankings: `ranking_of_run` by run name.
    """
    styles = styles_of(board)
    series, legend = [], []
    not_drawn: dict[str, list[str]] = {}
    for run in board.runs:
        if rankings[run.name].reason:
            not_drawn.setdefault(rankings[run.name].reason, []).append(run.name)
    for standing in board.standings:
        curves = rankings[standing.run.name].curves.get(standing.scorer.name)
        if curves is not None:
            series.append((standing.name, styles[standing.name], curves))
            entry = Series(standing.name, styles[standing.name], standing.number("auprc"))
            legend.append((entry, standing.number("auroc")))
    if not series:
        return RankingView(None, None, [], not_drawn)
    prevalence = prevalence_of(board)
    first = next(rankings[run.name] for run in board.runs if rankings[run.name].curves)
    ceiling = _ceiling(board)
    shown = prevalence if prevalence is not None else first.prevalence
    return RankingView(precision_recall_plot(series, shown, ceiling), roc_plot(series), legend, not_drawn)


def _ceiling(board: Board) -> float | None:
    """AUPRC of one replicate of the measurement predicting the other, where a run recorded it."""
    for run in board.runs:
        for record in run.evidence.get("ceiling") or ():
            if record.get("metric") == "auprc" and record.get("estimate") is not None:
                return float(record["estimate"])
    return None
