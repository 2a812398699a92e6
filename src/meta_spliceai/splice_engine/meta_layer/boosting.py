"""Gradient-boosted trees that know about groups, and that are written to disk as plain arrays.

scikit-learn grows the trees. The number of trees is chosen on folds that never split a group, because early stopping
on random rows would stop on rows that resemble the training rows. A fitted model is kept as arrays (no pickle), so
that loading a file can run no code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.splice_engine.meta_layer.fusion_config import BoostingConfig

Model: TypeAlias = HistGradientBoostingClassifier | HistGradientBoostingRegressor
Table = Float[np.ndarray, "rows features"]
Rows = Float[np.ndarray, " rows"]

OF_A_NODE = ("feature", "threshold", "nan_left", "left", "right", "value")


@dataclass(frozen=True)
class Trees:
    """An average of additive tree models, as arrays.

    A node with `left` −1 is a leaf. A row goes left where its feature is at or below the threshold, or where it is
    NaN and `nan_left` says so. The raw value is the baseline plus the leaves' values, summed over the trees and
    averaged over the seeds.

    Attributes:
        root: index of each tree's first node.
        baseline: of each seed's model, averaged.
        models: number of seeds averaged.
    """

    feature: Int[np.ndarray, " nodes"]
    threshold: Float[np.ndarray, " nodes"]
    nan_left: Bool[np.ndarray, " nodes"]
    left: Int[np.ndarray, " nodes"]
    right: Int[np.ndarray, " nodes"]
    value: Float[np.ndarray, " nodes"]
    root: Int[np.ndarray, " trees"]
    baseline: float
    models: int
    features: int

    def raw(self, x: Table) -> Rows:
        """The model's raw value: log-odds of a classifier, the prediction itself of a regressor.

        Raises:
            InputError: another number of features than the model was grown on.
        """
        if x.ndim != 2 or x.shape[1] != self.features:
            raise InputError(f"the trees were grown on {self.features} features, but got an array of shape {x.shape}")
        total = np.zeros(len(x))
        rows = np.arange(len(x))
        for root in self.root:
            node = np.full(len(x), root)
            active = rows
            while len(active):
                here = node[active]
                inner = self.left[here] >= 0
                active, here = active[inner], here[inner]
                seen = x[active, self.feature[here]]
                goes_left = np.where(np.isnan(seen), self.nan_left[here], seen <= self.threshold[here])
                node[active] = np.where(goes_left, self.left[here], self.right[here])
            total += self.value[node]
        return self.baseline + total / self.models

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything, as arrays to be written."""
        return {name: np.asarray(value) for name, value in asdict(self).items()}

    @classmethod
    def from_arrays(cls, stored: Mapping[str, np.ndarray], where: str) -> Trees:
        """The trees that `arrays` gave.

        Raises:
            IntegrityError: an array is missing, a node points outside the model or back to itself, or a value is
                not finite.
        """
        missing = [name for name in cls.__annotations__ if name not in stored]
        if missing:
            raise IntegrityError(f"{where}: {', '.join(missing)} missing; the file does not hold a whole tree model")
        parts = {name: np.asarray(stored[name]) for name in (*OF_A_NODE, "root")}
        nodes, features = len(parts["feature"]), int(stored["features"])
        whole = all(len(parts[name]) == nodes for name in OF_A_NODE)
        inner = parts["left"] >= 0 if whole else np.zeros(nodes, dtype=bool)
        index = np.arange(nodes)
        sound = (
            whole
            and bool(np.all((parts["root"] >= 0) & (parts["root"] < nodes)))
            # Children behind their parent: a walk down the tree always ends.
            and bool(np.all(parts["left"][inner] > index[inner]) and np.all(parts["right"][inner] > index[inner]))
            and bool(np.all(parts["left"] < nodes) and np.all(parts["right"] < nodes))
            and bool(np.all((parts["feature"] >= 0) & (parts["feature"] < features)))
            and int(stored["models"]) >= 1
            and bool(np.isfinite(parts["value"]).all() and np.isfinite(stored["baseline"]))
            and not np.isnan(parts["threshold"]).any()
        )
        if not sound:
            raise IntegrityError(f"{where}: the trees' nodes do not fit together; the file is damaged")
        return cls(**parts, baseline=float(stored["baseline"]), models=int(stored["models"]), features=features)


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
    pieces, roots, offset = [], [], 0
    for model in models:
        for (tree,) in model._predictors:
            nodes = tree.nodes
            leaf = nodes["is_leaf"].astype(bool)
            pieces.append(
                (
                    np.where(leaf, 0, nodes["feature_idx"]).astype(np.int32),
                    np.where(leaf, 0.0, nodes["num_threshold"]),
                    nodes["missing_go_to_left"].astype(bool),
                    np.where(leaf, -1, nodes["left"].astype(np.int64) + offset),
                    np.where(leaf, -1, nodes["right"].astype(np.int64) + offset),
                    nodes["value"].astype(np.float64),
                )
            )
            roots.append(offset)
            offset += len(nodes)
    baseline = float(np.mean([np.ravel(model._baseline_prediction)[0] for model in models]))
    joined = {name: np.concatenate(column) for name, column in zip(OF_A_NODE, zip(*pieces, strict=True), strict=True)}
    root = np.array(roots, dtype=np.int64)
    return Trees(**joined, root=root, baseline=baseline, models=len(models), features=features)
