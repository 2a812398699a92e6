"""Evaluate scorers on the same rows of the same test, with group-bootstrap intervals and paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import (
    LEVEL,
    NAN,
    Counts,
    Metric,
    OperatingPoints,
    PearsonSums,
    RankedScores,
    Replicates,
    ResamplingPlan,
    SortedOnce,
    correlation,
    pearson_sums,
    plan_resamples,
    rank_correlation,
    rank_scores,
    resampled,
    sort_once,
    with_interval,
)
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import (
    DIFFERENCE_COLUMNS,
    METRIC_COLUMNS,
    NEGATIVES,
    POSITIVE,
    Evaluation,
    Scorer,
    binary_labels,
    check_negatives,
    check_predictions,
    tidy,
)
from meta_spliceai.splice_engine.variants.table import Coverage

FEWEST_SCORED = 0.5
"""A scorer that covers a smaller share of the rows is not evaluated, so that it does not shrink the test of all
others."""

Values = dict[tuple[str, str], Replicates]
"""By scorer (or training) and metric: its value on the data first, then on every resample."""


def evaluate(
    predictions: pd.DataFrame,
    scorers: Sequence[Scorer],
    reference: str | None = "base max_window",
    n_boot: int = 2000,
    seed: int = 0,
    *,
    points: OperatingPoints | None = None,
    negatives: Sequence[str] = NEGATIVES,
    fewest_scored: float = FEWEST_SCORED,
) -> Evaluation:
    """Every metric of every scorer on the rows that all of them score.

    Positives are Splice-altering, negatives Normal unless asked otherwise (MFASS's own question has Low-frequency there
    as well); other classes are in no binary metric and are counted. The correlation with the validated Δ uses the rows
    that have one, that with the measured effect all rows with a measurement. A metric that is undefined is NaN with a
    reason.

    Args:
        predictions: one row per test variant: the columns PREDICTION_COLUMNS and, for each scorer, `{name}.score` and
            (optional) `{name}.signed`.
        reference: the scorer all others are compared with, besides every baseline and base scorer; None for none.
        n_boot: bootstrap resamples over `group`; 0 for no intervals.
        fewest_scored: share of the rows that a scorer must score to be evaluated.

    Raises:
        InputError: see `check_predictions`; no rows scored by all scorers.
    """
    points = points or OperatingPoints()
    negatives = check_negatives(negatives)
    rows, left_out, coverage = _rows_in_common(check_predictions(predictions, scorers), scorers, fewest_scored)
    plan = plan_resamples(rows["group"], n_boot, seed)
    truths = _truths(rows, plan, negatives)
    for class_name, of_class in rows[~truths["binary"].kept].groupby("classification", sort=False):
        coverage.leave_out(f"class {class_name}: on neither side of a binary metric", of_class["variant_id"])
    evaluated = [scorer for scorer in scorers if scorer.name not in left_out]
    values = _measure(rows, evaluated, truths, plan, points)
    spread = _pool_trainings(values, evaluated, points, seed)
    settings: dict[str, Any] = {
        "positive": POSITIVE,
        "negatives": list(negatives),
        "reference": reference,
        "n_boot": n_boot,
        "seed": seed,
        "level": LEVEL,
        "bootstrap": "percentile, over groups",
        "groups": plan.n_groups,
        "rows": {name: int(truths[truth].kept.sum()) for name, truth in _ROWS.items()},
        **_described(points),
    }
    metrics = []
    why: dict[tuple[str, str], str] = {}
    for scorer in scorers:
        for metric in points.metrics():
            key, truth = (scorer.name, metric.name), truths[metric.truth]
            defined = key in values and not np.isnan(values[key][0])
            why[key] = "" if defined else left_out.get(scorer.name) or _why_undefined(metric, scorer, rows, truth)
            metrics.append(
                {
                    **{"scorer": scorer.name, "kind": scorer.kind, "metric": metric.name},
                    **_bounded(values.get(key), truth, why[key]),
                    "n": len(truth.values),
                    "n_positive": int(truth.values.sum()) if metric.truth == "binary" else None,
                    "n_groups": truth.n_groups,
                    "prevalence": truth.values.mean() if metric.truth == "binary" and len(truth.values) else NAN,
                    "n_seeds": len(scorer.trainings()),
                    "seed_sd": spread.get(key, NAN),
                }
            )
    differences = []
    for mine, rival in _pairs(scorers, reference):
        for metric in points.metrics():
            keys = [(name, metric.name) for name in (mine, rival)]
            reason = next((f"{key[0]}: {why[key]}" for key in keys if why[key]), "")
            difference = None if reason else values[keys[0]] - values[keys[1]]
            bounded = _bounded(difference, truths[metric.truth], reason)
            differences.append({"scorer": mine, "reference": rival, "metric": metric.name, **bounded})
    tables = tidy(metrics, METRIC_COLUMNS), tidy(differences, DIFFERENCE_COLUMNS)
    return Evaluation(list(scorers), *tables, coverage, settings)


def _described(points: OperatingPoints) -> dict[str, Any]:
    return {
        "points": {key: list(value) for key, value in asdict(points).items()},
        "labels": {metric.name: metric.label for metric in points.metrics()},
        "pitfalls": {metric.name: metric.pitfall for metric in points.metrics() if metric.pitfall},
    }


def _pairs(scorers: Sequence[Scorer], reference: str | None) -> Iterator[tuple[str, str]]:
    """Every scorer with every rival: the reference, the baselines and the base scorers."""
    rivals = dict.fromkeys([reference] if reference else [])
    rivals |= dict.fromkeys(scorer.name for scorer in scorers if scorer.kind != "learned")
    return ((scorer.name, rival) for scorer in scorers for rival in rivals if rival != scorer.name)


def covering(scorers: Sequence[Scorer], rows: pd.DataFrame) -> list[Scorer]:
    """The scorers that score enough of the rows to be evaluated on them (see FEWEST_SCORED)."""
    return [scorer for scorer in scorers if rows[scorer.score_column].notna().mean() >= FEWEST_SCORED]


def _rows_in_common(
    frame: pd.DataFrame, scorers: Sequence[Scorer], fewest_scored: float
) -> tuple[pd.DataFrame, dict[str, str], Coverage]:
    """The rows that every evaluated scorer scores; the scorers left out, with reasons; the account of rows."""
    coverage = Coverage(len(frame))
    kept = pd.Series(True, index=frame.index)
    left_out: dict[str, str] = {}
    for scorer in scorers:
        scored = frame[[one.score_column for one in scorer.trainings()]].notna().all(axis=1)
        if scored.any() and scored.mean() >= fewest_scored:
            coverage.leave_out(f"no score from {scorer.name}", frame.loc[kept & ~scored, "variant_id"].astype(str))
            kept &= scored
        else:
            left_out[scorer.name] = f"scores only {int(scored.sum())} of {len(frame)} rows"
    if len(left_out) == len(scorers) or not kept.any():
        told = "; ".join(f"{name} {why}" for name, why in left_out.items())
        raise InputError(f"no row is scored by all scorers; leave out the one that covers least ({told or 'none'})")
    return frame[kept].reset_index(drop=True), left_out, coverage


class _Truth(NamedTuple):
    """What scores are held against: the rows that have it, its values there, their groups."""

    kept: Bool[np.ndarray, " rows"]
    values: Float[np.ndarray, " kept"]
    unit: Int[np.ndarray, " kept"]
    n_groups: int


_ROWS = {"binary": "binary", "target": "validated_delta", "effect": "effect"}
"""Names of the sets of rows in an evaluation's settings, and a truth that is known on each."""


def _truths(rows: pd.DataFrame, plan: ResamplingPlan, negatives: Sequence[str]) -> dict[str, _Truth]:
    effect = rows["effect"].to_numpy(dtype=np.float64)
    found = {
        "binary": binary_labels(rows, negatives),
        "validated_delta": rows["target"].to_numpy(dtype=np.float64),
        "effect_magnitude": np.abs(effect),
        "effect": effect,
    }
    known = {name: ~np.isnan(values) for name, values in found.items()}
    units = {name: plan.unit[kept] for name, kept in known.items()}
    return {
        name: _Truth(known[name], values[known[name]], units[name], len(np.unique(units[name])))
        for name, values in found.items()
    }


def _measure(
    rows: pd.DataFrame,
    scorers: Sequence[Scorer],
    truths: Mapping[str, _Truth],
    plan: ResamplingPlan,
    points: OperatingPoints,
) -> Values:
    """Every metric of every training of every scorer, where it is defined at all."""
    ranked: dict[str, RankedScores] = {}
    pearson: dict[tuple[str, str], PearsonSums] = {}
    spearman: dict[str, dict[str, SortedOnce]] = {name: {} for name in truths if name != "binary"}
    ordered = {name: sort_once(truths[name].values, truths[name].unit) for name in spearman}
    binary = truths["binary"]
    trainings = [one for scorer in scorers for one in scorer.trainings()]
    for one in trainings:
        score = rows[one.score_column].to_numpy(dtype=np.float64)
        ranked[one.name] = rank_scores(binary.values == 1, score[binary.kept], binary.unit)
        for name, sorted_once in spearman.items():
            truth = truths[name]
            mine = (rows[one.signed_column].to_numpy(dtype=np.float64) if name == "effect" else score)[truth.kept]
            if len(mine) and not np.isnan(mine).any():
                pearson[one.name, name] = pearson_sums(mine, truth.values, truth.unit, plan.n_groups)
                sorted_once[one.name] = sort_once(mine, truth.unit)

    def at(counts: Counts) -> Values:
        out = {
            (scorer, metric): values
            for scorer, scores in ranked.items()
            for metric, values in scores.at(counts, points).items()
        }
        out |= {(scorer, f"pearson_{name}"): correlation(sums, counts) for (scorer, name), sums in pearson.items()}
        for name in (one for one, sorted_once in spearman.items() if sorted_once):
            ranks, weights = ordered[name].ranks(counts), np.take(counts, truths[name].unit, axis=1)
            for scorer, mine in spearman[name].items():
                out[scorer, f"spearman_{name}"] = rank_correlation(mine.ranks(counts), ranks, weights)
        return out

    values = resampled(plan, at, max(len(truth.values) for truth in truths.values()))
    no_delta = [one.name for one in trainings if one.scale != "delta"]
    for metric in points.metrics() if no_delta else ():
        for name in no_delta if metric.for_delta_only else ():
            del values[name, metric.name]
    return values


def _pool_trainings(
    values: Values, scorers: Sequence[Scorer], points: OperatingPoints, seed: int
) -> dict[tuple[str, str], float]:
    """Put the mean over trainings beside the trainings' own numbers; the spread between them.

    Each resample also draws as many trainings as there are, with replacement, so that the interval of the mean holds
    both doubts: other genes, and other seeds.
    """
    spread = {}
    for scorer in (one for one in scorers if one.seeds):
        for metric in points.metrics():
            keys = [(one.name, metric.name) for one in scorer.trainings()]
            if any(key not in values for key in keys):
                continue
            each = np.stack([values[key] for key in keys])
            data, drawn = each[:, 0], each[:, 1:]
            shape = (len(keys), drawn.shape[1])
            chosen = np.random.default_rng([seed, len(keys)]).integers(0, len(keys), shape)
            pooled = drawn[chosen, np.arange(shape[1])].mean(axis=0)
            values[scorer.name, metric.name] = np.append(data.mean(), pooled)
            spread[scorer.name, metric.name] = float(data.std(ddof=1)) if len(keys) > 1 else NAN
    return spread


def _bounded(values: Replicates | None, truth: _Truth, undefined: str) -> dict[str, Any]:
    known = np.full(1, NAN) if values is None else values
    lost = None if np.isnan(known[0]) else int(np.isnan(known[1:]).sum())
    return {**with_interval(known, truth.n_groups, undefined), "undefined_resamples": lost}


def _why_undefined(metric: Metric, scorer: Scorer, rows: pd.DataFrame, truth: _Truth) -> str:
    """What makes a metric undefined on the evaluated rows, if it is."""
    if metric.truth == "binary":
        if metric.for_delta_only and scorer.scale != "delta":
            return "only for scores that are a Δ"
        if 0 < truth.values.sum() < len(truth.values):
            return f"the list is longer than the {len(truth.values)} rows"
        return f"only one side among the {len(truth.values)} rows of binary metrics"
    signed = rows[[one.signed_column for one in scorer.trainings()]][truth.kept]
    if metric.truth == "effect" and signed.isna().any(axis=None):
        return "the scorer does not give every row a sign"
    return f"score or truth does not vary over the {len(truth.values)} rows"
