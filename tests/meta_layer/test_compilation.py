"""Compiled training: the same numbers within rounding, and an error where there is nothing to compile with."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from meta_spliceai.errors import RunError
from meta_spliceai.splice_engine.meta_layer import training
from meta_spliceai.splice_engine.meta_layer.models import HyenaDNADeltaPredictor, Predictor, ValidatedDeltaPredictor
from meta_spliceai.splice_engine.meta_layer.prediction import predict
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig
from meta_spliceai.splice_engine.meta_layer.training import fit

from .conftest import WINDOW, ToyTask

CONFIG = TrainingConfig(epochs=2, batch_size=30, learning_rate=3e-3, seed=7)


def train(task: ToyTask, predictor: Predictor, folder: Path, mode: str) -> tuple[np.ndarray, np.ndarray]:
    config = CONFIG.model_copy(update={"compile": mode})
    rows = (task.train[:60], task.validation)
    report = fit(predictor, task.windows, task.targets, *rows, config, folder, "cpu")
    losses = report.curves[["train_loss", "val_loss"]].to_numpy()
    return losses, predict(predictor, task.windows, "cpu")


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler, not found here"
)
@pytest.mark.parametrize("kind", ["cnn", "frozen"])
def test_compiled_training_gives_the_same_numbers(
    kind: str, toy_task: ToyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))

    def new() -> Predictor:
        if kind == "cnn":
            return ValidatedDeltaPredictor(window=WINDOW, hidden_dim=8, layers=2, kernel=7, seed=1)
        return HyenaDNADeltaPredictor("hyenadna-tiny-1k", 8, window=WINDOW, weights="scratch", read_radius=4)

    plain, predictions = train(toy_task, new(), tmp_path / "plain", "none")
    calls = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    faster, same = train(toy_task, new(), tmp_path / "compiled-run", "default")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > calls  # something was compiled
    assert np.allclose(plain, faster, rtol=1e-3)
    assert np.abs(predictions - same).max() < 1e-3


def test_compiling_without_a_compiler_is_an_error_that_says_so(
    toy_task: ToyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.shutil, "which", lambda name: None)
    predictor = ValidatedDeltaPredictor(window=WINDOW, hidden_dim=8, layers=2)
    with pytest.raises(RunError, match=r"training\.compile = default needs a C\+\+ compiler"):
        train(toy_task, predictor, tmp_path, "default")
    assert len(train(toy_task, predictor, tmp_path, "none")[0]) == 2
