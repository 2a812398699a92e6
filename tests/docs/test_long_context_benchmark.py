"""benchmarks/training.py --long-context: the memory that is held is the memory that is foreseen."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("training", ROOT / "benchmarks" / "training.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its rows are dataclasses, which look their module up by name.
    monkeypatch.setitem(sys.modules, "training", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("work", ["EMBEDDING", "STEP"])
def test_what_is_foreseen_grows_with_the_length_and_no_faster(training: ModuleType, work: str) -> None:
    pieces = training.long_context
    foreseen = [
        pieces.Piece("hyenadna-tiny-1k", window, getattr(pieces, work), checkpointing=True).foreseen(cuda=False)
        for window in (257, 513, 1025)
    ]
    first, second, third = foreseen
    assert (third - second) / (second - first) == pytest.approx(2, rel=0.05)


def test_a_piece_that_does_not_fit_is_left_out_and_the_report_says_so(
    training: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pieces = training.long_context
    monkeypatch.setattr(pieces, "_foresee", lambda name, cuda: (10**15, 10**9))
    monkeypatch.setattr(pieces, "ProcessPoolExecutor", _InThisProcess)
    assert training._long_context(torch.device("cpu"), ["medium-160k-forward"], tmp_path) == 0
    kept = json.loads((tmp_path / "long-context.json").read_text())["pieces"]["medium-160k-forward"]
    assert "measured_bytes" not in kept
    assert "GB are free" in kept["left_out"]
    assert "| not run | 1000000.00 |" in (tmp_path / "long-context.md").read_text()
    assert training._long_context(torch.device("cpu"), ["small-33k"], tmp_path) == 2
    assert "unknown piece 'small-33k'; pieces: small-32k-step" in capsys.readouterr().err


@pytest.mark.parametrize(("measured", "status"), [(1.14, 0), (1.16, 1), (0.84, 1)])
def test_memory_far_from_the_foreseen_fails(
    training: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, measured: float, status: int
) -> None:
    pieces = training.long_context
    monkeypatch.setattr(pieces, "_foresee", lambda name, cuda: (10**8, 10**8))
    monkeypatch.setattr(pieces, "_measure", lambda name, device: int(measured * 10**8))
    monkeypatch.setattr(pieces, "_free", lambda device: 1e12)
    monkeypatch.setattr(pieces, "ProcessPoolExecutor", _InThisProcess)
    assert training._long_context(torch.device("cpu"), ["small-32k-step"], tmp_path) == status


class _InThisProcess:
    """Does at once what a process of its own would do."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> _InThisProcess:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Any:
        found = work(*arguments)
        return type("Done", (), {"result": staticmethod(lambda: found)})
