"""What a dry run sees: weights, gradients, moments, activations, and every floating-point operation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from meta_spliceai.experiments.plan import dry_trace
from meta_spliceai.experiments.plan.demand import at_batch
from meta_spliceai.experiments.plan.dry_trace import Size, Traced, _Account, dry_run
from meta_spliceai.splice_engine.meta_layer.models import ComposedPredictor
from meta_spliceai.splice_engine.meta_layer.training_config import TrainingConfig
from meta_spliceai.splice_engine.meta_layer.training_work import fourier_work

CONFIG = TrainingConfig()
SMALL: dict[str, Any] = {"encoder": "simple-cnn", "window": 41, "encoder_settings": {"hidden_dim": 8, "layers": 3}}
TINY: dict[str, Any] = {"encoder": "hyenadna-tiny-1k", "window": 65}


def hyena(**settings: Any) -> ComposedPredictor:
    whole = {"weights": "scratch", "freeze_encoder": False, "hidden_dim": 8, **settings}
    return ComposedPredictor(**TINY, encoder_settings=whole)


def run(build: Any, sizes: tuple[int, int] = (4, 12), **more: Any) -> Any:
    return dry_run(build, CONFIG, sizes, **{"mixed": False, "cuda": False, **more})


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
    assert 3 * 4 * dry.trained < at_batch(dry.training, 0).peak_bytes < 5 * 4 * dry.trained
    # One activation of each of three layers for both alleles is the least that a backward pass needs.
    per_variant = (dry.training[12].peak_bytes - dry.training[4].peak_bytes) / 8
    assert per_variant > 2 * 3 * 8 * 41 * 4


def test_the_forward_pass_alone_holds_far_less() -> None:
    dry = run(lambda: ComposedPredictor(**SMALL))
    assert dry.validation[12].peak_bytes < 0.6 * dry.training[12].peak_bytes


def test_operations_are_those_pytorch_counts() -> None:
    predictor = ComposedPredictor(**SMALL)
    pair = torch.zeros(4, 4, 41), torch.zeros(4, 4, 41)
    with FlopCounterMode(display=False) as counter:
        predictor(*pair).sum().backward()
    traced = run(lambda: ComposedPredictor(**SMALL)).training[4]
    assert traced.flops[traced.matrix].sum() == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_batches_lie_on_a_line() -> None:
    two = run(lambda: ComposedPredictor(**SMALL), (4, 12))
    between = run(lambda: ComposedPredictor(**SMALL), (8, 20))
    foreseen = at_batch(two.training, 8)
    assert foreseen.peak_bytes == pytest.approx(between.training[8].peak_bytes, rel=0.02)
    assert foreseen.flops.sum() == pytest.approx(between.training[8].flops.sum(), rel=0.01)


def test_one_run_serves_every_batch_as_a_run_of_its_own_would(monkeypatch: pytest.MonkeyPatch) -> None:
    alike = run(hyena, (4, 12), cuda=True)
    for size in (4, 12):
        # With the batch itself as the number that stands for it, nothing is told apart: everything counts as it is.
        monkeypatch.setattr(dry_trace, "BATCH", size)
        monkeypatch.setattr(Size, "of", classmethod(lambda cls, number: cls(number, 0)))
        itself = run(hyena, (size, size), cuda=True)
        monkeypatch.undo()
        for kind in ("training", "validation"):
            one, other = getattr(alike, kind)[size], getattr(itself, kind)[size]
            assert one.peak_bytes == other.peak_bytes
            assert one.flops.sum() == pytest.approx(other.flops.sum(), rel=1e-9)
            assert one.moved.sum() == pytest.approx(other.moved.sum(), rel=1e-9)


def test_checkpointing_trades_memory_for_work() -> None:
    plain = run(hyena).training[12]
    saved = run(lambda: hyena(gradient_checkpointing=True)).training[12]
    assert saved.peak_bytes < 0.9 * plain.peak_bytes
    assert saved.flops.sum() > 1.1 * plain.flops.sum()


def test_fourier_transforms_count() -> None:
    account = _Account(workspaces=False)
    with account:
        account.counting = True
        torch.fft.rfft(torch.zeros(3, 64))
        torch.fft.fft(torch.zeros(3, 64, dtype=torch.complex64))
    real, whole = [row[0].at(1) for row in account.rows if row[0].at(1) > 200][:2]
    assert real == 3 * 2.5 * 64 * 6
    assert whole == 3 * 5 * 64 * 6
    spectrum = torch.zeros(3, 33, dtype=torch.complex64)
    back = torch.fft.irfft(spectrum, n=64)
    assert math.prod(fourier_work(torch.ops.aten._fft_c2r, (spectrum, [1]), back)) == real


def test_a_card_has_workspaces_for_transforms() -> None:
    with_them, without = run(hyena, cuda=True).training[12], run(hyena, cuda=False).training[12]
    assert with_them.peak_bytes > without.peak_bytes


def test_mixed_precision_halves_products_and_keeps_norms_whole() -> None:
    whole, mixed = (run(lambda: ComposedPredictor(**SMALL), mixed=on).training[12] for on in (False, True))
    assert not whole.half.any()
    assert mixed.half[mixed.matrix].all()
    assert mixed.moved[mixed.matrix].sum() < 0.7 * whole.moved[whole.matrix].sum()


def test_a_frozen_encoder_is_run_once_and_apart() -> None:
    dry = run(lambda: hyena(freeze_encoder=True, read_radius=8))
    assert dry.feature_bytes == 2 * 17 * 256
    assert dry.trained < dry.parameters
    # Neither training nor answering runs the encoder again.
    assert dry.training[12].flops.sum() < 0.5 * dry.embedding[12].flops.sum()
    assert not run(hyena).embedding


def test_what_dies_is_taken_off() -> None:
    account = _Account(workspaces=False)
    with account:
        for _ in range(5):
            torch.zeros(1000)
    assert sum(event.at(1) for event in account.events) == 0
    assert account.peak(1, 1) == 4000


def test_a_line_through_two_traces() -> None:
    def flat(size: int) -> Traced:
        ones = np.ones(2)
        return Traced(100 + 10 * size, ones * size, ones * 2 * size, ones.astype(bool), ones.astype(bool))

    assert at_batch({2: flat(2), 6: flat(6)}, 10).peak_bytes == 200
    assert at_batch({2: flat(2), 6: flat(6)}, 10).moved.tolist() == [20, 20]
