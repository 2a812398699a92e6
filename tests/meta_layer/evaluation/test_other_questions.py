"""Positions, kinds of effect, peaks and the labels' own ceiling, each against a count by hand or a peer."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    roc_auc_score,
)

from meta_spliceai.splice_engine.base_layer.scores import ACCEPTOR, DONOR
from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import plan_resamples, share
from meta_spliceai.splice_engine.meta_layer.evaluation.sites import (
    ObservedSites,
    evaluate_effect_types,
    evaluate_localisation,
    evaluate_peaks,
    replicate_ceiling,
)

KINDS = ("donor loss", "acceptor loss", "donor gain", "acceptor gain")


def test_share_and_its_interval_against_resamples_drawn_one_by_one() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 8, 60).astype(str)
    hits, of = (rng.random(60) < 0.4).astype(float), (rng.random(60) < 0.8).astype(float)
    hits *= of
    plan = plan_resamples(groups, 200, 1)
    found = share(hits, of, plan, "nothing there")
    drawn = [hits @ w / (of @ w) for w in plan.counts[:, plan.unit]]
    assert found["estimate"] == pytest.approx(hits.sum() / of.sum())
    assert (found["low"], found["high"]) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))
    empty = share(hits, np.zeros(60), plan, "nothing there")
    assert np.isnan(empty["estimate"])
    assert empty["reason"] == "nothing there"


def test_localisation_by_hand() -> None:
    gold = [[0], [5, -3], [], [10], [2]]
    predicted = {"model": np.array([0.0, -4.0, 1.0, np.nan, 8.0])}
    table = evaluate_localisation(gold, predicted, np.arange(5), n_boot=50).set_index("tolerance")
    assert table["estimate"].tolist() == [0.25, 0.5, 0.5]
    assert table["n"].tolist() == [4, 4, 4]
    assert table["n_without_gold"].iloc[0] == 1
    assert table["n_without_prediction"].iloc[0] == 1
    none = evaluate_localisation([[], []], {"model": np.zeros(2)}, np.arange(2), n_boot=5)
    assert none["reason"].iloc[0] == "no observed position"


def test_effect_types_equal_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    observed = rng.choice(KINDS, 300, p=[0.5, 0.3, 0.15, 0.05])
    predicted = np.where(rng.random(300) < 0.6, observed, rng.choice(KINDS, 300))
    groups = rng.integers(0, 30, 300)
    confusion, table = evaluate_effect_types(observed, predicted, groups, KINDS, n_boot=200)
    assert table.loc["macro F1", "estimate"] == pytest.approx(f1_score(observed, predicted, average="macro"))
    assert table.loc["accuracy", "estimate"] == pytest.approx(accuracy_score(observed, predicted))
    np.testing.assert_array_equal(confusion, confusion_matrix(observed, predicted, labels=list(KINDS)))
    each = f1_score(observed, predicted, average=None, labels=list(KINDS))
    np.testing.assert_allclose(table.loc[[f"F1 of {kind}" for kind in KINDS], "estimate"], each)
    row = table.loc["macro F1"]
    assert row["low"] < row["estimate"] < row["high"]
    plan = plan_resamples(groups, 200, 0)
    drawn = [
        f1_score(np.repeat(observed, w), np.repeat(predicted, w), average="macro") for w in plan.counts[:, plan.unit]
    ]
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))


def test_a_kind_that_never_occurs_is_stated() -> None:
    table = evaluate_effect_types(["a", "b", "a"], ["a", "a", "a"], [1, 2, 3], ["a", "b", "c"], n_boot=20)[1]
    assert np.isnan(table.loc["F1 of c", "estimate"])
    assert table.loc["F1 of c", "reason"] == "neither observed nor predicted"
    assert table.loc["macro F1", "estimate"] == pytest.approx((0.8 + 0) / 2)


def replicates(rows: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    true = rng.normal(-0.2, 0.3, rows)
    return true + rng.normal(0, 0.15, rows), true + rng.normal(0, 0.15, rows), rng.integers(0, 50, rows)


def test_the_ceiling_equals_the_peers_and_bounds_a_perfect_predictor() -> None:
    one, two, groups = replicates()
    calls = one < -0.5, two < -0.5
    table = replicate_ceiling(one, two, *calls, groups, n_boot=100)
    value = table["estimate"]
    assert value["pearson"] == pytest.approx(stats.pearsonr(one, two).statistic)
    assert value["spearman"] == pytest.approx(stats.spearmanr(one, two).statistic)
    assert value["auroc"] == pytest.approx((roc_auc_score(calls[1], -one) + roc_auc_score(calls[0], -two)) / 2)
    both_ways = average_precision_score(calls[1], -one) + average_precision_score(calls[0], -two)
    assert value["auprc"] == pytest.approx(both_ways / 2)
    assert value["kappa"] == pytest.approx(cohen_kappa_score(*calls))
    assert ((table["low"] < value) & (value < table["high"])).all()
    # the truth itself correlates with the mean of the replicates as well as the ceiling says
    true = np.random.default_rng(4).normal(-0.2, 0.3, 400)
    assert value["best_pearson"] == pytest.approx(stats.pearsonr(true, (one + two) / 2).statistic, abs=0.02)


def test_the_ceiling_counts_only_what_was_measured_twice() -> None:
    one, two, groups = replicates()
    one[:100] = np.nan
    table = replicate_ceiling(one, two, one < -9, two < -0.5, groups, n_boot=10)
    assert table.loc["pearson", "n"] == 300
    assert np.isnan(table.loc["auroc", "estimate"])
    assert "a class without a variant" in table.loc["auroc", "reason"]


def peaks() -> tuple[np.ndarray, np.ndarray, list[ObservedSites]]:
    """Three variants in 21 positions: an acceptor lost, a donor gained two bases off, and nothing."""
    reference = np.full((3, 21, 3), 0.01)
    reference[:, 5, ACCEPTOR] = 0.9
    reference[:, 15, DONOR] = 0.9
    delta = np.zeros_like(reference)
    delta[0, 5, ACCEPTOR] = -0.8
    delta[1, 12, DONOR] = 0.7
    delta[2, 18, DONOR] = 0.6
    observed = [
        ObservedSites(lost=(("acceptor", -5),)),
        ObservedSites(gained=(("donor", 0),)),
        ObservedSites(),
    ]
    return reference, delta, observed


def test_peaks_by_hand() -> None:
    reference, delta, observed = peaks()
    scorers = {"model": delta, "nothing": np.zeros_like(delta)}
    strict = evaluate_peaks(reference, scorers, observed, np.arange(3), n_boot=20).set_index(["scorer", "metric"])
    value = strict["estimate"]
    # predicted peaks: 1 + 3 + 3; of these 1 + 2 + 2 should be there
    assert value["model", "peak_precision"] == pytest.approx(5 / 7)
    assert value["model", "peak_recall"] == pytest.approx(5 / 6)
    assert value["model", "gain_detection"] == 0
    assert value["model", "loss_detection"] == 1
    assert value["model", "false_gain_rate"] == 0.5
    assert value["nothing", "loss_detection"] == 0
    assert value["nothing", "false_gain_rate"] == 0
    assert value["nothing", "peak_precision"] == pytest.approx(5 / 6)


def test_a_site_the_reference_has_already_is_not_found_by_saying_nothing() -> None:
    reference, delta, observed = peaks()
    had = ObservedSites(gained=(("donor", 5), ("donor", 2)))  # the first one is a reference peak
    scorers = {"model": delta, "nothing": np.zeros_like(delta)}
    table = evaluate_peaks(reference, scorers, [observed[0], had, observed[2]], np.arange(3), n_boot=5)
    gains = table[table["metric"] == "gain_detection"].set_index("scorer")
    assert gains["of"].tolist() == [1, 1]
    assert gains["estimate"].to_dict() == {"model": 1, "nothing": 0}


def test_a_share_has_an_interval_over_the_groups_in_which_something_can_be_hit() -> None:
    reference, delta, _ = peaks()
    gain, other = ObservedSites(gained=(("donor", 2),)), ObservedSites(gained=(("donor", 0),))
    # the same new donor in twenty genes; in two of them one was observed, there and elsewhere
    many = [np.repeat(one[[1]], 20, axis=0) for one in (reference, delta)]
    sites = [gain, other, *[ObservedSites()] * 18]
    table = evaluate_peaks(many[0], {"model": many[1]}, sites, np.arange(20), n_boot=400).set_index("metric")
    found = table.loc["gain_detection"]
    assert (found["estimate"], found["groups"]) == (0.5, 2)
    assert (found["low"], found["high"]) == (0, 1)  # either gene may be all that is drawn
    assert "undefined on" in found["reason"]
    assert "no interval" not in found["reason"]
    assert table.loc["false_gain_rate", "groups"] == 18
    alone = evaluate_peaks(many[0], {"model": many[1]}, [gain, *[ObservedSites()] * 19], np.arange(20), n_boot=400)
    found = alone.set_index("metric").loc["gain_detection"]
    assert (found["estimate"], found["groups"]) == (1, 1)
    assert np.isnan(found["low"])
    assert found["reason"] == "no interval: all that could be hit is in one group"


def test_peaks_out_of_reach_are_counted() -> None:
    reference, delta, observed = peaks()
    far = [ObservedSites(gained=(("donor", 11),)), *observed[1:]]
    table = evaluate_peaks(reference, {"model": delta}, far, np.arange(3), n_boot=5)
    assert table["out_of_reach"].iloc[0] == 1
    nobody = evaluate_peaks(reference, {"model": delta}, [ObservedSites()] * 3, np.arange(3), n_boot=5)
    assert (
        nobody.set_index("metric").loc["gain_detection", "reason"] == "no gained site observed that the reference lacks"
    )
