"""Is the effect right: its kind (confusion, F1 of each), its position (does a predicted change fall where one was
observed), and the biological reading: with Δ added to the base scores, do sites appear and vanish where they were
observed to? And the ceiling: the labels' own agreement, as a line above every model. Replicates agree only to a point;
a model that matches one replicate as well as the other replicate does has nothing left to learn from these labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from meta_spliceai.splice_engine.base_layer.scores import ACCEPTOR, DONOR
from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import (
    NO_POINTS,
    Counts,
    Replicates,
    bootstrap_table,
    correlation,
    pearson_sums,
    plan_resamples,
    rank_correlation,
    rank_scores,
    share,
    sort_once,
)


def evaluate_effect_types(
    observed: Sequence[str] | np.ndarray,
    predicted: Sequence[str] | np.ndarray,
    groups: np.ndarray,
    kinds: Sequence[str],
    *,
    n_boot: int = 2000,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The confusion (observed kinds as rows, predicted ones as columns) and a table with group-bootstrap intervals: a
    row for `macro F1`, `accuracy` and `F1 of …`: estimate, low, high, reason, n.

    F1 of a kind is 2 TP / (2 TP + FP + FN); macro F1 is the plain mean over the kinds that are observed or predicted,
    so that a rare kind counts as much as a common one. A resample in which a kind is neither observed nor predicted
    leaves it out of the mean, as scikit-learn does.
    """
    number = {kind: place for place, kind in enumerate(kinds)}
    k = len(kinds)
    plan = plan_resamples(groups, n_boot, seed)
    cell = np.array([number[o] * k + number[p] for o, p in zip(observed, predicted, strict=True)])
    by_group = np.bincount(plan.unit * k * k + cell, minlength=plan.n_groups * k * k).reshape(plan.n_groups, k * k)
    counts = by_group.sum(axis=0).reshape(k, k)

    def at(drawn: Counts) -> dict[str, Replicates]:
        confusion = (drawn.astype(np.float64) @ by_group).reshape(-1, k, k)
        true = np.einsum("rkk->rk", confusion)
        touched = confusion.sum(axis=1) + confusion.sum(axis=2)
        with np.errstate(invalid="ignore", divide="ignore"):
            f1 = np.where(touched > 0, 2 * true / touched, np.nan)
            present = (touched > 0).sum(axis=1)
            macro = np.where(present > 0, np.nansum(f1, axis=1) / present, np.nan)
            accuracy = true.sum(axis=1) / confusion.sum(axis=(1, 2))
        return {"macro F1": macro, "accuracy": accuracy, **{f"F1 of {kind}": f1[:, i] for kind, i in number.items()}}

    table = bootstrap_table(plan, at, "neither observed nor predicted")
    table["n"] = [counts.sum(), counts.sum(), *counts.sum(axis=1)]
    confusion = pd.DataFrame(counts, index=pd.Index(kinds, name="observed"), columns=pd.Index(kinds, name="predicted"))
    return confusion, table


TOLERANCES = (0, 1, 5)
"""Bases by which a prediction may miss and still count."""


def evaluate_localisation(
    gold: Sequence[Sequence[int]],
    predicted: Mapping[str, Float[np.ndarray, " variants"]],
    groups: np.ndarray,
    *,
    n_boot: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Hit rates of predicted against observed positions.

    A variant is hit if its predicted position lies within the tolerance of any of its observed ones. A variant without
    a prediction (NaN) is a miss: the observation is there and the scorer did not find it. Variants without an observed
    position are not evaluated, and are counted.

    Args:
        gold: observed positions of each variant (bases from the variant, transcript orientation); empty if none known.
        predicted: for each scorer the position it gives each variant, in the same coordinates.

    Returns:
        A row per scorer and tolerance: scorer, tolerance, estimate, low, high, n (evaluated), n_without_gold,
        n_without_prediction, reason.
    """
    known = np.array([len(positions) > 0 for positions in gold], dtype=bool)
    plan = plan_resamples(groups, n_boot, seed)
    rows = []
    for scorer, positions in predicted.items():
        miss = np.array(
            [
                np.inf if np.isnan(mine) or not len(theirs) else min(abs(mine - one) for one in theirs)
                for mine, theirs in zip(positions, gold, strict=True)
            ]
        )
        counts = {
            "n": int(known.sum()),
            "n_without_gold": int((~known).sum()),
            "n_without_prediction": int((known & np.isnan(positions)).sum()),
        }
        for tolerance in TOLERANCES:
            hits = (miss <= tolerance).astype(np.float64)
            found = share(hits, known.astype(np.float64), plan, "no observed position")
            bounds = {key: found[key] for key in ("estimate", "low", "high")}
            rows.append({"scorer": scorer, "tolerance": tolerance, **bounds, **counts, "reason": found["reason"]})
    return pd.DataFrame(rows)


SITES = ("acceptor", "donor")
PEAK = 0.5
"""Probability from which a position counts as a splice site."""

Sites = Bool[np.ndarray, "variants positions 2"]


@dataclass(frozen=True)
class ObservedSites:
    """Sites seen to be lost and gained by one variant: (site, offset), site "acceptor" or "donor", offset in bases
    from the variant in transcript orientation."""

    lost: tuple[tuple[str, int], ...] = ()
    gained: tuple[tuple[str, int], ...] = ()


def evaluate_peaks(
    reference: Float[np.ndarray, "variants positions 3"],
    delta: Mapping[str, Float[np.ndarray, "variants positions 3"]],
    observed: Sequence[ObservedSites],
    groups: np.ndarray,
    *,
    n_boot: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Peaks of base + Δ against what was observed.

    A peak is a position of the acceptor or donor channel with base + Δ at or above `PEAK`. What should be there is
    the reference's peaks, less those observed lost, plus those observed gained.

    Args:
        reference: base probabilities of the reference sequence, centre = the variant, transcript orientation.
        delta: for each scorer its Δ at the same positions.
        observed: for each variant the sites lost and gained; both empty for a variant observed to change nothing.

    Returns:
        Rows scorer × metric with estimate, low, high, hits, of, groups, reason. `peak_precision`: predicted peaks that
        should be there; `peak_recall`: expected ones that are; `gain_detection`: gained sites that were no reference
        peak and are one now; `loss_detection`: lost sites that were a reference peak and are none any more;
        `false_gain_rate`: variants with no gained site observed that get a new peak. Sites outside the positions given
        can neither hit nor miss, and are in `out_of_reach`.
    """
    plan = plan_resamples(groups, n_boot, seed)
    half = reference.shape[1] // 2
    before = reference[:, :, [ACCEPTOR, DONOR]] >= PEAK
    lost, out_of_reach = _marked(observed, "lost", before.shape, half)
    gained, out_of_reach_too = _marked(observed, "gained", before.shape, half)
    lost_here, gained_here = lost & before, gained & ~before
    expected = (before & ~lost) | gained
    no_gain = np.array([not sites.gained for sites in observed])
    rows = []
    for scorer, change in delta.items():
        after = (reference + change)[:, :, [ACCEPTOR, DONOR]] >= PEAK
        new = after & ~before & ~gained
        marks = {
            "peak_precision": (after & expected, after, "no peak predicted"),
            "peak_recall": (after & expected, expected, "no peak expected"),
            "gain_detection": (after & gained_here, gained_here, "no gained site observed that the reference lacks"),
            "loss_detection": (lost_here & ~after, lost_here, "no reference peak lost"),
            "false_gain_rate": (new.any(axis=(1, 2)) & no_gain, no_gain, "every variant has a gained site"),
        }
        for metric, (hits, of, nothing) in marks.items():
            hit, could = (one.reshape(len(one), -1).sum(axis=1).astype(np.float64) for one in (hits, of))
            found = share(hit, could, plan, nothing)
            rows.append({"scorer": scorer, "metric": metric, **found, "out_of_reach": out_of_reach + out_of_reach_too})
    return pd.DataFrame(rows)


def _marked(observed: Sequence[ObservedSites], which: str, shape: tuple[int, ...], half: int) -> tuple[Sites, int]:
    """Where the sites lost or gained are, and how many of them are outside the positions."""
    marked, outside = np.zeros(shape, dtype=bool), 0
    for row, sites in enumerate(observed):
        for site, offset in getattr(sites, which):
            if abs(offset) > half:
                outside += 1
            else:
                marked[row, half + offset, SITES.index(site)] = True
    return marked, outside


def replicate_ceiling(
    one: Float[np.ndarray, " rows"],
    two: Float[np.ndarray, " rows"],
    altering_one: Bool[np.ndarray, " rows"],
    altering_two: Bool[np.ndarray, " rows"],
    groups: np.ndarray,
    *,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Agreement of two replicates of the measured effect (rows with NaN in either are left aside) and of the classes by
    the data set's own rule applied to each alone: rows (index `metric`) with estimate, low, high, n, reason.

    `pearson`, `spearman` between the replicates; `reliability` of their mean, 2r / (1 + r) (Spearman 1910, Brown 1910);
    `best_pearson`, √reliability, the most that any predictor can correlate with the mean (attenuation, Spearman 1904);
    `auroc` and `auprc` of one replicate's effect for the other's classes, both ways averaged; `kappa` of the two
    classes (Cohen 1960).
    """
    known = ~(np.isnan(one) | np.isnan(two))
    one, two = one[known], two[known]
    calls = altering_one[known], altering_two[known]
    plan = plan_resamples(groups[known], n_boot, seed)
    sums = pearson_sums(one, two, plan.unit, plan.n_groups)
    ranks = sort_once(one, plan.unit), sort_once(two, plan.unit)
    # An altering effect is a negative one.
    ranked = rank_scores(calls[1], -one, plan.unit), rank_scores(calls[0], -two, plan.unit)

    def at(counts: Counts) -> dict[str, Replicates]:
        r = correlation(sums, counts)
        weights = counts[:, plan.unit]
        with np.errstate(invalid="ignore", divide="ignore"):
            reliability = 2 * r / (1 + r)
            best = np.sqrt(np.where(reliability >= 0, reliability, np.nan))
        binary = [side.at(counts, NO_POINTS) for side in ranked]
        return {
            "pearson": r,
            "spearman": rank_correlation(ranks[0].ranks(counts), ranks[1].ranks(counts), weights),
            "reliability": reliability,
            "best_pearson": best,
            "auroc": (binary[0]["auroc"] + binary[1]["auroc"]) / 2,
            "auprc": (binary[0]["auprc"] + binary[1]["auprc"]) / 2,
            "kappa": _kappa(calls, weights),
        }

    undefined = "constant replicates, or a class without a variant"
    return bootstrap_table(plan, at, undefined, len(one)).assign(n=len(one))


def _kappa(
    calls: tuple[Bool[np.ndarray, " rows"], Bool[np.ndarray, " rows"]], weights: np.ndarray
) -> Float[np.ndarray, " resamples"]:
    n = weights.sum(axis=1).astype(np.float64)
    one, two = (weights[:, side].sum(axis=1) / n for side in calls)
    both = (weights[:, calls[0] == calls[1]]).sum(axis=1) / n
    chance = one * two + (1 - one) * (1 - two)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chance < 1, (both - chance) / (1 - chance), np.nan)
