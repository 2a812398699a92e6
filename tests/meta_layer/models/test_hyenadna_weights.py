"""Weights: what is named is what is used, from the hub, a folder or scratch; everything else is an error."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from meta_spliceai.errors import InputError, IntegrityError, MissingExtraError, MissingResourceError
from meta_spliceai.splice_engine.meta_layer.models import HyenaDNADeltaPredictor
from meta_spliceai.splice_engine.meta_layer.models.encoders.hyenadna import HyenaDNA
from meta_spliceai.splice_engine.meta_layer.models.encoders.hyenadna_weights import (
    PUBLISHED,
    load_hyenadna,
    model_config,
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
    """Answers `/<repository>/resolve/<revision>/<file>` as the model hub does, from one folder."""

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
    for endpoint in (address, "http://127.0.0.1:9"):
        with pytest.raises(MissingResourceError, match=r"cache once.*local folder.*weights='scratch'") as raised:
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
    with pytest.raises(MissingExtraError, match=r"meta-spliceai\[hyena\]"):
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
    weights.write_bytes(whole)
    config.write_text(json.dumps({**json.loads(settings), "n_layer": 1}))
    with pytest.raises(IntegrityError, match="unknown"):
        load_hyenadna(TINY, str(tmp_path))
    config.write_text(json.dumps({**json.loads(settings), "d_inner": 100}))
    with pytest.raises(IntegrityError, match="has shape"):
        load_hyenadna(TINY, str(tmp_path))
    config.write_text("{")
    with pytest.raises(IntegrityError, match="does not describe a HyenaDNA"):
        load_hyenadna(TINY, str(tmp_path))
    config.unlink()
    with pytest.raises(MissingResourceError, match=r"needs config\.json"):
        load_hyenadna(TINY, str(tmp_path))


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code from a checkpoint ran",)


def test_a_checkpoint_cannot_run_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"state_dict": {}, "extra": _Evil()}, tmp_path / "weights.ckpt")
    with pytest.raises(IntegrityError, match=r"weights\.ckpt cannot be read"):
        load_hyenadna(TINY, str(tmp_path))
    assert "code from" not in capsys.readouterr().out
