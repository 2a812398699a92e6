"""Compiled code is used where it can be; what was asked for is used or an error says why not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.splice_engine.base_layer import compiled_convolution as compiled
from meta_spliceai.splice_engine.base_layer.incremental import IncrementalScorer
from meta_spliceai.splice_engine.base_layer.network import Architecture, BaseModel
from meta_spliceai.splice_engine.base_layer.torch_network import TorchNetwork

from .conftest import TOY_STAGES, build_network


@pytest.fixture(autouse=True)
def nothing_asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(compiled.VARIABLE, raising=False)
    compiled._chosen.cache_clear()
    yield
    compiled._chosen.cache_clear()


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> compiled.Library:
        raise compiled.NoCompiledCodeError("no C++ compiler here")

    monkeypatch.setattr(compiled, "library", nothing)


def test_compiled_code_is_used_and_its_rate_is_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path))
    assert compiled.measured_rate() is None
    try:
        compiled.library()
    except compiled.NoCompiledCodeError as error:
        pytest.skip(str(error))
    with caplog.at_level(logging.INFO):
        assert compiled.chosen().name == "compiled"
    assert "convolutions: compiled" in caplog.text
    rate = compiled.measured_rate()
    assert rate is not None
    assert 1e8 < rate < 1e13
    compiled._chosen.cache_clear()
    compiled.chosen()
    assert compiled.measured_rate() == rate
    monkeypatch.setenv(compiled.VARIABLE, "pytorch")
    assert compiled.measured_rate() is None


def test_scoring_takes_the_way_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = BaseModel("toy", (build_network(Architecture(TOY_STAGES), 1),), "", "")
    monkeypatch.setenv(compiled.VARIABLE, "pytorch")
    with caplog.at_level(logging.INFO):
        assert isinstance(IncrementalScorer(model, 12, 8)._networks[0], TorchNetwork)
    assert "scores may move by up to 2e-06" in caplog.text


def test_without_a_compiler(
    no_compiler: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert compiled.chosen() == compiled.Kernel("pytorch", "no C++ compiler here")
    assert "no C++ compiler here" in caplog.text
    monkeypatch.setenv(compiled.VARIABLE, "compiled")
    with pytest.raises(RunError, match="kernel 'compiled' cannot be had: no C\\+\\+ compiler here"):
        compiled.chosen()


def test_an_unknown_kernel_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown kernel 'fast'"):
        compiled.ask_for("fast")
    monkeypatch.setenv(compiled.VARIABLE, "fast")
    with pytest.raises(InputError, match="unknown kernel 'fast' in META_SPLICEAI_KERNEL"):
        compiled.chosen()
