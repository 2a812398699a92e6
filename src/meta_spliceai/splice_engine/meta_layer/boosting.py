"""Gradient-boosted trees that know about groups.

scikit-learn grows the trees. The number of trees is chosen on folds that never split a group, because early stopping
on random rows would stop on rows that resemble the training rows. A fitted model is kept as arrays (`trees`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.meta_layer.settings import BoostingConfig
from meta_spliceai.splice_engine.meta_layer.trees import Rows, Table, Trees

Model: TypeAlias = HistGradientBoostingClassifier | HistGradientBoostingRegressor


@dataclass(frozen=True)
class Grown:
    """A fitted model.

    Attributes:
        trees: the model, grown on all rows.
        out_of_fold: raw value of every row from models that did not see its group.
        n_trees: number of trees of each seed's model.
        loss: out-of-fold loss at that number (log loss, or mean squared error).
    """

    trees: Trees
    out_of_fold: Rows
    n_trees: int
    loss: float


def grow(
    x: Table, y: Rows, groups: np.ndarray, seed: int, config: BoostingConfig | None = None, *, regression: bool = False
) -> Grown:
    """Grow trees for labels 0/1, or for a number; the count of trees by grouped cross-validation.

    Args:
        x: features; NaN is allowed and goes down its own way.
        y: finite; 0 and 1 unless `regression`, which is squared error on a number instead of log loss on labels.
        groups: rows of one group are never on both sides of a fold.
        seed: of folds and trees.

    Raises:
        InputError: fewer groups than folds, or, for labels, fewer groups with a positive or a negative.
    """
    config = config or BoostingConfig.from_mapping({})
    groups = np.asarray(groups).astype(str)
    if regression:
        _enough(len(np.unique(groups)), "groups", config.folds)
        folds = list(GroupKFold(config.folds, shuffle=True, random_state=seed).split(x, y, groups))
    else:
        for label, name in ((1, "positive"), (0, "negative")):
            _enough(len(np.unique(groups[y == label])), f"groups with a {name} variant", config.folds)
        # Stratified by label, so that no fold is without positives when they are rare.
        folds = list(StratifiedGroupKFold(config.folds, shuffle=True, random_state=seed).split(x, y, groups))
    staged = np.empty((config.most_trees, len(y)))
    for fold, (train, held) in enumerate(folds):
        model = _fitted(config, config.most_trees, seed + 1000 + fold, regression, x[train], y[train])
        stages = model.staged_predict(x[held]) if regression else model.staged_decision_function(x[held])
        for stage, values in enumerate(stages):
            staged[stage, held] = np.asarray(values).ravel()
    each = (staged - y) ** 2 if regression else np.logaddexp(0, np.where(y == 1, -1, 1) * staged)
    losses = each.mean(axis=1)
    best = int(losses.argmin())
    # Each tree saw (folds − 1) / folds of the rows; with all rows the same fit takes a little longer.
    n_trees = min(config.most_trees, round((best + 1) * config.folds / (config.folds - 1)))
    models = [_fitted(config, n_trees, seed + number, regression, x, y) for number in range(config.seeds)]
    return Grown(trees_of(models, x.shape[1]), staged[best], n_trees, float(losses[best]))


def _enough(found: int, what: str, folds: int) -> None:
    if found < folds:
        raise InputError(
            f"{found} {what} in the training part, fewer than the {folds} folds that choose the number of trees; "
            "use fewer folds or more groups"
        )


def _fitted(config: BoostingConfig, trees: int, seed: int, regression: bool, x: Table, y: Rows) -> Model:
    kind = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
    model = kind(
        max_iter=trees,
        learning_rate=config.learning_rate,
        max_leaf_nodes=config.leaves,
        min_samples_leaf=config.fewest_in_leaf,
        l2_regularization=config.l2,
        max_features=config.features_per_split,
        early_stopping=False,
        random_state=seed,
    )
    # scikit-learn cannot bin a column of nothing but NaN. A constant one is never split on, so what it holds when the
    # trees are used makes no difference.
    return model.fit(np.where(np.isnan(x).all(axis=0), 0.0, x), y)


def trees_of(models: list[Model], features: int) -> Trees:
    """The nodes of all trees, one behind the other, with absolute child indices.

    scikit-learn keeps them in `_predictors`; that a walk over the arrays gives its own predictions is tested.
    """
    each = [tree.nodes for model in models for (tree,) in model._predictors]
    sizes = [len(nodes) for nodes in each]
    root, nodes = np.cumsum([0, *sizes[:-1]], dtype=np.int64), np.concatenate(each)
    leaf, first = nodes["is_leaf"].astype(bool), np.repeat(root, sizes)
    return Trees(
        feature=np.where(leaf, 0, nodes["feature_idx"]).astype(np.int32),
        threshold=np.where(leaf, 0.0, nodes["num_threshold"]),
        nan_left=nodes["missing_go_to_left"].astype(bool),
        left=np.where(leaf, -1, nodes["left"].astype(np.int64) + first),
        right=np.where(leaf, -1, nodes["right"].astype(np.int64) + first),
        value=nodes["value"].astype(np.float64),
        root=root,
        baseline=float(np.mean([np.ravel(model._baseline_prediction)[0] for model in models])),
        models=len(models),
        features=features,
    )
