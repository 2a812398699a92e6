"""The metrics used to evaluate a scorer, and the one bootstrap behind every interval.

A resample changes how often a row counts, never the order of the scores. So each scorer is sorted once, and every
resample needs one cumulative sum of the rows' multiplicities. The binary metrics change only where a positive stands:
the arrays after the cumulative sum have one column per run of tied scores that holds a positive.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from meta_spliceai.errors import InputError

LEVEL = 0.95
"""Coverage of all intervals."""

DRAWN_AT_ONCE = 2_000_000
"""Group draws held in memory while the multiplicities are counted."""

CELLS_AT_ONCE = 400_000
"""Resamples × rows worked on at a time; more no longer fits the cache of one core."""

WORKERS = 2
"""Threads that work through the resamples."""

UNDEFINED_ALLOWED = 0.05
"""Share of resamples on which a metric may be undefined before no interval is given."""

NAN = float("nan")

Key = TypeVar("Key")
Rows = Float[np.ndarray, " rows"]
Units = Int[np.ndarray, " rows"]
Counts = Int[np.ndarray, "resamples groups"]
Replicates = Float[np.ndarray, " resamples"]
Ranks = Float[np.ndarray, "resamples rows"]


@dataclass(frozen=True)
class ResamplingPlan:
    """Bootstrap over whole groups: each resample draws as many groups as there are, with replacement.

    Variants of one gene (exon, mutated position) resemble each other, so single variants are not independent draws;
    resampling groups gives the interval for new groups (cluster bootstrap: Davison & Hinkley 1997, section 3.8).

    Attributes:
        unit: the group's number of every row.
        counts: how often each group is in each resample; rows sum to the number of groups.
    """

    unit: Units
    labels: np.ndarray
    counts: Counts

    @property
    def n_groups(self) -> int:
        return len(self.labels)

    def by_group(self, values: Rows) -> Float[np.ndarray, " groups"]:
        """The sum of a value over each group's rows."""
        return np.bincount(self.unit, weights=values, minlength=self.n_groups)


def plan_resamples(groups: pd.Series | np.ndarray, n_boot: int, seed: int) -> ResamplingPlan:
    """Draw the resamples (0 for none) once, for all metrics and scorers; the draws are those of
    `seqleak.Resample(groups, method="cluster", n_boot=..., seed=...)`. InputError: a row without a group."""
    values = pd.Series(np.asarray(groups, dtype=object))
    bad = values.isna() | (values.astype(str) == "")
    if bad.any():
        raise InputError(f"{int(bad.sum())} rows without a group, first at row {int(bad.idxmax()) + 1}")
    unit, labels = pd.factorize(values.astype(str).to_numpy(), sort=True)
    n_groups = len(labels)
    rng = np.random.default_rng(seed)
    counts = np.empty((n_boot, n_groups), dtype=np.int32)
    step = max(1, DRAWN_AT_ONCE // max(n_groups, 1))
    for start in range(0, n_boot, step):
        size = min(step, n_boot - start)
        draws = rng.integers(0, n_groups, size=(size, n_groups))
        draws += n_groups * np.arange(size)[:, None]
        counts[start : start + size] = np.bincount(draws.ravel(), minlength=size * n_groups).reshape(size, n_groups)
    return ResamplingPlan(unit.astype(np.int64), np.asarray(labels), counts)


def resampled(
    plan: ResamplingPlan, at: Callable[[Counts], dict[Key, Replicates]], rows_at_once: int = 1
) -> dict[Key, Replicates]:
    """Every number that `at` gives of some resamples: its value on the data first, then on each resample.

    Args:
        rows_at_once: columns of the widest array that `at` makes; a few resamples at a time keep it in the cache.
    """
    step = max(1, CELLS_AT_ONCE // max(1, rows_at_once))
    chunks = [plan.counts[start : start + step] for start in range(0, len(plan.counts), step)]
    data = at(np.ones((1, plan.n_groups), dtype=np.int32))
    with ThreadPoolExecutor(WORKERS) as pool:
        pieces = [data, *pool.map(at, chunks)]
    return {key: np.concatenate([piece[key] for piece in pieces]) for key in data}


def with_interval(
    values: Replicates, n_groups: int, undefined: str, allowed: float = UNDEFINED_ALLOWED
) -> dict[str, Any]:
    """A number and the central interval of its resamples, as a row of a table: estimate, low, high, and a reason where
    something is not given.

    Args:
        values: from `resampled`: the number of the data, then of each resample, NaN where it is undefined there.
        n_groups: groups resampled; with a single one every resample is the data themselves.
        undefined: the reason where the number itself is NaN.
        allowed: share of resamples on which the number may be undefined; the others then say what groups would give
            that define it.
    """
    estimate, drawn = float(values[0]), values[1:]
    row = {"estimate": estimate, "low": NAN, "high": NAN}
    lost = int(np.isnan(drawn).sum())
    told = f"undefined on {lost} of {len(drawn)} resamples"
    if np.isnan(estimate):
        return {**row, "reason": undefined}
    if not len(drawn):
        return {**row, "reason": "no interval: no resamples were asked for"}
    if n_groups < 2:
        return {**row, "reason": "no interval: all evaluated rows are in one group"}
    if lost > allowed * len(drawn):
        return {**row, "reason": f"no interval: {told}"}
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(drawn[~np.isnan(drawn)], [tail, 100 - tail])
    return {**row, "low": float(low), "high": float(high), "reason": told if lost else ""}


def bootstrap_table(
    plan: ResamplingPlan, at: Callable[[Counts], dict[str, Replicates]], undefined: str, rows_at_once: int = 1
) -> pd.DataFrame:
    """Every number that `at` gives, with its interval: a row per number (index `metric`); see `resampled` and
    `with_interval`."""
    found = resampled(plan, at, rows_at_once)
    rows = {metric: with_interval(values, plan.n_groups, undefined) for metric, values in found.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("metric")


def share(hits: Rows, of: Rows, plan: ResamplingPlan, nothing: str) -> dict[str, Any]:
    """The share Σ hits / Σ of, bootstrapped over the plan's groups, as a row of a table: estimate, low, high, hits, of,
    groups (in which something could hit; the interval rests on these, however many others were drawn) and reason, which
    is `nothing` where nothing could hit.

    Resamples in which nothing could hit say nothing about the share and are left aside: the interval is that of a
    sample of groups with something to hit. Where few groups have that, it is about as wide as their shares lie apart,
    and where a single one has, there is none. A row may hit, and could have hit, several times.
    """
    by_group = np.stack([plan.by_group(hits), plan.by_group(of)], axis=1)
    groups = int((by_group[:, 1] > 0).sum())

    def at(counts: Counts) -> dict[str, Replicates]:
        hit, could = (counts.astype(np.float64) @ by_group).T
        with np.errstate(invalid="ignore", divide="ignore"):
            return {"share": np.where(could > 0, hit / could, np.nan)}

    found = with_interval(resampled(plan, at)["share"], plan.n_groups, nothing, allowed=1.0)
    if groups == 1 and plan.n_groups > 1:
        found |= {"low": NAN, "high": NAN, "reason": "no interval: all that could be hit is in one group"}
    hit, could = (float(total) for total in by_group.sum(axis=0))
    reason = found.pop("reason")
    return {**found, "hits": hit, "of": could, "groups": groups, "reason": reason}


@dataclass(frozen=True)
class Metric:
    """One number of the evaluation.

    Attributes:
        truth: what it is held against, which says on which rows: "binary" (the two sides, see `binary_labels`),
            "validated_delta" (rows with a validated Δ), "effect" or "effect_magnitude" (rows with a measured effect,
            whatever their class).
        pitfall: what a reader must know before quoting it; empty if nothing.
        for_delta_only: defined only for scores on the Δ scale.
    """

    name: str
    label: str
    truth: Literal["binary", "validated_delta", "effect", "effect_magnitude"]
    pitfall: str = ""
    for_delta_only: bool = False


_BY_PREVALENCE = "depends on the prevalence: compare only on the same rows"
_NO_ALARMS = "says nothing about false alarms; only for scores on the Δ scale"
_CHOSEN_HERE = "the threshold is chosen on the evaluated rows themselves"
_CIRCULAR = (
    "circular for altering variants: their target is the base network's own Δ, so the base network is compared with "
    "itself there; only the zeros of the Normal variants are measured"
)
_SIGNED = "signed score against signed effect; undefined for a scorer without a sign"
_MAGNITUDE = "magnitude against magnitude: says nothing about loss or gain"

CORRELATIONS = (
    Metric("pearson_validated_delta", "Pearson r, validated Δ (circular)", "validated_delta", _CIRCULAR),
    Metric("spearman_validated_delta", "Spearman r, validated Δ (circular)", "validated_delta", _CIRCULAR),
    Metric("pearson_effect", "Pearson r, measured effect", "effect", _SIGNED),
    Metric("spearman_effect", "Spearman r, measured effect", "effect", _SIGNED),
    Metric("pearson_effect_magnitude", "Pearson r, measured |effect|", "effect_magnitude", _MAGNITUDE),
    Metric("spearman_effect_magnitude", "Spearman r, measured |effect|", "effect_magnitude", _MAGNITUDE),
)


@dataclass(frozen=True)
class OperatingPoints:
    """Where the curves are read: recalls, list lengths, score thresholds (Δ scale) and false-positive rates."""

    recalls: tuple[float, ...] = (0.2, 0.5, 0.8)
    tops: tuple[int, ...] = (100,)
    thresholds: tuple[float, ...] = (0.2, 0.5)
    false_positive_rates: tuple[float, ...] = (0.01, 0.05)

    def metrics(self) -> tuple[Metric, ...]:
        """All metrics at these points, binary ones first."""
        recalls = [f"{100 * recall:g}" for recall in self.recalls]
        rates = [f"{100 * rate:g}" for rate in self.false_positive_rates]
        named = [
            *(("precision_at_recall_" + r, f"precision at recall {r} %", _BY_PREVALENCE) for r in recalls),
            *((f"precision_top_{k}", f"precision at the top {k}", _BY_PREVALENCE) for k in self.tops),
            *((f"detection_rate_at_{t:g}", f"detection rate at Δ ≥ {t:g}", _NO_ALARMS) for t in self.thresholds),
            *(("detection_rate_at_fpr_" + f, f"detection rate at {f} % false positives", _CHOSEN_HERE) for f in rates),
        ]
        return (
            Metric("auroc", "AUROC", "binary", "blind to how rare altering variants are"),
            Metric("auprc", "AUPRC", "binary", _BY_PREVALENCE),
            *(Metric(name, label, "binary", why, why == _NO_ALARMS) for name, label, why in named),
            *CORRELATIONS,
        )


NO_POINTS = OperatingPoints((), (), (), ())
"""For AUROC and AUPRC alone."""


@dataclass(frozen=True)
class RankedScores:
    """Scores sorted from high to low, rows of equal score forming one run.

    Attributes:
        unit: group of each row, in sorted order.
        positive_unit: group of each positive row, in sorted order.
        positive_run_start: index, among the positives, of the first one of each run that holds a positive.
        first: index of the first row of each such run.
        last: index of the last row of each such run.
        positive_scores: scores of the positives, in sorted order.
    """

    unit: Int[np.ndarray, " rows"]
    positive_unit: Int[np.ndarray, " positives"]
    positive_run_start: Int[np.ndarray, " runs"]
    first: Int[np.ndarray, " runs"]
    last: Int[np.ndarray, " runs"]
    positive_scores: Float[np.ndarray, " positives"]

    def at(self, counts: Counts, points: OperatingPoints) -> dict[str, Replicates]:
        """Every binary metric on every resample; NaN where a resample lacks a class.

        Definitions, with TP, FP the positives and negatives at or above a score, P and N all of them:
        AUROC is the Mann-Whitney statistic, ties counting one half. AUPRC is average precision,
        Σ (recall step × precision), one step a distinct score, without interpolation. Precision at recall r is that
        of the highest threshold with TP ≥ r P. Precision at the top k shares out the run of ties that k falls into
        evenly, and is undefined when a resample holds fewer than k rows. The detection rate at a false-positive
        rate f is the largest TP / P of a threshold with FP ≤ f N.
        """
        resamples = len(counts)
        if len(self.first) == 0:
            return {m.name: np.full(resamples, np.nan) for m in points.metrics() if m.truth == "binary"}
        total = np.cumsum(np.take(counts, self.unit, axis=1), axis=1, dtype=np.int32)
        rows = total[:, -1].astype(np.float64)
        weight = np.take(counts, self.positive_unit, axis=1)
        here = np.add.reduceat(weight, self.positive_run_start, axis=1).astype(np.float64)
        true = np.cumsum(here, axis=1)
        through = total[:, self.last].astype(np.float64)
        before = np.where(self.first > 0, total[:, np.maximum(self.first - 1, 0)], 0).astype(np.float64)
        positives = true[:, -1]
        negatives = rows - positives
        false = through - true
        false_here = (through - before) - here

        with np.errstate(invalid="ignore", divide="ignore"):
            both = np.where((positives > 0) & (negatives > 0), 1.0, np.nan)
            values = {
                "auroc": both
                * (here * (negatives[:, None] - false + 0.5 * false_here)).sum(axis=1)
                / (positives * negatives),
                "auprc": both * (here * (true / np.maximum(through, 1))).sum(axis=1) / positives,
            }
            each = np.arange(resamples)
            for recall in points.recalls:
                needed = np.maximum(np.ceil(recall * positives - 1e-9), 1)
                run = np.argmax(true >= needed[:, None], axis=1)
                values[f"precision_at_recall_{100 * recall:g}"] = both * true[each, run] / through[each, run]
            for top in points.tops:
                share = np.clip((top - before) / np.maximum(through - before, 1), 0, 1)
                enough = np.where(rows >= top, 1.0, np.nan)
                values[f"precision_top_{top}"] = both * enough * (here * share).sum(axis=1) / top
            for threshold in points.thresholds:
                reached = self.positive_scores >= threshold
                values[f"detection_rate_at_{threshold:g}"] = both * weight[:, reached].sum(axis=1) / positives
            for rate in points.false_positive_rates:
                allowed = np.floor(rate * negatives + 1e-9)
                found = np.where(false <= allowed[:, None], true, 0).max(axis=1)
                values[f"detection_rate_at_fpr_{100 * rate:g}"] = both * found / positives
        return values


def rank_scores(positive: Bool[np.ndarray, " rows"], score: Rows, unit: Units) -> RankedScores:
    """Sort the scores of one scorer once; `score` is finite, higher = more likely positive."""
    order = np.argsort(-score, kind="stable")
    ordered, is_positive = score[order], positive[order]
    run, run_first, run_last = _runs(ordered)
    held, start = np.unique(run[is_positive], return_index=True)
    return RankedScores(
        unit=unit[order],
        positive_unit=unit[order][is_positive],
        positive_run_start=start,
        first=run_first[held],
        last=run_last[held],
        positive_scores=ordered[is_positive],
    )


def _runs(ordered: Rows) -> tuple[Units, Int[np.ndarray, " runs"], Int[np.ndarray, " runs"]]:
    """Of sorted numbers the run of equal ones that each is in, and where each run begins and ends."""
    new_run = np.ones(len(ordered), dtype=bool)
    new_run[1:] = ordered[1:] != ordered[:-1]
    first = np.flatnonzero(new_run)
    return np.cumsum(new_run) - 1, first, np.append(first[1:], len(ordered)) - 1


NO_SPREAD = 1e-12
"""Variance, as a share of the variance over all rows, at or below which a resample counts as constant."""


PearsonSums = Float[np.ndarray, "groups 6"]
"""Sums of 1, x, y, x², y², xy of each group; a resample's r is a function of their weighted totals."""


def pearson_sums(x: Rows, y: Rows, unit: Units, groups: int) -> PearsonSums:
    """The group sums of x and y, both centred and scaled first, so that no digits are lost in the differences."""
    x, y = _standard(x), _standard(y)
    columns = (np.ones_like(x), x, y, x * x, y * y, x * y)
    return np.stack([np.bincount(unit, weights=c, minlength=groups) for c in columns], axis=1)


def correlation(sums: PearsonSums, counts: Counts) -> Replicates:
    """Pearson's r on every resample; NaN where fewer than two rows are drawn or one side is constant."""
    return _r(*(counts.astype(np.float64) @ sums).T)


class SortedOnce(NamedTuple):
    """One variable sorted once: ranks on any resample follow from one cumulative sum of multiplicities."""

    unit: Units
    run_last: Int[np.ndarray, " runs"]
    run_of_row: Units

    def ranks(self, counts: Counts) -> Ranks:
        """Midranks, in row order, among the rows as drawn (a row drawn twice counts twice)."""
        through = np.cumsum(np.take(counts, self.unit, axis=1), axis=1, dtype=np.int32)[:, self.run_last]
        middle = through.astype(np.float64)
        middle[:, 1:] += through[:, :-1]
        middle += 1
        middle *= 0.5
        return np.take(middle, self.run_of_row, axis=1)


def sort_once(x: Rows, unit: Units) -> SortedOnce:
    order = np.argsort(x, kind="stable")
    run, _, run_last = _runs(x[order])
    run_of_row = np.empty(len(x), dtype=np.int64)
    run_of_row[order] = run
    return SortedOnce(unit[order], run_last, run_of_row)


def rank_correlation(x: Ranks, y: Ranks, weights: Int[np.ndarray, "resamples rows"]) -> Replicates:
    """Spearman's r: Pearson's r of the midranks, which is exact under ties. Both ranks are of the same drawn rows,
    `weights` how often each is drawn."""
    n = weights.sum(axis=1, dtype=np.int64).astype(np.float64)
    middle, scale = ((n + 1) / 2)[:, None], (1 / np.maximum(n, 1))[:, None]  # the scale keeps squares near 1
    x, y = (x - middle) * scale, (y - middle) * scale
    weighted = y * weights
    xx, yy, xy = (np.einsum("br,br->b", a, b) for a, b in ((weights, x * x), (weighted, y), (weighted, x)))
    return _r(n, np.zeros_like(n), np.zeros_like(n), xx, yy, xy)


def _standard(values: Rows) -> Rows:
    """Mean 0 and standard deviation 1; a constant stays constant."""
    centred = values - values.mean()
    return np.zeros_like(centred) if np.ptp(values) == 0 else centred / centred.std()


def _r(n: Replicates, x: Replicates, y: Replicates, xx: Replicates, yy: Replicates, xy: Replicates) -> Replicates:
    with np.errstate(invalid="ignore", divide="ignore"):
        var_x, var_y = xx / n - (x / n) ** 2, yy / n - (y / n) ** 2
        r = (xy / n - x * y / n**2) / np.sqrt(var_x * var_y)
    defined = (n >= 2) & (var_x > NO_SPREAD) & (var_y > NO_SPREAD)
    return np.where(defined, np.clip(r, -1, 1), np.nan)
