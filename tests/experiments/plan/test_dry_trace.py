"""What a dry run sees: weights, gradients, moments, activations, and every floating-point operation."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from meta_spliceai.experiments.plan import dry_trace
from meta_spliceai.experiments.plan.dry_trace import DryRun, dry_run
from meta_spliceai.splice_engine.meta_layer.models import ComposedPredictor, QuantileEnsemble
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig

CONFIG = TrainingConfig()
SMALL: dict[str, Any] = {"encoder": "simple-cnn", "window": 41, "encoder_settings": {"hidden_dim": 8, "layers": 3}}
TINY: dict[str, Any] = {"encoder": "hyenadna-tiny-1k", "window": 65}


def hyena(**settings: Any) -> ComposedPredictor:
    whole = {"weights": "scratch", "freeze_encoder": False, "hidden_dim": 8, **settings}
    return ComposedPredictor(**TINY, encoder_settings=whole)


def run(build: Any, **more: Any) -> Any:
    return dry_run(build, CONFIG, **{"mixed": False, "cuda": False, **more})


def test_a_model_needs_no_memory_and_no_numbers_of_its_own() -> None:
    before = ComposedPredictor(**SMALL).parameter_count()
    dry = run(lambda: ComposedPredictor(**SMALL))
    assert dry.parameters == before
    assert next(ComposedPredictor(**SMALL).parameters()).device.type == "cpu"
    # Outside the dry run tensors have numbers again.
    assert float(torch.ones(3).sum()) == 3


def test_training_holds_weights_gradients_and_two_moments() -> None:
    dry = run(lambda: ComposedPredictor(**SMALL))
    # The activations die while the gradients come: at the peak there are weights, moments and some gradients.
    assert 3 * 4 * dry.trained < dry.training.at(0).peak_bytes < 5 * 4 * dry.trained
    # One activation of each of three layers for both alleles is the least that a backward pass needs.
    per_variant = (dry.training.at(12).peak_bytes - dry.training.at(4).peak_bytes) / 8
    assert per_variant > 2 * 3 * 8 * 41 * 4


def test_the_forward_pass_alone_holds_far_less() -> None:
    dry = run(lambda: ComposedPredictor(**SMALL))
    assert dry.validation.at(12).peak_bytes < 0.6 * dry.training.at(12).peak_bytes


def test_models_trained_side_by_side_take_the_memory_of_all() -> None:
    one = run(lambda: QuantileEnsemble(encoder="simple-cnn", window=41, hidden_dim=8, layers=3, quantiles=[0.5]))
    three = run(lambda: QuantileEnsemble(encoder="simple-cnn", window=41, hidden_dim=8, layers=3))
    assert three.trained == 3 * one.trained
    assert 2 * one.training.at(12).peak_bytes < three.training.at(12).peak_bytes < 4 * one.training.at(12).peak_bytes


def test_operations_are_those_pytorch_counts() -> None:
    predictor = ComposedPredictor(**SMALL)
    pair = torch.zeros(4, 4, 41), torch.zeros(4, 4, 41)
    with FlopCounterMode(display=False) as counter:
        predictor(*pair).sum().backward()
    traced = run(lambda: ComposedPredictor(**SMALL)).training.at(4)
    assert traced.flops[traced.matrix].sum() == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_checkpointing_trades_memory_for_work() -> None:
    plain = run(hyena).training.at(12)
    saved = run(lambda: hyena(gradient_checkpointing=True)).training.at(12)
    assert saved.peak_bytes < 0.9 * plain.peak_bytes
    assert saved.flops.sum() > 1.1 * plain.flops.sum()


def test_a_card_has_workspaces_for_transforms() -> None:
    with_them, without = run(hyena, cuda=True).training.at(12), run(hyena, cuda=False).training.at(12)
    assert with_them.peak_bytes > without.peak_bytes


def test_mixed_precision_halves_products_and_keeps_norms_whole() -> None:
    whole, mixed = (run(lambda: ComposedPredictor(**SMALL), mixed=on).training.at(12) for on in (False, True))
    assert not whole.half.any()
    assert mixed.half[mixed.matrix].all()
    assert mixed.moved[mixed.matrix].sum() < 0.7 * whole.moved[whole.matrix].sum()


def test_a_frozen_encoder_is_run_once_and_apart() -> None:
    dry = run(lambda: hyena(freeze_encoder=True, read_radius=8))
    assert dry.feature_bytes == 2 * 17 * 256
    assert dry.trained < dry.parameters
    # Neither training nor predicting runs the encoder again.
    assert dry.training.at(12).flops.sum() < 0.5 * dry.embedding.at(12).flops.sum()
    assert not run(hyena).embedding


@pytest.mark.slow
def test_one_run_serves_every_batch_as_a_run_of_its_own_would(monkeypatch: pytest.MonkeyPatch) -> None:
    alike = run(hyena, cuda=True)
    for size in (4, 12):
        # With the batch itself as the number that stands for it, nothing is told apart: everything counts as it is.
        monkeypatch.setattr(dry_trace, "BATCH", size)
        monkeypatch.setattr(dry_trace, "_size", lambda number, factor=1: (number * factor, 0))
        itself = run(hyena, cuda=True)
        monkeypatch.undo()
        for kind in ("training", "validation"):
            one, other = getattr(alike, kind).at(size), getattr(itself, kind).at(size)
            assert one.peak_bytes == other.peak_bytes
            assert one.flops.sum() == pytest.approx(other.flops.sum(), rel=1e-9)
            assert one.moved.sum() == pytest.approx(other.moved.sum(), rel=1e-9)


def test_a_dry_run_is_the_same_when_it_is_read_again() -> None:
    dry = run(lambda: hyena(freeze_encoder=True, read_radius=8))
    again = DryRun.from_json(json.loads(json.dumps(asdict(dry))))
    for kind in ("training", "validation", "embedding"):
        one, other = getattr(dry, kind).at(7), getattr(again, kind).at(7)
        assert one.peak_bytes == other.peak_bytes > 0
        assert (one.flops == other.flops).all()
        assert (one.matrix == other.matrix).all()
