"""Every metric equals what scikit-learn, SciPy and seqleak say, on the data and on resampled rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import seqleak
from scipy import stats
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from meta_spliceai.splice_engine.meta_layer.evaluation.evaluate import evaluate
from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import (
    OperatingPoints,
    correlation,
    pearson_sums,
    plan_resamples,
    rank_correlation,
    rank_scores,
    sort_once,
)
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Scorer

POINTS = OperatingPoints(tops=(7, 60))


def by_hand(y: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """The binary metrics from scikit-learn's curves (all thresholds kept)."""
    precision, recall, _ = precision_recall_curve(y, score)
    false_rate, true_rate, _ = roc_curve(y, score, drop_intermediate=False)
    out = {"auroc": roc_auc_score(y, score), "auprc": average_precision_score(y, score)}
    for r in POINTS.recalls:
        # recall falls along the array, so the last one that suffices has the highest threshold
        out[f"precision_at_recall_{100 * r:g}"] = precision[:-1][recall[:-1] >= r - 1e-12][-1]
    for f in POINTS.false_positive_rates:
        out[f"detection_rate_at_fpr_{100 * f:g}"] = true_rate[false_rate <= f + 1e-12].max()
    for t in POINTS.thresholds:
        out[f"detection_rate_at_{t:g}"] = np.mean(score[y == 1] >= t)
    for k in POINTS.tops:
        ordered = np.sort(score)[::-1]
        cut = ordered[k - 1]
        sure = score > cut
        out[f"precision_top_{k}"] = (y[sure].sum() + (k - sure.sum()) * y[score == cut].mean()) / k
    return out


@pytest.mark.parametrize("tied", [True, False])
def test_binary_metrics_equal_scikit_learn(make_predictions: Callable[..., pd.DataFrame], tied: bool) -> None:
    frame = make_predictions(tied=tied)
    binary = frame[frame["classification"].isin(["Splice-altering", "Normal"])]
    y = (binary["classification"] == "Splice-altering").to_numpy()
    scorer = Scorer("base max_window", "base")
    result = evaluate(frame, [scorer], n_boot=0, points=POINTS)
    for metric, expected in by_hand(y, binary[scorer.score_column].to_numpy()).items():
        assert result.value(scorer.name, metric)["estimate"] == pytest.approx(expected, abs=1e-12), metric
    row = result.value(scorer.name, "auprc")
    assert (row["n"], row["n_positive"]) == (len(y), y.sum())
    assert row["prevalence"] == pytest.approx(y.mean())


@pytest.mark.parametrize("tied", [True, False])
def test_correlations_equal_scipy(make_predictions: Callable[..., pd.DataFrame], tied: bool) -> None:
    frame = make_predictions(tied=tied)
    scorer = Scorer("weak", "learned")
    result = evaluate(frame, [scorer], reference=None, n_boot=0)
    with_target = frame[frame["target"].notna()]
    score, signed = frame[scorer.score_column], frame[scorer.signed_column]
    pairs = {
        "validated_delta": (score[with_target.index], with_target["target"]),
        "effect": (signed, frame["effect"]),
        "effect_magnitude": (score, frame["effect"].abs()),
    }
    for name, (x, y) in pairs.items():
        assert result.value("weak", f"pearson_{name}")["estimate"] == pytest.approx(stats.pearsonr(x, y).statistic)
        assert result.value("weak", f"spearman_{name}")["estimate"] == pytest.approx(stats.spearmanr(x, y).statistic)
    assert result.value("weak", "pearson_validated_delta")["n"] == len(with_target)
    assert result.value("weak", "pearson_effect")["n"] == len(frame)


@pytest.mark.parametrize("tied", [True, False])
def test_every_resample_equals_the_same_rows_drawn_one_by_one(
    make_predictions: Callable[..., pd.DataFrame], tied: bool
) -> None:
    """The weighted metrics against scikit-learn and SciPy on rows that are really repeated."""
    frame = make_predictions(rows=200, groups=12, tied=tied)
    frame = frame[frame["classification"].isin(["Splice-altering", "Normal"])].reset_index(drop=True)
    plan = plan_resamples(frame["group"], n_boot=25, seed=3)
    y = (frame["classification"] == "Splice-altering").to_numpy()
    score = frame["weak.score"].to_numpy()
    effect = frame["effect"].round(1).to_numpy()
    ranking = rank_scores(y, score, plan.unit).at(plan.counts, POINTS)
    pearson = correlation(pearson_sums(score, effect, plan.unit, plan.n_groups), plan.counts)
    weights = plan.counts[:, plan.unit]
    spearman = rank_correlation(
        sort_once(score, plan.unit).ranks(plan.counts),
        sort_once(effect, plan.unit).ranks(plan.counts),
        weights,
    )
    for b in range(len(plan.counts)):
        drawn = np.repeat(np.arange(len(y)), weights[b])
        for metric, expected in by_hand(y[drawn], score[drawn]).items():
            assert ranking[metric][b] == pytest.approx(expected, abs=1e-12), (b, metric)
        assert pearson[b] == pytest.approx(stats.pearsonr(score[drawn], effect[drawn]).statistic)
        assert spearman[b] == pytest.approx(stats.spearmanr(score[drawn], effect[drawn]).statistic)


def test_seqleak_gives_the_same_auroc_auprc_and_intervals(make_predictions: Callable[..., pd.DataFrame]) -> None:
    frame = make_predictions()
    frame = frame[frame["classification"].isin(["Splice-altering", "Normal"])].reset_index(drop=True)
    y = (frame["classification"] == "Splice-altering").to_numpy().astype(int)
    score = frame["weak.score"].to_numpy()
    result = evaluate(frame, [Scorer("weak", "learned")], reference=None, n_boot=300, seed=5)
    plan = seqleak.Resample(frame["group"], method="cluster", n_boot=300, seed=5)
    theirs = seqleak.within_auc(y, score, None, frame["group"], compare="across_groups", resample=plan)
    mine = result.value("weak", "auroc")
    assert mine["estimate"] == pytest.approx(theirs.estimate, abs=1e-12)
    assert (mine["low"], mine["high"]) == pytest.approx(theirs.ci, abs=1e-12)
    assert result.value("weak", "auprc")["estimate"] == pytest.approx(seqleak.auprc(y, score).estimate, abs=1e-12)


def test_the_plan_draws_what_seqleak_draws(make_predictions: Callable[..., pd.DataFrame]) -> None:
    groups = make_predictions()["group"]
    plan = plan_resamples(groups, n_boot=50, seed=11)
    theirs = seqleak.Resample(groups, method="cluster", n_boot=50, seed=11)
    np.testing.assert_array_equal(plan.counts, theirs.counts)
    np.testing.assert_array_equal(plan.unit, theirs.group_of_item)


def test_a_resample_with_fewer_rows_than_the_list_is_undefined_there() -> None:
    y = np.array([True, False, True, False])
    ranking = rank_scores(y, np.array([0.9, 0.8, 0.2, 0.1]), np.array([0, 0, 1, 1]))
    values = ranking.at(np.array([[1, 1], [0, 2], [0, 1]], dtype=np.int32), OperatingPoints(tops=(3,)))
    # the first draw: two of the top three; the second draws (0.2, 0.1) twice; the third has two rows
    np.testing.assert_allclose(values["precision_top_3"], [2 / 3, 2 / 3, np.nan])
