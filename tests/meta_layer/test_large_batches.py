"""A step in pieces is the step at once, and a learning rate that follows the batch says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from meta_spliceai.splice_engine.meta_layer.models import SimpleCNNDeltaPredictor
from meta_spliceai.splice_engine.meta_layer.prediction import predict
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig
from meta_spliceai.splice_engine.meta_layer.training import FitReport, fit, parameter_groups

from .conftest import WINDOW, ToyTask

CONFIG = TrainingConfig(epochs=3, batch_size=32, learning_rate=1e-3, patience=0)


def train(task: ToyTask, folder: Path, **settings: object) -> tuple[FitReport, np.ndarray]:
    # Without dropout, which draws other numbers for batches of another size.
    predictor = SimpleCNNDeltaPredictor(window=WINDOW, hidden_dim=8, layers=2, dropout=0.0)
    config = CONFIG.model_copy(update=settings)
    report = fit(predictor, task.windows, task.targets, task.train, task.validation, config, folder, "cpu")
    return report, predict(predictor, task.windows, "cpu")


@pytest.mark.parametrize(("batch", "pieces"), [(16, 2), (8, 4)])
@pytest.mark.parametrize("balance", ["none", "classes"])
def test_a_step_in_pieces_is_the_step_at_once(
    toy_task: ToyTask, tmp_path: Path, batch: int, pieces: int, balance: str
) -> None:
    # 90 rows: the last step of an epoch has 26, in pieces of 16 and 10, or of 8, 8, 8 and 2.
    whole, at_once = train(toy_task, tmp_path / "whole", balance=balance)
    parts, in_pieces = train(toy_task, tmp_path / "pieces", balance=balance, batch_size=batch, accumulate=pieces)
    assert np.abs(at_once - in_pieces).max() < 1e-5
    for column in ("train_loss", "val_loss", "learning_rate"):
        assert np.allclose(whole.curves[column], parts.curves[column], rtol=1e-4)


def test_the_rate_follows_the_batch_where_it_is_asked_to() -> None:
    meant = CONFIG.model_copy(update={"learning_rate_for_batch": 8})
    assert CONFIG.highest_rate == 1e-3
    assert meant.highest_rate == pytest.approx(2e-3)
    assert meant.model_copy(update={"rate_rule": "linear"}).highest_rate == pytest.approx(4e-3)
    predictor = SimpleCNNDeltaPredictor(window=WINDOW, hidden_dim=8, layers=2)
    assert {group["lr"] for group in parameter_groups(predictor, meant)} == {meant.highest_rate}


def test_a_smaller_batch_for_want_of_memory_keeps_the_rate() -> None:
    meant = CONFIG.model_copy(update={"learning_rate_for_batch": 8})
    smaller = meant.model_copy(update={"batch_size": 8, "accumulate": 4})
    assert smaller.highest_rate == meant.highest_rate


def test_a_scaled_rate_is_used_and_stands_on_the_result(toy_task: ToyTask, tmp_path: Path) -> None:
    plain, _ = train(toy_task, tmp_path / "plain")
    scaled, _ = train(toy_task, tmp_path / "scaled", learning_rate_for_batch=8)
    assert len(plain.notes) == 1
    assert scaled.notes[1:] == ("learning rate 0.002: 0.001, meant for 8 variants a step, scaled to 32 (sqrt)",)
    assert np.allclose(scaled.curves["learning_rate"], 2 * plain.curves["learning_rate"])
