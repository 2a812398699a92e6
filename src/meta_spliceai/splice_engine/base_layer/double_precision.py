"""Parts of a network that are small enough to be kept in double precision."""

from __future__ import annotations

import copy

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from meta_spliceai.splice_engine.base_layer.network import SpliceAINetwork


class DoubleHead:
    """A network's head in double precision: its few operations choose their order of summation by batch and threads."""

    def __init__(self, network: SpliceAINetwork) -> None:
        self._module = copy.deepcopy(network.head).double()
        self.products = sum(p.numel() for p in self._module.parameters() if p.dim() > 1)

    def __call__(
        self, hidden: Float[Tensor, "batch positions channels"]
    ) -> Float32[np.ndarray, "batch positions outputs"]:
        """Probabilities from the summed skip connections."""
        outputs = self._module(hidden.transpose(1, 2).double())
        return outputs.transpose(1, 2).float().cpu().numpy()


def affine(norm: torch.nn.BatchNorm1d) -> tuple[Float64[np.ndarray, " channels"], Float64[np.ndarray, " channels"]]:
    """A normalisation in evaluation mode as scale and shift, in double precision."""
    weight, bias, mean, variance = (
        tensor.detach().double().cpu().numpy()  # type: ignore[union-attr]
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    scale = weight / np.sqrt(variance + norm.eps)
    return scale, bias - mean * scale
