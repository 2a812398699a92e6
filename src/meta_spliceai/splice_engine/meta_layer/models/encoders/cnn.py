"""Convolutional encoders whose receptive field covers the window.

Inside, tensors have shape [batch, channels, 1, length] in channels-last memory: then a dilated convolution runs at the
speed of a matrix product on a CPU (about twice that of `conv1d`, whatever the dilation) and on tensor cores alike, and
the layer norm and the gate read contiguous channels.
"""

from __future__ import annotations

from typing import Any

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


class _PhasedWeightGradient(torch.autograd.Function):
    """A dilated convolution whose weight gradient is computed on the phases of the dilation.

    Bases `dilation` apart form a sequence of their own, on which the convolution is a plain one: the same products, but
    oneDNN, which takes the gradient of a dilated kernel at a third to a half of its speed, meets a dense kernel.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "batch inputs 1 length"],
        weight: Float[Tensor, "outputs inputs 1 taps"],
        bias: Float[Tensor, " outputs"],
        dilation: int,
    ) -> Float[Tensor, "batch outputs 1 length"]:
        ctx.save_for_backward(x, weight)
        ctx.dilation = dilation
        padding = dilation * (weight.shape[-1] - 1) // 2
        return F.conv2d(x, weight, bias, padding=(0, padding), dilation=(1, dilation))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        taps = weight.shape[-1]
        of_input = None
        if ctx.needs_input_grad[0]:
            padding = ctx.dilation * (taps - 1) // 2
            of_input, _, _ = torch.ops.aten.convolution_backward(
                gradient,
                x,
                weight,
                None,
                [1, 1],
                [0, padding],
                [1, ctx.dilation],
                False,
                [0, 0],
                1,
                [True, False, False],
            )
        dense = _phases(gradient, ctx.dilation), _phases(x, ctx.dilation)
        _, of_weight, of_bias = torch.ops.aten.convolution_backward(
            *dense, weight, [weight.shape[0]], [1, 1], [0, taps // 2], [1, 1], False, [0, 0], 1, [False, True, True]
        )
        return of_input, of_weight, of_bias, None


def _phases(x: Float[Tensor, "batch channels 1 length"], step: int) -> Float[Tensor, "phases channels 1 short"]:
    """Every `step`-th base as a sequence of its own, in channels-last memory; zeros fill up the last ones."""
    rows = x.permute(0, 2, 3, 1)[:, 0]
    batch, length, channels = rows.shape
    short = -(-length // step)
    whole = F.pad(rows, (0, 0, 0, short * step - length)).view(batch, short, step, channels)
    return whole.transpose(1, 2).reshape(batch * step, 1, short, channels).permute(0, 3, 1, 2)


class _DilatedConv(nn.Conv2d):
    """A convolution along the length; on a CPU in float32 its weight gradient is computed on phases."""

    def forward(self, x: Float[Tensor, "batch inputs 1 length"]) -> Float[Tensor, "batch outputs 1 length"]:
        plain = self.dilation[1] == 1 or x.device.type != "cpu" or torch.is_autocast_enabled("cpu")
        if plain or not torch.is_grad_enabled():
            return super().forward(x)
        found: Tensor = _PhasedWeightGradient.apply(x, self.weight, self.bias, self.dilation[1])
        return found


class _DroppedRelu(torch.autograd.Function):
    """ReLU, then each channel of each window times what dropout leaves of it; one array is kept where two would be."""

    @staticmethod
    def forward(
        ctx: Any, x: Float[Tensor, "batch channels 1 length"], left: Float[Tensor, "batch channels 1 1"]
    ) -> Float[Tensor, "batch channels 1 length"]:
        answer = x.clamp_min(0).mul_(left)
        ctx.save_for_backward(answer, left)
        return answer

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        answer, left = ctx.saved_tensors
        passed: Tensor = torch.ops.aten.threshold_backward(gradients[0], answer, 0)
        return passed.mul_(left), None


def _left_by_dropout(x: Float[Tensor, "batch channels 1 length"], share: float) -> Float[Tensor, "batch channels 1 1"]:
    """For each channel of each window 0, or what makes up for the share that is dropped; the numbers that
    `nn.Dropout2d` draws."""
    return x.new_empty((*x.shape[:2], 1, 1)).bernoulli_(1 - share).div_(1 - share)


def _conv(inputs: int, outputs: int, kernel: int, dilation: int) -> nn.Conv2d:
    padding = dilation * (kernel - 1) // 2
    conv = _DilatedConv(inputs, outputs, (1, kernel), dilation=(1, dilation), padding=(0, padding))
    conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
    return conv


class _GatedBlock(nn.Module):
    """Residual block: norm, dilated convolution to twice the channels, one half gating the other."""

    def __init__(self, channels: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.norm = _ChannelNorm(channels)
        self.conv = _conv(channels, 2 * channels, kernel, dilation)
        # Of whole channels: masks for single numbers would cost an eighth of a training step on a CPU.
        self.dropout = dropout

    def forward(self, x: Float[Tensor, "batch channels 1 length"]) -> Float[Tensor, "batch channels 1 length"]:
        gated = F.glu(self.conv(self.norm(x)).permute(0, 2, 3, 1), dim=-1).permute(0, 3, 1, 2)
        if not (self.training and self.dropout):
            return x + gated
        return torch.addcmul(x, gated, _left_by_dropout(gated, self.dropout))


class _PlainBlock(nn.Module):
    """Dilated convolution, norm, ReLU; no gate and no residual connection."""

    def __init__(self, inputs: int, channels: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.conv = _conv(inputs, channels, kernel, dilation)
        self.norm = _ChannelNorm(channels)
        self.dropout = dropout  # of whole channels, as in the gated block

    def forward(self, x: Float[Tensor, "batch inputs 1 length"]) -> Float[Tensor, "batch channels 1 length"]:
        normed = self.norm(self.conv(x))
        if not (self.training and self.dropout):
            return F.relu(normed)
        found: Tensor = _DroppedRelu.apply(normed, _left_by_dropout(normed, self.dropout))
        return found


class _WindowEncoder(nn.Module):
    """What both encoders share: the plan of dilations and the change between [b, 4, L] and the inner layout."""

    def __init__(self, window: int, hidden_dim: int, layers: int, kernel: int, dropout: float) -> None:
        super().__init__()
        if hidden_dim < 1:
            raise InputError(f"hidden_dim {hidden_dim} is not positive")
        if not 0 <= dropout < 1:
            raise InputError(f"dropout {dropout} is not in [0, 1)")
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
        dropout: share of a block's channels dropped in training.

    Raises:
        InputError: a bad number; too few layers for the window.
    """

    def __init__(
        self, window: int, hidden_dim: int = 128, layers: int = 6, kernel: int = 7, dropout: float = 0.1
    ) -> None:
        super().__init__(window, hidden_dim, layers, kernel, dropout)
        # A one-by-one entry: the field is then exactly that of the planned dilations.
        self.entry = _conv(4, hidden_dim, 1, 1)
        self.blocks = nn.ModuleList(_GatedBlock(hidden_dim, kernel, d, dropout) for d in self.dilations)
        self.norm = _ChannelNorm(hidden_dim)

    def _layers(self, x: Float[Tensor, "batch 4 1 length"]) -> Float[Tensor, "batch channels 1 length"]:
        x = self.entry(x)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class SimpleCNNEncoder(_WindowEncoder):
    """Plain dilated CNN: the simplest learned reading of a window.

    Args:
        window: bases in the window (odd); dilations follow it, so that the middle position sees all of it.
        hidden_dim: channels.
        layers: convolutions.
        kernel: taps of each convolution (odd).
        dropout: share of a layer's channels dropped in training.

    Raises:
        InputError: a bad number; too few layers for the window.
    """

    def __init__(
        self, window: int, hidden_dim: int = 64, layers: int = 4, kernel: int = 11, dropout: float = 0.1
    ) -> None:
        super().__init__(window, hidden_dim, layers, kernel, dropout)
        widths = [4, *[hidden_dim] * len(self.dilations)]
        self.blocks = nn.ModuleList(
            _PlainBlock(inputs, hidden_dim, kernel, dilation, dropout)
            for inputs, dilation in zip(widths, self.dilations, strict=False)
        )

    def _layers(self, x: Float[Tensor, "batch 4 1 length"]) -> Float[Tensor, "batch channels 1 length"]:
        for block in self.blocks:
            x = block(x)
        return x
