"""Weights: what is named is what is used, from the hub, a folder or scratch; everything else is an error."""

from __future__ import annotations

import collections
import functools
import hashlib
import http.server
import json
import os
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from meta_spliceai.errors import InputError, IntegrityError, MissingExtraError, MissingResourceError
from meta_spliceai.splice_engine.meta_layer.models import HyenaDNADeltaPredictor
from meta_spliceai.splice_engine.meta_layer.models.hyenadna import HyenaDNA
from meta_spliceai.splice_engine.meta_layer.models.hyenadna_weights import (
    PUBLISHED,
    load_hyenadna,
    model_config,
    read_folder,
    write_hub_format,
)

TINY = "hyenadna-tiny-1k"


def saved(folder: Path, name: str = TINY, seed: int = 11) -> HyenaDNA:
    """A model with random weights, written in the hub's format."""
    torch.manual_seed(seed)
    model = HyenaDNA(model_config(name))
    write_hub_format(model, nn.Linear(model.config.d_model, 16, bias=False), folder, "pretrained: toy")
    return model


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


class _Hub(http.server.BaseHTTPRequestHandler):
    """Predictions `/<repository>/resolve/<revision>/<file>` as the model hub does, from one folder."""

    def __init__(self, folder: Path, asked: list[str], *args: object) -> None:
        self.folder, self.asked = folder, asked
        super().__init__(*args)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        self.asked.append(self.path)
        published = PUBLISHED[TINY]
        prefix = f"/{published.repository}/resolve/{published.revision}/"
        file = self.folder / self.path.removeprefix(prefix)
        if not self.path.startswith(prefix) or not file.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = file.read_bytes()
        self.send_response(200)
        self.send_header("X-Repo-Commit", published.revision)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path, list[str]]]:
    """A hub on this machine: its address, the folder it serves, and the paths it was asked for."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="the extra 'hyena' is not installed")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    folder, asked = tmp_path / "served", []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Hub, folder, asked))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", folder, asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_hubs_weights_are_downloaded_once_and_then_read_from_the_cache(hub: tuple[str, Path, list[str]]) -> None:
    address, folder, asked = hub
    model = saved(folder)
    loaded, origin = load_hyenadna(TINY, endpoint=address)
    assert same(loaded, model)
    assert origin == f"LongSafari/hyenadna-tiny-1k-seqlen-hf at {PUBLISHED[TINY].revision}"
    assert {path.rsplit("/", 1)[1] for path in asked} == {"config.json", "model.safetensors"}
    asked.clear()
    again, _ = load_hyenadna(TINY, endpoint="http://127.0.0.1:9")
    assert same(again, model)
    assert asked == []


def test_a_hub_without_the_weights_is_an_error_with_three_ways_out(
    hub: tuple[str, Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder, _ = hub
    folder.mkdir()
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the hub's library waits between its attempts
    for endpoint, why in ((address, "404 .* Entry Not Found"), ("http://127.0.0.1:9", "refused")):
        ways = r"cache once.*local folder.*weights='scratch'"
        with pytest.raises(MissingResourceError, match=f"{why}.*{ways}") as raised:
            load_hyenadna(TINY, endpoint=endpoint)
        assert "\n" not in str(raised.value)


def test_the_predictors_default_never_falls_back_to_random_weights(
    hub: tuple[str, Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingResourceError, match="hyenadna-small-32k cannot be had"):
        HyenaDNADeltaPredictor(model_name="hyenadna-small-32k", hidden_dim=256, freeze_encoder=True)
    with pytest.raises(MissingResourceError, match="'/no/such/place' is neither"):
        HyenaDNADeltaPredictor(weights="/no/such/place")


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'huggingface-hub>=0.26'"):
        load_hyenadna(TINY)


def test_a_predictor_uses_exactly_the_weights_that_were_named(tmp_path: Path) -> None:
    model = saved(tmp_path)
    predictor = HyenaDNADeltaPredictor(TINY, hidden_dim=8, window=31, weights=str(tmp_path))
    assert same(predictor.encoder.model, model)
    assert "pretrained: toy" in predictor.describe()["weights"]
    other = saved(tmp_path / "other", seed=12)
    assert not same(predictor.encoder.model, other)


def test_scratch_must_be_asked_for_and_says_so() -> None:
    predictor = HyenaDNADeltaPredictor(TINY, hidden_dim=8, window=31, weights="scratch", seed=3)
    assert predictor.describe()["weights"] == "scratch (random, seed 3)"
    again, _ = load_hyenadna(TINY, "scratch", seed=3)
    assert same(predictor.encoder.model, again)


def test_a_folder_with_another_size_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    with pytest.raises(InputError, match="does not hold hyenadna-small-32k: its d_model is 128, not 256"):
        load_hyenadna("hyenadna-small-32k", str(tmp_path))
    with pytest.raises(InputError, match="did you mean hyenadna-tiny-1k"):
        load_hyenadna("hyenadna-tiny", str(tmp_path))


def test_damaged_files_are_refused_by_name(tmp_path: Path) -> None:
    saved(tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    whole, settings = weights.read_bytes(), config.read_text()
    weights.write_bytes(whole[:-100])
    with pytest.raises(IntegrityError, match=r"model\.safetensors cannot be read"):
        load_hyenadna(TINY, str(tmp_path))
    weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    with pytest.raises(IntegrityError, match="run git lfs pull"):
        load_hyenadna(TINY, str(tmp_path))
    weights.write_bytes(whole)
    config.write_text(json.dumps({**json.loads(settings), "n_layer": 1}))
    with pytest.raises(IntegrityError, match="Unexpected key"):
        read_folder(tmp_path)
    config.write_text(json.dumps({**json.loads(settings), "d_inner": 100}))
    with pytest.raises(IntegrityError, match="size mismatch"):
        read_folder(tmp_path)
    config.unlink()
    with pytest.raises(MissingResourceError, match=r"needs config\.json"):
        load_hyenadna(TINY, str(tmp_path))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"d_model": -5}, "d_model is -5: .*greater than 0"),
        ({"d_model": 128.7}, "d_model is 128.7: .*integer"),
        ({"n_layer": True}, "n_layer is True: .*integer"),
        ({"d_inner": None}, "d_inner is None: .*integer"),
        ({"pad_vocab_size_multiple": 0}, "pad_vocab_size_multiple is 0: "),
        ({"embed_dropout": 2}, "embed_dropout is 2: .*less than 1"),
        ({"layer": "hyena"}, "not a mapping"),
        ({"hyena_order": 3}, "hyena_order is 3: "),
    ],
)
def test_a_config_of_no_hyenadna_is_refused_by_its_value(
    tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    saved(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    with pytest.raises(IntegrityError, match=f"does not describe a HyenaDNA.*{complaint}"):
        load_hyenadna(TINY, str(tmp_path))


@pytest.mark.parametrize("text", ["{", "[1]", "null"])
def test_a_config_that_is_no_settings_is_refused(tmp_path: Path, text: str) -> None:
    saved(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(IntegrityError, match="does not describe a HyenaDNA"):
        load_hyenadna(TINY, str(tmp_path))


def test_a_config_of_another_shape_is_refused_before_a_model_of_it_is_made(tmp_path: Path) -> None:
    saved(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "filter_order": 10**12}))
    with pytest.raises(InputError, match="does not hold hyenadna-tiny-1k: its filter_order is 1000000000000, not 64"):
        load_hyenadna(TINY, str(tmp_path))


def changed(folder: Path, name: str, value: torch.Tensor | None) -> None:
    """Put a tensor into a folder's weights, or take it out."""
    path = folder / "model.safetensors"
    state = load(path.read_bytes())
    del state[name]
    if value is not None:
        state[name] = value
    path.write_bytes(save(state))


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    changed(tmp_path, "hyena.backbone.ln_f.weight", torch.full((128,), torch.nan))
    with pytest.raises(IntegrityError, match=r"backbone\.ln_f\.weight holds values that are not finite"):
        load_hyenadna(TINY, str(tmp_path))
    changed(tmp_path, "hyena.backbone.ln_f.weight", torch.ones(128, dtype=torch.long))
    with pytest.raises(IntegrityError, match=r"ln_f\.weight holds values that are not finite floating point numbers"):
        load_hyenadna(TINY, str(tmp_path))


SINES = [f"hyena.backbone.layers.1.mixer.filter_fn.implicit_filter.{place}.freq" for place in (1, 3, 5)]


@pytest.mark.parametrize("kept", SINES)
def test_a_file_that_holds_shared_tensors_once_is_read(tmp_path: Path, kept: str) -> None:
    model = saved(tmp_path)
    for name in SINES:
        if name != kept:
            changed(tmp_path, name, None)
    loaded, _ = load_hyenadna(TINY, str(tmp_path))
    assert same(loaded, model)


def original(folder: Path, model: HyenaDNA, wrapped: bool = False, **beside: object) -> None:
    """Turn a folder into one of the authors' own format, its names as with recomputation if asked for."""
    (folder / "model.safetensors").unlink(missing_ok=True)
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    if wrapped:
        state = {k.replace(".mixer.", ".mixer.layer.").replace(".mlp.", ".mlp.layer."): t for k, t in state.items()}
    torch.save({"state_dict": {**state, "train_torchmetrics.loss": torch.zeros(())}, **beside}, folder / "weights.ckpt")


def test_the_larger_originals_with_the_names_of_recomputation_are_read(tmp_path: Path) -> None:
    model = saved(tmp_path)
    original(tmp_path, model, wrapped=True)
    loaded, _ = load_hyenadna(TINY, str(tmp_path))
    assert same(loaded, model)


class _Settings:
    """As OmegaConf's containers: made without arguments, then given their state."""


def _misused(*_: object) -> None:
    raise AssertionError("a name in a checkpoint was looked up and called")


class _Calls:
    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _misused, ()


def test_an_original_that_holds_its_runs_settings_is_read_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Settings, "__module__", "omegaconf.dictconfig")
    monkeypatch.setattr(_misused, "__module__", "pytorch_lightning.callbacks")
    for name, part in (("omegaconf.dictconfig", _Settings), ("pytorch_lightning.callbacks", _misused)):
        module = types.ModuleType(name)
        setattr(module, part.__name__, part)
        monkeypatch.setitem(sys.modules, name.partition(".")[0], types.ModuleType(name.partition(".")[0]))
        monkeypatch.setitem(sys.modules, name, module)
    settings = _Settings()
    settings.__dict__.update(kind=dict, content={"lr": 6e-4}, cache=collections.defaultdict(dict, a={}))
    model = saved(tmp_path)
    original(tmp_path, model, hyper_parameters=settings, callbacks=[_Calls(), Path("/x")])
    loaded, _ = load_hyenadna(TINY, str(tmp_path))
    assert same(loaded, model)


class _Evil:
    def __init__(self, function: object) -> None:
        self.function = function

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return self.function, ("print('code from a checkpoint ran')",)


@pytest.mark.parametrize(
    # Not print: Ray puts another one in its place, which cannot be pickled.
    "function",
    [exec, eval, os.system, getattr, _misused],
    ids=lambda function: function.__name__,
)
def test_a_checkpoint_cannot_run_code(tmp_path: Path, function: object, capfd: pytest.CaptureFixture[str]) -> None:
    original(tmp_path, saved(tmp_path), extra=_Evil(function))
    with pytest.raises(IntegrityError, match=r"weights\.ckpt cannot be read: it names \S+, which no") as raised:
        load_hyenadna(TINY, str(tmp_path))
    assert "weights_only" not in str(raised.value), "nobody is told how to read it unsafely"
    assert "code from" not in capfd.readouterr().out


@pytest.mark.parametrize(
    "content", [[1], {"a": 1}, {"state_dict": [1]}, torch.zeros(3)], ids=lambda c: type(c).__name__
)
def test_a_checkpoint_without_a_state_is_refused(tmp_path: Path, content: object) -> None:
    original(tmp_path, saved(tmp_path))
    torch.save(content, tmp_path / "weights.ckpt")
    with pytest.raises(IntegrityError, match="cannot be read"):
        load_hyenadna(TINY, str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 no archive"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    original(tmp_path, saved(tmp_path))
    (tmp_path / "weights.ckpt").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"weights\.ckpt cannot be read \(damaged\)"):
        load_hyenadna(TINY, str(tmp_path))
