"""Normalisation, activation and convolution in one compiled pass; PyTorch's implementation is the reference.

The source beside this file is compiled for the machine's own processor into the cache when it is first wanted (a few
seconds, once), and loaded through ctypes. `kernel_choice` decides whether it is used.

Compiled, a score depends on its variant alone, to the last bit. In PyTorch it may move by up to `NOISE` with batch,
threads and neighbours, since matrix products may sum in another order for another shape (MKL on AMD does).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64

from meta_spliceai.files import cache_dir, who_else_may_write

NOISE = 2e-6
"""By how much a score in PyTorch may move with what is computed beside it."""

CHANNELS = 32
"""The only width the compiled code knows: that of all published networks."""

SOURCE = Path(__file__).with_name("compiled_convolution.cpp")
_FLAGS = ("-O3", "-mprefer-vector-width=512", "-std=c++17", "-shared", "-fPIC")
_SIZES = (16, 20, 24, 32, 40, 48, 50, 60, 64, 80, 96, 100, 120, 128, 144, 160, 192, 200, 240, 256)
"""Points of the transforms; of some dozen choices one is near whatever a zone needs."""

LONGEST = 101
"""Taps at most."""


class NoCompiledCodeError(Exception):
    """Why there is no compiled code here."""


@dataclass(frozen=True)
class Library:
    """The compiled code: its only function, floats of a vector, and what it was compiled for."""

    convolve: Callable[..., int]
    lanes: int
    instruction_set: str


def library() -> Library:
    """The compiled code, made where it is not yet in the cache; NoCompiledCodeError: no compiler, or it failed, or the
    result cannot be kept or loaded."""
    return _library(os.environ.get("CXX"), str(cache_dir()))


@lru_cache(maxsize=4)
def _library(compiler_wanted: str | None, folder: str) -> Library:
    compiler = next(filter(None, map(shutil.which, (compiler_wanted or "c++", "c++", "g++", "clang++"))), None)
    if compiler is None:
        raise NoCompiledCodeError("no C++ compiler here")
    flags = (*_FLAGS, "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native")
    try:
        version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
        identity = "\n".join([SOURCE.read_text(), *flags, version, processor()])
        digest = hashlib.sha256(identity.encode()).hexdigest()[:24]
        target = Path(folder) / "compiled" / f"convolution-{digest}.so"
        if not target.is_file():
            _compile([compiler, *flags], target)
        foreign = who_else_may_write(target)
        if foreign:
            raise NoCompiledCodeError(
                f"the compiled code is not loaded: {foreign}; delete {target.parent}, it is made anew"
            )
        loaded = ctypes.CDLL(str(target))
    except subprocess.CalledProcessError as error:
        raise NoCompiledCodeError(f"{compiler} failed: {error.stderr.strip().splitlines()[-1:]}") from error
    except OSError as error:
        raise NoCompiledCodeError(f"the compiled code cannot be kept or loaded: {error}") from error
    loaded.instruction_set.restype = ctypes.c_char_p
    loaded.lanes.restype = ctypes.c_long
    loaded.convolve.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_long] * 4 + [ctypes.c_void_p]
    return Library(loaded.convolve, loaded.lanes(), loaded.instruction_set().decode())


def processor() -> str:
    """What the compiled code and its speed depend on, so that a cache shared by machines has one of each kind."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else [platform.processor()]
    return "\n".join([platform.machine(), *sorted({line for line in lines if line.startswith(_OF_PROCESSOR)})])


_OF_PROCESSOR = ("flags", "model name", "Features", "CPU implementer", "CPU part")


def _compile(command: list[str], target: Path) -> None:
    """Compile beside the target and rename, so that no process loads half a file."""
    if not target.parent.is_dir():
        target.parent.mkdir(parents=True)
        target.parent.chmod(0o755)  # whatever the umask: code that others may change is not loaded
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        subprocess.run([*command, str(SOURCE), "-o", str(made)], capture_output=True, text=True, check=True)
        made.chmod(0o755)
        os.replace(made, target)


class Track(ctypes.Structure):
    """Activations of several members around their changes; see the struct of the same name in the source."""

    _fields_ = (
        ("left", ctypes.c_void_p),
        ("right", ctypes.c_void_p),
        ("inside", ctypes.c_void_p),
        ("step", ctypes.c_long),
        ("member", ctypes.c_long),
        ("low", ctypes.c_long),
        ("high", ctypes.c_long),
    )


class _Convolution(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weights", "bias", "scale", "shift", "twiddles", "passes", "order")),
        *((name, ctypes.c_long) for name in ("taps", "dilation", "rows", "size")),
        ("slope", ctypes.c_float),
        ("padding", ctypes.c_long),
    )


class CompiledConvolution:
    """One normalisation (scale, shift), activation (slope below zero; 1 for none) and dilated convolution of 32
    channels and an odd number of taps, centred on its output."""

    def __init__(
        self,
        weights: Float64[np.ndarray, "taps 32 32"],
        bias: Float64[np.ndarray, " 32"],
        scale: Float64[np.ndarray, " 32"],
        shift: Float64[np.ndarray, " 32"],
        slope: float = 1.0,
        dilation: int = 1,
    ) -> None:
        self._library = library()
        self.taps, self.dilation, self.slope = len(weights), dilation, slope
        self.radius = (self.taps - 1) // 2 * dilation
        self._weights = weights
        self._vectors = [one.astype(np.float32) for one in (bias, scale, shift)]
        self._prepared: dict[tuple[int, int], tuple[_Convolution, list[np.ndarray]]] = {}
        self.reference_rows, self.reference_size = _reference_block(self.taps)
        self.span = self.reference_rows * (2 if dilation == 1 else dilation) if self.reference_size else 1
        """Positions of a reference's block."""

    @property
    def constant(self) -> tuple[np.ndarray, ...]:
        """What it makes of a constant: matrix, bias, scale and shift."""
        return (self._weights.sum(axis=0), *(one.astype(np.float64) for one in self._vectors))

    def run(
        self,
        track: Track,
        residual: Track | None,
        out: tuple[int, int],
        members: int,
        positions: tuple[int, int],
        *,
        reference: bool = False,
    ) -> float:
        """Compute the positions [start, end) of every member's output; the floating-point operations of the products,
        whole blocks included.

        A member's results do not depend on the other members. In a reference, a position's depend on its block alone,
        which begins at `positions[0]` or a multiple of `span` behind it.

        Args:
            residual: what is added; may lie where `out` does.
            out: address of the first member's position 0, and floats from one member to the next.
            reference: in blocks of `reference_rows` rather than as costs least.
        """
        length = positions[1] - positions[0]
        if reference:
            rows, size = self.reference_rows, self.reference_size
        else:
            rows, size = best_block(self.taps, self.dilation, length)
        # Held by name while the compiled code reads it: another thread may be making it too.
        prepared = self._prepared.get((rows, size)) or self._prepare((rows, size))
        added = None if residual is None else ctypes.addressof(residual)
        failed = self._library.convolve(
            ctypes.addressof(track), added, *out, members, *positions, ctypes.addressof(prepared[0])
        )
        if failed:
            raise MemoryError("no memory for a convolution's scratch space")
        products = 8.0 * _signals(self.dilation, length, rows) * size if size else 2.0 * length * self.taps
        return members * products * CHANNELS**2

    def _prepare(self, block: tuple[int, int]) -> tuple[_Convolution, list[np.ndarray]]:
        """Weights at the points of a transform, with the factor of the way back, as the compiled code reads them."""
        rows, size = block
        lanes = self._library.lanes
        groups = CHANNELS // lanes
        if size:
            turned = _waves(self.taps, size) @ self._weights.reshape(self.taps, -1)
            turned = turned.reshape(2, -1, CHANNELS, groups, lanes)
            weights = turned.transpose(1, 3, 2, 0, 4)
        else:
            weights = self._weights.reshape(self.taps, CHANNELS, groups, lanes).transpose(2, 0, 1, 3)
        held = [np.ascontiguousarray(weights, np.float32), *self._vectors, *_transform(size)]
        made = _Convolution(*(a.ctypes.data for a in held), self.taps, self.dilation, rows, size, self.slope, 0)
        return self._prepared.setdefault(block, (made, held))


def _reference_block(taps: int) -> tuple[int, int]:
    """(rows, points) of a reference's blocks: short beside what a window adds to them, and long beside the kernel."""
    if taps < 5:
        return 1, 0
    size = next(
        size for size in _SIZES if size >= max(2 * (taps - 1), min(3 * (taps - 1), 60), min(5 * (taps - 1), 50))
    )
    return size - taps + 1, size


def _signals(dilation: int, length: int, rows: int) -> int:
    """Pairs of units that cover so many positions; see the source."""
    if dilation == 1:
        return -(-length // (2 * rows))
    return -(-length // (rows * dilation)) * ((dilation + 1) // 2)


@lru_cache(maxsize=4096)
def best_block(taps: int, dilation: int, length: int) -> tuple[int, int]:
    """(rows, points of the transform) of the blocks that cover `length` positions in the least time; (1, 0): directly.

    In cycles as counted on an AVX2 processor; others want them in about the same proportion.
    """
    choices = [(80.0 * taps * length, (1, 0))]
    for size in _SIZES:
        if size >= taps:
            rows = size - taps + 1
            choices.append((_signals(dilation, length, rows) * (390.0 * size + 60 * rows), (rows, size)))
    return min(choices)[1]


@lru_cache(maxsize=64)
def _waves(taps: int, size: int) -> Float64[np.ndarray, "two frequencies taps"]:
    """Real and imaginary part of what takes taps to frequencies 0 to size / 2, with the factor of the way back."""
    angles = 2 * np.pi / size * np.outer(np.arange(size // 2 + 1), np.arange(taps))
    return np.stack([np.cos(angles), np.sin(angles)]) / size


def _radices(size: int) -> list[int]:
    """Of the passes of a transform, in the order of the forward one."""
    found = []
    for radix in (4, 2, 3, 5):
        while size > 1 and size % radix == 0:
            found.append(radix)
            size //= radix
    return found


@lru_cache(maxsize=32)
def _transform(
    size: int,
) -> tuple[Float32[np.ndarray, " twiddles"], Int64[np.ndarray, " passes"], Int64[np.ndarray, " frequencies"]]:
    """(turns of every pass, radices ended by 0, where each frequency stands); nothing for the direct form, size 0."""
    turns: list[float] = []
    order = np.zeros(size, np.int64)
    remaining, left = np.arange(size), size
    for radix in _radices(size):
        angles = 2 * np.pi / left * np.outer(np.arange(left // radix), np.arange(1, radix))
        turns += np.stack([np.cos(angles), np.sin(angles)], axis=2).ravel().tolist()
        left //= radix
        order += remaining % radix * left
        remaining = remaining // radix
    return np.array(turns, np.float32), np.array([*_radices(size), 0], np.int64), order
