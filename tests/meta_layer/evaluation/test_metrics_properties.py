"""Metrics and their intervals on tied, tiny and lopsided data, against their definitions read pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from meta_spliceai.splice_engine.meta_layer.evaluation.calibration import fit_calibration
from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import (
    OperatingPoints,
    bootstrap_table,
    correlation,
    pearson_sums,
    plan_resamples,
    rank_correlation,
    rank_scores,
    share,
    sort_once,
    with_interval,
)
from tests.properties import quick

QUICK = quick(60)
POINTS = OperatingPoints(recalls=(0.2, 0.5, 1.0), tops=(1, 3), thresholds=(0.5,), false_positive_rates=(0.0, 0.3))
ROW = st.tuples(st.booleans(), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.integers(0, 3))


def metrics_of(rows: list[tuple[bool, float, int]], turn: float = 1.0) -> dict[str, float]:
    positive, score, _ = (np.array(column) for column in zip(*rows, strict=True))
    ranked = rank_scores(positive, turn * score, np.zeros(len(rows), dtype=np.int64))
    return {name: float(value[0]) for name, value in ranked.at(np.ones((1, 1), dtype=np.int32), POINTS).items()}


def by_pairs(rows: list[tuple[bool, float, int]]) -> dict[str, float]:
    """Each metric as its definition says, threshold by threshold."""
    up, down = [s for y, s, _ in rows if y], [s for y, s, _ in rows if not y]
    wins = sum((high > low) + 0.5 * (high == low) for high in up for low in down)
    thresholds = sorted({s for _, s, _ in rows}, reverse=True)
    points = [(sum(s >= one for s in up), sum(s >= one for s in down)) for one in thresholds]
    found = {"auroc": wins / (len(up) * len(down))}
    before = 0
    found["auprc"] = 0.0
    for true, false in points:
        found["auprc"] += (true - before) / len(up) * true / (true + false)
        before = true
    for recall in POINTS.recalls:
        true, false = next(one for one in points if one[0] >= recall * len(up) - 1e-9 and one[0] > 0)
        found[f"precision_at_recall_{100 * recall:g}"] = true / (true + false)
    for rate in POINTS.false_positive_rates:
        allowed = [true for true, false in points if false <= math.floor(rate * len(down) + 1e-9)]
        found[f"detection_rate_at_fpr_{100 * rate:g}"] = max(allowed, default=0) / len(up)
    found["detection_rate_at_0.5"] = sum(s >= 0.5 for s in up) / len(up)
    return found


@QUICK
@given(st.lists(ROW, min_size=2, max_size=14))
def test_binary_metrics_against_their_definitions(rows: list[tuple[bool, float, int]]) -> None:
    found = metrics_of(rows)
    if len({y for y, *_ in rows}) < 2:
        assert all(math.isnan(value) for value in found.values())
        return
    for name, value in by_pairs(rows).items():
        assert found[name] == pytest.approx(value, abs=1e-12), name
    known = [value for value in found.values() if not math.isnan(value)]
    assert all(-1e-12 <= value <= 1 + 1e-12 for value in known)
    turned = metrics_of([(not y, s, unit) for y, s, unit in rows], turn=-1)
    assert turned["auroc"] == pytest.approx(found["auroc"])
    stretched = metrics_of([(y, s**3 + 2 * s, unit) for y, s, unit in rows])
    assert all(
        stretched[name] == pytest.approx(value, nan_ok=True) for name, value in found.items() if "at_0.5" not in name
    )


@QUICK
@given(st.lists(ROW, min_size=3, max_size=12), st.integers(0, 99))
def test_a_resample_is_its_rows_written_out(rows: list[tuple[bool, float, int]], seed: int) -> None:
    positive, score, unit = (np.array(column) for column in zip(*rows, strict=True))
    plan = plan_resamples(unit.astype(str), 3, seed)
    ranked = rank_scores(positive, score, plan.unit)
    found = ranked.at(plan.counts, POINTS)
    assert (plan.counts.sum(axis=1) == plan.n_groups).all()
    for resample, counts in enumerate(plan.counts):
        drawn = [row for row, group in zip(rows, plan.unit, strict=True) for _ in range(counts[group])]
        if len(drawn) < 2 or len({y for y, *_ in drawn}) < 2:
            assert math.isnan(found["auroc"][resample])
            continue
        for name, value in metrics_of(drawn).items():
            assert found[name][resample] == pytest.approx(value, nan_ok=True), name


PAIRS = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 2)), min_size=2, max_size=12)


@QUICK
@given(PAIRS, st.integers(0, 9))
def test_correlations_of_any_resample_equal_scipys_of_its_rows(rows: list[tuple[int, int, int]], seed: int) -> None:
    x, y, unit = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    plan = plan_resamples(unit.astype(int).astype(str), 3, seed)
    counts = np.concatenate([np.ones((1, plan.n_groups), dtype=np.int32), plan.counts])
    pearson = correlation(pearson_sums(x, y, plan.unit, plan.n_groups), counts)
    weights = np.take(counts, plan.unit, axis=1)
    ranks = [sort_once(one, plan.unit).ranks(counts) for one in (x, y)]
    spearman = rank_correlation(ranks[0], ranks[1], weights)
    for resample, times in enumerate(weights):
        mine, other = np.repeat(x, times), np.repeat(y, times)
        if len(mine) < 2 or np.ptp(mine) == 0 or np.ptp(other) == 0:
            assert math.isnan(pearson[resample])
            assert math.isnan(spearman[resample])
            continue
        assert pearson[resample] == pytest.approx(stats.pearsonr(mine, other).statistic, abs=1e-9)
        assert spearman[resample] == pytest.approx(stats.spearmanr(mine, other).statistic, abs=1e-9)


@QUICK
@given(
    st.floats(-1, 1) | st.just(math.nan), st.lists(st.floats(-1, 1) | st.just(math.nan), max_size=60), st.integers(1, 4)
)
def test_an_interval_lies_within_its_replicates_or_says_why_there_is_none(
    estimate: float, drawn: list[float], groups: int
) -> None:
    found = with_interval(np.array([estimate, *drawn]), groups, "no positives")
    known = [value for value in drawn if not math.isnan(value)]
    if math.isnan(found["low"]):
        assert math.isnan(found["high"])
        assert found["reason"]
        assert math.isnan(estimate) or not known or groups < 2 or len(known) < 0.95 * len(drawn)
    else:
        assert min(known) <= found["low"] <= found["high"] <= max(known)
        below = sum(value < found["low"] for value in known)
        assert below <= 0.025 * len(known) + 1
        assert bool(found["reason"]) == (len(known) < len(drawn))


@QUICK
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=10),
    st.integers(0, 9),
)
def test_a_share_is_of_what_could_be_hit(rows: list[tuple[int, int, int]], seed: int) -> None:
    hits, of = (np.array([min(h, o) for h, o, _ in rows], float), np.array([o for _, o, _ in rows], float))
    plan = plan_resamples(np.array([f"g{unit}" for *_, unit in rows]), 50, seed)
    found = share(hits, of, plan, "nothing")
    assert (found["hits"], found["of"]) == (hits.sum(), of.sum())
    assert found["groups"] == len({unit for _, o, unit in rows if o})
    if not of.sum():
        assert math.isnan(found["estimate"])
        assert found["reason"] == "nothing"
        return
    assert found["estimate"] == pytest.approx(hits.sum() / of.sum())
    if not math.isnan(found["low"]):
        assert 0 <= found["low"] <= found["high"] <= 1
        assert found["groups"] > 1


@QUICK
@given(st.lists(st.floats(-5, 5), min_size=6, max_size=30), st.data())
def test_isotonic_probabilities_rise_with_the_score_and_keep_the_mean(scores: list[float], data: st.DataObject) -> None:
    labels = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(scores), max_size=len(scores))), float)
    labels[:2] = 0, 1
    found = fit_calibration(np.array(scores), labels, "isotonic")
    stated = found.apply(np.array(scores))
    ordered = stated[np.argsort(scores, kind="stable")]
    assert (np.diff(ordered) >= -1e-9).all()
    assert ((stated >= 0) & (stated <= 1)).all()
    assert stated.mean() == pytest.approx(labels.mean(), abs=1e-6)


def test_a_table_of_one_group_has_estimates_and_no_interval() -> None:
    plan = plan_resamples(np.array(["g"] * 4), 20, 0)
    table = bootstrap_table(plan, lambda counts: {"m": counts[:, 0].astype(float)}, "y")
    assert table.loc["m", "estimate"] == 1
    assert math.isnan(table.loc["m", "low"])
    assert "one group" in table.loc["m", "reason"]
