"""Pearson and Spearman correlation on many resamples at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

Rows = Float[np.ndarray, " rows"]
Units = Int[np.ndarray, " rows"]
PerResample = Float[np.ndarray, " resamples"]
Ranks = Float[np.ndarray, "resamples rows"]

NO_SPREAD = 1e-12
"""Variance, as a share of the variance over all rows, at or below which a resample counts as constant."""


class PearsonSums(NamedTuple):
    """Sums of 1, x, y, x², y², xy of each group; a resample's r is a function of their weighted totals."""

    sums: Float[np.ndarray, "groups 6"]

    def at(self, counts: Int[np.ndarray, "resamples groups"]) -> PerResample:
        """r on every resample; NaN where fewer than two rows are drawn or one side is constant."""
        return _r(*(counts.astype(np.float64) @ self.sums).T)


def pearson_sums(x: Rows, y: Rows, unit: Units, groups: int) -> PearsonSums:
    """The group sums of x and y, both centred and scaled first, so that no digits are lost in the differences."""
    x, y = _standard(x), _standard(y)
    columns = (np.ones_like(x), x, y, x * x, y * y, x * y)
    return PearsonSums(np.stack([np.bincount(unit, weights=c, minlength=groups) for c in columns], axis=1))


class SortedOnce(NamedTuple):
    """One variable sorted once: ranks on any resample follow from one cumulative sum of multiplicities."""

    unit: Units
    run_last: Int[np.ndarray, " runs"]
    run_of_row: Units

    def ranks(self, counts: Int[np.ndarray, "resamples groups"]) -> Ranks:
        """Midranks, in row order, among the rows as drawn (a row drawn twice counts twice)."""
        through = np.cumsum(np.take(counts, self.unit, axis=1), axis=1, dtype=np.int32)[:, self.run_last]
        middle = through.astype(np.float64)
        middle[:, 1:] += through[:, :-1]
        middle += 1
        middle *= 0.5
        return np.take(middle, self.run_of_row, axis=1)


def sort_once(x: Rows, unit: Units) -> SortedOnce:
    order = np.argsort(x, kind="stable")
    new_run = np.ones(len(x), dtype=bool)
    new_run[1:] = x[order][1:] != x[order][:-1]
    run_last = np.append(np.flatnonzero(new_run)[1:], len(x)) - 1
    run_of_row = np.empty(len(x), dtype=np.int64)
    run_of_row[order] = np.cumsum(new_run) - 1
    return SortedOnce(unit[order], run_last, run_of_row)


class WeightedRanks(NamedTuple):
    """Ranks of the truth on a few resamples, centred and weighted once for all scorers.

    Attributes:
        weights: how often each row is drawn.
        middle: mean of the midranks of the rows drawn, (n + 1) / 2, whatever the ties.
        scale: 1 / n, which keeps squares near 1.
        weighted: centred, scaled ranks times weights.
        square: Σ weights × centred, scaled ranks².
    """

    weights: Int[np.ndarray, "resamples rows"]
    n: PerResample
    middle: Float[np.ndarray, "resamples 1"]
    scale: Float[np.ndarray, "resamples 1"]
    weighted: Ranks
    square: PerResample


def weigh_ranks(ranks: Ranks, weights: Int[np.ndarray, "resamples rows"]) -> WeightedRanks:
    """Prepare one side of `rank_correlation`."""
    n = weights.sum(axis=1, dtype=np.int64).astype(np.float64)
    middle, scale = ((n + 1) / 2)[:, None], (1 / np.maximum(n, 1))[:, None]
    centred = (ranks - middle) * scale
    weighted = centred * weights
    return WeightedRanks(weights, n, middle, scale, weighted, np.einsum("br,br->b", weighted, centred))


def rank_correlation(ranks: Ranks, truth: WeightedRanks) -> PerResample:
    """Spearman's r: Pearson's r of the midranks, which is exact under ties. Both ranks are of the same drawn rows."""
    centred = ranks - truth.middle
    centred *= truth.scale
    xy = np.einsum("br,br->b", truth.weighted, centred)
    centred *= centred
    xx = np.einsum("br,br->b", truth.weights, centred)
    zero = np.zeros_like(truth.n)
    return _r(truth.n, zero, zero, xx, truth.square, xy)


def _standard(values: Rows) -> Rows:
    """Mean 0 and standard deviation 1; a constant stays constant."""
    centred = values - values.mean()
    return np.zeros_like(centred) if np.ptp(values) == 0 else centred / centred.std()


def _r(
    n: PerResample, x: PerResample, y: PerResample, xx: PerResample, yy: PerResample, xy: PerResample
) -> PerResample:
    with np.errstate(invalid="ignore", divide="ignore"):
        var_x, var_y = xx / n - (x / n) ** 2, yy / n - (y / n) ** 2
        r = (xy / n - x * y / n**2) / np.sqrt(var_x * var_y)
    defined = (n >= 2) & (var_x > NO_SPREAD) & (var_y > NO_SPREAD)
    return np.where(defined, np.clip(r, -1, 1), np.nan)
