"""Pearson and Spearman correlation on many resamples at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

NO_SPREAD = 1e-12
"""Variance, as a share of the variance over all rows, at or below which a resample counts as constant."""


@dataclass(frozen=True)
class PearsonSums:
    """Sums of 1, x, y, x², y², xy of each group; a resample's r is a function of their weighted totals."""

    sums: Float[np.ndarray, "groups 6"]

    def at(self, counts: Int[np.ndarray, "resamples groups"]) -> Float[np.ndarray, " resamples"]:
        """r on every resample; NaN where fewer than two rows are drawn or one side is constant."""
        n, x, y, xx, yy, xy = (counts.astype(np.float64) @ self.sums).T
        return _r(n, x, y, xx, yy, xy)


def pearson_sums(
    x: Float[np.ndarray, " rows"], y: Float[np.ndarray, " rows"], unit: Int[np.ndarray, " rows"], groups: int
) -> PearsonSums:
    """The group sums of x and y, both centred and scaled first, so that no digits are lost in the differences."""
    x, y = _standard(x), _standard(y)
    columns = (np.ones_like(x), x, y, x * x, y * y, x * y)
    return PearsonSums(np.stack([np.bincount(unit, weights=c, minlength=groups) for c in columns], axis=1))


@dataclass(frozen=True)
class SortedOnce:
    """One variable sorted once: ranks on any resample follow from one cumulative sum of multiplicities."""

    unit: Int[np.ndarray, " rows"]
    run_last: Int[np.ndarray, " runs"]
    run_of_row: Int[np.ndarray, " rows"]

    def ranks(self, counts: Int[np.ndarray, "resamples groups"]) -> Float[np.ndarray, "resamples rows"]:
        """Midranks, in row order, among the rows as drawn (a row drawn twice counts twice)."""
        through = np.cumsum(np.take(counts, self.unit, axis=1), axis=1, dtype=np.int32)[:, self.run_last]
        middle = through.astype(np.float64)
        middle[:, 1:] += through[:, :-1]
        middle += 1
        middle *= 0.5
        return np.take(middle, self.run_of_row, axis=1)


def sort_once(x: Float[np.ndarray, " rows"], unit: Int[np.ndarray, " rows"]) -> SortedOnce:
    """Sort a variable for :meth:`SortedOnce.ranks`."""
    order = np.argsort(x, kind="stable")
    new_run = np.ones(len(x), dtype=bool)
    new_run[1:] = x[order][1:] != x[order][:-1]
    run_last = np.append(np.flatnonzero(new_run)[1:], len(x)) - 1
    run_of_row = np.empty(len(x), dtype=np.int64)
    run_of_row[order] = np.cumsum(new_run) - 1
    return SortedOnce(unit[order], run_last, run_of_row)


@dataclass(frozen=True)
class WeighedRanks:
    """Ranks of the truth on a few resamples, centred and weighed once for all scorers.

    Attributes:
        weights: how often each row is drawn.
        middle: mean of the midranks of the rows drawn, (n + 1) / 2, whatever the ties.
        scale: 1 / n, which keeps squares near 1.
        weighed: centred, scaled ranks times weights.
        square: Σ weights × centred, scaled ranks².
    """

    weights: Int[np.ndarray, "resamples rows"]
    n: Float[np.ndarray, " resamples"]
    middle: Float[np.ndarray, "resamples 1"]
    scale: Float[np.ndarray, "resamples 1"]
    weighed: Float[np.ndarray, "resamples rows"]
    square: Float[np.ndarray, " resamples"]


def weigh_ranks(ranks: Float[np.ndarray, "resamples rows"], weights: Int[np.ndarray, "resamples rows"]) -> WeighedRanks:
    """Prepare one side of `rank_correlation`."""
    n = weights.sum(axis=1, dtype=np.int64).astype(np.float64)
    middle, scale = ((n + 1) / 2)[:, None], (1 / np.maximum(n, 1))[:, None]
    centred = (ranks - middle) * scale
    weighed = centred * weights
    return WeighedRanks(weights, n, middle, scale, weighed, np.einsum("br,br->b", weighed, centred))


def rank_correlation(
    ranks: Float[np.ndarray, "resamples rows"], truth: WeighedRanks
) -> Float[np.ndarray, " resamples"]:
    """Spearman's r: Pearson's r of the midranks, which is exact under ties. Both ranks are of the same drawn rows."""
    centred = ranks - truth.middle
    centred *= truth.scale
    xy = np.einsum("br,br->b", truth.weighed, centred)
    centred *= centred
    xx = np.einsum("br,br->b", truth.weights, centred)
    zero = np.zeros_like(truth.n)
    return _r(truth.n, zero, zero, xx, truth.square, xy)


def _standard(values: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    """Mean 0 and standard deviation 1; a constant stays constant."""
    centred = values - values.mean()
    return np.zeros_like(centred) if np.ptp(values) == 0 else centred / centred.std()


def _r(
    n: Float[np.ndarray, " resamples"],
    x: Float[np.ndarray, " resamples"],
    y: Float[np.ndarray, " resamples"],
    xx: Float[np.ndarray, " resamples"],
    yy: Float[np.ndarray, " resamples"],
    xy: Float[np.ndarray, " resamples"],
) -> Float[np.ndarray, " resamples"]:
    with np.errstate(invalid="ignore", divide="ignore"):
        var_x, var_y = xx / n - (x / n) ** 2, yy / n - (y / n) ** 2
        r = (xy / n - x * y / n**2) / np.sqrt(var_x * var_y)
    defined = (n >= 2) & (var_x > NO_SPREAD) & (var_y > NO_SPREAD)
    return np.where(defined, np.clip(r, -1, 1), np.nan)
