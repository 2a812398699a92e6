"""Trees as arrays give what scikit-learn gives; groups are kept apart; damaged files are noticed."""

from __future__ import annotations

import io

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.meta_layer.boosting import grow, trees_of
from meta_spliceai.splice_engine.meta_layer.settings import BoostingConfig
from meta_spliceai.splice_engine.meta_layer.trees import Trees

SMALL = BoostingConfig(most_trees=40, learning_rate=0.2, leaves=6, fewest_in_leaf=5, folds=3, seeds=2)


def toy(rows: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 4))
    x[rng.random(rows) < 0.2, 1] = np.nan
    y = (x[:, 0] + np.where(np.isnan(x[:, 1]), 1.5, 0) + rng.normal(0, 0.5, rows) > 0.5).astype(float)
    return x, y, np.array([f"g{i % 40}" for i in range(rows)])


def test_arrays_predict_what_scikit_learn_predicts() -> None:
    x, y, _ = toy()
    fresh, _, _ = toy(seed=9)
    classifier = HistGradientBoostingClassifier(max_iter=30, random_state=0).fit(x, y)
    np.testing.assert_allclose(trees_of([classifier], 4).raw(fresh), classifier.decision_function(fresh), atol=1e-9)
    regressor = HistGradientBoostingRegressor(max_iter=30, random_state=0).fit(x, x[:, 0] * 2)
    np.testing.assert_allclose(trees_of([regressor], 4).raw(fresh), regressor.predict(fresh), atol=1e-9)
    both = [HistGradientBoostingClassifier(max_iter=n, random_state=n).fit(x, y) for n in (10, 20)]
    mean = np.mean([model.decision_function(fresh) for model in both], axis=0)
    np.testing.assert_allclose(trees_of(both, 4).raw(fresh), mean, atol=1e-9)


def test_round_trip_through_a_file_without_pickle() -> None:
    x, y, groups = toy()
    grown = grow(x, y, groups, seed=1, config=SMALL)
    file = io.BytesIO()
    np.savez(file, **grown.trees.arrays())
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        again = Trees.from_arrays(stored)
    np.testing.assert_array_equal(again.raw(x), grown.trees.raw(x))


def test_out_of_fold_values_know_nothing_of_their_group() -> None:
    """Labels that are one coin a group, with the group readable from a feature: nothing can be learned honestly."""
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(60), 10)
    y = rng.integers(0, 2, 60)[groups].astype(float)
    x = np.column_stack([groups, rng.normal(size=600)]).astype(float)
    grown = grow(x, y, groups, seed=0, config=SMALL)
    apart = grown.out_of_fold[y == 1].mean() - grown.out_of_fold[y == 0].mean()
    assert apart < 0.35
    # and the number of trees follows: there is nothing to gain from many
    assert grown.n_trees < 20


def test_what_can_be_learned_is_learned() -> None:
    x, y, groups = toy(800)
    grown = grow(x, y, groups, seed=0, config=SMALL)
    fresh_x, fresh_y, _ = toy(400, seed=5)
    raw = grown.trees.raw(fresh_x)
    assert np.mean((raw > 0) == (fresh_y == 1)) > 0.8
    assert grown.loss < 0.5
    number = grow(x, x[:, 0], groups, seed=0, config=SMALL, regression=True)
    assert np.corrcoef(number.trees.raw(fresh_x), fresh_x[:, 0])[0, 1] > 0.95


def test_a_feature_that_is_never_known_is_left_aside() -> None:
    x, y, groups = toy()
    padded = np.column_stack([np.full(len(x), np.nan), x, np.full(len(x), 3.0)])
    trees = grow(padded, y, groups, seed=0, config=SMALL).trees
    filled = padded.copy()
    filled[:, 0] = 7.0
    np.testing.assert_array_equal(trees.raw(filled), trees.raw(padded))
    assert np.mean((trees.raw(padded) > 0) == (y == 1)) > 0.8


def test_same_seed_same_trees() -> None:
    x, y, groups = toy()
    one, two = (grow(x, y, groups, seed=4, config=SMALL).trees.raw(x) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, grow(x, y, groups, seed=5, config=SMALL).trees.raw(x))


def test_too_few_groups_and_bad_settings_are_refused() -> None:
    x, y, groups = toy()
    with pytest.raises(InputError, match="1 groups with a positive variant in the training part, fewer than the 3"):
        grow(x, np.where(groups == "g0", 1.0, 0.0), groups, seed=0, config=SMALL)
    with pytest.raises(InputError, match="2 groups in the training part"):
        grow(x, y, np.where(groups == "g0", "a", "b"), seed=0, config=SMALL, regression=True)
    with pytest.raises(InputError, match="settings of the trees: learning_rate = 0: "):
        BoostingConfig.from_mapping({"learning_rate": 0})
    with pytest.raises(InputError, match="settings of the trees: folds = 1: "):
        BoostingConfig.from_mapping({"folds": 1})


@pytest.mark.parametrize("harm", ["loop", "outside", "missing", "feature", "short", "value", "threshold", "baseline"])
def test_damaged_trees_are_noticed(harm: str) -> None:
    x, y, groups = toy()
    stored = dict(grow(x, y, groups, seed=1, config=SMALL).trees.arrays())
    inner = int(np.flatnonzero(stored["left"] >= 0)[-1])
    if harm == "loop":
        stored["left"] = stored["left"].copy()
        stored["left"][inner] = inner
    elif harm == "outside":
        stored["right"] = stored["right"].copy()
        stored["right"][inner] = len(stored["right"])
    elif harm == "feature":
        stored["feature"] = stored["feature"] + 4
    elif harm in ("value", "threshold", "baseline"):
        stored[harm] = stored[harm] * np.nan
    elif harm == "short":
        stored["value"] = stored["value"][:-1]
    else:
        del stored["value"]
    with pytest.raises((KeyError, ValueError), match="value" if harm == "missing" else "its trees"):
        Trees.from_arrays(stored)
