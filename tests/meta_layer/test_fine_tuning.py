"""Fine-tuning: which layers move, when, and how fast."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.meta_layer.models import HyenaDNADeltaPredictor, ValidatedDeltaPredictor
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig
from meta_spliceai.splice_engine.meta_layer.training import FitReport, parameter_groups, set_trained

from .conftest import WINDOW, ToyTask


def new_predictor(freeze: bool = False) -> HyenaDNADeltaPredictor:
    return HyenaDNADeltaPredictor(
        "hyenadna-tiny-1k", hidden_dim=8, freeze_encoder=freeze, window=WINDOW, weights="scratch"
    )


def open_layers(predictor: HyenaDNADeltaPredictor) -> list[bool]:
    """Whether each encoder layer takes gradients, from the last down to the token table."""
    return [all(p.requires_grad for p in layer) for layer in predictor.encoder_layers()]


def test_every_encoder_parameter_belongs_to_exactly_one_layer() -> None:
    predictor = new_predictor()
    inside = [id(p) for layer in predictor.encoder_layers() for p in layer]
    assert sorted(inside) == sorted(id(p) for p in predictor.encoder.parameters())


def test_layers_open_from_the_top_one_after_the_other() -> None:
    predictor = new_predictor()
    gradual = TrainingConfig(unfreeze_every=2)
    seen = []
    for epoch in range(6):
        set_trained(predictor, gradual, epoch)
        seen.append(sum(open_layers(predictor)))
    assert seen == [1, 1, 2, 2, 3, 3]
    set_trained(predictor, TrainingConfig(unfreeze_layers=1), 5)
    assert open_layers(predictor) == [True, False, False]
    set_trained(predictor, TrainingConfig(unfreeze_layers=0), None)
    assert open_layers(predictor) == [False, False, False]
    with pytest.raises(InputError, match="unfreeze_layers = 1, but the encoder is frozen"):
        set_trained(new_predictor(freeze=True), TrainingConfig(unfreeze_layers=1), 0)


def test_each_layer_has_its_own_rate_and_every_trained_parameter_one_group() -> None:
    predictor = new_predictor()
    config = TrainingConfig(learning_rate=1e-2, encoder_rate=0.1, layer_decay=0.5, weight_decay=0.3)
    set_trained(predictor, config, None)
    groups = parameter_groups(predictor, config)
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert sorted(rate) == sorted(id(p) for p in predictor.parameters() if p.requires_grad)
    found = [rate[id(layer[0])] for layer in predictor.encoder_layers()]
    assert found == pytest.approx([1e-3, 5e-4, 2.5e-4])
    assert rate[id(next(predictor.head.parameters()))] == 1e-2
    assert all((group["weight_decay"] == 0.3) is (p.ndim >= 2) for group in groups for p in group["params"])


def test_a_cnn_has_one_rate() -> None:
    predictor = ValidatedDeltaPredictor(window=WINDOW, hidden_dim=8, layers=2)
    assert {group["lr"] for group in parameter_groups(predictor, TrainingConfig(learning_rate=0.5))} == {0.5}


def train(task: ToyTask, folder: Path, config: TrainingConfig, predictor: object = None) -> FitReport:
    return task.fit(predictor or new_predictor(), folder, config, resume=True)


def test_only_the_opened_layers_change(toy_task: ToyTask, tmp_path: Path) -> None:
    predictor, untouched = new_predictor(), new_predictor()
    train(toy_task, tmp_path, TrainingConfig(epochs=1, unfreeze_layers=1), predictor)
    for number, (layer, before) in enumerate(zip(predictor.encoder_layers(), untouched.encoder_layers(), strict=True)):
        changed = [not torch.equal(p, q) for p, q in zip(layer, before, strict=True)]
        assert any(changed) is (number == 0)


@pytest.mark.slow
def test_gradual_unfreezing_resumes_to_the_unbroken_result(toy_task: ToyTask, tmp_path: Path) -> None:
    config = TrainingConfig(epochs=4, batch_size=30, unfreeze_every=1, layer_decay=0.7, accumulate=2)
    whole = train(toy_task, tmp_path / "whole", config)
    broken = new_predictor()
    forward, calls = broken.forward, iter(range(100))

    def failing(ref: torch.Tensor, alt: torch.Tensor) -> torch.Tensor:
        if next(calls) == 9:  # three training batches and one of validation an epoch: in the third epoch
            raise KeyboardInterrupt
        return forward(ref, alt)

    broken.forward = failing  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        train(toy_task, tmp_path / "cut", config, broken)
    rest = train(toy_task, tmp_path / "cut", config)
    assert rest.resumed_from == 2
    clock = ["seconds", "windows_per_second"]
    pd.testing.assert_frame_equal(whole.curves.drop(columns=clock), rest.curves.drop(columns=clock))
