"""One plan of group-bootstrap resamples, shared by every metric and scorer, so that differences are paired."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from meta_spliceai.errors import InputError, MissingPackageError

if TYPE_CHECKING:
    from seqleak import Resample

DRAWN_AT_ONCE = 2_000_000
"""Group draws held in memory while the multiplicities are counted."""

UNDEFINED_ALLOWED = 0.05
"""Share of resamples on which a metric may be undefined before no interval is given."""


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
    counts: Int[np.ndarray, "resamples groups"]
    seed: int

    @property
    def n_boot(self) -> int:
        """Number of resamples."""
        return len(self.counts)

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self.labels)

    def chunks(self, rows_at_once: int) -> Iterator[tuple[slice, Int[np.ndarray, "chunk groups"]]]:
        """The resamples a few at a time, so that (resamples × rows) arrays stay small enough for the cache."""
        for start in range(0, self.n_boot, rows_at_once):
            piece = slice(start, min(start + rows_at_once, self.n_boot))
            yield piece, self.counts[piece]

    def as_seqleak(self) -> Resample:
        """The same plan as seqleak's object, so that its statistics are paired with ours.

        Raises:
            MissingPackageError: seqleak is not installed.
        """
        try:
            from seqleak import Resample
        except ImportError as error:
            raise MissingPackageError("pairing with seqleak's statistics", "seqleak") from error
        plan = Resample(self.labels[self.unit], method="cluster", n_boot=0)
        plan.n_boot = self.n_boot
        plan.counts = self.counts.astype(np.int32)
        return plan


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
    return ResamplingPlan(unit.astype(np.int64), np.asarray(labels), counts, seed)


@dataclass(frozen=True)
class Interval:
    """Percentile interval of bootstrap replicates, with what stands against it."""

    low: float
    high: float
    undefined: int
    reason: str


def percentile_interval(
    replicates: Float[np.ndarray, " resamples"],
    n_groups: int,
    level: float = 0.95,
    why_undefined: str = "",
    undefined_allowed: float = UNDEFINED_ALLOWED,
) -> Interval:
    """The central interval of the replicates; NaN with a reason where the resampling cannot give one.

    Args:
        replicates: the metric on each resample, NaN where it is undefined there.
        n_groups: groups resampled; with a single one every resample is the data themselves.
        level: coverage.
        why_undefined: what a resample lacks when the metric is undefined on it, in words.
        undefined_allowed: share of resamples on which it may be; the others then say what groups would give that
            define it.
    """
    n_boot = len(replicates)
    undefined = int(np.isnan(replicates).sum())
    nothing = float("nan")
    if n_boot == 0:
        return Interval(nothing, nothing, 0, "no interval: no resamples were asked for")
    if n_groups < 2:
        return Interval(nothing, nothing, undefined, "no interval: all evaluated rows are in one group")
    if undefined > undefined_allowed * n_boot:
        why = f" ({why_undefined})" if why_undefined else ""
        return Interval(
            nothing, nothing, undefined, f"no interval: undefined on {undefined} of {n_boot} resamples{why}"
        )
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(replicates[~np.isnan(replicates)], [tail, 100 - tail])
    why = f" ({why_undefined})" if why_undefined else ""
    return Interval(
        float(low), float(high), undefined, f"undefined on {undefined} of {n_boot} resamples{why}" if undefined else ""
    )
