"""Any encoder with any head; the named predictors; ensembles."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from meta_spliceai.errors import InputError, IntegrityError, MissingResourceError
from meta_spliceai.splice_engine.base_layer.network import one_hot
from meta_spliceai.splice_engine.meta_layer import models
from meta_spliceai.splice_engine.meta_layer.features import WindowData, frozen_features
from meta_spliceai.splice_engine.meta_layer.models import (
    ENCODERS,
    HEADS,
    ComposedPredictor,
    Predictor,
    QuantileEnsemble,
    SimpleCNNDeltaPredictor,
    ValidatedDeltaPredictor,
    WeightedEnsemble,
)
from meta_spliceai.splice_engine.meta_layer.models.ensembles import disagreement, fit_shares
from meta_spliceai.splice_engine.meta_layer.prediction import predict
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig
from meta_spliceai.splice_engine.meta_layer.targets import TARGETS
from meta_spliceai.splice_engine.variants.table import Windows

WINDOW = 31
SMALL = {
    "gated-cnn": {"hidden_dim": 8, "layers": 2},
    "simple-cnn": {"hidden_dim": 8, "layers": 2},
    "hyenadna-tiny-1k": {"hidden_dim": 8, "weights": "scratch", "read_radius": 6},
}
TASKS = ["SpliceInducingClassifier", "EffectTypeClassifier", "PositionLocalizer", "DeltaMagnitudePredictor"]


def pair(window: int = WINDOW, rows: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    ref = torch.randint(0, 4, (rows, window), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    alt = ref.clone()
    alt[:, window // 2] = (alt[:, window // 2] + 1) % 4
    return one_hot(ref), one_hot(alt)


@pytest.mark.parametrize(("encoder", "head"), list(itertools.product(SMALL, HEADS)))
def test_every_encoder_goes_with_every_head(encoder: str, head: str, tmp_path: Path) -> None:
    predictor = ComposedPredictor(encoder, head, WINDOW, 3, SMALL[encoder]).eval()
    prediction = predictor(*pair())
    assert prediction.shape == (4, predictor.head.outputs)
    loss = predictor.head.loss(prediction, torch.zeros(4, predictor.head.labels), TrainingConfig())
    loss.backward()
    assert torch.isfinite(loss)
    assert predictor.head.task in TARGETS
    predictor.save_pretrained(tmp_path)
    assert torch.equal(Predictor.from_pretrained(tmp_path)(*pair()), prediction)


def test_every_published_size_is_an_encoder() -> None:
    assert {name for name in ENCODERS if name.startswith("hyenadna")} == {
        f"hyenadna-{size}" for size in ("tiny-1k", "small-32k", "medium-160k", "medium-450k", "large-1m")
    }


def test_unknown_names_and_settings_are_refused_with_the_choices() -> None:
    with pytest.raises(InputError, match="unknown encoder 'gated_cnn'; did you mean gated-cnn"):
        ComposedPredictor("gated_cnn")
    with pytest.raises(InputError, match="unknown head 'deltas'; did you mean delta"):
        ComposedPredictor(head="deltas")
    with pytest.raises(InputError, match="unknown setting 'hidden' in the settings of encoder 'gated-cnn'; did you"):
        ComposedPredictor(encoder_settings={"hidden": 3})
    with pytest.raises(InputError, match="unknown setting 'quantiles' in the settings of head 'delta'"):
        ComposedPredictor(head_settings={"quantiles": [0.5]})


@pytest.mark.parametrize("name", [*TASKS, "UnifiedSpliceClassifier"])
@pytest.mark.parametrize("encoder", SMALL)
def test_task_predictors_are_compositions_that_save_and_load(name: str, encoder: str, tmp_path: Path) -> None:
    kind = getattr(models, name)
    predictor = kind(window=WINDOW, encoder=encoder, seed=2, **SMALL[encoder]).eval()
    same = ComposedPredictor(encoder, kind.head_name, WINDOW, 2, SMALL[encoder]).eval()
    assert torch.equal(predictor(*pair()), same(*pair()))
    predictor.save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path)
    assert type(loaded) is kind
    assert torch.equal(loaded(*pair()), predictor(*pair()))


def test_all_public_names_are_importable() -> None:
    named = ["SimpleCNNDelta", "ValidatedDelta", "HyenaDNADelta", "DeltaMagnitude"]
    for name in [*(f"{n}Predictor" for n in named), *TASKS, "UnifiedSpliceClassifier", "QuantileEnsemble"]:
        assert issubclass(getattr(models, name), Predictor)


@pytest.mark.parametrize("window", [5001, 10001])
def test_long_windows_are_covered_by_the_encoder(window: int) -> None:
    predictor = ValidatedDeltaPredictor(window=window, hidden_dim=4)
    assert predictor.describe()["receptive_field"] >= window
    assert predictor(*pair(window, 1)).shape == (1, 3)


def test_quantile_members_are_apart_and_answer_sorted(tmp_path: Path) -> None:
    ensemble = QuantileEnsemble(window=WINDOW, seed=5, **SMALL["gated-cnn"]).train()
    prediction = ensemble(*pair())
    assert prediction.shape == (4, 12)
    prediction[:, :3].sum().backward()  # the first member's quantile
    reached = {name.split(".")[1] for name, p in ensemble.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"0"}
    with torch.no_grad():
        ensemble.members[0].head.layers[-1].bias[:3] = 5.0  # a lowest quantile above the others
    sizes = ensemble.eval()(*pair()).unflatten(1, (-1, 3))[:, :-1]
    assert (sizes.diff(dim=1) >= 0).all()
    ensemble.save_pretrained(tmp_path)
    assert torch.equal(QuantileEnsemble.from_pretrained(tmp_path)(*pair()), ensemble(*pair()))


def test_quantile_members_share_a_frozen_encoder_and_its_kept_features(tmp_path: Path) -> None:
    ensemble = QuantileEnsemble(window=WINDOW, encoder="hyenadna-tiny-1k", seed=5, **SMALL["hyenadna-tiny-1k"]).eval()
    inside = sum(p.numel() for p in ensemble.encoder.parameters())
    assert inside == 436_096
    trained = ensemble.describe()["parameters_trained"]
    assert ensemble.parameter_count() == inside + trained + sum(p.numel() for p in ensemble.head.parameters())
    prediction = ensemble(*pair())
    assert torch.equal(ensemble.compare(*ensemble.encode_pair(*pair())), prediction)
    codes = torch.randint(0, 4, (2, 6, WINDOW), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    data = WindowData(codes[0], codes[1])
    kept = frozen_features(ensemble, data, tmp_path / "cache")
    assert kept is not None
    rows = torch.arange(6)
    assert torch.allclose(ensemble.compare(*kept.pair(rows)), ensemble(*data.pair(rows)), atol=2e-3)
    ensemble.train()
    assert not ensemble.encoder.training
    ensemble.compare(*kept.pair(rows)).square().sum().backward()
    assert {name.split(".")[0] for name, p in ensemble.named_parameters() if p.grad is not None} == {"members"}
    ensemble.eval().save_pretrained(tmp_path / "model")
    loaded = QuantileEnsemble.from_pretrained(tmp_path / "model")
    assert torch.equal(loaded(*pair()), prediction)


def test_a_weighted_ensemble_is_its_members_mean_at_their_own_windows(tmp_path: Path) -> None:
    wide = ValidatedDeltaPredictor(window=41, hidden_dim=8, layers=2).eval()
    narrow = SimpleCNNDeltaPredictor(window=21, hidden_dim=8, layers=2).eval()
    ensemble = WeightedEnsemble([wide, narrow], [0.75, 0.25]).eval()
    ref, alt = pair(41)
    expected = 0.75 * wide(ref, alt) + 0.25 * narrow(ref[..., 10:31], alt[..., 10:31])
    assert torch.allclose(ensemble(ref, alt), expected, atol=1e-7)
    ensemble.save_pretrained(tmp_path)
    loaded = WeightedEnsemble.from_pretrained(tmp_path)
    assert torch.equal(loaded(ref, alt), ensemble(ref, alt))
    assert loaded.describe() == ensemble.describe()
    card = (tmp_path / "README.md").read_text()
    assert "WeightedEnsemble.from_pretrained" in card
    assert "member-0: ValidatedDeltaPredictor, 41 bases, weight 0.75" in card


def test_an_ensemble_predicts_on_codes_as_its_members_do() -> None:
    wide = ComposedPredictor("hyenadna-tiny-1k", "delta", 41, 0, SMALL["hyenadna-tiny-1k"])
    narrow = SimpleCNNDeltaPredictor(window=21, hidden_dim=8, layers=2)
    codes = torch.randint(0, 4, (2, 5, 41), generator=torch.Generator().manual_seed(1), dtype=torch.uint8).numpy()
    predictions = predict(WeightedEnsemble([wide, narrow], [0.4, 0.6]), Windows(codes[0], codes[1]), "cpu")
    middle = Windows(codes[0][:, 10:31], codes[1][:, 10:31])
    apart = [
        predict(wide, Windows(codes[0], codes[1]), "cpu"),
        predict(narrow, middle, "cpu"),
    ]
    assert predictions == pytest.approx(0.4 * apart[0] + 0.6 * apart[1], abs=1e-6)


def test_a_damaged_ensemble_is_refused_and_nothing_else_is_taken_for_one(tmp_path: Path) -> None:
    members = [SimpleCNNDeltaPredictor(window=21, hidden_dim=8, layers=2, seed=seed) for seed in (0, 1)]
    WeightedEnsemble(members).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"holds a WeightedEnsemble; use WeightedEnsemble\.from_pretrained"):
        Predictor.from_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"holds a SimpleCNNDeltaPredictor; use SimpleCNN"):
        WeightedEnsemble.from_pretrained(tmp_path / "member-0")
    whole = json.loads((tmp_path / "config.json").read_text())
    for shares in ([1.0], [0.3, 0.3], [float("nan"), 1.0]):
        (tmp_path / "config.json").write_text(json.dumps({**whole, "shares": shares}))
        with pytest.raises(InputError, match=r"at least 2 members|with sum 1"):
            WeightedEnsemble.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**whole, "format": 2}))
    with pytest.raises(IntegrityError, match="its format is 2, this version reads 1"):
        WeightedEnsemble.from_pretrained(tmp_path)


def test_members_with_other_quantiles_are_refused() -> None:
    low, high = (
        ComposedPredictor("simple-cnn", "quantile", 21, 0, SMALL["simple-cnn"], {"quantiles": levels})
        for levels in ([0.25, 0.5], [0.5, 0.75])
    )
    with pytest.raises(InputError, match=r"members predict different things: .*q25_neither.*q75_neither"):
        WeightedEnsemble([low, high])


def test_bad_ensembles_are_refused(tmp_path: Path) -> None:
    delta, other = ValidatedDeltaPredictor(window=21, hidden_dim=4, layers=2), SimpleCNNDeltaPredictor(21, 4, 2)
    with pytest.raises(InputError, match="at least 2 members"):
        WeightedEnsemble([delta])
    with pytest.raises(InputError, match="numbers of at least 0 with sum 1"):
        WeightedEnsemble([delta, other], [0.5, 0.6])
    binary = ComposedPredictor("simple-cnn", "binary", 21, 0, SMALL["simple-cnn"])
    with pytest.raises(InputError, match=r"predict different things: validated-delta .*; altering"):
        WeightedEnsemble([delta, binary])
    with pytest.raises(MissingResourceError, match=r"config\.json is missing"):
        WeightedEnsemble.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="window of 31 bases was given to an ensemble made for 21"):
        WeightedEnsemble([delta, other])(*pair(31))


def test_fitted_weights_are_those_of_least_error() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(400, 3)).astype(np.float32)
    good, poor = (truth + rng.normal(scale=s, size=truth.shape).astype(np.float32) for s in (0.5, 1.0))
    # Wrong where the good one is wrong, and twice as much: it only harms.
    echo = truth + 2 * (good - truth)
    shares = fit_shares(np.stack([good, poor, echo]), truth)
    assert shares.sum() == pytest.approx(1)
    # Independent errors of variance 1/4 and 1 weigh 4 : 1.
    assert shares == pytest.approx([0.8, 0.2, 0], abs=0.05)


def test_disagreement_is_zero_where_members_agree() -> None:
    predictions = np.zeros((2, 2, 3), np.float32)
    predictions[1, 1] = 1.0
    assert disagreement(predictions, [0.5, 0.5]).tolist() == pytest.approx([0, 0.5])


@pytest.mark.parametrize(("encoder", "head"), list(itertools.product(SMALL, HEADS)))
def test_every_composition_trains_in_bfloat16_close_to_float32(encoder: str, head: str) -> None:
    settings = {**SMALL[encoder], **({"freeze_encoder": False} if "hyena" in encoder else {})}
    predictor = ComposedPredictor(encoder, head, WINDOW, 3, settings).eval()
    exact = predictor(*pair())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = predictor(*pair())
        loss = predictor.head.loss(mixed.float(), torch.zeros(4, predictor.head.labels), TrainingConfig())
    loss.backward()
    assert torch.allclose(mixed.float(), exact, atol=0.05 * exact.abs().max().item() + 1e-3)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in predictor.parameters())
