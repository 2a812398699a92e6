"""Products of float32 matrices on bfloat16 hardware, nearly as exact as in float32.

A float32 number is the sum of two bfloat16 numbers but for 2^-17 of it. Of the four products of two such sums, the
three that matter are one bfloat16 product of three times the inner length, summed in float32:

    a·b ≈ [a_high, a_low, a_high] · [b_high; b_high; b_low]

One bfloat16 number in the place of each (2^-9) is not enough for Δ: `docs/how-to/score-a-vcf.md` has the measurement.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import BFloat16, Float32
from torch import Tensor

Precision = Literal["fp32", "bf16"]

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


def products_in(precision: Precision) -> int:
    """How many products take the place of one."""
    return 3 if precision == "bf16" else 1


def as_left(a: Float32[Tensor, "*batch rows inner"]) -> BFloat16[Tensor, "*batch rows three_inner"]:
    """The first factor of a product, in parts."""
    high, low = _parts(a)
    return torch.cat([high, low, high], dim=-1)


def as_right(b: Float32[Tensor, "*batch inner columns"]) -> BFloat16[Tensor, "*batch three_inner columns"]:
    """The second factor of a product, in parts."""
    high, low = _parts(b)
    return torch.cat([high, high, low], dim=-2)


def product(
    left: BFloat16[Tensor, "*batch rows three_inner"], right: BFloat16[Tensor, "*batch three_inner columns"]
) -> Float32[Tensor, "*batch rows columns"]:
    """The product of what `as_left` and `as_right` gave, summed in float32.

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
