"""Predictors included in the package: base networks' Δ and position, combined by a regression and by trees."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import expit

from meta_spliceai.errors import unknown_value
from meta_spliceai.read_hostile import one_error
from meta_spliceai.splice_engine.meta_layer.trees import Trees, read_parts

DEFAULT = "fusion-cispliceai"
POSITION = ("in_exon", "to_acceptor", "to_donor", "nearest", "length change")
LINEAR = ("log-odds of |Δ|", "log-odds of |Δ| above 0.05", "log of spread", "own log-odds")
RISING = {
    "log-odds of |Δ|": 1,
    "log-odds of |Δ| above 0.05": 1,
    "strongest |Δ|": 1,
    "loss": -1,
    "own least Δ": -1,
    "gain acceptor": 1,
    "gain donor": 1,
}
"""Features of a network in which the trees may only rise (1) or fall (-1)."""
OF_NETWORK = tuple(dict.fromkeys((*LINEAR, *RISING, "own exon Δ")))
LEAST_DELTA = 1e-4
"""|Δ| below this says nothing more: log-odds are taken from here on."""
SOURCES = 4
"""The trees' last features: 1 for the source a variant was measured in, else 0."""


def feature_names(networks: Sequence[str]) -> list[str]:
    return [*POSITION, *(f"{name}: {feature}" for name in networks for feature in OF_NETWORK)]


def linear_columns(networks: Sequence[str]) -> list[str]:
    """The features that the logistic regression weighs; NaN counts as 0 there: no exon, no change of an own site."""
    return ["in_exon", *(f"{name}: {feature}" for name in networks for feature in LINEAR)]


@dataclass(frozen=True)
class ShippedPredictor:
    """A predictor as it stands in the package.

    Of `linear` and `trees` the first is the predictor; the others are its members, learned from genes drawn with
    replacement, whose spread is the interval.

    Attributes:
        networks: base networks by name, with their 0-based members (None: all).
        source: in which of the sources a user's variants count as measured.
        share: of the regression in the log-odds; the rest is the trees'. With 1 there are no trees.
        linear: intercept and a weight per feature of `linear_columns`.
        trees: of all features and the sources.
        platt: intercept and slope that make the trees' raw value log-odds.
        least, greatest: bounds of the probability, 1 in as many as there were training variants of the side, plus 2.
        domain: largest |length change| and distance from an exon's edge (bases) in training.
        card: training data, metrics, licences.
    """

    name: str
    networks: dict[str, list[int] | None]
    distance: int
    source: int
    share: float
    linear: Float[np.ndarray, "models terms"]
    trees: tuple[Trees, ...]
    platt: tuple[float, float]
    least: float
    greatest: float
    domain: dict[str, int]
    card: dict[str, Any]

    @cached_property
    def title(self) -> str:
        """The card's first line."""
        return str(self.card["title"])

    def probability(
        self, features: pd.DataFrame
    ) -> tuple[Float[np.ndarray, " variants"], Float[np.ndarray, " variants"], Float[np.ndarray, " variants"]]:
        """Probability of Splice-altering, and the lower and upper end of the members' 95 % interval.

        Args:
            features: as `predictor_features` gives them for these networks.
        """
        x = features[linear_columns(list(self.networks))].fillna(0).to_numpy()
        odds = self.share * (self.linear[:, :1] + self.linear[:, 1:] @ x.T)
        if self.trees:
            own = np.eye(SOURCES)[np.full(len(x), self.source)]
            every = np.column_stack([features[feature_names(list(self.networks))].to_numpy(dtype=np.float64), own])
            raw = np.stack([one.raw(every) for one in self.trees])
            odds = odds + (1 - self.share) * (self.platt[0] + self.platt[1] * raw)
        each = np.clip(expit(odds), self.least, self.greatest)
        p = each[0]
        low, high = np.percentile(each[1:], [2.5, 97.5], axis=0)
        return p, np.minimum(low, p), np.maximum(high, p)


def names() -> list[str]:
    return sorted(one.name.removesuffix(".json") for one in _folder().iterdir() if one.name.endswith(".json"))


def load_shipped(name: str = DEFAULT) -> ShippedPredictor:
    """A predictor of the package; InputError where there is none of this name, IntegrityError where it is damaged."""
    if name not in names():
        raise unknown_value("predictor", name, names())
    with one_error(f"predictor {name} of the package", "install again"):
        stored = json.loads((_folder() / f"{name}.json").read_text(encoding="utf-8"))
        with (_folder() / f"{name}.npz").open("rb") as handle:
            parts = read_parts(handle)
        linear = parts.pop("linear")[""].astype(np.float64)
        trees = tuple(Trees.from_arrays(own) for own in parts.values())
        return ShippedPredictor(name=name, linear=linear, trees=trees, **stored)


def _folder() -> Any:
    return files("meta_spliceai.splice_engine.meta_layer") / "shipped"
