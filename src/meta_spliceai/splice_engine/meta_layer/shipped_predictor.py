"""Predictors that travel with the package: a logistic regression on a base network's Δ, read from JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import expit

from meta_spliceai.errors import IntegrityError, unknown_value
from meta_spliceai.splice_engine.base_layer.scores import BaseScores, max_window
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation

DEFAULT = "fusion-open"
FEATURES = ("log-odds of |Δ|", "log-odds of |Δ| above 0.05", "own sites' log-odds", "in exon", "log of spread")
LEAST_DELTA = 1e-4
"""|Δ| below this says nothing more: log-odds are taken from here on."""


def predictor_features(
    table: pd.DataFrame, scores: BaseScores, annotation: GeneAnnotation | None = None
) -> Float[np.ndarray, "variants features"]:
    """FEATURES of each variant; an unknown own site, or exon, counts as no change there, and as no exon."""
    from meta_spliceai.splice_engine.meta_layer.fusion_features import fusion_features  # brings PyTorch

    found = fusion_features(table, (scores,), annotation=annotation)
    kept = np.clip(np.abs(max_window(scores)).astype(np.float64), LEAST_DELTA, 1 - LEAST_DELTA)
    odds = np.log(kept) - np.log1p(-kept)
    own = found[f"{scores.model}: own log-odds"].fillna(0).to_numpy()
    spread = sum(found[f"{scores.model}: spread of log-odds {site}"].to_numpy() for site in ("acceptor", "donor"))
    exon = found["in_exon"].fillna(0).to_numpy()
    return np.column_stack([odds, np.maximum(odds + 3, 0), own, exon, np.log(spread + LEAST_DELTA)])


@dataclass(frozen=True)
class ShippedPredictor:
    """A predictor as it stands in the package.

    Attributes:
        weights: intercept and a weight a feature.
        members: the same of models trained on genes drawn with replacement; their spread is the interval.
        least, greatest: bounds of the probability, 1 in as many as there were training variants of the side, plus 2.
        domain: largest |length change| and distance from an exon's edge (bases) in training.
        card: training data, metrics, licences.
    """

    name: str
    network: str
    distance: int
    weights: Float[np.ndarray, " terms"]
    members: Float[np.ndarray, "members terms"]
    least: float
    greatest: float
    domain: dict[str, int]
    card: dict[str, Any]

    @cached_property
    def title(self) -> str:
        """The card's first line."""
        return str(self.card["title"])

    def probability(
        self, features: Float[np.ndarray, "variants features"]
    ) -> tuple[Float[np.ndarray, " variants"], Float[np.ndarray, " variants"], Float[np.ndarray, " variants"]]:
        """Probability of Splice-altering, and the lower and upper end of the members' 95 % interval."""
        x = np.column_stack([np.ones(len(features)), features])
        p = self._bounded(x @ self.weights)
        low, high = np.percentile(self._bounded(x @ self.members.T), [2.5, 97.5], axis=1)
        return p, np.minimum(low, p), np.maximum(high, p)

    def _bounded(self, odds: Float[np.ndarray, " *shape"]) -> Float[np.ndarray, " *shape"]:
        return np.clip(expit(odds), self.least, self.greatest)


def names() -> list[str]:
    return sorted(one.name.removesuffix(".json") for one in _folder().iterdir() if one.name.endswith(".json"))


def load_shipped(name: str = DEFAULT) -> ShippedPredictor:
    """A predictor of the package; InputError where there is none of this name, IntegrityError where it is damaged."""
    if name not in names():
        raise unknown_value("predictor", name, names())
    try:
        stored = json.loads((_folder() / f"{name}.json").read_text(encoding="utf-8"))
        stored["weights"], stored["members"] = np.array(stored["weights"], float), np.array(stored["members"], float)
        found = ShippedPredictor(name=name, **stored)
    except (ValueError, TypeError, KeyError) as error:
        raise IntegrityError(f"predictor {name} of the package is damaged ({error}); install again") from error
    terms = len(FEATURES) + 1
    if found.weights.shape != (terms,) or found.members.shape[1:] != (terms,):
        raise IntegrityError(f"predictor {name} of the package does not have {terms} weights; install again")
    return found


def _folder() -> Any:
    return files("meta_spliceai.splice_engine.meta_layer") / "shipped"
