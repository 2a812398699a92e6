"""Both fast convolutions equal the plain sum over taps, for any length, dilation, block and place in memory."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from meta_spliceai.splice_engine.base_layer import compiled_convolution
from meta_spliceai.splice_engine.base_layer.block_convolution import BlockConvolution
from meta_spliceai.splice_engine.base_layer.changes import Workspace
from meta_spliceai.splice_engine.base_layer.compiled_convolution import (
    CHANNELS,
    CompiledConvolution,
    NoCompiledCodeError,
    Track,
    library,
)

CPU = torch.device("cpu")
FAR = 1 << 40
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


@pytest.mark.parametrize(("taps", "dilation", "length", "batch", "rows"), SHAPES)
def test_blocks_equal_the_sum_over_taps(taps: int, dilation: int, length: int, batch: int, rows: int | None) -> None:
    rng = np.random.default_rng(taps + length)
    weights = rng.normal(size=(taps, CHANNELS, CHANNELS)) / np.sqrt(taps * CHANNELS)
    bias = rng.normal(size=CHANNELS)
    convolution = BlockConvolution(weights, bias, dilation, CPU)
    seen = (taps - 1) * dilation
    room = convolution.positions(length, rows)
    inputs = torch.from_numpy(rng.normal(size=(length + seen, batch, CHANNELS)).astype(np.float32))
    x, out = (torch.zeros(positions, batch, CHANNELS) for positions in (room + seen, room + 1))
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


@pytest.fixture(scope="module")
def compiled() -> None:
    try:
        library()
    except NoCompiledCodeError as error:
        pytest.skip(str(error))


def made(rng: np.random.Generator, taps: int, dilation: int, slope: float) -> tuple[CompiledConvolution, tuple]:
    weights = rng.normal(size=(taps, CHANNELS, CHANNELS)) / np.sqrt(taps * CHANNELS)
    bias, scale, shift = rng.normal(size=(3, CHANNELS))
    return CompiledConvolution(weights, bias, scale, shift, slope, dilation), (weights, bias, scale, shift)


def by_hand(x: np.ndarray, numbers: tuple, slope: float, dilation: int, length: int) -> np.ndarray:
    """What a convolution makes of [positions, 32], in double precision."""
    weights, bias, scale, shift = numbers
    value = x.astype(np.float64) * scale + shift
    value = np.where(value > 0, value, slope * value)
    return sum(value[j * dilation : j * dilation + length] @ tap for j, tap in enumerate(weights)) + bias


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize(("taps", "dilation", "length", "members"), [(1, 1, 9, 3), *(shape[:4] for shape in SHAPES)])
def test_compiled_equals_the_sum_over_taps(
    compiled: None, taps: int, dilation: int, length: int, members: int, reference: bool
) -> None:
    """With the input in three parts, as alternatives have it, and something to add that lies where the output does."""
    rng = np.random.default_rng(taps + length)
    slope = 0.1
    convolution, numbers = made(rng, taps, dilation, slope)
    radius = convolution.radius
    low, high = length // 3, length // 2
    left = rng.normal(size=(radius + length, CHANNELS)).astype(np.float32)  # from -radius on
    right = rng.normal(size=(radius + length, CHANNELS)).astype(np.float32)  # from 0 on
    inside = rng.normal(size=(members, high - low, CHANNELS)).astype(np.float32)
    one, other = (np.array([at] * members, np.uint64) for at in (left.ctypes.data + 128 * radius, right.ctypes.data))
    track = Track(
        one.ctypes.data,
        other.ctypes.data,
        inside.ctypes.data - 128 * low,
        CHANNELS,
        (high - low) * CHANNELS,
        low,
        high,
    )
    out = rng.normal(size=(members, length + 1, CHANNELS)).astype(np.float32)
    before = out.copy()
    place = (out.ctypes.data, (length + 1) * CHANNELS)
    residual = Track(None, None, place[0], CHANNELS, place[1], -FAR, FAR)
    convolution.run(track, residual, place, members, (0, length), reference=reference)
    for member in range(members):
        x = np.concatenate([left[: radius + low], inside[member], right[high:]])
        expected = by_hand(x, numbers, slope, dilation, length) + before[member, :length]
        np.testing.assert_allclose(out[member, :length], expected, atol=2e-5, rtol=0)
    np.testing.assert_array_equal(out[:, -1], before[:, -1])  # nothing is written behind the positions asked for


def test_a_constant_stands_for_all_positions(compiled: None) -> None:
    rng = np.random.default_rng(1)
    convolution, numbers = made(rng, 41, 25, 0.0)
    one = rng.normal(size=CHANNELS).astype(np.float32)
    pointer = np.array([one.ctypes.data], np.uint64)
    track = Track(pointer.ctypes.data, pointer.ctypes.data, None, 0, 0, 0, 0)
    out = np.zeros((300, CHANNELS), np.float32)
    convolution.run(track, None, (out.ctypes.data, 0), 1, (0, 300))
    expected = by_hand(np.broadcast_to(one, (1300, CHANNELS)), numbers, 0.0, 25, 300)
    np.testing.assert_allclose(out, expected, atol=2e-5, rtol=0)


def test_members_and_blocks_do_not_move_each_other(compiled: None) -> None:
    """To the bit: whatever runs beside it, and wherever a reference's window begins."""
    rng = np.random.default_rng(2)
    for taps, dilation in ((11, 1), (11, 4), (21, 10), (41, 25)):
        convolution, _ = made(rng, taps, dilation, 0.0)
        span, radius = convolution.span, convolution.radius
        x = rng.normal(size=(3 * span + 2 * radius, CHANNELS)).astype(np.float32)
        outs = []
        for first, last in ((0, 3 * span), (span, 2 * span)):
            out = np.zeros((3 * span, CHANNELS), np.float32)
            track = Track(None, None, x.ctypes.data + 128 * radius, 0, 0, -FAR, FAR)
            convolution.run(track, None, (out.ctypes.data, 0), 1, (first, last), reference=True)
            outs.append(out[span : 2 * span])
        np.testing.assert_array_equal(*outs)


def test_turns_of_a_transform_reach_every_frequency_once() -> None:
    for size in compiled_convolution._SIZES:
        turns, passes, order = compiled_convolution._transform(size)
        assert np.prod(passes[:-1]) == size
        assert sorted(order) == list(range(size))
        spans = [size, *(size // np.cumprod(passes[:-1]))]
        assert len(turns) == sum(2 * (one - other) for one, other in pairwise(spans))


def test_first_use_by_several_threads_at_once(compiled: None) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, CHANNELS)).astype(np.float32)
    track = Track(None, None, x.ctypes.data + 128 * 500, 0, 0, -FAR, FAR)
    for _ in range(5):
        convolution, _ = made(rng, 41, 25, 0.0)
        outs = [np.zeros((500, CHANNELS), np.float32) for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda out: convolution.run(track, None, (out.ctypes.data, 0), 1, (0, 500)), outs))  # noqa: B023
        assert all(np.array_equal(outs[0], out) for out in outs)


@pytest.mark.parametrize("harm", ["group may write", "all may write", "folder", "another's", "none"])
def test_compiled_code_that_others_may_change_is_not_loaded(
    compiled: None, harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path))
    library()
    (file,) = tmp_path.glob("compiled/*.so")
    if harm == "another's":
        monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
        monkeypatch.setattr(Path, "stat", _of_user(4711, Path.stat))
    elif harm != "none":
        place = file.parent if harm == "folder" else file
        place.chmod(0o777 if harm == "all may write" else 0o775)
    load = compiled_convolution._library.__wrapped__
    if harm == "none":
        assert load(os.environ.get("CXX"), str(tmp_path)).lanes
    else:
        with pytest.raises(NoCompiledCodeError, match="the compiled code is not loaded"):
            load(os.environ.get("CXX"), str(tmp_path))


def _of_user(user: int, stat: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
    """`Path.stat` on a system where every file is of one user."""

    def stated(path: Path, **options: bool) -> os.stat_result:
        found = list(stat(path, **options))
        found[4] = user
        return os.stat_result(found)

    return stated


def test_compiler_that_fails_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "c++"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && echo broken 1 && exit 0\necho no such thing >&2\nexit 1\n')
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path / "cache"))
    with pytest.raises(NoCompiledCodeError, match="no such thing"):
        library()
    assert not list((tmp_path / "cache").rglob("*.so"))


TARGETS = {
    "plain x86": (["g++", "-mno-avx"], [], "plain", 4),
    "AVX2": (["g++", "-mavx2", "-mfma"], [], "AVX2", 8),
    "ARM": (["aarch64-linux-gnu-g++"], ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"], "NEON", 4),
}


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_every_instruction_set_gives_the_same_numbers(target: str, tmp_path: Path) -> None:
    """A program for the target runs the source on numbers written by this test, under an emulator where need be."""
    compiler, emulator, name, lanes = TARGETS[target]
    for tool in (compiler[0], *emulator[:1]):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if target == "AVX2" and library().lanes < lanes:
        pytest.skip("this processor has no AVX2")
    source = Path(compiled_convolution.__file__).with_name("compiled_convolution.cpp")
    program = tmp_path / "program"
    main = Path(__file__).with_name("convolve_file.cpp")
    command = [*compiler, "-O2", "-std=c++17", "-static", f'-DSOURCE="{source}"', str(main), "-o", str(program)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    rng = np.random.default_rng(4)
    for taps, dilation, block in ((1, 1, (1, 0)), (11, 1, (40, 50)), (21, 10, (44, 64)), (41, 25, (40, 80))):
        length, slope = 120, 0.1
        convolution, numbers = made(rng, taps, dilation, slope)
        convolution._library = compiled_convolution.Library(None, lanes, name)  # type: ignore[arg-type]
        x = rng.normal(size=(length + 2 * convolution.radius, CHANNELS)).astype(np.float32)
        _, (weights, *vectors, turns, passes, order) = convolution._prepare(block)
        header = np.array([taps, dilation, *block, length, len(turns), len(passes), len(order), weights.size], np.int64)
        parts = [header, np.float32([slope, 0]), x, weights, *vectors, turns, passes, order]
        (tmp_path / "in").write_bytes(b"".join(part.tobytes() for part in parts))
        with (tmp_path / "in").open("rb") as handle:
            done = subprocess.run([*emulator, str(program)], stdin=handle, check=True, capture_output=True)
        said, _, values = done.stdout.partition(b"\n")
        assert said.decode() == name
        found = np.frombuffer(values, np.float32).reshape(length, CHANNELS)
        np.testing.assert_allclose(found, by_hand(x, numbers, slope, dilation, length), atol=2e-5, rtol=0)
