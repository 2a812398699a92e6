"""Evaluate scorers on the same rows of the same test, with group-bootstrap intervals and paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import (
    LEVEL,
    NAN,
    Metric,
    OperatingPoints,
    PearsonSums,
    RankedScores,
    ResamplingPlan,
    SortedOnce,
    correlation,
    pearson_sums,
    plan_resamples,
    rank_correlation,
    rank_scores,
    sort_once,
    weigh_ranks,
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

CELLS_AT_ONCE = 400_000
"""Resamples × rows worked on at a time; more no longer fits the cache of one core."""

WORKERS = 2
"""Threads that work through the resamples."""

FEWEST_SCORED = 0.5
"""A scorer that covers a smaller share of the rows is not evaluated, so that it does not shrink the test of all
others."""

Key = tuple[str, str]
"""(scorer, metric)"""

Replicates = dict[Key, Float[np.ndarray, " resamples"]]

PAIRS = {
    "validated_delta": ("target", False, False),
    "effect_magnitude": ("effect", False, True),
    "effect": ("effect", True, False),
}
"""What is correlated: rows and their truth; whether the scorer's signed score; whether the truth's magnitude."""

LACKING = {
    "binary": "a class, or rows enough, not drawn",
    "target": "constant score or target",
    "effect": "constant score or effect",
}


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

    InputError: see `check_predictions`; no rows scored by all scorers.
    """
    points = points or OperatingPoints()
    negatives = check_negatives(negatives)
    frame = check_predictions(predictions, scorers)
    rows, left_out, coverage = rows_in_common(frame, scorers, fewest_scored)
    plan = plan_resamples(rows["group"], n_boot, seed)
    views = {name: _view(rows, plan, name, negatives) for name in ("binary", "target", "effect")}
    for class_name in rows.loc[~views["binary"].kept, "classification"].unique():
        names_out = rows.loc[rows["classification"] == class_name, "variant_id"].astype(str)
        coverage.leave_out(f"class {class_name}: on neither side of a binary metric", names_out)
    measured = _measure(rows, [scorer for scorer in scorers if scorer.name not in left_out], views, plan, points)
    measured.pool_trainings(scorers, seed)
    measured.say_why_undefined(scorers, left_out, negatives)
    settings: dict[str, Any] = {
        "positive": POSITIVE,
        "negatives": list(negatives),
        "reference": reference,
        "n_boot": n_boot,
        "seed": seed,
        "level": LEVEL,
        "bootstrap": "percentile, over groups",
        "groups": plan.n_groups,
        "rows": {name: int(view.kept.sum()) for name, view in views.items()},
        "points": {key: list(value) for key, value in asdict(points).items()},
        "labels": {metric.name: metric.label for metric in points.metrics()},
        "pitfalls": {metric.name: metric.pitfall for metric in points.metrics() if metric.pitfall},
    }
    metrics = tidy(list(measured.metric_rows(scorers)), METRIC_COLUMNS)
    differences = tidy(list(measured.differences(scorers, reference)), DIFFERENCE_COLUMNS)
    return Evaluation(list(scorers), metrics, differences, coverage, settings)


@dataclass(frozen=True)
class _View:
    kept: Bool[np.ndarray, " rows"]
    unit: Int[np.ndarray, " kept"]
    truth: Float[np.ndarray, " kept"]
    n_groups: int
    n_positive: int | None = None
    prevalence: float | None = None


@dataclass(frozen=True)
class _Part:
    scorer: Scorer
    ranked: RankedScores
    pearson: Mapping[str, PearsonSums]
    spearman: Mapping[str, SortedOnce]
    constant: frozenset[str]
    signed_missing: int


def covering(scorers: Sequence[Scorer], rows: pd.DataFrame) -> list[Scorer]:
    """The scorers that score enough of the rows to be evaluated on them (see FEWEST_SCORED)."""
    return [scorer for scorer in scorers if rows[scorer.score_column].notna().mean() >= FEWEST_SCORED]


def rows_in_common(
    frame: pd.DataFrame, scorers: Sequence[Scorer], fewest_scored: float
) -> tuple[pd.DataFrame, dict[str, str], Coverage]:
    """The rows that every evaluated scorer scores; the scorers left out, with reasons; the account of rows."""
    coverage = Coverage(len(frame))
    kept = pd.Series(True, index=frame.index)
    left_out: dict[str, str] = {}
    for scorer in scorers:
        scored = frame[[one.score_column for one in scorer.trainings()]].notna().all(axis=1)
        if not scored.any():
            left_out[scorer.name] = f"no score on any of the {len(frame)} rows"
        elif scored.mean() < fewest_scored:
            left_out[scorer.name] = (
                f"scores only {int(scored.sum())} of {len(frame)} rows, less than the share of {fewest_scored:g} "
                "asked for"
            )
        else:
            lost = kept & ~scored
            coverage.leave_out(f"no score from {scorer.name}", frame.loc[lost, "variant_id"].astype(str))
            kept &= scored
    if len(left_out) == len(scorers):
        raise InputError(f"no scorer can be evaluated; {scorers[0].name}: {left_out[scorers[0].name]}")
    if not kept.any():
        raise InputError(
            f"no row is scored by all {len(scorers) - len(left_out)} scorers; leave out the one that covers least "
            f"({min(scorers, key=lambda s: frame[s.trainings()[0].score_column].notna().sum()).name})"
        )
    return frame[kept].reset_index(drop=True), left_out, coverage


def _view(rows: pd.DataFrame, plan: ResamplingPlan, name: str, negatives: Sequence[str]) -> _View:
    values = binary_labels(rows, negatives) if name == "binary" else rows[name].to_numpy(dtype=np.float64)
    kept = ~np.isnan(values)
    truth, unit = values[kept], plan.unit[kept]
    n_groups = len(np.unique(unit))
    if name != "binary":
        return _View(kept, unit, truth, n_groups)
    positives = int(truth.sum())
    return _View(kept, unit, truth, n_groups, positives, positives / len(truth) if len(truth) else None)


def _prepare(scorer: Scorer, rows: pd.DataFrame, views: Mapping[str, _View], groups: int) -> _Part:
    score = rows[scorer.score_column].to_numpy(dtype=np.float64)
    signed = rows[scorer.signed_column].to_numpy(dtype=np.float64)
    binary = views["binary"]
    pearson: dict[str, PearsonSums] = {}
    spearman: dict[str, SortedOnce] = {}
    constant = set()
    for pair, (view_name, with_sign, magnitude) in PAIRS.items():
        view = views[view_name]
        mine = (signed if with_sign else score)[view.kept]
        if len(mine) == 0 or np.isnan(mine).any():
            continue
        if np.ptp(mine) == 0:
            constant.add(pair)
        pearson[pair] = pearson_sums(mine, np.abs(view.truth) if magnitude else view.truth, view.unit, groups)
        spearman[pair] = sort_once(mine, view.unit)
    ranked = rank_scores(binary.truth == 1, score[binary.kept], binary.unit)
    missing = int(np.isnan(signed[views["effect"].kept]).sum())
    return _Part(scorer, ranked, pearson, spearman, frozenset(constant), missing)


def _measure(
    rows: pd.DataFrame,
    scorers: Sequence[Scorer],
    views: Mapping[str, _View],
    plan: ResamplingPlan,
    points: OperatingPoints,
) -> _Measured:
    """Every metric of every training of every scorer, on the data and on every resample."""
    parts = [_prepare(one, rows, views, plan.n_groups) for scorer in scorers for one in scorer.trainings()]
    truths = {}
    for pair, (view_name, _, magnitude) in PAIRS.items():
        view = views[view_name]
        if len(view.truth):
            truths[pair] = view, sort_once(np.abs(view.truth) if magnitude else view.truth, view.unit)

    def at(counts: Int[np.ndarray, "chunk groups"]) -> Replicates:
        out: Replicates = {}
        for part in parts:
            name = part.scorer.name
            out |= {(name, metric): values for metric, values in part.ranked.at(counts, points).items()}
            out |= {(name, f"pearson_{pair}"): correlation(sums, counts) for pair, sums in part.pearson.items()}
        # Ranks of the truth are made once for all scorers.
        for pair, (view, truth) in truths.items():
            weighed = weigh_ranks(truth.ranks(counts), np.take(counts, view.unit, axis=1))
            for part in parts:
                if pair in part.spearman:
                    ranks = part.spearman[pair].ranks(counts)
                    out[part.scorer.name, f"spearman_{pair}"] = rank_correlation(ranks, weighed)
        return out

    estimates = {key: float(value[0]) for key, value in at(plan.everything).items()}
    most = max(1, *(len(view.unit) for view in views.values()))
    with ThreadPoolExecutor(WORKERS) as pool:
        done = list(pool.map(at, plan.chunks(max(1, CELLS_AT_ONCE // most))))
    replicates = {key: np.concatenate([piece[key] for piece in done]) for key in done[0]} if done else {}
    return _Measured(points.metrics(), views, {part.scorer.name: part for part in parts}, estimates, replicates)


@dataclass
class _Measured:
    """Numbers of all scorers, by scorer (or training) and metric."""

    metrics: tuple[Metric, ...]
    views: Mapping[str, _View]
    parts: Mapping[str, _Part]
    estimates: dict[Key, float]
    replicates: Replicates
    spread: dict[Key, float] = field(default_factory=dict)
    why: dict[Key, str] = field(default_factory=dict)

    def pool_trainings(self, scorers: Sequence[Scorer], seed: int) -> None:
        """Put the mean over trainings beside the trainings' own numbers, and the spread between them.

        Each resample also draws as many trainings as there are, with replacement, so that the interval of the mean
        holds both doubts: other genes, and other seeds.
        """
        for scorer in scorers:
            for metric in self.metrics if scorer.seeds else ():
                key, keys = (scorer.name, metric.name), [(one.name, metric.name) for one in scorer.trainings()]
                if not all(one in self.estimates for one in keys):
                    continue
                values = np.array([self.estimates[one] for one in keys])
                self.estimates[key] = float(values.mean())
                self.spread[key] = float(values.std(ddof=1)) if len(values) > 1 else NAN
                if self.replicates:
                    drawn = np.stack([self.replicates[one] for one in keys])
                    resamples = drawn.shape[1]
                    chosen = np.random.default_rng([seed, len(keys)]).integers(0, len(keys), (len(keys), resamples))
                    self.replicates[key] = drawn[chosen, np.arange(resamples)].mean(axis=0)

    def say_why_undefined(
        self, scorers: Sequence[Scorer], left_out: Mapping[str, str], negatives: Sequence[str]
    ) -> None:
        """Note what makes a metric undefined on the evaluated rows themselves; empty where it is defined."""
        for scorer in scorers:
            parts = [self.parts[one.name] for one in scorer.trainings() if one.name in self.parts]
            for metric in self.metrics:
                reasons = [_why_undefined(metric, part, self.views[metric.rows], negatives) for part in parts]
                why = left_out.get(scorer.name) or next((reason for reason in reasons if reason), "")
                self.why[scorer.name, metric.name] = why

    def metric_rows(self, scorers: Sequence[Scorer]) -> Iterator[dict[str, Any]]:
        for scorer in scorers:
            for metric in self.metrics:
                view, key = self.views[metric.rows], (scorer.name, metric.name)
                yield {
                    "scorer": scorer.name,
                    "kind": scorer.kind,
                    "metric": metric.name,
                    **_bounded(self.estimates.get(key), self.replicates.get(key), self.why[key], metric, view),
                    "n": int(view.kept.sum()),
                    "n_positive": view.n_positive,
                    "n_groups": view.n_groups,
                    "prevalence": view.prevalence,
                    "n_seeds": len(scorer.trainings()),
                    "seed_sd": self.spread.get(key),
                }

    def differences(self, scorers: Sequence[Scorer], reference: str | None) -> Iterator[dict[str, Any]]:
        """Scorer minus rival for every scorer and every rival: the reference, the baselines and the base scorers."""
        given = [reference] if reference else []
        rivals = list(dict.fromkeys([*given, *(s.name for s in scorers if s.kind != "learned")]))
        for scorer in scorers:
            for rival in (one for one in rivals if one != scorer.name):
                for metric in self.metrics:
                    mine, theirs = (scorer.name, metric.name), (rival, metric.name)
                    why = "; ".join(f"{key[0]}: {self.why[key]}" for key in (mine, theirs) if self.why[key])
                    estimate = None if why else self.estimates[mine] - self.estimates[theirs]
                    drawn = self.replicates[mine] - self.replicates[theirs] if self.replicates and not why else None
                    bounded = _bounded(estimate, drawn, why, metric, self.views[metric.rows])
                    yield {"scorer": scorer.name, "reference": rival, "metric": metric.name, **bounded}


def _bounded(
    estimate: float | None, replicates: Float[np.ndarray, " resamples"] | None, why: str, metric: Metric, view: _View
) -> dict[str, Any]:
    known = NAN if why or estimate is None else estimate
    drawn = np.empty(0) if replicates is None else replicates
    undefined = None if np.isnan(known) else int(np.isnan(drawn).sum())
    bounded = with_interval(known, drawn, view.n_groups, LACKING[metric.rows], why or "undefined on these rows")
    return {**bounded, "undefined_resamples": undefined}


def _why_undefined(metric: Metric, part: _Part, view: _View, negatives: Sequence[str]) -> str:
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
