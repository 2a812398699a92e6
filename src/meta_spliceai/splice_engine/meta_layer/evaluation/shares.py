"""A share of rows (hits among those that could hit) with its group-bootstrap interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from meta_spliceai.splice_engine.meta_layer.evaluation.resampling import ResamplingPlan, percentile_interval


@dataclass(frozen=True)
class Share:
    """hits / of, and where new groups would put it. NaN, with a reason, where nothing could hit."""

    estimate: float
    low: float
    high: float
    hits: float
    of: float
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
        return Share(nan, nan, nan, float(hit), 0.0, nothing)
    drawn = plan.counts.astype(np.float64) @ by_group
    with np.errstate(invalid="ignore", divide="ignore"):
        replicates = np.where(drawn[:, 1] > 0, drawn[:, 0] / drawn[:, 1], np.nan)
    interval = percentile_interval(replicates, plan.n_groups, level, nothing)
    return Share(float(hit / could), interval.low, interval.high, float(hit), float(could), interval.reason)
