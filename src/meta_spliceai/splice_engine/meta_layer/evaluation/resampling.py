"""One plan of group-bootstrap resamples, shared by every metric and scorer, so that differences are paired."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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
    """Draw the resamples (0 for none) once, for all metrics and scorers; the draws are those of
    `seqleak.Resample(groups, method="cluster", n_boot=..., seed=...)`. InputError: a row without a group, a negative
    number of resamples."""
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


def with_interval(
    estimate: float,
    replicates: Replicates,
    n_groups: int,
    lacking: str,
    undefined: str,
    allowed: float = UNDEFINED_ALLOWED,
) -> dict[str, Any]:
    """An estimate and the central interval of its bootstrap replicates, as a row of a table: estimate, low, high, and a
    reason where something is not given.

    Args:
        replicates: the metric on each resample, NaN where it is undefined there.
        n_groups: groups resampled; with a single one every resample is the data themselves.
        lacking: what a resample lacks when the metric is undefined on it, in words.
        undefined: the reason where the estimate itself is NaN.
        allowed: share of resamples on which the metric may be undefined; the others then say what groups would give
            that define it.
    """
    if np.isnan(estimate):
        return {"estimate": NAN, "low": NAN, "high": NAN, "reason": undefined}
    row = {"estimate": float(estimate), "low": NAN, "high": NAN}
    lost = int(np.isnan(replicates).sum())
    told = f"undefined on {lost} of {len(replicates)} resamples{f' ({lacking})' if lacking else ''}"
    if not len(replicates):
        return {**row, "reason": "no interval: no resamples were asked for"}
    if n_groups < 2:
        return {**row, "reason": "no interval: all evaluated rows are in one group"}
    if lost > allowed * len(replicates):
        return {**row, "reason": f"no interval: {told}"}
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(replicates[~np.isnan(replicates)], [tail, 100 - tail])
    return {**row, "low": float(low), "high": float(high), "reason": told if lost else ""}


def share(
    hits: Float[np.ndarray, " rows"], of: Float[np.ndarray, " rows"], plan: ResamplingPlan, nothing: str
) -> dict[str, Any]:
    """The share Σ hits / Σ of, bootstrapped over the plan's groups, as a row of a table: estimate, low, high, hits, of,
    groups (in which something could hit; the interval rests on these, however many others were drawn) and reason, which
    is `nothing` where nothing could hit.

    Resamples in which nothing could hit say nothing about the share and are left aside: the interval is that of a
    sample of groups with something to hit. Where few groups have that, it is about as wide as their shares lie apart,
    and where a single one has, there is none. A row may hit, and could have hit, several times.
    """
    by_group = np.stack([np.bincount(plan.unit, weights=w, minlength=plan.n_groups) for w in (hits, of)], axis=1)
    hit, could = (float(total) for total in by_group.sum(axis=0))
    groups = int((by_group[:, 1] > 0).sum())
    told = {"hits": hit, "of": could, "groups": groups}
    if groups == 1 and plan.n_groups > 1:
        where = plan.labels[by_group[:, 1].argmax()]
        why = f"no interval: all {could:g} that could be hit are in one group ({where})"
        return {"estimate": hit / could, "low": NAN, "high": NAN, **told, "reason": why}
    drawn = plan.counts.astype(np.float64) @ by_group
    with np.errstate(invalid="ignore", divide="ignore"):
        replicates = np.where(drawn[:, 1] > 0, drawn[:, 0] / drawn[:, 1], np.nan)
    estimate = hit / could if could else NAN
    bounded = with_interval(estimate, replicates, plan.n_groups, nothing, nothing, allowed=1.0)
    return {**{key: bounded[key] for key in ("estimate", "low", "high")}, **told, "reason": bounded["reason"]}
