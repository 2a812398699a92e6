"""Precision-recall and ROC curves with the band that resampling whole groups gives, and the areas on every resample.

Runs that were evaluated on the same test share one plan of resamples, so that the areas of two of them can be paired on
the page without computing anything there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import OperatingPoints, plan_resamples, rank_scores

GRID = 51  # points of a curve: recall, or false-positive rate, from 0 to 1
RESAMPLES = 200  # resamples behind a band; the intervals of the metrics come from the run's own, more numerous ones


@dataclass(frozen=True)
class Band:
    """A curve on the grid with its 95 % band, point by point."""

    value: Float[np.ndarray, " grid"]
    low: Float[np.ndarray, " grid"]
    high: Float[np.ndarray, " grid"]


@dataclass(frozen=True)
class RankingCurves:
    """What one scorer does on the test.

    Attributes:
        precision: by recall.
        sensitivity: true-positive rate by false-positive rate.
        areas: AUPRC and AUROC on every resample, NaN where a resample lacks a class.
    """

    precision: Band
    sensitivity: Band
    areas: dict[str, Float[np.ndarray, " resamples"]]


def ranking_curves(
    score: Float[np.ndarray, " rows"],
    positive: Bool[np.ndarray, " rows"],
    groups: pd.Series,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> RankingCurves | None:
    """The curves of one scorer; None where a score is missing for every row of a class.

    Args:
        score: higher = more likely positive; rows with NaN are left aside.
        seed: of the resamples; the same rows, groups and seed give the same resamples for every scorer.
    """
    known = np.isfinite(score)
    if not positive[known].any() or positive[known].all():
        return None
    plan = plan_resamples(groups, resamples, seed)
    # Rows left aside count nothing; the plan stays that of all rows, so that scorers stay paired.
    order = np.flatnonzero(known)[np.argsort(-score[known], kind="stable")]
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    whole = _curves(np.ones((1, len(order)), dtype=np.int32), positive[order], last_of_tie)
    drawn = [
        _curves(counts[:, plan.unit[order]], positive[order], last_of_tie)
        for counts in plan.chunks(max(1, 2_000_000 // max(len(order), 1)))
    ]
    bands = []
    for which in range(2):
        values = np.concatenate([part[which] for part in drawn]) if drawn else np.full((1, GRID), np.nan)
        with np.errstate(invalid="ignore"):
            kept = values[np.isfinite(values).all(axis=1)]
        low, high = np.percentile(kept, [2.5, 97.5], axis=0) if len(kept) > 1 else np.full((2, GRID), np.nan)
        bands.append(Band(whole[which][0], low, high))
    ranked = rank_scores(positive[known], score[known], plan.unit[known])
    areas = ranked.at(plan.counts, OperatingPoints((), (), (), ()))
    return RankingCurves(bands[0], bands[1], {name: areas[name] for name in ("auprc", "auroc")})


def _curves(
    counts: Int[np.ndarray, "resamples rows"],
    positive: Bool[np.ndarray, " rows"],
    last_of_tie: Bool[np.ndarray, " rows"],
) -> tuple[Float[np.ndarray, "resamples grid"], Float[np.ndarray, "resamples grid"]]:
    """Precision at every recall of the grid, and sensitivity at every false-positive rate, on each resample."""
    true = np.cumsum(counts * positive, axis=1)[:, last_of_tie].astype(np.float64)
    called = np.cumsum(counts, axis=1)[:, last_of_tie].astype(np.float64)
    false = called - true
    grid = np.linspace(0, 1, GRID)
    precision = np.full((len(counts), GRID), np.nan)
    sensitivity = np.full((len(counts), GRID), np.nan)
    for i in range(len(counts)):
        positives, negatives = true[i, -1], false[i, -1]
        if positives == 0 or negatives == 0:
            continue
        # The strictest threshold that reaches a recall, and the loosest that stays within a false-positive rate.
        at = np.searchsorted(true[i], np.maximum(np.ceil(grid * positives - 1e-9), 1))
        precision[i] = true[i, at] / called[i, at]
        within = np.searchsorted(false[i], np.floor(grid * negatives + 1e-9), side="right") - 1
        sensitivity[i] = np.where(within >= 0, true[i, np.maximum(within, 0)], 0) / positives
    return precision, sensitivity
