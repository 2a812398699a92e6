"""One plan of group-bootstrap resamples, shared by every metric and scorer, so that differences are paired."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from meta_spliceai.errors import InputError

LEVEL = 0.95
"""Coverage of all intervals."""

DRAWN_AT_ONCE = 2_000_000
"""Group draws held in memory while the multiplicities are counted."""

UNDEFINED_ALLOWED = 0.05
"""Share of resamples on which a metric may be undefined before no interval is given."""

NAN = float("nan")

Counts = Int[np.ndarray, "resamples groups"]
Replicates = Float[np.ndarray, " resamples"]


@dataclass(frozen=True)
class ResamplingPlan:
    """Bootstrap over whole groups: each resample draws as many groups as there are, with replacement.

    Variants of one gene (exon, mutated position) resemble each other, so single variants are not independent draws;
    resampling groups gives the interval for new groups (cluster bootstrap: Davison & Hinkley 1997, section 3.8).

    Attributes:
        unit: the group's number of every row.
        labels: the groups in sorted order.
        counts: how often each group is in each resample; rows sum to the number of groups.
    """

    unit: Int[np.ndarray, " rows"]
    labels: np.ndarray
    counts: Counts

    @property
    def n_groups(self) -> int:
        return len(self.labels)

    @property
    def everything(self) -> Int[np.ndarray, "1 groups"]:
        """The data themselves, as a resample that holds every group once."""
        return np.ones((1, self.n_groups), dtype=np.int32)

    def chunks(self, resamples_at_once: int) -> Iterator[Int[np.ndarray, "chunk groups"]]:
        """The resamples a few at a time, so that (resamples × rows) arrays stay small enough for the cache."""
        for start in range(0, len(self.counts), resamples_at_once):
            yield self.counts[start : start + resamples_at_once]


def plan_resamples(groups: pd.Series | np.ndarray, n_boot: int, seed: int) -> ResamplingPlan:
    """Draw the resamples once, for all metrics and scorers.

    Args:
        groups: the group of every row, none missing or empty.
        n_boot: number of resamples; 0 for none.
        seed: the draws are those of `seqleak.Resample(groups, method="cluster", n_boot=..., seed=...)`.

    Raises:
        InputError: a row without a group, a negative number of resamples.
    """
    values = pd.Series(np.asarray(groups, dtype=object))
    bad = values.isna() | (values.astype(str) == "")
    if bad.any():
        raise InputError(
            f"{int(bad.sum())} rows without a group, first at row {int(bad.idxmax()) + 1}; "
            "the bootstrap draws whole groups, so every row needs one (column 'group')"
        )
    if n_boot < 0:
        raise InputError(f"n_boot is {n_boot}; it must be 0 (no intervals) or more")
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


class Interval(NamedTuple):
    """Percentile interval of bootstrap replicates, with what stands against it."""

    low: float
    high: float
    undefined: int
    reason: str


def percentile_interval(
    replicates: Replicates, n_groups: int, why_undefined: str = "", undefined_allowed: float = UNDEFINED_ALLOWED
) -> Interval:
    """The central interval of the replicates; NaN with a reason where the resampling cannot give one.

    Args:
        replicates: the metric on each resample, NaN where it is undefined there.
        n_groups: groups resampled; with a single one every resample is the data themselves.
        why_undefined: what a resample lacks when the metric is undefined on it, in words.
        undefined_allowed: share of resamples on which it may be; the others then say what groups would give that
            define it.
    """
    n_boot = len(replicates)
    if n_boot == 0:
        return Interval(NAN, NAN, 0, "no interval: no resamples were asked for")
    undefined = int(np.isnan(replicates).sum())
    if n_groups < 2:
        return Interval(NAN, NAN, undefined, "no interval: all evaluated rows are in one group")
    reason = f"undefined on {undefined} of {n_boot} resamples{f' ({why_undefined})' if why_undefined else ''}"
    if undefined > undefined_allowed * n_boot:
        return Interval(NAN, NAN, undefined, f"no interval: {reason}")
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(replicates[~np.isnan(replicates)], [tail, 100 - tail])
    return Interval(float(low), float(high), undefined, reason if undefined else "")


def with_interval(
    estimate: float, replicates: Replicates, n_groups: int, lacking: str, undefined: str
) -> dict[str, Any]:
    """An estimate with low, high and reason, as a row of a table; all NaN, with `undefined` as the reason, where the
    estimate is. `lacking`: what a resample lacks on which it is undefined."""
    if np.isnan(estimate):
        return {"estimate": NAN, "low": NAN, "high": NAN, "reason": undefined}
    interval = percentile_interval(replicates, n_groups, lacking)
    return {"estimate": float(estimate), "low": interval.low, "high": interval.high, "reason": interval.reason}


class Share(NamedTuple):
    """hits / of, and where new groups would put it. NaN, with a reason, where nothing could hit.

    `groups`: groups in which something could hit; the interval rests on these, however many others were drawn.
    """

    estimate: float
    low: float
    high: float
    hits: float
    of: float
    groups: int
    reason: str


def share(
    hits: Float[np.ndarray, " rows"], of: Float[np.ndarray, " rows"], plan: ResamplingPlan, nothing: str
) -> Share:
    """The share Σ hits / Σ of, bootstrapped over the plan's groups.

    Resamples in which nothing could hit say nothing about the share and are left aside: the interval is that of a
    sample of groups with something to hit. Where few groups have that, it is about as wide as their shares lie apart,
    and where a single one has, there is none.

    Args:
        hits: of each row; counts, so a row may hit several times.
        of: how often each row could have hit.
        plan: the resamples.
        nothing: the reason given where Σ of is 0.
    """
    by_group = np.stack([np.bincount(plan.unit, weights=w, minlength=plan.n_groups) for w in (hits, of)], axis=1)
    hit, could = (float(total) for total in by_group.sum(axis=0))
    if could == 0:
        return Share(NAN, NAN, NAN, hit, 0.0, 0, nothing)
    groups = int((by_group[:, 1] > 0).sum())
    if groups == 1 and plan.n_groups > 1:
        where = plan.labels[by_group[:, 1].argmax()]
        why = f"no interval: all {could:g} that could be hit are in one group ({where})"
        return Share(hit / could, NAN, NAN, hit, could, 1, why)
    drawn = plan.counts.astype(np.float64) @ by_group
    with np.errstate(invalid="ignore", divide="ignore"):
        replicates = np.where(drawn[:, 1] > 0, drawn[:, 0] / drawn[:, 1], np.nan)
    interval = percentile_interval(replicates, plan.n_groups, nothing, undefined_allowed=1.0)
    return Share(hit / could, interval.low, interval.high, hit, could, groups, interval.reason)
