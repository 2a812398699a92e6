"""Fusion: base networks' Δ, position and k-mers combined by trees trained on measured labels.

Two tree models see the same features. One learns the class (Splice-altering or not), the other the measured effect
itself, which has something to say about every measured variant, those of neither class as well. A logistic regression
on their out-of-fold values weighs the two; as those values come from models that never saw the group, the result is a
probability and not merely an order. With a validation part, it is calibrated once more there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression

from meta_spliceai.errors import InputError
from meta_spliceai.files import atomic_write
from meta_spliceai.read_hostile import one_error
from meta_spliceai.splice_engine.meta_layer.boosting import grow
from meta_spliceai.splice_engine.meta_layer.evaluation.calibration import Calibration, fit_calibration
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import NEGATIVES, Scores, binary_labels, training_labels
from meta_spliceai.splice_engine.meta_layer.settings import FusionConfig
from meta_spliceai.splice_engine.meta_layer.trees import Rows, Trees, read_parts

ARRAYS = "fusion.npz"
CARD = "fusion.json"
FORMAT = 1
FEWEST_EFFECTS = 50
"""Measured effects needed before the second model is grown."""


@dataclass(frozen=True)
class Fusion:
    """A trained fusion.

    Attributes:
        altering: trees of the class.
        effect: trees of the measured effect; None if not grown.
        weights: intercept, weight of the class model's log-odds, weight of the effect model's value.
        calibration: from the validation part; None if there was none.
        card: what it was trained on: rows, positives, groups, classes, losses, seed, settings.
    """

    features: tuple[str, ...]
    altering: Trees
    effect: Trees | None
    weights: Float[np.ndarray, " 3"]
    calibration: Calibration | None
    card: dict[str, Any]

    def predict(self, features: pd.DataFrame) -> Scores:
        """Calibrated probability of Splice-altering as the score; the predicted effect, if there is one, as the sign.

        Raises:
            InputError: a feature that the model was trained on is missing.
        """
        if missing := [name for name in self.features if name not in features]:
            raise InputError(
                f"fusion: {len(missing)} features missing, such as '{missing[0]}'; give the base networks and windows "
                "it was trained with"
            )
        x = features[list(self.features)].to_numpy(dtype=np.float64)
        second = None if self.effect is None else self.effect.raw(x)
        odds = self.weights[0] + self.weights[1] * self.altering.raw(x)
        if second is not None:
            odds = odds + self.weights[2] * second
        probability = 1 / (1 + np.exp(-odds))
        if self.calibration is not None:
            probability = self.calibration.apply(probability)
        return Scores(probability, np.full(len(x), np.nan) if second is None else second)

    def save(self, folder: Path) -> None:
        """Write the trees as arrays (`fusion.npz`) and the card as JSON (`fusion.json`), each atomically."""
        arrays: dict[str, np.ndarray] = {"weights": self.weights}
        for name, part in (("altering", self.altering), ("effect", self.effect), ("calibration", self.calibration)):
            if part is not None:
                arrays |= {f"{name}.{key}": value for key, value in part.arrays().items()}
        with atomic_write(folder / ARRAYS, "wb") as handle:
            np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]
        with atomic_write(folder / CARD) as handle:
            json.dump({"format": FORMAT, "features": list(self.features), "card": self.card}, handle, indent=1)

    @classmethod
    def load(cls, folder: Path) -> Fusion:
        """Read what `save` wrote; no pickle is read.

        Raises:
            InputError: there is no fusion in the folder.
            IntegrityError: a file is truncated or altered, or of a format this version does not know.
        """
        for name in (ARRAYS, CARD):
            if not (folder / name).is_file():
                raise InputError(f"{folder}: no {name}; train a fusion first")
        where = str(folder / ARRAYS)
        with one_error(f"{where}: the fusion cannot be read: it", "train it again"):
            described = json.loads((folder / CARD).read_text(encoding="utf-8"))
            with (folder / ARRAYS).open("rb") as handle:
                parts = read_parts(handle)
            if described["format"] != FORMAT:
                raise ValueError(f"format {described['format']}, this version reads {FORMAT}")
            effect = Trees.from_arrays(parts["effect"]) if "effect" in parts else None
            calibration = Calibration.from_arrays(parts["calibration"], where) if "calibration" in parts else None
            altering, weights = Trees.from_arrays(parts["altering"]), parts["weights"][""]
            names = tuple(described["features"])
            if {len(names)} != {one.features for one in (altering, effect) if one is not None}:
                raise ValueError(f"trees of {altering.features} features, but {len(names)} names")
            if weights.shape != (3,) or not np.isfinite(weights).all():
                raise ValueError(f"{weights.shape} weights instead of 3 finite ones")
            return cls(names, altering, effect, weights, calibration, described["card"])


def fit_fusion(
    features: pd.DataFrame,
    table: pd.DataFrame,
    seed: int = 0,
    config: FusionConfig | None = None,
    *,
    negatives: Sequence[str] = NEGATIVES,
    validation: tuple[pd.DataFrame, pd.DataFrame] | None = None,
) -> Fusion:
    """Train a fusion on the training part.

    Args:
        features: of the training variants (see `fusion_features`), row by row those of the table.
        table: variant table of the training part: classes, effects, groups.
        negatives: the classes of the other side.
        validation: features and table of the validation part, for the last calibration. It must not share groups with
            the training part.

    Raises:
        InputError: a side without a variant, too few groups, groups shared with the validation part.
    """
    config = config or FusionConfig.from_mapping({})
    names = tuple(str(name) for name in features.columns)
    x = features.to_numpy(dtype=np.float64)
    y = training_labels(table, "training part", negatives)
    groups = table["group"].to_numpy().astype(str)
    sided = ~np.isnan(y)
    classes = grow(x[sided], y[sided], groups[sided], seed, config.trees)

    effect_trees, effect_oof = None, np.zeros(len(x))
    measured = table["effect"].notna().to_numpy()
    effects = table["effect"].to_numpy()[measured]
    card: dict[str, Any] = {}
    if config.use_effect and measured.sum() >= FEWEST_EFFECTS and np.ptp(effects) > 0:
        grown = grow(x[measured], effects, groups[measured], seed, config.trees, regression=True)
        effect_trees = grown.trees
        effect_oof = grown.trees.raw(x)
        # In-fold values only where there is no measurement, and those rows were not learned from.
        effect_oof[measured] = grown.out_of_fold
        card["effect"] = {"rows": int(measured.sum()), "trees": grown.n_trees, "squared_error": grown.loss}
    weights = _stack(classes.out_of_fold, effect_oof[sided] if effect_trees is not None else None, y[sided])
    card |= {
        "classes": {
            "rows": int(sided.sum()),
            "positives": int(y[sided].sum()),
            "groups": len(np.unique(groups[sided])),
            "negatives": list(negatives),
            "trees": classes.n_trees,
            "log_loss": classes.loss,
        },
        "weights": dict(zip(("intercept", "class", "effect"), weights.tolist(), strict=True)),
        "seed": seed,
        "config": config.model_dump(),
    }
    fusion = Fusion(names, classes.trees, effect_trees, weights, None, card)
    if validation is None:
        return fusion
    held_features, held_table = validation
    if shared := set(held_table["group"].astype(str)) & set(groups):
        raise InputError(
            f"validation part: {len(shared)} groups are in the training part as well, such as '{min(shared)}'; "
            "calibration needs groups of its own"
        )
    score, labels = fusion.predict(held_features).score, binary_labels(held_table, negatives)
    card["calibration"] = {"method": config.calibration, "rows": len(held_table)}
    return replace(fusion, calibration=fit_calibration(score, labels, config.calibration))


def _stack(classes: Rows, effect: Rows | None, y: Rows) -> Float[np.ndarray, " 3"]:
    """Weights of the two models' out-of-fold values in the log-odds; lightly penalised after scaling to unit spread."""
    columns = [classes] if effect is None else [classes, effect]
    stacked = np.column_stack(columns)
    middle, spread = stacked.mean(axis=0), stacked.std(axis=0)
    spread[spread == 0] = 1.0
    fitted = LogisticRegression(C=100.0, max_iter=1000).fit((stacked - middle) / spread, y.astype(int))
    slopes = fitted.coef_.ravel() / spread
    intercept = float(fitted.intercept_[0] - (slopes * middle).sum())
    return np.array([intercept, slopes[0], slopes[1] if effect is not None else 0.0])
