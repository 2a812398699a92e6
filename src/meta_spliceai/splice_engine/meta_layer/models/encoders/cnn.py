"""Convolutional encoders whose receptive field covers the window.

They have no dropout: the two alleles would lose different channels, and what is lost is many times larger than what a
variant changes. Dropout stands in the heads, behind the comparison.

Inside, tensors have shape [batch, channels, 1, length] in channels-last memory: then a dilated convolution runs at the
speed of a matrix product on a CPU (about twice that of `conv1d`, whatever the dilation) and on tensor cores alike, and
the layer norm and the gate read contiguous channels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.meta_layer.models.encoders.receptive_field import plan_dilations, receptive_field


class _ChannelNorm(nn.Module):
    """Layer norm over the channels of each position: no statistics shared between windows, so batches do not matter."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Float[Tensor, "batch channels 1 length"]) -> Float[Tensor, "batch channels 1 length"]:
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

    def forward(self, x: Float[Tensor, "batch channels 1 length"]) -> Float[Tensor, "batch channels 1 length"]:
        return x + F.glu(self.conv(self.norm(x)).permute(0, 2, 3, 1), dim=-1).permute(0, 3, 1, 2)


class _PlainBlock(nn.Module):
    """Residual block: dilated convolution, norm, ReLU; no gate."""

    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.conv = _conv(channels, channels, kernel, dilation)
        self.norm = _ChannelNorm(channels)

    def forward(self, x: Float[Tensor, "batch channels 1 length"]) -> Float[Tensor, "batch channels 1 length"]:
        return x + F.relu(self.norm(self.conv(x)))


class _WindowEncoder(nn.Module):
    """What both encoders share: the plan of dilations and the change between [b, 4, L] and the inner layout."""

    def __init__(self, window: int, hidden_dim: int, layers: int, kernel: int) -> None:
        super().__init__()
        if hidden_dim < 1:
            raise InputError(f"hidden_dim {hidden_dim} is not positive")
        self.window = window
        self.channels = hidden_dim
        self.dilations = plan_dilations(window, layers, kernel)
        self.receptive_field = receptive_field(kernel, self.dilations)

    def _layers(self, x: Float[Tensor, "batch 4 1 length"]) -> Float[Tensor, "batch channels 1 length"]:
        raise NotImplementedError

    def forward(self, onehot: Float[Tensor, "batch 4 length"]) -> Float[Tensor, "batch channels length"]:
        """Features per position.

        Raises:
            InputError: a window of another length than the encoder was planned for.
        """
        if onehot.shape[-1] != self.window:
            raise InputError(f"a window of {onehot.shape[-1]} bases was given to an encoder made for {self.window}")
        x = onehot.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        return self._layers(x).squeeze(2)


class GatedCNNEncoder(_WindowEncoder):
    """Gated dilated residual CNN (the wishlist's ValidatedDelta encoder).

    Args:
        window: bases in the window (odd); dilations follow it, so that the middle position sees all of it.
        hidden_dim: channels.
        layers: gated residual blocks.
        kernel: taps of each convolution (odd).

    Raises:
        InputError: a bad number; too few layers for the window.
    """

    def __init__(self, window: int, hidden_dim: int = 128, layers: int = 6, kernel: int = 7) -> None:
        super().__init__(window, hidden_dim, layers, kernel)
        # A one-by-one entry: the field is then exactly that of the planned dilations.
        self.entry = _conv(4, hidden_dim, 1, 1)
        self.blocks = nn.ModuleList(_GatedBlock(hidden_dim, kernel, d) for d in self.dilations)
        self.norm = _ChannelNorm(hidden_dim)

    def _layers(self, x: Float[Tensor, "batch 4 1 length"]) -> Float[Tensor, "batch channels 1 length"]:
        x = self.entry(x)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class SimpleCNNEncoder(_WindowEncoder):
    """Plain dilated residual CNN: the simplest learned reading of a window.

    Args:
        window: bases in the window (odd); dilations follow it, so that the middle position sees all of it.
        hidden_dim: channels.
        layers: convolutions, all but the first with a residual path around them.
        kernel: taps of each convolution (odd).

    Raises:
        InputError: a bad number; too few layers for the window.
    """

    def __init__(self, window: int, hidden_dim: int = 64, layers: int = 4, kernel: int = 11) -> None:
        super().__init__(window, hidden_dim, layers, kernel)
        first, *others = self.dilations
        self.entry = _conv(4, hidden_dim, kernel, first)
        self.norm = _ChannelNorm(hidden_dim)
        self.blocks = nn.ModuleList(_PlainBlock(hidden_dim, kernel, dilation) for dilation in others)

    def _layers(self, x: Float[Tensor, "batch 4 1 length"]) -> Float[Tensor, "batch channels 1 length"]:
        x = F.relu(self.norm(self.entry(x)))
        for block in self.blocks:
            x = block(x)
        return x
