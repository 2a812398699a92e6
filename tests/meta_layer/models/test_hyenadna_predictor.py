"""The HyenaDNA Δ predictor: frozen or fine-tuned, saved and loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from meta_spliceai.splice_engine.base_layer.network import one_hot
from meta_spliceai.splice_engine.meta_layer.models import HyenaDNADeltaPredictor, Predictor

WINDOW = 31


def predictor(freeze: bool = True, **options: object) -> HyenaDNADeltaPredictor:
    return HyenaDNADeltaPredictor(
        "hyenadna-tiny-1k", hidden_dim=8, freeze_encoder=freeze, window=WINDOW, weights="scratch", **options
    )


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    ref = torch.randint(0, 4, (4, WINDOW), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    alt = ref.clone()
    alt[:, WINDOW // 2] = (alt[:, WINDOW // 2] + 1) % 4
    return one_hot(ref), one_hot(alt)


def test_the_wishlists_call_works_as_written() -> None:
    model = HyenaDNADeltaPredictor(
        model_name="hyenadna-small-32k", hidden_dim=256, freeze_encoder=True, weights="scratch"
    ).to("cuda" if torch.cuda.is_available() else "cpu")
    assert model.describe()["parameters"] - model.describe()["parameters_trained"] == 3_277_568


@pytest.mark.parametrize("freeze", [True, False])
def test_gradient_reaches_what_is_trained_and_nothing_else(freeze: bool) -> None:
    model = predictor(freeze).train()
    model(*pair()).square().sum().backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    inside = {name for name in reached if name.startswith("encoder.")}
    assert (inside == set()) is freeze
    silent = {name for name, _ in model.named_parameters()} - reached
    assert not freeze or all(name.startswith("encoder.") for name in silent)
    if not freeze:
        assert silent == set()


def test_a_frozen_encoder_has_no_dropout_in_training() -> None:
    model = predictor().train()
    first, second = (model.encode_pair(*pair())[1] for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(model(*pair()), model(*pair()))  # the head has


def test_answers_see_both_alleles_and_compare_equal_ones_as_equal() -> None:
    model = predictor().eval()
    ref, alt = pair()
    assert model(ref, alt).shape == (4, 3)
    assert not torch.allclose(model(ref, alt), model(ref, ref), atol=1e-7)
    features = model.project(model.encode_pair(ref, ref)[0])
    compared = model.readout(features, features)
    assert (compared[:, : compared.shape[1] // 2] == 0).all()


@pytest.mark.parametrize("freeze", [True, False])
def test_saved_and_loaded_predictors_answer_alike_without_the_hub(freeze: bool, tmp_path: Path) -> None:
    model = predictor(freeze, seed=5).eval()
    model.save_pretrained(tmp_path)
    loaded = Predictor.from_pretrained(tmp_path)
    assert torch.equal(loaded(*pair()), model(*pair()))
    assert loaded.weights == "scratch (random, seed 5)"
    assert loaded.config == model.config


def test_training_on_frozen_features_multiplies_forward_and_for_the_weights_only() -> None:
    model = predictor().train()
    features = torch.randn(4, 256, WINDOW)
    with FlopCounterMode(display=False) as counter:
        model.project(features).sum().backward()
    products = 2 * 4 * WINDOW * 256 * 8
    assert counter.get_total_flops() == pytest.approx(2 * products, rel=0.01)
