"""Long dilated convolutions as a few dense matrix products, in float32 or nearly as exact on bfloat16 hardware.

A block of `rows` outputs of a k-tap convolution needs rows + k - 1 = N inputs. By the convolution theorem it is a
product at each of N frequencies. A frequency's complex product of a 32-channel vector and a 32×32 matrix is three real
ones (Karatsuba 1962; Gauss), so a block is: N inputs times a fixed matrix (the real Fourier transform, and the sums
that the three products want), one 32×32 product at each of about 1.5·N points, and a fixed matrix back. At k = 41 that
is a third of the direct work, and all of it is dense matrix products, which is what processors do best.

Layout: activations are [positions, batch, channels]. With dilation d, position p = n·d + r; so the same memory is also
the matrix [n, (r, batch, channels)], one row per step of d, and dilation costs nothing.

On bfloat16 hardware: a float32 number is the sum of two bfloat16 numbers but for 2^-17 of it. Of the four products of
two such sums, the three that matter are one bfloat16 product of three times the inner length, summed in float32:

    a·b ≈ [a_high, a_low, a_high] · [b_high; b_high; b_low]

One bfloat16 number in the place of each (2^-9) is not enough for Δ: `docs/how-to/score-a-vcf.md` has the measurement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import BFloat16, Float, Float32, Float64
from torch import Tensor

from meta_spliceai.splice_engine.base_layer.changes import Workspace

Precision = Literal["fp32", "bf16"]

PRECISIONS: dict[Precision, int] = {"fp32": 1, "bf16": 3}
"""Products that one of float32 numbers becomes, by precision."""


_MOST_ROWS = 96
"""Longest block considered: beyond it the transforms cost more than the products save."""

_COLUMNS = 6400
"""Columns of a product at which a processor's caches still hold a block's intermediate values."""


@lru_cache(maxsize=256)
def _matrices(taps: int, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(into the products [points, N], of the taps [points, taps], back [rows, points]), in double precision.

    y[n] = Σ_j w[j]·x[n + j] is the cyclic correlation of length N at n < rows, where nothing wraps around:
    Y_f = X_f·conj(W_f) at each frequency f.
    """
    length = rows + taps - 1
    into, of_taps, back = [], [], []
    n_in, n_taps, n_out = np.arange(length), np.arange(taps), np.arange(rows)
    for frequency in range(length // 2 + 1):
        angle = 2 * np.pi * frequency / length
        cos_in, sin_in = np.cos(angle * n_in), -np.sin(angle * n_in)
        cos_taps, sin_taps = np.cos(angle * n_taps), np.sin(angle * n_taps)
        cos_out, sin_out = np.cos(angle * n_out), np.sin(angle * n_out)
        if frequency == 0 or 2 * frequency == length:
            into.append(cos_in)
            of_taps.append(cos_taps)
            back.append(cos_out / length)
            continue
        into += [cos_in, sin_in, cos_in + sin_in]
        of_taps += [cos_taps, sin_taps, cos_taps + sin_taps]
        back += [(cos_out + sin_out) * 2 / length, (sin_out - cos_out) * 2 / length, -sin_out * 2 / length]
    return np.array(into), np.array(of_taps), np.array(back).T


def block_cost(taps: int, rows: int, channels: int) -> int:
    """Multiplications for a block of `rows` outputs, a column of channels."""
    length = rows + taps - 1
    points = 3 * ((length + 1) // 2) - (2 if length % 2 else 1)
    return points * channels * (length + channels + rows)


@lru_cache(maxsize=4096)
def best_blocks(taps: int, rows: int, channels: int) -> tuple[int, int]:
    """(number of blocks, rows a block) that cover `rows` outputs with the least work."""
    choices = ((count, math.ceil(rows / count)) for count in range(math.ceil(rows / _MOST_ROWS), rows + 1))
    return min(choices, key=lambda choice: choice[0] * block_cost(taps, choice[1], channels))


@dataclass(frozen=True)
class _Prepared:
    """One convolution for blocks of one size; matrices in parts (see above) where products are bfloat16."""

    into: Float[Tensor, "points length"]
    weights: Float[Tensor, "points channels channels"]
    bias: Float[Tensor, " channels"]
    back: Float[Tensor, "rows points"]


class BlockConvolution:
    """One dilated convolution, ready to be run on blocks of any size.

    Args:
        weights: [taps, channels in, channels out], in double precision.
        bias: [channels out], in double precision.
        precision: of its products; sums are in float32 always.
    """

    def __init__(
        self,
        weights: Float64[np.ndarray, "taps channels channels"],
        bias: Float64[np.ndarray, " channels"],
        dilation: int,
        device: torch.device,
        precision: Precision = "fp32",
    ) -> None:
        self.taps = len(weights)
        self.dilation = dilation
        self._weights = weights
        self._bias = bias
        self._device = device
        self._precision = precision
        self._split = precision == "bf16"
        self._prepared: dict[int, _Prepared] = {}

    def prepared(self, rows: int) -> _Prepared:
        if rows not in self._prepared:
            into, of_taps, back = _matrices(self.taps, rows)
            points = self._tensor(np.tensordot(of_taps, self._weights, axes=1))
            self._prepared[rows] = _Prepared(
                _as_left(self._tensor(into)) if self._split else self._tensor(into),
                _as_right(points) if self._split else points,
                # A constant is the zeroth frequency alone, and the way back divides that by the length.
                self._tensor(self._bias * into.shape[1]),
                _as_left(self._tensor(back)) if self._split else self._tensor(back),
            )
        return self._prepared[rows]

    def run(
        self,
        x: Float[Tensor, "inputs batch channels"],
        out: Float[Tensor, "outputs batch channels"],
        length: int,
        rows: int | None,
        workspace: Workspace,
        *,
        add: bool,
    ) -> None:
        """Write, or add, the convolution of x's first positions to the first `length` positions of `out`.

        A position's result depends on which other columns (batch members, residues, blocks) run with it by no more
        than rounding: where the library of matrix products sums in one order whatever the width (MKL on Intel), not at
        all, but for products of one row, which are avoided here.

        Args:
            x: contiguous; with room for whole blocks (see `positions`), and zeros are written behind its inputs.
            out: contiguous; with room for whole blocks. What is behind `length` is not to be used.
            rows: outputs (in steps of the dilation) of a block; chosen for the least work if None.
        """
        blocks, rows = self._cut(length, rows)
        step, seen = rows * self.dilation, (self.taps - 1) * self.dilation
        # Whole blocks read on beyond the inputs there are. What stands there reaches no output that is kept, but it
        # must be a number, and the same one every time.
        x[length + seen : blocks * step + seen].zero_()
        a_position = x.shape[1] * x.shape[2]
        x, out = x[: blocks * step + seen].view(-1, a_position), out[: blocks * step].view(-1, a_position)
        prepared, columns = self.prepared(rows), self.dilation * a_position
        points, taken, channels = len(prepared.weights), rows + self.taps - 1, len(prepared.bias)
        each = 2.0 * PRECISIONS[self._precision] * block_cost(self.taps, rows, channels)
        workspace.operations += blocks * columns // channels * each
        together = max(1, min(blocks, _COLUMNS // columns))
        for first in range(0, blocks, together):
            count = min(together, blocks - first)
            start = first * step
            if count == 1:
                inputs = x[start : start + step + seen].view(taken, columns)
            else:
                # Overlapping blocks side by side, as further columns.
                side = x[start:].as_strided((taken, count, columns), (columns, step * a_position, 1))
                inputs = workspace.take("inputs", taken, count, columns).copy_(side).view(taken, count * columns)
            single = count * columns == channels
            if single:
                inputs = workspace.take("inputs", taken, 2, columns).copy_(inputs[:, None]).view(taken, 2 * columns)
            width = inputs.shape[1]
            target = out[start : start + count * step]
            if self._split:
                at_points = _product(prepared.into, _as_right(inputs))
                products = _product(_as_left(at_points.view(points, width // channels, channels)), prepared.weights)
                products[0].add_(prepared.bias)
                result = _product(prepared.back, _as_right(products.view(points, width)))
                _put(result, target, count, rows, columns, add=add)
                continue
            at_points = torch.mm(prepared.into, inputs, out=workspace.take("at points", points, width))
            products = workspace.take("products", points, width // channels, channels)
            torch.bmm(at_points.view(products.shape), prepared.weights, out=products)
            products[0].add_(prepared.bias)
            flat = products.view(points, width)
            if count == 1 and not single:
                if add:
                    target.view(rows, columns).addmm_(prepared.back, flat)
                else:
                    torch.mm(prepared.back, flat, out=target.view(rows, columns))
                continue
            result = torch.mm(prepared.back, flat, out=workspace.take("result", rows, width))
            _put(result, target, count, rows, columns, add=add)

    def positions(self, length: int, rows: int | None = None) -> int:
        """Positions of the whole blocks that cover `length` outputs."""
        blocks, rows = self._cut(length, rows)
        return blocks * rows * self.dilation

    def _cut(self, length: int, rows: int | None) -> tuple[int, int]:
        """(number of blocks, rows a block) that cover `length` positions."""
        steps = -(-length // self.dilation)
        return best_blocks(self.taps, steps, len(self._bias)) if rows is None else (-(-steps // rows), rows)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(self._device)


def _put(
    result: Float[Tensor, "rows width"],
    target: Float[Tensor, "outputs width_a_position"],
    count: int,
    rows: int,
    columns: int,
    *,
    add: bool,
) -> None:
    """Blocks side by side as columns, to blocks one behind the other as positions."""
    turned = result.view(rows, -1, columns)[:, :count].movedim(1, 0)
    target = target.view(count, rows, columns)
    if add:
        target.add_(turned)
    else:
        target.copy_(turned)


def _as_left(a: Float32[Tensor, "*batch rows inner"]) -> BFloat16[Tensor, "*batch rows three_inner"]:
    high, low = _parts(a)
    return torch.cat([high, low, high], dim=-1)


def _as_right(b: Float32[Tensor, "*batch inner columns"]) -> BFloat16[Tensor, "*batch three_inner columns"]:
    high, low = _parts(b)
    return torch.cat([high, high, low], dim=-2)


def _product(
    left: BFloat16[Tensor, "*batch rows three_inner"], right: BFloat16[Tensor, "*batch three_inner columns"]
) -> Float32[Tensor, "*batch rows columns"]:
    """The product of two matrices in parts, summed in float32.

    A CPU has no such product: there the parts, which float32 holds exactly, are multiplied in float32. The numbers are
    those of a GPU but for the order of summation; the time is not.
    """
    if left.device.type == "cpu":
        return left.float() @ right.float()
    multiply = torch.mm if left.ndim == 2 else torch.bmm
    return multiply(left, right, out_dtype=torch.float32)


def _parts(x: Float32[Tensor, "*shape"]) -> tuple[BFloat16[Tensor, "*shape"], BFloat16[Tensor, "*shape"]]:
    high = x.to(torch.bfloat16)
    return high, (x - high).to(torch.bfloat16)
