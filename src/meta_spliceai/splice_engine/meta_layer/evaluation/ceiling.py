"""How well could anything do: the labels' own agreement, as a line above every model.

A measurement repeats itself only so far. A model that matched one replicate no better than the other replicate does
has nothing left to learn from these labels.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.meta_layer.evaluation.correlation import (
    pearson_sums,
    rank_correlation,
    sort_once,
    weigh_ranks,
)
from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import NO_POINTS
from meta_spliceai.splice_engine.meta_layer.evaluation.ranking import rank_scores
from meta_spliceai.splice_engine.meta_layer.evaluation.resampling import plan_resamples, with_interval

CHUNK = 50
"""Resamples at a time."""


def replicate_ceiling(
    one: Float[np.ndarray, " rows"],
    two: Float[np.ndarray, " rows"],
    altering_one: Bool[np.ndarray, " rows"],
    altering_two: Bool[np.ndarray, " rows"],
    groups: np.ndarray,
    *,
    loss_is_negative: bool = True,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Agreement of two replicates of the measured effect.

    Args:
        one, two: the effect as each replicate has it; rows with NaN in either are left aside.
        altering_one, altering_two: the class by the data set's own rule applied to each replicate alone.
        groups: for the bootstrap.
        loss_is_negative: an altering effect is a negative one, so that −effect ranks; else |effect| does.

    Returns:
        Rows (index `metric`), with estimate, low, high, n, reason:
        `pearson`, `spearman` between the replicates; `reliability` of their mean, 2r / (1 + r) (Spearman 1910, Brown
        1910); `best_pearson`, √reliability, the most that any predictor can correlate with the mean (attenuation,
        Spearman 1904); `auroc` and `auprc` of one replicate's effect for the other's classes, both ways averaged;
        `kappa` of the two classes (Cohen 1960).

    Raises:
        InputError: different numbers of rows, or no row measured twice.
    """
    sizes = {len(one), len(two), len(altering_one), len(altering_two), len(groups)}
    if len(sizes) > 1:
        raise InputError(f"replicates: {', '.join(map(str, sorted(sizes)))} rows; all must be the same rows")
    known = ~(np.isnan(one) | np.isnan(two))
    if not known.any():
        raise InputError("replicates: no row was measured twice; there is no ceiling to be had from them")
    one, two = one[known], two[known]
    calls = np.asarray(altering_one, dtype=bool)[known], np.asarray(altering_two, dtype=bool)[known]
    plan = plan_resamples(np.asarray(groups, dtype=object)[known], n_boot, seed)
    sums = pearson_sums(one, two, plan.unit, plan.n_groups)
    ranks = sort_once(one, plan.unit), sort_once(two, plan.unit)
    height = (lambda effect: -effect) if loss_is_negative else np.abs
    ranked = rank_scores(calls[1], height(one), plan.unit), rank_scores(calls[0], height(two), plan.unit)

    def at(counts: np.ndarray) -> dict[str, Float[np.ndarray, " resamples"]]:
        r = sums.at(counts)
        weights = counts[:, plan.unit]
        with np.errstate(invalid="ignore", divide="ignore"):
            reliability = 2 * r / (1 + r)
            best = np.sqrt(np.where(reliability >= 0, reliability, np.nan))
        binary = [side.at(counts, NO_POINTS) for side in ranked]
        return {
            "pearson": r,
            "spearman": rank_correlation(ranks[0].ranks(counts), weigh_ranks(ranks[1].ranks(counts), weights)),
            "reliability": reliability,
            "best_pearson": best,
            "auroc": (binary[0]["auroc"] + binary[1]["auroc"]) / 2,
            "auprc": (binary[0]["auprc"] + binary[1]["auprc"]) / 2,
            "kappa": _kappa(calls, weights),
        }

    whole = at(plan.everything)
    pieces = [at(counts) for counts in plan.chunks(CHUNK)]
    rows = []
    for metric, value in whole.items():
        drawn = np.concatenate([piece[metric] for piece in pieces]) if pieces else np.empty(0)
        undefined = "constant replicates, or a class without a variant"
        bounded = with_interval(value[0], drawn, plan.n_groups, "constant, or a class not drawn", undefined)
        rows.append({"metric": metric, **bounded, "n": len(one)})
    return pd.DataFrame(rows).set_index("metric")


def call_agreement(calls: Sequence[Sequence[str]]) -> dict[str, float]:
    """Agreement of several calls of the same variants (sources or methods), over all pairs of calls of a variant.

    Args:
        calls: the classes each variant was given; variants with fewer than two are left aside.

    Returns:
        `variants` and `pairs` compared, `agreement` (share of pairs that agree), NaN without any pair.
    """
    compared = [list(itertools.combinations(given, 2)) for given in calls if len(given) > 1]
    agree = [first == second for pairs in compared for first, second in pairs]
    agreement = sum(agree) / len(agree) if agree else float("nan")
    return {"variants": len(compared), "pairs": len(agree), "agreement": agreement}


def _kappa(
    calls: tuple[Bool[np.ndarray, " rows"], Bool[np.ndarray, " rows"]], weights: np.ndarray
) -> Float[np.ndarray, " resamples"]:
    n = weights.sum(axis=1).astype(np.float64)
    one, two = (weights[:, side].sum(axis=1) / n for side in calls)
    both = (weights[:, calls[0] == calls[1]]).sum(axis=1) / n
    chance = one * two + (1 - one) * (1 - two)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chance < 1, (both - chance) / (1 - chance), np.nan)
