"""What a evaluation says, how it says that it cannot say, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.meta_layer.evaluation.evaluate import evaluate
from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import OperatingPoints
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Evaluation, Scorer

Predictions = Callable[..., pd.DataFrame]


def test_interval_surrounds_the_estimate_and_widens_with_fewer_groups(
    make_predictions: Predictions, scorers: list[Scorer]
) -> None:
    frame = make_predictions(rows=600, groups=120)
    many = evaluate(frame, scorers, n_boot=400).value("weak", "auroc")
    assert many["low"] < many["estimate"] < many["high"]
    frame["group"] = frame["group"].str[:2]
    few = evaluate(frame, scorers, n_boot=400).value("weak", "auroc")
    assert few["estimate"] == many["estimate"]
    assert few["n_groups"] < many["n_groups"]


def test_group_bootstrap_is_wider_when_rows_of_a_group_repeat_each_other(make_predictions: Predictions) -> None:
    frame = make_predictions(rows=80, groups=80)
    copies = pd.concat([frame.assign(variant_id=frame["variant_id"] + f"_{i}") for i in range(5)], ignore_index=True)
    by_row = copies.assign(group=copies["variant_id"])
    copies["group"] = copies["variant_id"].str.split("_").str[0]
    scorer = [Scorer("weak", "learned")]
    honest, naive = (evaluate(f, scorer, None, n_boot=500).value("weak", "auroc") for f in (copies, by_row))
    assert honest["high"] - honest["low"] > 1.8 * (naive["high"] - naive["low"])


def test_differences_are_paired(make_predictions: Predictions, scorers: list[Scorer]) -> None:
    frame = make_predictions()
    frame["twin.score"] = frame["base max_window.score"] * 2 + 1
    result = evaluate(frame, [*scorers, Scorer("twin", "learned")], n_boot=200)
    same = result.difference("twin", "base max_window", "auprc")
    assert (same["estimate"], same["low"], same["high"]) == (0, 0, 0)
    row = result.difference("strong", "position alone", "auroc")
    a, b = result.value("strong", "auroc"), result.value("position alone", "auroc")
    assert row["estimate"] == pytest.approx(a["estimate"] - b["estimate"])
    assert row["high"] - row["low"] < (a["high"] - a["low"]) + (b["high"] - b["low"])


def test_verdicts_in_words(make_predictions: Predictions, scorers: list[Scorer]) -> None:
    result = evaluate(make_predictions(), scorers, n_boot=300)
    said = {(v.scorer, v.rival): v for v in result.verdicts("auprc")}
    assert set(said) == {(s, r) for s in ("strong", "weak") for r in ("position alone", "base max_window")}
    strong, weak = said["strong", "base max_window"], said["weak", "base max_window"]
    assert strong.beats is True
    assert strong.text.startswith("beats base max_window: AUPRC difference +0.")
    assert weak.beats is False
    assert weak.text.startswith("is worse than base max_window: AUPRC difference −0.")


def test_a_tie_does_not_beat(make_predictions: Predictions, scorers: list[Scorer]) -> None:
    frame = make_predictions()
    frame["shadow.score"] = frame["base max_window.score"] + np.random.default_rng(1).normal(0, 0.01, len(frame))
    result = evaluate(frame, [*scorers, Scorer("shadow", "learned")], n_boot=300)
    verdict = next(v for v in result.verdicts("auroc") if (v.scorer, v.rival) == ("shadow", "base max_window"))
    assert verdict.beats is False
    assert verdict.text.startswith("does not beat base max_window: AUROC difference")


@pytest.mark.parametrize(
    ("low", "high", "beats", "words"),
    [
        (0.001, 0.2, True, "beats base max_window: AUPRC difference +0.100 [+0.001, +0.200]"),
        (-0.001, 0.2, False, "does not beat base max_window: AUPRC difference +0.100 [−0.001, +0.200]"),
        (-0.3, -0.1, False, "is worse than base max_window: AUPRC difference +0.100 [−0.300, −0.100]"),
    ],
)
def test_the_verdict_hangs_on_the_interval_alone(
    make_predictions: Predictions, scorers: list[Scorer], low: float, high: float, beats: bool, words: str
) -> None:
    result = evaluate(make_predictions(), scorers, n_boot=5)
    mine = (result.differences["scorer"] == "strong") & (result.differences["reference"] == "base max_window")
    result.differences.loc[mine, ["estimate", "low", "high"]] = [0.1, low, high]
    verdict = next(v for v in result.verdicts() if (v.scorer, v.rival) == ("strong", "base max_window"))
    assert (verdict.beats, verdict.text) == (beats, words)


def test_leaderboard_puts_baselines_first_whatever_they_reach(
    make_predictions: Predictions, scorers: list[Scorer]
) -> None:
    board = evaluate(make_predictions(), scorers, n_boot=50).leaderboard("auroc")
    assert board["scorer"].tolist() == ["position alone", "base max_window", "strong", "weak"]
    assert board["auroc"].iloc[2] > board["auroc"].iloc[1]
    assert {"auroc.low", "auroc.high", "auprc", "note"} <= set(board)


def test_other_classes_are_counted_and_not_judged(make_predictions: Predictions, scorers: list[Scorer]) -> None:
    frame = make_predictions()
    result = evaluate(frame, scorers, n_boot=10)
    left_out = result.coverage.left_out
    for name in ("Low-frequency", "Conflicting"):
        assert left_out[f"class {name}: on neither side of a binary metric"] == (frame["classification"] == name).sum()
    assert result.coverage.used == result.value("weak", "auroc")["n"]
    recoloured = frame.copy()
    others = ~frame["classification"].isin(["Splice-altering", "Normal"])
    recoloured.loc[others, "weak.score"] = 99.0
    again = evaluate(recoloured, scorers, n_boot=10)
    assert again.value("weak", "auroc")["estimate"] == result.value("weak", "auroc")["estimate"]


def test_the_negative_side_can_hold_the_low_frequency_variants(
    make_predictions: Predictions, scorers: list[Scorer]
) -> None:
    frame = make_predictions()
    wide = evaluate(frame, scorers, n_boot=10, negatives=("Low-frequency", "Normal"))
    relabelled = frame.assign(classification=frame["classification"].replace("Low-frequency", "Normal"))
    narrow = evaluate(relabelled, scorers, n_boot=10)
    pd.testing.assert_frame_equal(wide.metrics, narrow.metrics)
    assert wide.settings["negatives"] == ["Normal", "Low-frequency"]
    assert list(wide.coverage.left_out) == ["class Conflicting: on neither side of a binary metric"]
    with pytest.raises(InputError, match="negative classes Conflicting; choose among Normal, Low-frequency"):
        evaluate(frame, scorers, n_boot=10, negatives=("Conflicting",))
    with pytest.raises(InputError, match="choose among"):
        evaluate(frame, scorers, n_boot=10, negatives=())


def test_json_round_trip(make_predictions: Predictions, scorers: list[Scorer]) -> None:
    result = evaluate(make_predictions(), scorers, n_boot=40)
    text = json.dumps(result.to_json(), allow_nan=False)
    again = Evaluation.from_json(json.loads(text))
    pd.testing.assert_frame_equal(again.metrics, result.metrics)
    pd.testing.assert_frame_equal(again.differences, result.differences)
    assert again.coverage == result.coverage
    assert again.scorers == result.scorers
    assert again.settings == result.settings
    assert [v.text for v in again.verdicts()] == [v.text for v in result.verdicts()]


def test_same_seed_same_numbers(make_predictions: Predictions, scorers: list[Scorer]) -> None:
    frame = make_predictions()
    one, two = (evaluate(frame, scorers, n_boot=60, seed=4) for _ in range(2))
    other = evaluate(frame, scorers, n_boot=60, seed=5)
    pd.testing.assert_frame_equal(one.metrics, two.metrics)
    assert other.value("weak", "auroc")["low"] != one.value("weak", "auroc")["low"]
    assert other.value("weak", "auroc")["estimate"] == one.value("weak", "auroc")["estimate"]


def test_all_scorers_are_evaluated_on_the_same_rows(make_predictions: Predictions, scorers: list[Scorer]) -> None:
    frame = make_predictions()
    frame.loc[:30, "weak.score"] = np.nan
    result = evaluate(frame, scorers, n_boot=10)
    assert result.coverage.left_out["no score from weak"] == 31
    assert result.metrics.groupby("metric")["n"].nunique().eq(1).all()
    pd.testing.assert_frame_equal(
        result.metrics.drop(columns="reason"),
        evaluate(frame.iloc[31:], scorers, n_boot=10).metrics.drop(columns="reason"),
    )


def test_a_scorer_that_covers_too_little_is_named_and_does_not_shrink_the_test(
    make_predictions: Predictions, scorers: list[Scorer]
) -> None:
    frame = make_predictions()
    frame["sparse.score"] = np.where(np.arange(len(frame)) < 40, 0.5, np.nan)
    frame["empty.score"] = np.nan
    extra = [Scorer("sparse", "learned"), Scorer("empty", "base")]
    result = evaluate(frame, [*scorers, *extra], n_boot=10)
    assert np.isnan(result.value("sparse", "auroc")["estimate"])
    assert "scores only 40 of 400 rows" in result.value("sparse", "auroc")["reason"]
    assert "scores only 0 of 400 rows" in result.value("empty", "auprc")["reason"]
    assert result.value("weak", "pearson_effect")["n"] == len(frame)
    verdict = next(v for v in result.verdicts() if (v.scorer, v.rival) == ("sparse", "base max_window"))
    assert verdict.beats is None
    assert "is not shown to beat base max_window: sparse: scores only 40" in verdict.text


@pytest.mark.parametrize("missing", ["Splice-altering", "Normal"])
def test_a_test_part_without_one_class_is_a_stated_nan(
    make_predictions: Predictions, scorers: list[Scorer], missing: str
) -> None:
    frame = make_predictions()
    frame = frame[frame["classification"] != missing]
    result = evaluate(frame, scorers, n_boot=10)
    row = result.value("strong", "auroc")
    assert np.isnan(row["estimate"])
    assert "only one side among" in row["reason"]
    assert np.isfinite(result.value("strong", "pearson_effect")["estimate"])


def test_one_group_gives_an_estimate_without_an_interval(make_predictions: Predictions, scorers: list[Scorer]) -> None:
    result = evaluate(make_predictions().assign(group="only"), scorers, n_boot=20)
    row = result.value("strong", "auroc")
    assert np.isfinite(row["estimate"])
    assert np.isnan(row["low"])
    assert row["reason"] == "no interval: all evaluated rows are in one group"
    verdict = result.verdicts()[0]
    assert verdict.beats is None
    assert "is not shown to beat" in verdict.text


def test_resamples_without_a_class_are_counted_and_take_the_interval_away(
    make_predictions: Predictions, scorers: list[Scorer]
) -> None:
    frame = make_predictions(rows=120, groups=4)
    frame["group"] = np.where(frame["classification"] == "Splice-altering", "a", frame["group"])
    row = evaluate(frame, scorers, n_boot=200, seed=1).value("strong", "auprc")
    # group "a" holds all positives; a draw of five groups misses it with probability (4/5)^5 = 0.33
    assert 40 < row["undefined_resamples"] < 95
    assert np.isnan(row["low"])
    assert f"undefined on {row['undefined_resamples']} of 200 resamples" in row["reason"]


def test_constant_score_and_missing_sign_are_reasons(make_predictions: Predictions, scorers: list[Scorer]) -> None:
    frame = make_predictions()
    frame["flat.score"] = 0.3
    result = evaluate(frame, [*scorers, Scorer("flat", "baseline", scale="rank")], n_boot=20)
    assert result.value("flat", "auroc")["estimate"] == 0.5
    assert result.value("flat", "auprc")["estimate"] == pytest.approx(result.value("flat", "auprc")["prevalence"])
    assert result.value("flat", "pearson_validated_delta")["reason"].startswith("score or truth does not vary over the")
    assert result.value("flat", "pearson_effect")["reason"] == "the scorer does not give every row a sign"
    assert "scores that are a Δ" in result.value("position alone", "detection_rate_at_0.2")["reason"]
    assert np.isfinite(result.value("position alone", "detection_rate_at_fpr_5")["estimate"])


def test_too_few_rows_for_the_list_and_no_target(make_predictions: Predictions, scorers: list[Scorer]) -> None:
    frame = make_predictions(rows=60, groups=20).assign(target=np.nan, effect=np.nan)
    result = evaluate(frame, scorers, n_boot=20)
    assert "the list is longer than the" in result.value("weak", "precision_top_100")["reason"]
    assert "over the 0 rows" in result.value("weak", "spearman_validated_delta")["reason"]
    assert "over the 0 rows" in result.value("weak", "pearson_effect")["reason"]


def test_operating_points_are_the_callers(make_predictions: Predictions, scorers: list[Scorer]) -> None:
    points = OperatingPoints(recalls=(0.9,), tops=(5,), thresholds=(0.35,), false_positive_rates=(0.1,))
    names = set(evaluate(make_predictions(), scorers, n_boot=5, points=points).metrics["metric"])
    assert {"precision_at_recall_90", "precision_top_5", "detection_rate_at_0.35", "detection_rate_at_fpr_10"} < names
    assert "precision_at_recall_20" not in names


def test_the_circular_metric_says_so(make_predictions: Predictions, scorers: list[Scorer]) -> None:
    settings = evaluate(make_predictions(), scorers, n_boot=0).settings
    assert "circular" in settings["labels"]["pearson_validated_delta"]
    assert "circular" not in settings["labels"]["pearson_effect"]
    assert "circular for altering variants" in settings["pitfalls"]["pearson_validated_delta"]


def test_several_trainings_are_pooled(make_predictions: Predictions, scorers: list[Scorer]) -> None:
    frame = make_predictions(rows=800, groups=200)
    rng = np.random.default_rng(0)
    trainings = tuple(f"model, seed {k}" for k in range(4))
    for place, name in enumerate(trainings):
        noise = rng.normal(0, 0.1 + 0.3 * place, len(frame))
        frame[f"{name}.score"] = (frame["strong.signed"] + noise).abs()
        frame[f"{name}.signed"] = frame["strong.signed"] + noise
    pooled = Scorer("model", "learned", seeds=trainings)
    singles = [Scorer(name, "learned") for name in trainings]
    result = evaluate(frame, [*scorers, pooled], n_boot=400)
    alone = evaluate(frame, [*scorers, *singles], n_boot=400)
    for metric in ("auroc", "pearson_effect"):
        values = [alone.value(name, metric)["estimate"] for name in trainings]
        row = result.value("model", metric)
        assert row["estimate"] == pytest.approx(np.mean(values))
        assert row["seed_sd"] == pytest.approx(np.std(values, ddof=1))
        assert row["n_seeds"] == 4
        # the doubt about the seed is in the interval: wider than the trainings' own
        widths = [alone.value(name, metric)["high"] - alone.value(name, metric)["low"] for name in trainings]
        assert row["high"] - row["low"] > np.mean(widths)
    assert result.value("weak", "auroc")["n_seeds"] == 1
    assert set(result.metrics["scorer"]) == {"model", *(scorer.name for scorer in scorers)}
    assert np.isfinite(result.difference("model", "base max_window", "auprc")["low"])
    again = Evaluation.from_json(json.loads(json.dumps(result.to_json(), allow_nan=False)))
    assert again.scorers == result.scorers
    with pytest.raises(InputError, match=r"column model, seed 9\.score missing"):
        evaluate(frame, [Scorer("model", "learned", seeds=("model, seed 9",))], reference=None)


def test_no_row_of_either_side(make_predictions: Predictions, scorers: list[Scorer]) -> None:
    frame = make_predictions().assign(classification="Low-frequency")
    result = evaluate(frame, scorers, n_boot=5)
    assert "only one side among the 0 rows" in result.value("weak", "auroc")["reason"]
    assert np.isfinite(result.value("weak", "pearson_effect")["low"])
    assert result.coverage.used == 0


def spoil(frame: pd.DataFrame, column: str, value: object) -> pd.DataFrame:
    spoiled = frame.astype({column: object})
    spoiled.loc[2, column] = value
    return spoiled


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: spoil(f, "weak.score", np.inf), "column 'weak.score' holds an infinite number, first at row 3"),
        (lambda f: spoil(f, "variant_id", "v0"), "variant_id 'v0' stands twice"),
        (lambda f: spoil(f, "group", None), "rows without a group, first at row 3"),
        (lambda f: spoil(f, "group", ""), "rows without a group, first at row 3"),
        (lambda f: f.drop(columns="target"), "column target missing"),
        (lambda f: f.drop(columns="weak.score"), "column weak.score missing"),
        (lambda f: f.iloc[:0], "no rows"),
        (
            lambda f: f.assign(
                **{
                    "weak.score": f["weak.score"].where(f.index < 210),
                    "strong.score": f["strong.score"].where(f.index >= 190),
                }
            ).drop(index=range(190, 210)),
            "no row is scored by all",
        ),
    ],
)
def test_bad_predictions_are_refused(
    make_predictions: Predictions, scorers: list[Scorer], change: Predictions, says: str
) -> None:
    with pytest.raises(InputError) as caught:
        evaluate(change(make_predictions()), scorers, n_boot=5)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_requests_are_refused(make_predictions: Predictions, scorers: list[Scorer]) -> None:
    frame = make_predictions()
    with pytest.raises(InputError, match="no rows or no scorer"):
        evaluate(frame, [])
    with pytest.raises(InputError, match=r"a scorer is given twice.*weak"):
        evaluate(frame, [Scorer("weak", "learned"), Scorer("weak", "base")], reference=None)
    result = evaluate(frame, scorers, n_boot=5)
    with pytest.raises(InputError, match="unknown metric 'auprcc'; did you mean auprc"):
        result.leaderboard("auprcc")
    with pytest.raises(InputError, match="nothing of scorer 'stron', metric 'auroc'"):
        result.value("stron", "auroc")
    with pytest.raises(InputError, match="differences, coverage, settings missing"):
        Evaluation.from_json({"scorers": [], "metrics": []})
