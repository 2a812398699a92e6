"""Chooses between two convolution kernels on a CPU: the one requested, or the faster one, timed once per processor.

The compiled code is the faster one on every processor it was tried on, but that is no promise. So when nobody asks,
both are timed on the convolutions that scoring spends its time in, and what was found is kept in the cache.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from meta_spliceai.errors import RunError, unknown_value
from meta_spliceai.files import atomic_write, cache_dir
from meta_spliceai.splice_engine.base_layer.block_convolution import BlockConvolution
from meta_spliceai.splice_engine.base_layer.changes import Workspace, one_thread
from meta_spliceai.splice_engine.base_layer.compiled_convolution import (
    CHANNELS,
    NOISE,
    SOURCE,
    CompiledConvolution,
    NoCompiledCodeError,
    Track,
    library,
    processor,
)

_LOG = logging.getLogger(__name__)

VARIABLE = "META_SPLICEAI_KERNEL"
KERNELS = ("auto", "compiled", "pytorch")

_INSTALL = "install a C++ compiler (apt install g++, xcode-select --install, conda install cxx-compiler)"

_MOVES = f"scores may move by up to {NOISE:g} with batch, threads and neighbours"

_SHAPES = ((11, 4, 400), (21, 10, 1300), (41, 25, 3200))
"""(taps, dilation, positions) of convolutions in which scoring spends its time."""

_MEMBERS = 8
_REPEATS = 3


@dataclass(frozen=True)
class Choice:
    name: str
    why: str
    instruction_set: str = ""

    def __str__(self) -> str:
        for_set = f" for {self.instruction_set}" if self.instruction_set else ""
        return f"{self.name}{for_set} ({self.why})"


def ask_for(kernel: str) -> None:
    """Let this process, and those it starts, use a kernel; InputError for one that is not of `KERNELS`."""
    if kernel not in KERNELS:
        raise unknown_value("kernel", kernel, KERNELS)
    os.environ[VARIABLE] = kernel


def chosen() -> Choice:
    """What convolutions on the CPU run on; decided, and said in the log, once in a process.

    Raises:
        InputError: the environment asks for something unknown.
        RunError: it asks for compiled code, and there is none.
    """
    return _chosen(os.environ.get(VARIABLE) or "auto", str(cache_dir()), os.environ.get("CXX"))


@lru_cache(maxsize=8)
def _chosen(asked: str, folder: str, compiler: str | None) -> Choice:
    if asked not in KERNELS:
        raise unknown_value("kernel", asked, KERNELS, where=VARIABLE)
    choice = Choice("pytorch", "asked for") if asked == "pytorch" else _compiled_or_not(asked, Path(folder))
    _LOG.info("convolutions: %s%s", choice, f"; {_MOVES}" if choice.name == "pytorch" else "")
    return choice


def _compiled_or_not(asked: str, folder: Path) -> Choice:
    try:
        built = library()
    except NoCompiledCodeError as error:
        if asked == "compiled":
            raise RunError(f"kernel 'compiled' cannot be had: {error}; {_INSTALL}, or ask for 'auto'") from error
        _LOG.warning("convolutions run in PyTorch, several times slower: %s; to change that, %s", error, _INSTALL)
        return Choice("pytorch", str(error))
    if asked == "compiled":
        return Choice("compiled", "asked for", built.instruction_set)
    kept = _kept(folder)
    if kept.is_file():
        seconds = json.loads(kept.read_text())
    else:
        seconds = timings()
        with atomic_write(kept) as handle:
            json.dump(seconds, handle)
    compiled, pytorch = seconds["compiled"], seconds["pytorch"]
    told = f"measured here: compiled {1000 * compiled:.1f} ms, PyTorch {1000 * pytorch:.1f} ms"
    return Choice("compiled", told, built.instruction_set) if compiled < pytorch else Choice("pytorch", told)


def _kept(folder: Path) -> Path:
    """The file of the times; its name changes with whatever they depend on."""
    told = f"{SOURCE.read_text()} {torch.__version__} {processor()} {_SHAPES}"
    return folder / "compiled" / f"choice-{hashlib.sha256(told.encode()).hexdigest()[:24]}.json"


def measured_rate() -> float | None:
    """Operations of plain convolutions a second and thread that the kernel in use comes to; None: not measured yet."""
    kept = _kept(cache_dir())
    if not kept.is_file():
        return None
    seconds = json.loads(kept.read_text())
    asked = os.environ.get(VARIABLE)
    operations = sum(2.0 * _MEMBERS * taps * length * CHANNELS**2 for taps, _, length in _SHAPES)
    return operations / (seconds[asked] if asked in seconds else min(seconds.values()))


def timings() -> dict[str, float]:
    """Seconds that either way takes for the same convolutions on one thread, the fastest of a few times each."""
    with one_thread():
        rng = np.random.default_rng(0)
        ways = [_both(rng, *shape) for shape in _SHAPES]
        return {
            "compiled": sum(_fastest(compiled) for compiled, _ in ways),
            "pytorch": sum(_fastest(pytorch) for _, pytorch in ways),
        }


def _both(
    rng: np.random.Generator, taps: int, dilation: int, length: int
) -> tuple[Callable[[], object], Callable[[], object]]:
    weights = rng.normal(size=(taps, CHANNELS, CHANNELS)) / np.sqrt(taps * CHANNELS)
    bias, device, workspace = np.zeros(CHANNELS), torch.device("cpu"), Workspace(torch.device("cpu"))
    compiled = CompiledConvolution(weights, bias, np.ones(CHANNELS), bias, 0.0, dilation)
    pytorch = BlockConvolution(weights, bias, dilation, device)
    room = pytorch.positions(length) + 2 * compiled.radius
    x, out = torch.randn(_MEMBERS * room, CHANNELS), torch.zeros(_MEMBERS * room, CHANNELS)
    track = Track(None, None, x.data_ptr(), CHANNELS, room * CHANNELS, 0, room)
    to, positions = (out.data_ptr(), room * CHANNELS), (compiled.radius, compiled.radius + length)

    def in_pytorch() -> None:
        shape = (room, _MEMBERS, CHANNELS)
        pytorch.run(x.view(shape), out.view(shape), length, None, workspace, add=False)

    return lambda: compiled.run(track, None, to, _MEMBERS, positions), in_pytorch


def _fastest(way: Callable[[], object]) -> float:
    way()
    return min(timeit.repeat(way, number=1, repeat=_REPEATS))
