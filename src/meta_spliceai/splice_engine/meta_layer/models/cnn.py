"""Convolutional encoders whose receptive field covers the window.

They have no dropout: the two alleles would lose different channels, and what is lost is many times larger than what a
variant changes. Dropout stands in the heads, behind the comparison.

Inside, tensors have shape [batch, channels, 1, length] in channels-last memory: then a dilated convolution runs at the
speed of a matrix product on a CPU (about twice that of `conv1d`, whatever the dilation) and on tensor cores alike, and
the layer norm and the gate read contiguous channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.meta_layer.models.predictor import Encoder, Features, OneHot

Inner = Float[Tensor, "batch channels 1 length"]


class _ChannelNorm(nn.Module):
    """Layer norm over the channels of each position: no statistics shared between windows, so batches do not matter."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Inner) -> Inner:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _conv(inputs: int, outputs: int, kernel: int, dilation: int) -> nn.Conv2d:
    padding = dilation * (kernel - 1) // 2
    conv = nn.Conv2d(inputs, outputs, (1, kernel), dilation=(1, dilation), padding=(0, padding))
    conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
    return conv


class _GatedBlock(nn.Module):
    """Residual block: norm, dilated convolution to twice the channels, one half gating the other."""

    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.norm = _ChannelNorm(channels)
        self.conv = _conv(channels, 2 * channels, kernel, dilation)

    def forward(self, x: Inner) -> Inner:
        return x + F.glu(self.conv(self.norm(x)).permute(0, 2, 3, 1), dim=-1).permute(0, 3, 1, 2)


class _PlainBlock(nn.Module):
    """Residual block: dilated convolution, norm, ReLU; no gate."""

    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.conv = _conv(channels, channels, kernel, dilation)
        self.norm = _ChannelNorm(channels)

    def forward(self, x: Inner) -> Inner:
        return x + F.relu(self.norm(self.conv(x)))


class _WindowEncoder(Encoder):
    """What both encoders share: the plan of dilations and the change between [b, 4, L] and the inner layout.

    Args:
        window: bases in the window (odd); dilations follow it, so that the middle position sees all of it.
        layers: convolutions after the gated encoder's entry, all convolutions of the plain one.
        kernel: taps of each convolution (odd).

    Raises:
        InputError: a bad number; too few layers for the window.
    """

    def __init__(self, window: int, hidden_dim: int, layers: int, kernel: int) -> None:
        super().__init__(window, hidden_dim, window)
        self.dilations = plan_dilations(window, layers, kernel)
        self.receptive_field = receptive_field(kernel, self.dilations)

    def _layers(self, x: Float[Tensor, "batch 4 1 length"]) -> Inner:
        raise NotImplementedError

    def forward(self, onehot: OneHot) -> Features:
        self.require_window(onehot)
        x = onehot.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        return self._layers(x).squeeze(2)


class GatedCNNEncoder(_WindowEncoder):
    """Gated dilated residual CNN (the wishlist's ValidatedDelta encoder)."""

    def __init__(self, window: int, hidden_dim: int = 128, layers: int = 6, kernel: int = 7) -> None:
        super().__init__(window, hidden_dim, layers, kernel)
        # A one-by-one entry: the field is then exactly that of the planned dilations.
        self.entry = _conv(4, hidden_dim, 1, 1)
        self.blocks = nn.ModuleList(_GatedBlock(hidden_dim, kernel, d) for d in self.dilations)
        self.norm = _ChannelNorm(hidden_dim)

    def _layers(self, x: Float[Tensor, "batch 4 1 length"]) -> Inner:
        x = self.entry(x)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class SimpleCNNEncoder(_WindowEncoder):
    """Plain dilated residual CNN: the simplest learned reading of a window. Only its first layer has no residual."""

    def __init__(self, window: int, hidden_dim: int = 64, layers: int = 4, kernel: int = 11) -> None:
        super().__init__(window, hidden_dim, layers, kernel)
        first, *others = self.dilations
        self.entry = _conv(4, hidden_dim, kernel, first)
        self.norm = _ChannelNorm(hidden_dim)
        self.blocks = nn.ModuleList(_PlainBlock(hidden_dim, kernel, dilation) for dilation in others)

    def _layers(self, x: Float[Tensor, "batch 4 1 length"]) -> Inner:
        x = F.relu(self.norm(self.entry(x)))
        for block in self.blocks:
            x = block(x)
        return x


def receptive_field(kernel: int, dilations: Sequence[int]) -> int:
    """Bases that one output position depends on, for stride-1 convolutions of one kernel size (it is odd)."""
    return 1 + (kernel - 1) * sum(dilations)


def plan_dilations(window: int, layers: int, kernel: int) -> tuple[int, ...]:
    """The gentlest geometric dilations with which the middle position sees every base of the window.

    The first layer has dilation 1. Each later dilation is the growth factor's power, rounded, and never so large that
    the layers before it leave a gap between its taps: then no base in the window is skipped.

    Raises:
        InputError: an even kernel; so few layers that no dilations without gaps cover the window.
    """
    if kernel < 3 or kernel % 2 == 0:
        raise InputError(f"kernel {kernel} is not an odd number of at least 3")
    growth = 1.0
    while growth <= kernel + 1:  # from there on every dilation equals the field of the layers before it
        dilations: list[int] = []
        for layer in range(layers):
            dilations.append(min(round(growth**layer), receptive_field(kernel, dilations)))
        if receptive_field(kernel, dilations) >= window and not unseen(window, kernel, dilations):
            return tuple(dilations)
        growth += 0.05
    raise InputError(
        f"{layers} layers of kernel {kernel} cannot see all of a window of {window} bases; use more layers or a "
        "smaller window"
    )


def unseen(window: int, kernel: int, dilations: Sequence[int]) -> int:
    """Bases of the window that its middle does not depend on.

    A receptive field as wide as the window is not enough: beyond the window's edges every layer sees zeros, so what a
    base says must reach the middle without a step outside.
    """
    seen = np.zeros(window, dtype=bool)
    seen[window // 2] = True
    for dilation in reversed(dilations):
        before = seen.copy()
        for step in range(dilation, min(kernel // 2 * dilation, window - 1) + 1, dilation):
            seen[step:] |= before[:-step]
            seen[:-step] |= before[step:]
    return int((~seen).sum())
