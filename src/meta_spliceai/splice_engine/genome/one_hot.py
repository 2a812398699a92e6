"""The only one-hot encoding in the package; apart from `sequence`, which does not need PyTorch."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def one_hot(
    codes: UInt8[Tensor, "*batch length"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*batch 4 length"]:
    """Codes as channels A, C, G, T on the codes' own device; N is a column of zeros."""
    table = torch.zeros((5, 4), dtype=dtype, device=codes.device)
    table[:4] = torch.eye(4, dtype=dtype, device=codes.device)
    return table[codes.long()].movedim(-1, -2)
