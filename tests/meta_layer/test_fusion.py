"""The fusion on synthetic variants whose effect is known: it uses what each part tells, and stays honest about it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.splice_engine.base_layer.scores import ACCEPTOR, DONOR, BaseScores, max_window, own_site
from meta_spliceai.splice_engine.meta_layer.evaluation.baselines import (
    BASE_MAX_WINDOW,
    BASE_OWN_SITE,
)
from meta_spliceai.splice_engine.meta_layer.evaluation.calibration import calibration_error
from meta_spliceai.splice_engine.meta_layer.evaluation.evaluate import evaluate
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Scorer, predictions_frame, signed_scores
from meta_spliceai.splice_engine.meta_layer.fusion import Fusion, fit_fusion
from meta_spliceai.splice_engine.meta_layer.fusion_features import fusion_features
from meta_spliceai.splice_engine.meta_layer.settings import BoostingConfig, FusionConfig
from meta_spliceai.splice_engine.variants.table import Windows, as_variant_table

CONFIG = FusionConfig(
    trees=BoostingConfig(most_trees=30, learning_rate=0.25, leaves=6, fewest_in_leaf=10, folds=3, seeds=1)
)
D = 110


def made(
    rows: int = 900, seed: int = 0, strand: str = "+", name: str = "one", blur: float = 0.6
) -> tuple[pd.DataFrame, BaseScores, Windows]:
    """Variants in exons of 100 bases. A network sees the acceptor's loss through noise; a gained G adds to the loss."""
    rng = np.random.default_rng(seed)
    first, last = (1001, 1100) if strand == "+" else (1100, 1001)
    step = 1 if strand == "+" else -1
    into = rng.integers(-10, 105, rows)
    pos = first + step * into
    ref = rng.integers(0, 4, (rows, 21)).astype(np.uint8)
    alt = ref.copy()
    alt[:, 10] = (ref[:, 10] + rng.integers(1, 4, rows)) % 4
    latent = rng.exponential(1.0, rows) * (np.abs(into) < 15) + 1.7 * (alt[:, 10] == 2) * (into > 20)
    effect = -np.clip(latent / 3 + rng.normal(0, 0.05, rows), 0, 1)
    classes = np.where(effect < -0.5, "Splice-altering", np.where(effect > -0.1, "Normal", "Low-frequency"))
    frame = pd.DataFrame(
        {
            "variant_id": [f"{seed}_{i}" for i in range(rows)],
            "chrom": "toy",
            "pos": pos,
            "ref": np.array(list("ACGT"))[ref[:, 10]],
            "alt": np.array(list("ACGT"))[alt[:, 10]],
            "strand": strand,
            "gene": "",
            "classification": classes,
            "effect": effect,
            "source": "toy",
            "method": "toy",
            "group": [f"{seed}_g{i % 45}" for i in range(rows)],
            "acceptor_pos": first,
            "donor_pos": last,
        }
    )
    probabilities = np.full((rows, 2 * D + 1, 3), 0.001, dtype=np.float32)
    every = np.arange(rows)
    probabilities[every, D - into, ACCEPTOR] = 0.9
    probabilities[every, D + 99 - into, DONOR] = 0.9
    seen = np.clip(latent * (np.abs(into) < 15) / 3 * np.exp(rng.normal(0, blur, rows)), 0, 0.85)
    changed = probabilities.copy()
    changed[every, D - into, ACCEPTOR] -= seen.astype(np.float32)
    changed[every, rng.integers(0, 2 * D + 1, rows), DONOR] += rng.choice([0, 0.3], rows).astype(np.float32)
    scores = BaseScores(probabilities, np.clip(changed, 0, 1), D, name, "0")
    return as_variant_table(frame, "toy"), scores, Windows(ref, alt)


@pytest.fixture(scope="module")
def trained() -> tuple[pd.DataFrame, pd.DataFrame, Fusion]:
    """Features and table of a training part, and the fusion trained on them."""
    train, scores, windows = made(900, 1)
    features = fusion_features(train, [scores], windows)
    return features, train, fit_fusion(features, train, config=CONFIG)


def test_the_fusion_beats_the_networks_own_site_and_the_interval_says_so() -> None:
    train, train_scores, train_windows = made(1500, 1)
    test, test_scores, test_windows = made(900, 2)
    fusion = fit_fusion(fusion_features(train, [train_scores], train_windows), train, config=CONFIG)
    predicted = fusion.predict(fusion_features(test, [test_scores], test_windows))
    scorer = Scorer("fusion", "learned", scale="probability")
    frame = predictions_frame(
        test,
        None,
        {
            BASE_MAX_WINDOW: signed_scores(max_window(test_scores)),
            BASE_OWN_SITE: signed_scores(own_site(test_scores, test)),
            scorer: predicted,
        },
    )
    result = evaluate(frame, [BASE_MAX_WINDOW, BASE_OWN_SITE, scorer], n_boot=200)
    assert all(verdict.beats for verdict in result.verdicts("auprc"))
    assert result.value("fusion", "pearson_effect")["estimate"] > 0.7
    sided = test["classification"].isin(["Splice-altering", "Normal"])
    y = (test["classification"] == "Splice-altering")[sided].astype(float)
    assert calibration_error(predicted.score[sided], y.to_numpy()) < 0.06


@pytest.mark.slow
def test_each_part_adds_something() -> None:
    train, train_scores, train_windows = made(1500, 1)
    test, test_scores, test_windows = made(900, 2)
    y = (test["classification"] == "Splice-altering").to_numpy()

    def reached(networks: int, words: bool) -> float:
        def features(table: pd.DataFrame, one: BaseScores, windows: Windows, seed: int) -> pd.DataFrame:
            # A second look at the same variants with noise of its own, under another name.
            rng = np.random.default_rng(seed)
            noise = rng.normal(0, 0.02, one.alt.shape).astype(np.float32)
            two = BaseScores(one.ref, np.clip(one.alt + noise, 0, 1), D, "two", "1")
            return fusion_features(table, [one, two][:networks], windows if words else None)

        trained = fit_fusion(features(train, train_scores, train_windows, 1), train, config=CONFIG)
        return average_precision_score(y, trained.predict(features(test, test_scores, test_windows, 2)).score)

    assert reached(1, True) > reached(1, False) + 0.015
    assert reached(2, True) > reached(1, False) + 0.015


def test_the_model_of_the_effect_uses_the_rows_of_neither_class(
    trained: tuple[pd.DataFrame, pd.DataFrame, Fusion],
) -> None:
    features, train, fusion = trained
    assert fusion.card["effect"]["rows"] == len(train)
    assert fusion.card["classes"]["rows"] == train["classification"].isin(["Splice-altering", "Normal"]).sum()
    assert fusion.card["weights"]["effect"] < 0
    without = fit_fusion(features, train.assign(effect=np.nan), config=CONFIG)
    assert without.effect is None
    assert np.isnan(without.predict(features).signed).all()
    assert without.card["weights"]["effect"] == 0


def test_nothing_is_claimed_where_nothing_can_be_learned() -> None:
    """Effects without any relation to the features: the weights come from out-of-fold values, so they find none."""
    rng = np.random.default_rng(8)
    train = made(900, 1)[0]
    train["effect"] = rng.uniform(-1, 0, len(train))
    train["classification"] = np.where(train["effect"] < -0.6, "Splice-altering", "Normal")
    features, fresh = (pd.DataFrame(rng.normal(size=(900, 12)), columns=list("abcdefghijkl")) for _ in range(2))
    probability = fit_fusion(features, train, config=CONFIG).predict(fresh).score
    share = (train["classification"] == "Splice-altering").mean()
    assert probability.mean() == pytest.approx(share, abs=0.05)
    assert probability.std() < 0.06


def test_features_are_the_same_on_both_strands() -> None:
    plus, plus_scores, windows = made(60, 5)
    minus, minus_scores, _ = made(60, 5, strand="-")
    pd.testing.assert_frame_equal(
        fusion_features(plus, [plus_scores], windows), fusion_features(minus, [minus_scores], windows)
    )


def test_features_by_hand() -> None:
    table, scores, windows = made(3, 7)
    into = table.loc[0, "pos"] - 1001
    ref, alt = scores.ref.copy(), np.full_like(scores.ref, 0.001)
    alt[0, D - into, ACCEPTOR] = 0.4
    alt[0, D - into + 7, ACCEPTOR] = 0.6
    alt[0, D - into + 99, DONOR] = 0.9
    row = fusion_features(table, [BaseScores(ref, alt, D, "net", "0")], windows).iloc[0]
    assert row["net: own acceptor Δ"] == pytest.approx(-0.5)
    assert row["net: own donor Δ"] == pytest.approx(0, abs=1e-6)
    assert row["net: own least Δ"] == pytest.approx(-0.5)
    assert row["net: gain acceptor"] == pytest.approx(0.599)
    assert row["net: gain acceptor at"] == 7
    assert row["net: rival acceptor"] == pytest.approx(0.6)
    assert row["net: own exon Δ"] == pytest.approx(0.4 * 0.9 - 0.9 * 0.9, abs=1e-6)
    assert row["net: own log-odds"] == pytest.approx(np.log(0.4 / 0.6) - np.log(9), abs=1e-4)
    assert row["net: strongest |Δ|"] == pytest.approx(0.599)
    assert row["exon length"] == 100


def test_a_site_out_of_reach_is_nan_and_the_rest_still_works() -> None:
    table, scores, windows = made(400, 1)
    near = BaseScores(scores.ref[:, D - 30 : D + 31], scores.alt[:, D - 30 : D + 31], 30, "near", "0")
    features = fusion_features(table, [near], windows)
    to_acceptor = table["pos"] - 1001
    np.testing.assert_array_equal(features["near: own acceptor Δ"].isna(), to_acceptor.abs() > 30)
    np.testing.assert_array_equal(features["near: own exon Δ"].isna(), (to_acceptor > 30) | (to_acceptor < 69))
    assert np.isfinite(fit_fusion(features, table, config=CONFIG).predict(features).score).all()


def test_a_network_without_acceptors_and_donors_gives_its_mean() -> None:
    table, scores, windows = made(50, 1)
    tissues = BaseScores(
        scores.ref[:, :, [1, 2]], scores.alt[:, :, [1, 2]], D, "pangolin", "0", channels=("heart", "liver")
    )
    features = fusion_features(table, [scores, tissues], windows)
    assert features["pangolin: own acceptor ref"].iloc[0] == pytest.approx((0.9 + 0.001) / 2)
    assert "mean: own log-odds" in features


def test_round_trip_through_a_folder(tmp_path: Path) -> None:
    train, scores, windows = made(900, 1)
    held, held_scores, held_windows = made(600, 3)
    features, held_features = (
        fusion_features(train, [scores], windows),
        fusion_features(held, [held_scores], held_windows),
    )
    fusion = fit_fusion(features, train, config=CONFIG, validation=(held_features, held))
    assert fusion.calibration is not None
    fusion.save(tmp_path / "model")
    again = Fusion.load(tmp_path / "model")
    for mine, theirs in ((fusion.predict(features), again.predict(features)),):
        np.testing.assert_array_equal(mine.score, theirs.score)
        np.testing.assert_array_equal(mine.signed, theirs.signed)
    assert again.card == json.loads(json.dumps(fusion.card))
    # other columns, in another order, do no harm
    shuffled = features[features.columns[::-1]].assign(more=1.0)
    np.testing.assert_array_equal(again.predict(shuffled).score, again.predict(features).score)


def test_damaged_files_are_noticed(tmp_path: Path, trained: tuple[pd.DataFrame, pd.DataFrame, Fusion]) -> None:
    trained[2].save(tmp_path)
    with pytest.raises(InputError, match=r"no fusion\.npz; train a fusion first"):
        Fusion.load(tmp_path / "elsewhere")
    card, arrays = (tmp_path / "fusion.json").read_text(encoding="utf-8"), (tmp_path / "fusion.npz").read_bytes()
    (tmp_path / "fusion.npz").write_bytes(arrays[: len(arrays) // 2])
    with pytest.raises(IntegrityError, match="cannot be read"):
        Fusion.load(tmp_path)
    (tmp_path / "fusion.npz").write_bytes(arrays)
    (tmp_path / "fusion.json").write_text(card.replace('"format": 1', '"format": 9'), encoding="utf-8")
    with pytest.raises(IntegrityError, match="format 9, this version reads 1"):
        Fusion.load(tmp_path)
    (tmp_path / "fusion.json").write_text(card.replace('"to_donor",', ""), encoding="utf-8")
    with pytest.raises(IntegrityError, match="trees of"):
        Fusion.load(tmp_path)


@pytest.mark.parametrize("name", ["weights", "altering.value", "effect.threshold", "calibration.y"])
def test_numbers_that_are_none_are_noticed(
    tmp_path: Path, trained: tuple[pd.DataFrame, pd.DataFrame, Fusion], name: str
) -> None:
    trained[2].save(tmp_path)
    with np.load(tmp_path / "fusion.npz") as file:
        stored = dict(file)
    stored.update(
        {"calibration.method": np.array("isotonic"), "calibration.x": np.ones(2), "calibration.y": np.ones(2)}
    )
    stored[name] = stored[name] * np.nan
    np.savez(tmp_path / "fusion.npz", **stored)
    with pytest.raises(IntegrityError, match=r"fusion\.npz"):
        Fusion.load(tmp_path)


def test_what_the_fusion_refuses(trained: tuple[pd.DataFrame, pd.DataFrame, Fusion]) -> None:
    features, train, fusion = trained
    _, scores, windows = made(900, 1)
    with pytest.raises(InputError, match="1 features missing, such as 'one: loss'"):
        fusion.predict(features.drop(columns="one: loss"))
    with pytest.raises(InputError, match="no Splice-altering variant"):
        fit_fusion(features, train.assign(classification="Normal"), config=CONFIG)
    with pytest.raises(InputError, match="45 groups are in the training part as well"):
        fit_fusion(features, train, config=CONFIG, validation=(features, train))
    with pytest.raises(InputError, match=r"same name twice \(one, one\)"):
        fusion_features(train, [scores, scores], windows)
