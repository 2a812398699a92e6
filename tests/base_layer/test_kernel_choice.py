"""The faster kernel is chosen, once for a processor; what was asked for is used or an error says why not."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.splice_engine.base_layer import kernel_choice
from meta_spliceai.splice_engine.base_layer.compiled_convolution import Library, NoCompiledCodeError
from meta_spliceai.splice_engine.base_layer.incremental import IncrementalScorer
from meta_spliceai.splice_engine.base_layer.network import Architecture, BaseModel
from meta_spliceai.splice_engine.base_layer.torch_network import TorchNetwork

from .conftest import TOY_STAGES, build_network


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, float]]:
    """Times that a processor would show, with nothing asked for; `measured["calls"]` counts measurements."""
    times = {"compiled": 1.0, "pytorch": 2.0, "calls": 0}

    def timings() -> dict[str, float]:
        times["calls"] += 1
        return {name: times[name] for name in ("compiled", "pytorch")}

    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path))
    monkeypatch.delenv(kernel_choice.VARIABLE, raising=False)
    monkeypatch.setattr(kernel_choice, "timings", timings)
    monkeypatch.setattr(kernel_choice, "library", lambda: Library(None, 8, "AVX2"))  # type: ignore[arg-type]
    kernel_choice._chosen.cache_clear()
    yield times
    kernel_choice._chosen.cache_clear()


@pytest.mark.parametrize(("compiled", "pytorch", "name"), [(1.0, 2.0, "compiled"), (2.0, 1.0, "pytorch")])
def test_the_slower_way_is_not_chosen(
    measured: dict[str, float], compiled: float, pytorch: float, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    measured.update(compiled=compiled, pytorch=pytorch)
    with caplog.at_level(logging.INFO):
        choice = kernel_choice.chosen()
    assert choice.name == name
    assert "compiled" in caplog.text
    assert f"PyTorch {1000 * pytorch:.1f} ms" in caplog.text
    assert ("scores may move by up to 2e-06" in caplog.text) == (name == "pytorch")


def test_scoring_takes_the_chosen_way(measured: dict[str, float]) -> None:
    model = BaseModel("toy", (build_network(Architecture(TOY_STAGES), 1),), "", "")
    measured.update(compiled=2.0, pytorch=1.0)
    assert isinstance(IncrementalScorer(model, 12, 8)._networks[0], TorchNetwork)


def test_it_is_measured_once_for_a_processor(measured: dict[str, float], tmp_path: Path) -> None:
    for _ in range(2):
        assert kernel_choice.chosen().name == "compiled"
        kernel_choice._chosen.cache_clear()
    assert measured["calls"] == 1
    (kept,) = (tmp_path / "compiled").glob("choice-*.json")
    assert json.loads(kept.read_text()) == {"compiled": 1.0, "pytorch": 2.0}


def test_the_rate_is_that_of_the_kernel_in_use(measured: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernel_choice.measured_rate() is None
    kernel_choice.chosen()
    fast = kernel_choice.measured_rate()
    assert fast is not None
    monkeypatch.setenv(kernel_choice.VARIABLE, "pytorch")
    assert kernel_choice.measured_rate() == pytest.approx(fast / 2)


def test_what_is_asked_for_is_not_measured(measured: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    measured.update(compiled=2.0)
    for name in ("compiled", "pytorch"):
        monkeypatch.setenv(kernel_choice.VARIABLE, name)
        assert kernel_choice.chosen().name == name
    assert measured["calls"] == 0


def test_without_a_compiler(
    measured: dict[str, float], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def nothing() -> Library:
        raise NoCompiledCodeError("no C++ compiler here")

    monkeypatch.setattr(kernel_choice, "library", nothing)
    assert kernel_choice.chosen() == kernel_choice.Choice("pytorch", "no C++ compiler here")
    assert "no C++ compiler here" in caplog.text
    monkeypatch.setenv(kernel_choice.VARIABLE, "compiled")
    with pytest.raises(RunError, match="kernel 'compiled' cannot be had: no C\\+\\+ compiler here"):
        kernel_choice.chosen()


def test_an_unknown_kernel_is_an_error(measured: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown kernel 'fast'"):
        kernel_choice.ask_for("fast")
    monkeypatch.setenv(kernel_choice.VARIABLE, "fast")
    with pytest.raises(InputError, match="unknown kernel 'fast' in META_SPLICEAI_KERNEL"):
        kernel_choice.chosen()


def test_both_ways_are_timed_on_real_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        kernel_choice.library()
    except NoCompiledCodeError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(kernel_choice, "_SHAPES", ((5, 2, 40),))
    found = kernel_choice.timings()
    assert set(found) == {"compiled", "pytorch"}
    assert min(found.values()) > 0
