"""A share of rows (hits among those that could hit) with its group-bootstrap interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from meta_spliceai.splice_engine.meta_layer.evaluation.resampling import ResamplingPlan, percentile_interval


@dataclass(frozen=True)
class Share:
    """hits / of, and where new groups would put it. NaN, with a reason, where nothing could hit.

    Attributes:
        groups: groups in which something could hit; the interval rests on these, however many others were drawn.
    """

    estimate: float
    low: float
    high: float
    hits: float
    of: float
    groups: int
    reason: str

    def to_json(self) -> dict[str, float | str]:
        """Plain values."""
        return dict(self.__dict__)


def share(
    hits: Float[np.ndarray, " rows"],
    of: Float[np.ndarray, " rows"],
    plan: ResamplingPlan,
    level: float = 0.95,
    nothing: str = "no row could hit",
) -> Share:
    """The share Σ hits / Σ of, bootstrapped over the plan's groups.

    Resamples in which nothing could hit say nothing about the share and are left aside: the interval is that of a
    sample of groups with something to hit. Where few groups have that, it is about as wide as their shares lie apart,
    and where a single one has, there is none.

    Args:
        hits: of each row; counts, so a row may hit several times.
        of: how often each row could have hit.
        plan: the resamples.
        level: of the interval.
        nothing: the reason given where Σ of is 0.
    """
    by_group = np.stack([np.bincount(plan.unit, weights=w, minlength=plan.n_groups) for w in (hits, of)], axis=1)
    hit, could = by_group.sum(axis=0)
    if could == 0:
        nan = float("nan")
        return Share(nan, nan, nan, float(hit), 0.0, 0, nothing)
    groups = int((by_group[:, 1] > 0).sum())
    if groups == 1 and plan.n_groups > 1:
        nan, where = float("nan"), plan.labels[by_group[:, 1].argmax()]
        why = f"no interval: all {could:g} that could be hit are in one group ({where})"
        return Share(float(hit / could), nan, nan, float(hit), float(could), 1, why)
    drawn = plan.counts.astype(np.float64) @ by_group
    with np.errstate(invalid="ignore", divide="ignore"):
        replicates = np.where(drawn[:, 1] > 0, drawn[:, 0] / drawn[:, 1], np.nan)
    interval = percentile_interval(replicates, plan.n_groups, level, nothing, undefined_allowed=1.0)
    return Share(float(hit / could), interval.low, interval.high, float(hit), float(could), groups, interval.reason)
