"""Named predictors: what they look at, that they can learn, and that saving keeps them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from meta_spliceai.errors import InputError, IntegrityError, MissingResourceError
from meta_spliceai.splice_engine.base_layer.network import one_hot
from meta_spliceai.splice_engine.meta_layer.models import (
    Predictor,
    SimpleCNNDeltaPredictor,
    ValidatedDeltaPredictor,
)

KINDS = [SimpleCNNDeltaPredictor, ValidatedDeltaPredictor]
WINDOW = 31


def random_pair(rows: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ref = torch.randint(0, 5, (rows, WINDOW), generator=generator, dtype=torch.uint8)
    alt = ref.clone()
    alt[:, WINDOW // 2] = (alt[:, WINDOW // 2] + 1) % 4
    return one_hot(ref), one_hot(alt)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_reaches_every_parameter(kind: type[Predictor]) -> None:
    predictor = kind(window=WINDOW, hidden_dim=8)
    predictor(*random_pair()).square().sum().backward()
    dead = [name for name, p in predictor.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


@pytest.mark.parametrize("kind", KINDS)
def test_answers_have_three_channels_and_depend_on_both_alleles(kind: type[Predictor]) -> None:
    predictor = kind(window=WINDOW, hidden_dim=8).eval()
    ref, alt = random_pair()
    prediction = predictor(ref, alt)
    assert prediction.shape == (6, 3)
    assert not torch.allclose(prediction, predictor(alt, alt), atol=1e-6)
    assert not torch.allclose(prediction, predictor(ref, ref), atol=1e-6)


def test_equal_sequences_compare_as_exactly_equal() -> None:
    predictor = ValidatedDeltaPredictor(window=WINDOW, hidden_dim=8).eval()
    features, same = predictor.encode_pair(*[random_pair()[0]] * 2)
    compared = predictor.readout(features, same)
    half = compared.shape[1] // 2
    assert (compared[:, :half] == 0).all()
    assert (compared[:, half:] != 0).any()


def test_a_far_base_matters_as_the_receptive_field_promises() -> None:
    predictor = ValidatedDeltaPredictor(window=101, hidden_dim=8).eval().double()
    pair = [torch.randn(1, 4, 101, dtype=torch.double, requires_grad=True) for _ in range(2)]
    predictor(*pair).square().sum().backward()
    for sequence in pair:
        assert sequence.grad is not None
        assert (sequence.grad.abs().amax(1) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_fixes_the_weights_and_leaves_the_callers_generator_alone(kind: type[Predictor]) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second, other = (kind(window=WINDOW, hidden_dim=8, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_tiny_set_is_learned_by_heart(kind: type[Predictor]) -> None:
    predictor = kind(window=WINDOW, hidden_dim=16, dropout=0.0)
    pair, wanted = random_pair(), torch.linspace(-0.8, 0.8, 18).reshape(6, 3)
    optimizer = torch.optim.AdamW(predictor.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (predictor(*pair) - wanted).square().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_predictors_answer_alike(kind: type[Predictor], tmp_path: Path) -> None:
    predictor = kind(window=WINDOW, hidden_dim=8, seed=4).eval()
    predictor.save_pretrained(tmp_path)
    for loaded in (Predictor.from_pretrained(tmp_path), kind.from_pretrained(tmp_path)):
        assert type(loaded) is kind
        assert torch.equal(loaded(*random_pair()), predictor(*random_pair()))
    assert json.loads((tmp_path / "config.json").read_text())["weights"] == "scratch"
    card = (tmp_path / "README.md").read_text()
    assert f"# {kind.__name__}" in card
    assert f"{predictor.parameter_count():,}" in card
    assert "Starting weights: scratch." in card


def test_what_is_not_a_saved_predictor_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(MissingResourceError, match=r"config\.json is missing"):
        Predictor.from_pretrained(tmp_path)
    ValidatedDeltaPredictor(window=WINDOW, hidden_dim=8).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="holds a ValidatedDeltaPredictor, not a SimpleCNN"):
        SimpleCNNDeltaPredictor.from_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        Predictor.from_pretrained(tmp_path)
    weights.write_bytes(whole)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "config": {**config["config"], "hidden_dim": 9}}))
    with pytest.raises(IntegrityError, match="is of another architecture"):
        Predictor.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "predictor": "ValidatedDelta"}))
    with pytest.raises(InputError, match="did you mean ValidatedDeltaPredictor"):
        Predictor.from_pretrained(tmp_path)


def change_config(folder: Path, **fields: Any) -> None:
    saved = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**saved, **fields}))


@pytest.mark.parametrize(
    "settings",
    [
        [],
        "window=31",
        {"foo": 1},
        {"window": "31"},
        {"window": 31, "hidden_dim": 8.5},
        {"window": 31, "hidden_dim": 10**7},
        {"window": 31, "dropout": 5},
        {"window": 31, "seed": "x"},
        {"window": 31, "hidden_dim": 0},
    ],
)
def test_settings_that_no_saved_predictor_has_are_refused_with_their_file(settings: Any, tmp_path: Path) -> None:
    ValidatedDeltaPredictor(window=WINDOW, hidden_dim=8).save_pretrained(tmp_path)
    change_config(tmp_path, config=settings)
    with pytest.raises(IntegrityError, match=r"config\.json") as refused:
        Predictor.from_pretrained(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"format": 2}, "its format is 2, this version reads 1"),
        ({"predictor": "_TaskPredictor"}, "unknown predictor '_TaskPredictor'"),
        ({"predictor": "Predictor"}, "unknown predictor 'Predictor'"),
    ],
)
def test_what_the_config_says_of_the_predictor_is_checked(fields: Any, words: str, tmp_path: Path) -> None:
    ValidatedDeltaPredictor(window=WINDOW, hidden_dim=8).save_pretrained(tmp_path)
    change_config(tmp_path, **fields)
    with pytest.raises((InputError, IntegrityError), match=words):
        Predictor.from_pretrained(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 100_000, "{}".encode("utf-16"), b"NaN"])
def test_a_config_that_is_none_is_damaged(content: bytes, tmp_path: Path) -> None:
    ValidatedDeltaPredictor(window=WINDOW, hidden_dim=8).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"config\.json"):
        Predictor.from_pretrained(tmp_path)


def test_weights_that_are_no_numbers_are_refused_and_half_precision_is_read(tmp_path: Path) -> None:
    predictor = ValidatedDeltaPredictor(window=WINDOW, hidden_dim=8).eval()
    predictor.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    spoiled = {**weights, "head.layers.4.bias": torch.tensor([0.0, torch.nan, 0.0])}
    save_file(spoiled, file)
    with pytest.raises(IntegrityError, match=r"head\.layers\.4\.bias holds values that are not finite"):
        Predictor.from_pretrained(tmp_path)
    save_file({name: tensor.int() for name, tensor in weights.items()}, file)
    with pytest.raises(IntegrityError, match=r"not finite floating point"):
        Predictor.from_pretrained(tmp_path)
    save_file({**weights, "extra": torch.ones(1)}, file)
    with pytest.raises(IntegrityError, match=r"of another architecture.*extra"):
        Predictor.from_pretrained(tmp_path)
    save_file({name: tensor.half() for name, tensor in weights.items()}, file)
    loaded = Predictor.from_pretrained(tmp_path)
    assert torch.allclose(loaded(*random_pair()), predictor(*random_pair()), atol=1e-3)


def test_the_card_says_what_the_run_said_of_training_or_that_nobody_did(tmp_path: Path) -> None:
    predictor = ValidatedDeltaPredictor(window=WINDOW, hidden_dim=8)
    predictor.save_pretrained(tmp_path)
    assert "did not say what it was trained on" in (tmp_path / "README.md").read_text()
    predictor.save_pretrained(tmp_path, "12 toy variants.")
    assert "## Training\n\n12 toy variants.\n" in (tmp_path / "README.md").read_text()
