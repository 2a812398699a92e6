"""Are predicted probabilities calibrated: reliability, Brier score, calibration error; and calibration on validation
rows.

A calibration is fitted on the validation part only. Fitted on the test part it would report the test part's own noise
as calibration; fitted on the training part, it would see probabilities that the model could already bend to its rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.optimize import minimize_scalar
from sklearn.isotonic import IsotonicRegression

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import (
    Counts,
    Replicates,
    bootstrap_table,
    plan_resamples,
)

Method = Literal["temperature", "isotonic"]
METHODS: tuple[str, ...] = get_args(Method)
Rows = Float[np.ndarray, " rows"]
NEAR_CERTAIN = 1e-6
"""Probabilities are kept this far from 0 and 1 where their log-odds are taken."""
Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Calibration:
    """A monotone map from stated to calibrated probability.

    Attributes:
        method: "temperature": log-odds divided by `y[0]` (Guo et al. 2017, 10.48550/arXiv.1706.04599), which keeps
            every order; "isotonic": the increasing step function of least squares, straight between its corners
            (Zadrozny & Elkan 2002), which may tie what was apart.
        x, y: corners of the isotonic map; for "temperature" x is empty.
    """

    method: Method
    x: Float[np.ndarray, " corners"]
    y: Float[np.ndarray, " corners"]

    def apply(self, probability: Rows) -> Rows:
        if self.method == "temperature":
            return 1 / (1 + np.exp(-(_log_odds(probability) / self.y[0])))
        return np.interp(probability, self.x, self.y)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"method": np.array(self.method), "x": self.x, "y": self.y}

    @classmethod
    def from_arrays(cls, stored: Mapping[str, np.ndarray], where: str) -> Calibration:
        whole = {"method", "x", "y"} <= set(stored) and str(stored["method"]) in METHODS and len(stored["y"])
        if not whole or any(stored[axis].dtype.kind != "f" or not np.isfinite(stored[axis]).all() for axis in "xy"):
            raise IntegrityError(f"{where}: does not hold a calibration; the file is damaged")
        return cls(str(stored["method"]), np.asarray(stored["x"]), np.asarray(stored["y"]))  # type: ignore[arg-type]


def fit_calibration(probability: Rows, y: Rows, method: Method = "isotonic") -> Calibration:
    """Fit on validation rows.

    `probability` is stated by the model ("isotonic" takes any score), `y` is 1 or 0; rows with NaN are left aside.

    Raises:
        InputError: a validation part without one of the classes; for "temperature", a number that is no probability.
    """
    known = _known(probability, y, "validation part")
    p, y = probability[known], y[known]
    for side, name in ((1, "positive"), (0, "negative")):
        if not (y == side).any():
            raise InputError(f"validation part: no {name} variant among {len(y)} rows; calibration cannot be fitted")
    if method == "isotonic":
        fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p, y)
        return Calibration(method, fitted.X_thresholds_, fitted.y_thresholds_)
    _require_probabilities(p, "validation part")
    odds, sign = _log_odds(p), np.where(y == 1, -1.0, 1.0)
    best = minimize_scalar(
        lambda log_t: np.logaddexp(0, sign * odds / np.exp(log_t)).mean(), bounds=(-4, 4), method="bounded"
    )
    return Calibration(method, np.empty(0), np.array([np.exp(best.x)]))


def reliability(probability: Rows, y: Rows, bins: int = 10) -> pd.DataFrame:
    """The reliability curve: rows sorted by probability, cut into bins of equal size.

    Equal size rather than equal width: altering variants are rare, and bins of equal width are nearly empty above 0.5.
    Rows of equal probability stay together, so there may be fewer bins than asked for.

    Returns:
        A row per bin: `lowest`, `highest` (probability), `n`, `predicted` (mean), `observed` (share of positives),
        `low`, `high` (95 % Wilson interval of the share, rows taken as independent).
    """
    known = _known(probability, y, "rows evaluated")
    p, y = probability[known], y[known]
    _require_probabilities(p, "rows evaluated")
    number = _bins_of_equal_size(p, bins)
    rows = []
    for place in np.unique(number):
        mine = number == place
        n, observed = int(mine.sum()), float(y[mine].mean())
        middle = (observed + Z_95**2 / (2 * n)) / (1 + Z_95**2 / n)
        half = Z_95 / (1 + Z_95**2 / n) * np.sqrt(observed * (1 - observed) / n + Z_95**2 / (4 * n**2))
        rows.append(
            {
                "lowest": p[mine].min(),
                "highest": p[mine].max(),
                "n": n,
                "predicted": p[mine].mean(),
                "observed": observed,
                "low": max(0.0, middle - half),
                "high": min(1.0, middle + half),
            }
        )
    return pd.DataFrame(rows)


def calibration_error(probability: Rows, y: Rows, bins: int = 10) -> float:
    """Expected calibration error: Σ over bins of equal size of share of rows × |mean probability − observed share|."""
    curve = reliability(probability, y, bins)
    return float((curve["n"] * (curve["predicted"] - curve["observed"]).abs()).sum() / curve["n"].sum())


def evaluate_calibration(
    probability: Rows, y: Rows, groups: np.ndarray, *, bins: int = 10, n_boot: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Brier score, the Brier score of the prevalence alone, and the calibration error, with group-bootstrap intervals.

    The bins are those of all rows; a resample changes how many rows are in each. The calibration error of finite
    data is above zero even for true probabilities, and its resamples lie higher still, so its interval is not centred
    on the estimate.

    Returns:
        Rows `brier`, `brier_of_prevalence`, `brier_skill` (1 − ratio of the two; higher is better),
        `calibration_error`; columns estimate, low, high, reason.
    """
    known = _known(probability, y, "rows evaluated")
    p, truth = probability[known], y[known]
    _require_probabilities(p, "rows evaluated")
    plan = plan_resamples(np.asarray(groups, dtype=object)[known], n_boot, seed)
    number = _bins_of_equal_size(p, bins)
    n_bins = int(number.max()) + 1
    cell = plan.unit * n_bins + number

    def sums(values: Rows) -> Float[np.ndarray, "groups bins"]:
        return np.bincount(cell, weights=values, minlength=plan.n_groups * n_bins).reshape(plan.n_groups, n_bins)

    parts = [sums(values) for values in (np.ones_like(p), p, truth, (p - truth) ** 2)]

    def at(counts: Counts) -> dict[str, Replicates]:
        n, predicted, observed, squared = (counts.astype(np.float64) @ part for part in parts)
        rows = n.sum(axis=1)
        share = observed.sum(axis=1) / rows
        chance = share * (1 - share)
        brier = squared.sum(axis=1) / rows
        with np.errstate(invalid="ignore", divide="ignore"):
            skill = np.where(chance > 0, 1 - brier / chance, np.nan)
        error = np.abs(predicted - observed).sum(axis=1) / rows
        return {"brier": brier, "brier_of_prevalence": chance, "brier_skill": skill, "calibration_error": error}

    return bootstrap_table(plan, at, "one class only")


def _known(probability: Rows, y: Rows, where: str) -> Bool[np.ndarray, " rows"]:
    """Which rows have both a probability and a class; InputError where none has."""
    known = ~(np.isnan(probability) | np.isnan(y))
    if not known.any():
        raise InputError(f"{where}: no row has both a probability and a class; calibration cannot be evaluated")
    return known


def _require_probabilities(p: Rows, where: str) -> None:
    outside = np.flatnonzero((p < 0) | (p > 1))
    if len(outside):
        raise InputError(
            f"{where}: {p[outside[0]]:g} is not a probability (row {outside[0] + 1} of those known); calibrate the "
            "score first (isotonic, on validation rows)"
        )


def _bins_of_equal_size(p: Rows, bins: int) -> np.ndarray:
    last = [len(p) * cut // bins - 1 for cut in range(1, bins)]
    edges = np.unique(np.sort(p)[[place for place in last if place >= 0]])
    return np.unique(np.searchsorted(edges, p, side="left"), return_inverse=True)[1]


def _log_odds(p: Rows) -> Rows:
    kept = np.clip(p, NEAR_CERTAIN, 1 - NEAR_CERTAIN)
    return np.log(kept) - np.log1p(-kept)
