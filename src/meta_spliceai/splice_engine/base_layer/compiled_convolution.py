"""The same convolutions, compiled on this machine where there is a C++ compiler; PyTorch's path is their oracle.

At its first use the source beside this file is compiled for the machine's own processor into the cache (a few
seconds, once), and loaded through ctypes. Without a compiler, or with META_SPLICEAI_COMPILED=0, convolutions run in
PyTorch: slower, with the same numbers up to float noise. Which of the two runs is said by `kernel`, and in the log.

Compiled, a score depends on its variant alone, to the last bit. In PyTorch it may move by up to `NOISE` with batch,
threads and neighbours, since matrix products may sum in another order for another shape (MKL on AMD does).
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from meta_spliceai.files import cache_dir, who_else_may_write
from meta_spliceai.splice_engine.base_layer.workspace import Workspace

_LOG = logging.getLogger(__name__)

VARIABLE = "META_SPLICEAI_COMPILED"
NOISE = 2e-6
"""By how much a score in PyTorch may move with what is computed beside it."""

CHANNELS = 32
"""The only width the compiled code knows: that of all published networks."""

_MOVES = f"scores may move by up to {NOISE:g} with batch, threads and neighbours"

_SOURCE = Path(__file__).with_name("compiled_convolution.cpp")
_FLAGS = ("-O3", "-march=native", "-mprefer-vector-width=512", "-std=c++17", "-shared", "-fPIC")
_SIZES = (16, 32, 64, 128)


def kernel() -> str:
    """What convolutions on the CPU run on: "compiled", or "PyTorch" and why."""
    library = _library()
    return library if isinstance(library, str) else "compiled"


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | str:
    """The compiled code, or "PyTorch (…)" with the reason why there is none."""
    if os.environ.get(VARIABLE, "") == "0":
        _LOG.info("convolutions run in PyTorch (%s=0); %s", VARIABLE, _MOVES)
        return f"PyTorch ({VARIABLE}=0)"
    names = [name for name in (os.environ.get("CXX"), "c++", "g++", "clang++") if name]
    compiler = next(filter(None, map(shutil.which, names)), None)
    if compiler is None:
        return _said("no C++ compiler here")
    try:
        version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
        identity = "\n".join([_SOURCE.read_text(), *_FLAGS, version, _processor()])
        target = cache_dir() / "compiled" / f"convolution-{hashlib.sha256(identity.encode()).hexdigest()[:24]}.so"
        if not target.is_file():
            _compile(compiler, target)
        foreign = who_else_may_write(target)
        if foreign:
            return _said(f"the compiled code is not loaded: {foreign}; delete {target.parent}, it is made anew")
        library = ctypes.CDLL(str(target))
        library.convolve.argtypes = [ctypes.c_void_p] * 5 + [ctypes.c_long] * 10 + [ctypes.c_int]
        library.convolve.restype = ctypes.c_int
    except subprocess.CalledProcessError as error:
        return _said(f"{compiler} failed: {error.stderr.strip().splitlines()[-1:]}")
    except OSError as error:
        return _said(f"the compiled code cannot be kept or loaded: {error}")
    return library


def _said(reason: str) -> str:
    _LOG.warning("convolutions run in PyTorch, about half as fast: %s; %s", reason, _MOVES)
    return f"PyTorch ({reason})"


def _processor() -> str:
    """What -march=native depends on, so that a cache shared by machines holds one file for each kind."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return "\n".join(
        [platform.machine(), *sorted({line for line in lines if line.startswith(("flags", "model name"))})]
    )


def _compile(compiler: str, target: Path) -> None:
    """Compile beside the target and rename, so that no process loads half a file."""
    if not target.parent.is_dir():
        target.parent.mkdir(parents=True)
        target.parent.chmod(0o755)  # whatever the umask: code that others may change is not loaded
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        subprocess.run([compiler, *_FLAGS, str(_SOURCE), "-o", str(made)], capture_output=True, text=True, check=True)
        made.chmod(0o755)
        os.replace(made, target)


class CompiledConvolution:
    """One dilated convolution of 32 channels; what `BlockConvolution` does, in compiled code.

    Args:
        weights: [taps, channels in, channels out], in double precision.
        bias: [channels out], in double precision.
        dilation: positions between taps.
    """

    def __init__(
        self, weights: Float64[np.ndarray, "taps 32 32"], bias: Float64[np.ndarray, " 32"], dilation: int
    ) -> None:
        library = _library()
        if isinstance(library, str):
            raise RuntimeError(f"compiled convolutions are not available: {library}")  # noqa: TRY004
        self._convolve = library.convolve
        self.taps = len(weights)
        self.dilation = dilation
        self._weights = weights
        self._bias = bias.astype(np.float32)
        self._prepared: dict[int, np.ndarray] = {}

    @staticmethod
    def available(channels: int, taps: int, device: torch.device) -> bool:
        """Whether the compiled code can run such a convolution here."""
        fits = channels == CHANNELS and taps < _SIZES[-1] // 2 and device.type == "cpu"
        return fits and not isinstance(_library(), str)

    def run(
        self,
        x: Float[Tensor, "inputs batch 32"],
        out: Float[Tensor, "outputs batch 32"],
        length: int,
        rows: int | None,
        workspace: Workspace,
        *,
        add: bool,
    ) -> None:
        """Write, or add, the convolution of x's first positions to the first `length` positions of `out`.

        A batch member's results do not depend on the other members.

        Args:
            x: float32, channels next to each other; at least length + (taps - 1)·dilation positions.
            out: the same; at least `length` positions.
            length: positions to compute.
            rows: outputs (in steps of the dilation) of a block; chosen for the least work if None.
            workspace: not used; the compiled code has scratch memory of its own.
            add: to what `out` holds.
        """
        steps = -(-length // self.dilation)
        if rows is None:
            rows, size = best_size(self.taps, steps)
        else:
            size = next(size for size in _SIZES if size >= rows + self.taps - 1)
        if x.stride(2) != 1 or out.stride(2) != 1 or len(x) < length + (self.taps - 1) * self.dilation:
            raise ValueError(f"activations of shape {tuple(x.shape)} and strides {x.stride()} do not fit")
        # Held by name while the compiled code reads them: another thread may be making them too.
        weights, bias, twiddles = self._at_points(size), self._bias, _twiddles(size)
        failed = self._convolve(
            x.data_ptr(),
            out.data_ptr(),
            weights.ctypes.data,
            bias.ctypes.data,
            twiddles.ctypes.data,
            length,
            x.shape[1],
            self.dilation,
            self.taps,
            rows,
            size,
            x.stride(0),
            x.stride(1),
            out.stride(0),
            out.stride(1),
            int(add),
        )
        if failed:
            raise MemoryError("no memory for a convolution's scratch space")

    def positions(self, length: int, rows: int | None = None) -> int:
        """Positions of `out` that are touched: none but those asked for."""
        return length

    def _at_points(self, size: int) -> Float[np.ndarray, "frequencies 32 64"]:
        """Weights at frequencies 0 to size / 2, with the factor of the way back; made once."""
        if size not in self._prepared:
            angles = 2 * np.pi / size * np.outer(np.arange(size // 2 + 1), np.arange(self.taps))
            values = np.tensordot(np.exp(1j * angles), self._weights, axes=1) / size
            made = np.ascontiguousarray(np.concatenate([values.real, values.imag], axis=2), dtype=np.float32)
            return self._prepared.setdefault(size, made)
        return self._prepared[size]


@lru_cache(maxsize=8)
def _twiddles(size: int) -> Float[np.ndarray, "half 2"]:
    angles = 2 * np.pi / size * np.arange(size // 2)
    return np.ascontiguousarray(np.stack([np.cos(angles), np.sin(angles)], axis=1), dtype=np.float32)


@lru_cache(maxsize=4096)
def best_size(taps: int, steps: int) -> tuple[int, int]:
    """(rows a block, points of its transform) that cover `steps` outputs with the least work."""

    def work(size: int) -> float:
        # The products of a point, and its share of both transforms, whose arithmetic is slower.
        return -(-steps // (size - taps + 1)) * size * (8192 + 800 * (size.bit_length() - 1))

    size = min((size for size in _SIZES if size >= taps), key=work)
    blocks = -(-steps // (size - taps + 1))
    return -(-steps // blocks), size
