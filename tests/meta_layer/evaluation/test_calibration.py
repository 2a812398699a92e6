"""Probabilities that are true, too bold or bent: what the curve and the numbers say, and whether a repair repairs."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.splice_engine.meta_layer.evaluation.calibration import (
    Calibration,
    calibration_error,
    evaluate_calibration,
    fit_calibration,
    reliability,
)


def made(rows: int = 6000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True probabilities, labels drawn from them, and the same probabilities stated twice as boldly in log-odds."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-1.5, 1.5, rows)
    true = 1 / (1 + np.exp(-odds))
    return true, (rng.random(rows) < true).astype(float), 1 / (1 + np.exp(-2 * odds))


def test_brier_equals_scikit_learn_and_true_probabilities_are_well_calibrated() -> None:
    true, y, bold = made()
    groups = np.arange(len(y)) % 300
    honest, overbold = (evaluate_calibration(p, y, groups, n_boot=200) for p in (true, bold))
    assert honest.loc["brier", "estimate"] == pytest.approx(brier_score_loss(y, true))
    assert honest.loc["brier_of_prevalence", "estimate"] == pytest.approx(y.mean() * (1 - y.mean()))
    assert honest.loc["brier", "low"] < honest.loc["brier", "estimate"] < honest.loc["brier", "high"]
    assert honest.loc["calibration_error", "estimate"] < 0.02
    assert overbold.loc["calibration_error", "estimate"] > 0.05
    assert overbold.loc["brier_skill", "estimate"] < honest.loc["brier_skill", "estimate"]


def test_calibration_error_by_hand() -> None:
    p = np.array([0.1, 0.1, 0.1, 0.1, 0.8, 0.8])
    y = np.array([0, 0, 0, 1, 1, 0])
    assert calibration_error(p, y, bins=2) == pytest.approx((4 * 0.15 + 2 * 0.3) / 6)
    evaluated = evaluate_calibration(p, y.astype(float), np.arange(6), bins=2, n_boot=5)
    assert evaluated.loc["calibration_error", "estimate"] == pytest.approx((4 * 0.15 + 2 * 0.3) / 6)


def test_the_curve_counts_every_row_once_and_its_bins_are_of_equal_size() -> None:
    true, y, _ = made(1000, seed=3)
    curve = reliability(true, y, bins=10)
    assert curve["n"].tolist() == [100] * 10
    assert (curve["predicted"].diff().dropna() > 0).all()
    assert ((curve["low"] <= curve["observed"]) & (curve["observed"] <= curve["high"])).all()
    assert ((curve["low"] <= curve["predicted"]) & (curve["predicted"] <= curve["high"])).sum() >= 8
    tied = reliability(np.full(50, 0.2), y[:50], bins=10)
    assert tied["n"].tolist() == [50]


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_a_repair_fitted_on_validation_rows_repairs_the_test_rows(method: str) -> None:
    _, y_validation, bold_validation = made(seed=1)
    _, y_test, bold_test = made(seed=2)
    repair = fit_calibration(bold_validation, y_validation, method)  # type: ignore[arg-type]
    before, after = calibration_error(bold_test, y_test), calibration_error(repair.apply(bold_test), y_test)
    assert after < before / 3
    if method == "temperature":
        assert repair.y[0] == pytest.approx(2, abs=0.15)
    assert (np.diff(repair.apply(np.linspace(0, 1, 50))) >= 0).all()


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_a_repair_survives_being_written(method: str) -> None:
    _, y, bold = made()
    repair = fit_calibration(bold, y, method)  # type: ignore[arg-type]
    again = Calibration.from_arrays(repair.arrays(), "toy")
    np.testing.assert_array_equal(again.apply(bold), repair.apply(bold))
    with pytest.raises(IntegrityError, match="toy: does not hold a calibration"):
        Calibration.from_arrays({"x": repair.x, "y": repair.y}, "toy")


def test_isotonic_takes_scores_that_are_no_probabilities() -> None:
    _, y, bold = made()
    repaired = fit_calibration(10 * bold, y, "isotonic").apply(10 * bold)
    assert calibration_error(repaired, y) < 0.01


def test_what_calibration_refuses_and_states() -> None:
    true, y, _ = made(100)
    with pytest.raises(InputError, match="validation part: no positive variant among 100 rows"):
        fit_calibration(true, np.zeros(100), "isotonic")
    with pytest.raises(InputError, match=r"rows evaluated: 1.5 is not a probability \(row 3"):
        reliability(np.array([0.1, 0.2, 1.5]), np.zeros(3))
    with pytest.raises(InputError, match="no row has both a probability and a class"):
        reliability(np.full(3, np.nan), np.zeros(3))
    with_gap = np.where(np.arange(100) < 5, np.nan, y)
    assert reliability(true, with_gap, bins=1)["n"].tolist() == [95]
    one_class = evaluate_calibration(true, np.zeros(100), np.arange(100), n_boot=5)
    assert np.isnan(one_class.loc["brier_skill", "estimate"])
    assert one_class.loc["brier_skill", "reason"] == "one class only"
    one_group = evaluate_calibration(true, y, np.zeros(100), n_boot=5)
    assert "one group" in one_group.loc["brier", "reason"]
