"""Frozen features: computed once, kept by content, whole or computed again; training on them changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from meta_spliceai.errors import RunError
from meta_spliceai.splice_engine.meta_layer import features
from meta_spliceai.splice_engine.meta_layer.features import WindowData, frozen_features
from meta_spliceai.splice_engine.meta_layer.models import HyenaDNADeltaPredictor
from meta_spliceai.splice_engine.meta_layer.prediction import predict
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig
from meta_spliceai.splice_engine.meta_layer.training import fit

from .conftest import WINDOW, ToyTask

CPU = torch.device("cpu")


def new_predictor(seed: int = 0) -> HyenaDNADeltaPredictor:
    return HyenaDNADeltaPredictor(
        "hyenadna-tiny-1k", hidden_dim=8, window=WINDOW, read_radius=4, weights="scratch", seed=seed
    )


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many sequences the encoder was given, call by call."""
    calls: list[int] = []
    encode = features._encode

    def counting(predictor: object, sequences: np.ndarray, *rest: object) -> np.ndarray:
        calls.append(len(sequences))
        return encode(predictor, sequences, *rest)

    monkeypatch.setattr(features, "_encode", counting)
    monkeypatch.setattr(features, "BLOCK", 50)
    return calls


def test_features_are_those_of_the_encoder_and_computed_once(
    toy_task: ToyTask, tmp_path: Path, counted: list[int]
) -> None:
    model, data = new_predictor(), WindowData.on_device(toy_task.windows, CPU)
    features = frozen_features(model, data, tmp_path)
    rows = torch.tensor([3, 70, 5])
    assert features is not None
    for kept, direct in zip(features.pair(rows), model.encode_pair(*data.pair(rows)), strict=True):
        assert torch.allclose(kept, direct, atol=2e-3)
    assert features.computed == sum(counted) == len(features.store) <= 240
    counted.clear()
    again = frozen_features(model, data, tmp_path)
    assert again is not None
    assert again.computed == sum(counted) == 0
    frozen_features(new_predictor(seed=1), data, tmp_path)  # other weights, other content
    assert sum(counted) == len(features.store)


def test_what_was_computed_and_what_was_found_is_said(
    toy_task: ToyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path / "cache"))
    done = [
        fit(
            new_predictor(),
            toy_task.windows,
            toy_task.targets,
            toy_task.train,
            toy_task.validation,
            TrainingConfig(epochs=1),
            tmp_path / name,
            "cpu",
        ).features
        for name in ("first", "second")
    ]
    first, second = done
    assert first is not None
    assert second is not None
    assert first["computed"] == first["sequences"] == second["sequences"]
    assert second["computed"] == 0


def test_an_interruption_keeps_finished_blocks_and_damage_is_noticed(
    toy_task: ToyTask, tmp_path: Path, counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = new_predictor(), WindowData.on_device(toy_task.windows, CPU)
    encode = features._encode
    left = iter([True, True, False])

    def cut(*args: object) -> np.ndarray:
        if not next(left):
            raise KeyboardInterrupt
        return encode(*args)

    with monkeypatch.context() as patched:
        patched.setattr(features, "_encode", cut)
        with pytest.raises(KeyboardInterrupt):
            frozen_features(model, data, tmp_path)
    assert frozen_features(model, data, tmp_path, write=False) is None
    counted.clear()
    whole = frozen_features(model, data, tmp_path)
    assert whole is not None
    assert sum(counted) == len(whole.store) - 100
    wanted = whole.store.clone()
    path = next(p for p in tmp_path.iterdir() if not p.suffix)
    with path.open("r+b") as handle:
        handle.seek(1000)
        handle.write(b"damage")
    counted.clear()
    again = frozen_features(model, data, tmp_path)
    assert again is not None
    assert counted == [50]
    assert torch.equal(again.store, wanted)


def test_training_on_kept_features_equals_training_through_the_encoder(
    toy_task: ToyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainingConfig(epochs=3, batch_size=16, learning_rate=3e-3)
    predictions = {}
    for way in ("kept", "direct"):
        model = new_predictor()
        if way == "direct":
            monkeypatch.setattr(
                "meta_spliceai.splice_engine.meta_layer.training.model_inputs",
                lambda predictor, windows, device, *rest, **options: WindowData.on_device(windows, device),
            )
        fit(
            model,
            toy_task.windows,
            toy_task.targets,
            toy_task.train,
            toy_task.validation,
            config,
            tmp_path / way,
            "cpu",
        )
        predictions[way] = predict(model, toy_task.windows, "cpu")
    # Rounding differs with the encoder's batches, and training carries it on a little.
    assert np.abs(predictions["kept"] - predictions["direct"]).max() < 0.2 * predictions["kept"].std()
    assert predictions["kept"].std() > 0.02


def test_checkpoints_of_a_frozen_model_hold_only_what_is_trained(toy_task: ToyTask, tmp_path: Path) -> None:
    model = new_predictor()
    fit(
        model,
        toy_task.windows,
        toy_task.targets,
        toy_task.train,
        toy_task.validation,
        TrainingConfig(epochs=1),
        tmp_path / "run",
        "cpu",
    )
    sizes = {p.name: p.stat().st_size for p in (tmp_path / "run").iterdir()}
    trained = 4 * model.describe()["parameters_trained"]
    # The parameters, the best ones, and the optimiser's two moments of each.
    assert sizes["last.ckpt"] < 5 * trained + 50_000 < 4 * model.describe()["parameters"]


def test_a_folder_that_cannot_be_written_to_is_named(toy_task: ToyTask, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    data = WindowData.on_device(toy_task.windows, CPU)
    with pytest.raises(RunError, match="features cannot be kept in"):
        frozen_features(new_predictor(), data, tmp_path / "file" / "cache")


def test_the_index_names_every_block(toy_task: ToyTask, tmp_path: Path, counted: list[int]) -> None:
    features = frozen_features(new_predictor(), WindowData.on_device(toy_task.windows, CPU), tmp_path)
    assert features is not None
    index = json.loads((tmp_path / f"{features.name}.json").read_text())
    assert len(index) == -(-len(features.store) // 50) == len(counted)
