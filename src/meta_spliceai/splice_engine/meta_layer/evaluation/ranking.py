"""Binary metrics of one scorer on many resamples at once, from scores sorted once.

A resample changes how often a row counts, never the order of the scores. So each scorer is sorted once, and every
resample needs one cumulative sum of the rows' multiplicities. All metrics here change only where a positive stands:
the arrays after the cumulative sum have one column a run of tied scores that holds a positive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import OperatingPoints


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

    def at(
        self, counts: Int[np.ndarray, "resamples groups"], points: OperatingPoints
    ) -> dict[str, Float[np.ndarray, " resamples"]]:
        """Every binary metric on every resample; NaN where a resample lacks a class.

        Definitions, with TP, FP the positives and negatives at or above a score, P and N all of them:
        AUROC is the Mann-Whitney statistic, ties counting one half. AUPRC is average precision,
        Σ (recall step × precision), one step a distinct score, without interpolation. Precision at recall r is that
        of the highest threshold with TP ≥ r P. Precision at the top k shares out the run of ties that k falls into
        evenly, and is undefined when a resample holds fewer than k rows. The detection rate at a false-positive
        rate f is the largest TP / P of a threshold with FP ≤ f N.
        """
        resamples = len(counts)
        total = np.cumsum(np.take(counts, self.unit, axis=1), axis=1, dtype=np.int32)
        rows = total[:, -1].astype(np.float64) if total.shape[1] else np.zeros(resamples)
        weight = np.take(counts, self.positive_unit, axis=1)
        runs = len(self.first)
        if runs == 0:
            return {m.name: np.full(resamples, np.nan) for m in points.metrics() if m.rows == "binary"}
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


def rank_scores(
    positive: Bool[np.ndarray, " rows"], score: Float[np.ndarray, " rows"], unit: Int[np.ndarray, " rows"]
) -> RankedScores:
    """Sort the scores of one scorer once; `score` is finite, higher = more likely positive."""
    order = np.argsort(-score, kind="stable")
    ordered, is_positive = score[order], positive[order]
    new_run = np.ones(len(ordered), dtype=bool)
    new_run[1:] = ordered[1:] != ordered[:-1]
    run_first = np.flatnonzero(new_run)
    run_last = np.append(run_first[1:], len(ordered)) - 1
    run = (np.cumsum(new_run) - 1)[is_positive]
    held, start = np.unique(run, return_index=True)
    return RankedScores(
        unit=unit[order],
        positive_unit=unit[order][is_positive],
        positive_run_start=start,
        first=run_first[held],
        last=run_last[held],
        positive_scores=ordered[is_positive],
    )
