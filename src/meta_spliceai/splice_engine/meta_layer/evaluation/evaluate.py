"""Evaluate scorers on the same rows of the same test, with group-bootstrap intervals and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.splice_engine.meta_layer.evaluation.correlation import (
    PearsonSums,
    SortedOnce,
    pearson_sums,
    rank_correlation,
    sort_once,
    weigh_ranks,
)
from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import Metric, OperatingPoints
from meta_spliceai.splice_engine.meta_layer.evaluation.ranking import RankedScores, rank_scores
from meta_spliceai.splice_engine.meta_layer.evaluation.resampling import (
    ResamplingPlan,
    percentile_interval,
    plan_resamples,
)
from meta_spliceai.splice_engine.meta_layer.evaluation.result import (
    DIFFERENCE_COLUMNS,
    METRIC_COLUMNS,
    Evaluation,
    tidy,
)
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Scorer, check_predictions
from meta_spliceai.splice_engine.meta_layer.evaluation.sides import NEGATIVES, POSITIVE, binary_labels, check_negatives
from meta_spliceai.splice_engine.variants.coverage import Coverage

CELLS_AT_ONCE = 400_000
"""Resamples × rows worked on at a time; more no longer fits the cache of one core."""

FEWEST_SCORED = 0.5
"""A scorer that covers a smaller share of the rows is left out, so that it does not shrink the test of all others."""

Replicates = dict[tuple[str, str], Float[np.ndarray, " resamples"]]
"""(scorer, metric): its value on each resample."""


def evaluate(
    predictions: pd.DataFrame,
    scorers: Sequence[Scorer],
    reference: str | None = "base max_window",
    n_boot: int = 2000,
    seed: int = 0,
    *,
    points: OperatingPoints | None = None,
    negatives: Sequence[str] = NEGATIVES,
    level: float = 0.95,
    fewest_scored: float = FEWEST_SCORED,
    workers: int = 2,
) -> Evaluation:
    """Every metric of every scorer on the rows that all of them score.

    Positives are Splice-altering, negatives Normal unless asked otherwise; other classes are in no binary metric and
    are counted. The correlation with the validated Δ uses the rows that have one, that with the measured effect all
    rows with a measurement. A metric that is undefined is NaN with a reason.

    Args:
        predictions: one row a test variant: the columns PREDICTION_COLUMNS and, for each scorer, `{name}.score` and
            (optional) `{name}.signed`.
        scorers: what to evaluate.
        reference: the scorer all others are compared with, besides every baseline and base scorer; None for none.
        n_boot: bootstrap resamples over `group`; 0 for no intervals.
        seed: of the resamples.
        points: recalls, list lengths, thresholds and false-positive rates.
        negatives: classes of the negative side (MFASS's own question has Low-frequency there as well).
        level: of the intervals.
        fewest_scored: share of the rows that a scorer must score to be evaluated.
        workers: threads.

    Raises:
        InputError: see `check_predictions`; an unknown reference; no rows scored by all scorers.
    """
    points = points or OperatingPoints()
    negatives = check_negatives(negatives)
    frame = check_predictions(predictions, scorers)
    names = [scorer.name for scorer in scorers]
    if reference is not None and reference not in names:
        raise unknown_value("reference", reference, names)

    rows, not_evaluated, coverage = rows_in_common(frame, scorers, fewest_scored)
    plan = plan_resamples(rows["group"], n_boot, seed)
    views = {name: _view(rows, plan, name, negatives) for name in ("binary", "target", "effect")}
    for class_name in rows.loc[~views["binary"].kept, "classification"].unique():
        names_out = rows.loc[rows["classification"] == class_name, "variant_id"].astype(str)
        coverage.leave_out(f"class {class_name}: on neither side of a binary metric", names_out)

    evaluated = [scorer for scorer in scorers if scorer.name not in not_evaluated]
    parts = {s.name: [_prepare(one, rows, views, plan, points) for one in s.trainings()] for s in evaluated}
    every_part = [part for of_scorer in parts.values() for part in of_scorer]
    everything = np.ones((1, plan.n_groups), dtype=np.int32)
    estimates = {key: float(value[0]) for key, value in _compute(every_part, views, everything, points).items()}
    replicates = _replicate(every_part, views, plan, points, workers)
    spread = _pool_seeds(evaluated, points, estimates, replicates, seed)

    why: dict[tuple[str, str], str] = {}
    metric_rows = []
    for scorer in scorers:
        for metric in points.metrics():
            view = views[metric.rows]
            key = (scorer.name, metric.name)
            reasons = [_why_undefined(metric, part, view, negatives) for part in parts.get(scorer.name, [])]
            why[key] = not_evaluated.get(scorer.name) or next((reason for reason in reasons if reason), "")
            metric_rows.append(
                {
                    "scorer": scorer.name,
                    "kind": scorer.kind,
                    "metric": metric.name,
                    **_bounded(estimates.get(key), replicates.get(key), why[key], metric, view, level),
                    "n": int(view.kept.sum()),
                    "n_positive": view.n_positive,
                    "n_groups": view.n_groups,
                    "prevalence": view.prevalence,
                    "n_seeds": len(scorer.trainings()),
                    "seed_sd": spread.get(key),
                }
            )
    settings: dict[str, Any] = {
        "positive": POSITIVE,
        "negatives": list(negatives),
        "reference": reference,
        "n_boot": n_boot,
        "seed": seed,
        "level": level,
        "bootstrap": "percentile, over groups",
        "groups": plan.n_groups,
        "rows": {name: int(view.kept.sum()) for name, view in views.items()},
        "points": {key: list(value) for key, value in asdict(points).items()},
        "labels": {metric.name: metric.label for metric in points.metrics()},
        "pitfalls": {metric.name: metric.pitfall for metric in points.metrics() if metric.pitfall},
    }
    differences = _differences(scorers, reference, points, views, estimates, replicates, why, level)
    return Evaluation(
        list(scorers), tidy(metric_rows, METRIC_COLUMNS), tidy(differences, DIFFERENCE_COLUMNS), coverage, settings
    )


@dataclass(frozen=True)
class _View:
    """The rows of one kind of metric."""

    kept: Bool[np.ndarray, " rows"]
    unit: Int[np.ndarray, " kept"]
    truth: Float[np.ndarray, " kept"]
    n_groups: int
    n_positive: int | None = None
    prevalence: float | None = None
    truth_ranks: SortedOnce | None = None
    magnitude_ranks: SortedOnce | None = None


@dataclass(frozen=True)
class _Part:
    """One scorer, sorted and summed once."""

    scorer: Scorer
    ranked: RankedScores
    pearson: Mapping[str, PearsonSums] = field(default_factory=dict)
    spearman: Mapping[str, tuple[str, SortedOnce]] = field(default_factory=dict)
    constant: frozenset[str] = frozenset()
    signed_missing: int = 0


def rows_in_common(
    frame: pd.DataFrame, scorers: Sequence[Scorer], fewest_scored: float
) -> tuple[pd.DataFrame, dict[str, str], Coverage]:
    """The rows that every evaluated scorer scores; the scorers not evaluated, with reasons; the account of rows."""
    coverage = Coverage(len(frame))
    kept = pd.Series(True, index=frame.index)
    not_evaluated: dict[str, str] = {}
    for scorer in scorers:
        scored = frame[[one.score_column for one in scorer.trainings()]].notna().all(axis=1)
        if not scored.any():
            not_evaluated[scorer.name] = f"no score on any of the {len(frame)} rows"
        elif scored.mean() < fewest_scored:
            not_evaluated[scorer.name] = (
                f"scores only {int(scored.sum())} of {len(frame)} rows, less than the share of {fewest_scored:g} "
                "asked for"
            )
        else:
            lost = kept & ~scored
            coverage.leave_out(f"no score from {scorer.name}", frame.loc[lost, "variant_id"].astype(str))
            kept &= scored
    if len(not_evaluated) == len(scorers):
        raise InputError(f"no scorer can be evaluated; {scorers[0].name}: {not_evaluated[scorers[0].name]}")
    if not kept.any():
        raise InputError(
            f"no row is scored by all {len(scorers) - len(not_evaluated)} scorers; leave out the one that covers least "
            f"({min(scorers, key=lambda s: frame[s.trainings()[0].score_column].notna().sum()).name})"
        )
    return frame[kept].reset_index(drop=True), not_evaluated, coverage


def _view(rows: pd.DataFrame, plan: ResamplingPlan, name: str, negatives: Sequence[str]) -> _View:
    if name == "binary":
        y = binary_labels(rows, negatives)
        kept = ~np.isnan(y)
        truth = y[kept]
    else:
        kept = rows[name].notna().to_numpy()
        truth = rows[name].to_numpy(dtype=np.float64)[kept]
    unit = plan.unit[kept]
    n_groups = len(np.unique(unit))
    if name == "binary":
        positives = int(truth.sum())
        return _View(kept, unit, truth, n_groups, positives, positives / len(truth) if len(truth) else None)
    if not kept.any():
        return _View(kept, unit, truth, n_groups)
    return _View(
        kept, unit, truth, n_groups, truth_ranks=sort_once(truth, unit), magnitude_ranks=sort_once(np.abs(truth), unit)
    )


def _prepare(
    scorer: Scorer, rows: pd.DataFrame, views: Mapping[str, _View], plan: ResamplingPlan, points: OperatingPoints
) -> _Part:
    score = rows[scorer.score_column].to_numpy(dtype=np.float64)
    signed = rows[scorer.signed_column].to_numpy(dtype=np.float64)
    binary = views["binary"]
    ranked = rank_scores(binary.truth == 1, score[binary.kept], binary.unit)
    pearson: dict[str, PearsonSums] = {}
    spearman: dict[str, tuple[str, SortedOnce]] = {}
    constant = set()
    effect = views["effect"]
    signed_missing = int(np.isnan(signed[effect.kept]).sum())
    pairs = {
        "validated_delta": ("target", score, False),
        "effect_magnitude": ("effect", score, True),
        "effect": ("effect", signed, False),
    }
    for name, (view_name, values, magnitude) in pairs.items():
        view = views[view_name]
        mine = values[view.kept]
        if len(mine) == 0 or np.isnan(mine).any():
            continue
        if np.ptp(mine) == 0:
            constant.add(name)
        truth = np.abs(view.truth) if magnitude else view.truth
        pearson[f"pearson_{name}"] = pearson_sums(mine, truth, view.unit, plan.n_groups)
        spearman[f"spearman_{name}"] = (name, sort_once(mine, view.unit))
    return _Part(scorer, ranked, pearson, spearman, frozenset(constant), signed_missing)


def _compute(
    parts: Sequence[_Part], views: Mapping[str, _View], counts: Int[np.ndarray, "chunk groups"], points: OperatingPoints
) -> Replicates:
    """Every metric of every scorer on a few resamples; ranks of the truth are made once for all scorers."""
    out: Replicates = {}
    target, effect = views["target"], views["effect"]
    for part in parts:
        name = part.scorer.name
        for metric, values in part.ranked.at(counts, points).items():
            out[name, metric] = values
        for metric, sums in part.pearson.items():
            out[name, metric] = sums.at(counts)
    for pair, view, truth in (
        ("validated_delta", target, target.truth_ranks),
        ("effect", effect, effect.truth_ranks),
        ("effect_magnitude", effect, effect.magnitude_ranks),
    ):
        if truth is None:
            continue
        weighed = weigh_ranks(truth.ranks(counts), np.take(counts, view.unit, axis=1))
        for part in parts:
            for metric, (of, once) in part.spearman.items():
                if of == pair:
                    out[part.scorer.name, metric] = rank_correlation(once.ranks(counts), weighed)
    return out


def _replicate(
    parts: Sequence[_Part], views: Mapping[str, _View], plan: ResamplingPlan, points: OperatingPoints, workers: int
) -> Replicates:
    rows = max(1, *(len(view.unit) for view in views.values()))
    pieces = [counts for _, counts in plan.chunks(max(1, CELLS_AT_ONCE // rows))]
    if not pieces:
        return {}
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        done = list(pool.map(lambda counts: _compute(parts, views, counts, points), pieces))
    return {key: np.concatenate([piece[key] for piece in done]) for key in done[0]}


def _pool_seeds(
    scorers: Sequence[Scorer],
    points: OperatingPoints,
    estimates: dict[tuple[str, str], float],
    replicates: Replicates,
    seed: int,
) -> dict[tuple[str, str], float]:
    """Put the mean over trainings beside the trainings' own numbers; gives back the spread between trainings.

    Each resample also draws as many trainings as there are, with replacement, so that the interval of the mean holds
    both doubts: other genes, and other seeds.
    """
    spread: dict[tuple[str, str], float] = {}
    for scorer in scorers:
        if not scorer.seeds:
            continue
        for metric in points.metrics():
            keys = [(one.name, metric.name) for one in scorer.trainings()]
            if not all(key in estimates for key in keys):
                continue
            values = np.array([estimates[key] for key in keys])
            estimates[scorer.name, metric.name] = float(values.mean())
            spread[scorer.name, metric.name] = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
            if replicates:
                drawn = np.stack([replicates[key] for key in keys])
                resamples = drawn.shape[1]
                chosen = np.random.default_rng([seed, len(keys)]).integers(0, len(keys), (len(keys), resamples))
                replicates[scorer.name, metric.name] = drawn[chosen, np.arange(resamples)].mean(axis=0)
    return spread


def _why_undefined(metric: Metric, part: _Part, view: _View, negatives: Sequence[str]) -> str:
    """What makes the metric undefined on the evaluated rows themselves; empty if it is defined."""
    rows = len(view.unit)
    if metric.rows == "binary":
        if not view.n_positive:
            return f"no {POSITIVE} variant among the {rows} rows of binary metrics"
        if view.n_positive == rows:
            return f"no negative variant ({', '.join(negatives)}) among the {rows} rows of binary metrics"
        if rows < metric.fewest_rows:
            return f"only {rows} rows, fewer than the list is long"
        if metric.for_delta_only and part.scorer.scale != "delta":
            return f"the score is a {part.scorer.scale}, not a Δ, so a Δ threshold does not apply"
        return ""
    truth = "validated Δ" if metric.rows == "target" else "measured effect"
    pair = metric.name.split("_", 1)[1]
    if rows < 2:
        return f"{rows} rows with a {truth}; two are the least"
    if pair == "effect" and part.signed_missing:
        if part.signed_missing == rows:
            return "the scorer has no sign"
        return f"the signed score is missing on {part.signed_missing} of {rows} rows"
    if pair in part.constant:
        return "the score is the same on all rows"
    spread = np.abs(view.truth) if pair == "effect_magnitude" else view.truth
    return f"the {truth} is the same on all rows" if np.ptp(spread) == 0 else ""


_LACKING = {
    "binary": "a class, or rows enough, not drawn",
    "target": "constant score or target",
    "effect": "constant score or effect",
}


def _bounded(
    estimate: float | None,
    replicates: Float[np.ndarray, " resamples"] | None,
    why: str,
    metric: Metric,
    view: _View,
    level: float,
) -> dict[str, Any]:
    nothing = float("nan")
    if why or estimate is None or np.isnan(estimate):
        return {
            "estimate": nothing,
            "low": nothing,
            "high": nothing,
            "undefined_resamples": None,
            "reason": why or "undefined on these rows",
        }
    interval = percentile_interval(
        np.empty(0) if replicates is None else replicates, view.n_groups, level, _LACKING[metric.rows]
    )
    return {
        "estimate": estimate,
        "low": interval.low,
        "high": interval.high,
        "undefined_resamples": interval.undefined,
        "reason": interval.reason,
    }


def _differences(
    scorers: Sequence[Scorer],
    reference: str | None,
    points: OperatingPoints,
    views: Mapping[str, _View],
    estimates: Mapping[tuple[str, str], float],
    replicates: Replicates,
    why: Mapping[tuple[str, str], str],
    level: float,
) -> list[dict[str, Any]]:
    """Scorer minus rival for every scorer and every rival: the reference, the baselines and the base scorers."""
    rivals = list(
        dict.fromkeys([*([reference] if reference else []), *(s.name for s in scorers if s.kind != "learned")])
    )
    rows = []
    for scorer in scorers:
        for rival in rivals:
            if rival == scorer.name:
                continue
            for metric in points.metrics():
                mine, theirs = (scorer.name, metric.name), (rival, metric.name)
                reasons = [
                    f"{name}: {why[name, metric.name]}" for name in (scorer.name, rival) if why[name, metric.name]
                ]
                estimate = None if reasons else estimates[mine] - estimates[theirs]
                drawn = replicates[mine] - replicates[theirs] if replicates and not reasons else None
                rows.append(
                    {
                        "scorer": scorer.name,
                        "reference": rival,
                        "metric": metric.name,
                        **_bounded(estimate, drawn, "; ".join(reasons), metric, views[metric.rows], level),
                    }
                )
    return rows
