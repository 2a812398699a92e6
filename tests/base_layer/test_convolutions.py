"""Both fast convolutions equal the plain sum over taps, for any length, dilation, block and place in memory."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from meta_spliceai.splice_engine.base_layer import compiled_convolution
from meta_spliceai.splice_engine.base_layer.block_convolution import BlockConvolution
from meta_spliceai.splice_engine.base_layer.compiled_convolution import CHANNELS, CompiledConvolution
from meta_spliceai.splice_engine.base_layer.workspace import Workspace

CPU = torch.device("cpu")
SHAPES = [
    # taps, dilation, length, batch, rows
    (11, 1, 1, 1, None),
    (11, 1, 37, 3, None),
    (11, 1, 40, 1, 5),
    (11, 4, 93, 2, 5),
    (21, 10, 333, 1, 10),
    (21, 10, 105, 5, None),
    (41, 25, 104, 2, None),
    (41, 25, 3025, 2, None),
    (41, 25, 1010, 1, 20),
    (5, 2, 64, 4, None),
]


def _needs_compiled() -> None:
    if compiled_convolution.kernel() != "compiled":
        pytest.skip(compiled_convolution.kernel())


@pytest.mark.parametrize(("taps", "dilation", "length", "batch", "rows"), SHAPES)
@pytest.mark.parametrize("kind", ["PyTorch", "compiled", "compiled, members apart"])
def test_equals_the_sum_over_taps(
    kind: str, taps: int, dilation: int, length: int, batch: int, rows: int | None
) -> None:
    rng = np.random.default_rng(taps + length)
    weights = rng.normal(size=(taps, CHANNELS, CHANNELS)) / np.sqrt(taps * CHANNELS)
    bias = rng.normal(size=CHANNELS)
    if kind == "PyTorch":
        convolution: BlockConvolution | CompiledConvolution = BlockConvolution(weights, bias, dilation, CPU)
    else:
        _needs_compiled()
        convolution = CompiledConvolution(weights, bias, dilation)
    seen = (taps - 1) * dilation
    room = convolution.positions(length, rows)
    inputs = torch.from_numpy(rng.normal(size=(length + seen, batch, CHANNELS)).astype(np.float32))
    x, out = (torch.zeros(positions, batch, CHANNELS) for positions in (room + seen, room + 1))
    if kind == "compiled, members apart":
        x, out = (torch.zeros(batch, len(t), CHANNELS).transpose(0, 1) for t in (x, out))
    x[: length + seen] = inputs
    expected = sum(
        inputs[j * dilation : j * dilation + length].double() @ torch.from_numpy(weights[j]) for j in range(taps)
    )
    expected = expected + torch.from_numpy(bias)
    convolution.run(x, out, length, rows, Workspace(CPU), add=False)
    torch.testing.assert_close(out[:length].double(), expected, atol=2e-5, rtol=0)
    assert float(out[-1].abs().max()) == 0  # nothing is written behind the room asked for
    convolution.run(x, out, length, rows, Workspace(CPU), add=True)
    torch.testing.assert_close(out[:length].double(), 2 * expected, atol=4e-5, rtol=0)


@pytest.mark.parametrize("harm", ["group may write", "all may write", "folder", "another's", "none"])
def test_compiled_code_that_others_may_change_is_not_loaded(
    harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _needs_compiled()
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path))
    compiled_convolution._library.cache_clear()
    try:
        assert compiled_convolution.kernel() == "compiled"
        (library,) = tmp_path.glob("compiled/*.so")
        if harm == "another's":
            monkeypatch.setattr(os, "geteuid", lambda: library.stat().st_uid + 1)
            monkeypatch.setattr(Path, "stat", _of_user(4711, Path.stat))
        elif harm != "none":
            place = library.parent if harm == "folder" else library
            place.chmod(0o777 if harm == "all may write" else 0o775)
        compiled_convolution._library.cache_clear()
        assert compiled_convolution.kernel().startswith("compiled" if harm == "none" else "PyTorch (the compiled code")
    finally:
        compiled_convolution._library.cache_clear()


def _of_user(user: int, stat: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
    """`Path.stat` on a system where every file is of one user."""

    def stated(path: Path, **options: bool) -> os.stat_result:
        found = list(stat(path, **options))
        found[4] = user
        return os.stat_result(found)

    return stated


def test_compiled_code_refuses_what_does_not_fit() -> None:
    _needs_compiled()
    convolution = CompiledConvolution(np.zeros((11, CHANNELS, CHANNELS)), np.zeros(CHANNELS), 1)
    with pytest.raises(ValueError, match="do not fit"):
        convolution.run(torch.zeros(19, 1, 32), torch.zeros(10, 1, 32), 10, None, Workspace(CPU), add=False)


def test_other_widths_and_devices_take_the_pytorch_path() -> None:
    assert not CompiledConvolution.available(8, 11, CPU)
    assert not CompiledConvolution.available(CHANNELS, 11, torch.device("meta"))
    assert not CompiledConvolution.available(CHANNELS, 100, CPU)


def _kernel_elsewhere(environment: dict[str, str]) -> str:
    """What a fresh process says it runs on."""
    code = "from meta_spliceai.splice_engine.base_layer.compiled_convolution import kernel; print(kernel())"
    environment = {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), **environment}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip() + done.stderr.strip()


def test_it_can_be_turned_off() -> None:
    assert _kernel_elsewhere({"META_SPLICEAI_COMPILED": "0"}) == "PyTorch (META_SPLICEAI_COMPILED=0)"


def test_without_a_compiler_it_says_so_and_goes_on(tmp_path: Path) -> None:
    said = _kernel_elsewhere({"PATH": str(tmp_path), "META_SPLICEAI_CACHE": str(tmp_path)})
    assert said.startswith("PyTorch (no C++ compiler here)")
    assert "convolutions run in PyTorch" in said
    assert "scores may move by up to 2e-06" in said


def test_compiler_that_fails_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "c++"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && echo broken 1 && exit 0\necho no such thing >&2\nexit 1\n')
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path / "cache"))
    with caplog.at_level(logging.WARNING):
        found = compiled_convolution._library.__wrapped__()
    assert isinstance(found, str)
    assert "no such thing" in found
    assert "convolutions run in PyTorch" in caplog.text
    assert not list((tmp_path / "cache").rglob("*.so"))


def test_first_use_by_several_threads_at_once() -> None:
    _needs_compiled()
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(1500, 2, CHANNELS)).astype(np.float32))
    for _ in range(20):
        convolution = CompiledConvolution(rng.normal(size=(41, CHANNELS, CHANNELS)), rng.normal(size=CHANNELS), 25)
        outs = [torch.zeros(500, 2, CHANNELS) for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda out: convolution.run(x, out, 500, None, Workspace(CPU), add=False), outs))  # noqa: B023
        assert all(torch.equal(outs[0], out) for out in outs)
