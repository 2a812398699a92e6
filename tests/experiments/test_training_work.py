"""Operations of training: those PyTorch counts on real numbers, whatever a machine makes of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from meta_spliceai.experiments.run.utilisation import (
    StepWork,
    step_work,
    training_operations,
    without_numbers,
)
from meta_spliceai.splice_engine.meta_layer.models import (
    HyenaDNADeltaPredictor,
    QuantileEnsemble,
    SimpleCNNDeltaPredictor,
    ValidatedDeltaPredictor,
)
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig


def hyena(**settings: Any) -> HyenaDNADeltaPredictor:
    whole = {"hidden_dim": 8, "freeze_encoder": False, "window": 65, "weights": "scratch", **settings}
    return HyenaDNADeltaPredictor("hyenadna-tiny-1k", **whole)


def at(work: StepWork, batch: int) -> float:
    return work.once + batch * work.each


@pytest.mark.parametrize("kind", [SimpleCNNDeltaPredictor, ValidatedDeltaPredictor])
def test_a_step_is_counted_as_pytorch_counts_a_real_one(kind: Any) -> None:
    predictor = kind(window=41, hidden_dim=8).train()
    pair = torch.zeros(3, 4, 41), torch.zeros(3, 4, 41)
    with FlopCounterMode(display=False) as counter, torch.autocast("cpu", torch.bfloat16):  # no phases there
        predictor(*pair).sum().backward()
    assert at(step_work(without_numbers(predictor)), 3) == counter.get_total_flops()


@pytest.mark.slow
def test_what_a_batch_shares_is_counted_once_for_it() -> None:
    shared = step_work(without_numbers(hyena())).once
    assert shared > 0  # the filters' networks and transforms
    config = TrainingConfig(batch_size=10)
    few, many = (training_operations(hyena(), config, rows, 1) for rows in (41, 50))
    # Both are five batches: the second only has more variants in the last one.
    each = step_work(without_numbers(hyena())).each
    assert many - few == pytest.approx(9 * each)
    assert few == pytest.approx(5 * shared + 41 * each)
    assert training_operations(hyena(), config, 41, 3) == pytest.approx(3 * few)


def test_fourier_transforms_count_and_what_is_computed_again_does_not() -> None:
    plain, again = (at(step_work(without_numbers(hyena(gradient_checkpointing=on))), 2) for on in (False, True))
    assert plain == again
    predictor = hyena().train()
    with FlopCounterMode(display=False) as counter:
        predictor(torch.zeros(2, 4, 65), torch.zeros(2, 4, 65)).sum().backward()
    assert 1.005 * counter.get_total_flops() < plain < 1.2 * counter.get_total_flops()


def test_epochs_with_fewer_open_layers_cost_less() -> None:
    whole, gradual = (training_operations(hyena(), TrainingConfig(unfreeze_every=every), 64, 2) for every in (0, 1))
    assert gradual < 0.95 * whole
    head_only = training_operations(hyena(freeze_encoder=True), TrainingConfig(), 64, 2)
    assert head_only < 0.2 * gradual


@pytest.mark.parametrize("build", [hyena, lambda: SimpleCNNDeltaPredictor(window=41, hidden_dim=8)])
def test_it_does_not_matter_where_the_predictor_is(build: Any) -> None:
    here = step_work(without_numbers(build()))
    # A tensor that came along from another device would meet those of the copy, and PyTorch would raise.
    assert step_work(without_numbers(build().to("meta"))) == here


@pytest.mark.slow
def test_every_member_of_a_quantile_ensemble_counts() -> None:
    one, three = (
        step_work(without_numbers(QuantileEnsemble(41, quantiles, "simple-cnn", hidden_dim=8)))
        for quantiles in ((0.5,), (0.25, 0.5, 0.75))
    )
    assert three.each == 3 * one.each
    hyenas = QuantileEnsemble(65, (0.5, 0.9), "hyenadna-tiny-1k", weights="scratch", freeze_encoder=False)
    assert step_work(without_numbers(hyenas)).once > 0


def test_the_predictor_is_left_as_it_is() -> None:
    predictor = hyena(gradient_checkpointing=True).eval()
    before = {name: (tensor.clone(), tensor.requires_grad) for name, tensor in predictor.named_parameters()}
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    training_operations(predictor, TrainingConfig(unfreeze_every=1), 16, 1)
    assert torch.equal(torch.rand(4), expected)
    assert not predictor.training
    assert predictor.encoder.model.gradient_checkpointing
    for name, tensor in predictor.named_parameters():
        assert torch.equal(tensor, before[name][0])
        assert tensor.requires_grad == before[name][1]
        assert tensor.grad is None
