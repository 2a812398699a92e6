"""SpliceAI-shaped networks: a residual trunk of dilated convolutions, with a pointwise head.

The shape is that of Jaganathan et al. 2019 (10.1016/j.cell.2018.12.015), figure 1. The original pads its
convolutions with zeros and then crops `flank` positions from either end; no output it keeps ever saw that padding, so
the unpadded convolutions here give the same numbers with less work.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Stage:
    """Consecutive residual blocks of one kernel size and dilation, followed by one skip connection."""

    blocks: int
    kernel: int
    dilation: int

    @property
    def radius(self) -> int:
        """Positions that one convolution sees to either side."""
        return self.dilation * (self.kernel - 1) // 2


@dataclass(frozen=True)
class Architecture:
    """What distinguishes one SpliceAI-shaped network from another.

    Attributes:
        stages: the trunk, from the bases to the head.
        channels: width of the trunk.
        slope: of the activation below zero: 0 is ReLU (SpliceAI), 0.1 LeakyReLU (OpenSpliceAI).
        norm_eps: what the batch normalisation adds to the variance: Keras 1e-3, PyTorch 1e-5.
        outputs: channels of a softmax head.
    """

    stages: tuple[Stage, ...]
    channels: int = 32
    slope: float = 0.0
    norm_eps: float = 1e-5
    outputs: int = 3

    @property
    def flank(self) -> int:
        """Bases on either side that an output position sees: the receptive field's radius."""
        return sum(2 * stage.blocks * stage.radius for stage in self.stages)


SPLICEAI_STAGES = (Stage(4, 11, 1), Stage(4, 11, 4), Stage(4, 21, 10), Stage(4, 41, 25))
"""The trunk of SpliceAI's 10,000-nt networks: 5,000 bases on either side."""


class ResidualBlock(nn.Module):
    """Twice normalisation, activation and dilated convolution, added to the cropped input."""

    def __init__(self, architecture: Architecture, stage: Stage) -> None:
        super().__init__()
        width = architecture.channels
        self.slope = architecture.slope
        self.stage = stage
        self.norm1 = nn.BatchNorm1d(width, eps=architecture.norm_eps)
        self.conv1 = nn.Conv1d(width, width, stage.kernel, dilation=stage.dilation)
        self.norm2 = nn.BatchNorm1d(width, eps=architecture.norm_eps)
        self.conv2 = nn.Conv1d(width, width, stage.kernel, dilation=stage.dilation)

    def forward(self, x: Float[Tensor, "batch channels length"]) -> Float[Tensor, "batch channels shorter"]:
        """The stream after this block, shorter by two radii on either side."""
        y = self.conv1(functional.leaky_relu(self.norm1(x), self.slope))
        y = self.conv2(functional.leaky_relu(self.norm2(y), self.slope))
        crop = 2 * self.stage.radius
        return y + x[..., crop : x.shape[-1] - crop]


class SoftmaxHead(nn.Module):
    """Probabilities of neither, acceptor and donor at each position from the trunk's output there."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, outputs, 1)

    def forward(self, x: Float[Tensor, "batch channels length"]) -> Float[Tensor, "batch outputs length"]:
        """Softmax over the outputs."""
        return torch.softmax(self.conv(x), dim=1)


class SpliceAINetwork(nn.Module):
    """A SpliceAI-shaped network.

    Inputs are one-hot bases in transcript orientation, channels A, C, G, T; N is a column of zeros. Outputs are given
    for the positions that have `flank` bases on either side, channels as the head orders them (`CHANNELS` for the
    softmax head).

    Args:
        architecture: trunk and activation.
        head: a pointwise module [batch, channels, length] -> [batch, outputs, length]; a softmax over
            `architecture.outputs` by default.
    """

    def __init__(self, architecture: Architecture, head: nn.Module | None = None) -> None:
        super().__init__()
        self.architecture = architecture
        width = architecture.channels
        self.first = nn.Conv1d(4, width, 1)
        self.first_skip = nn.Conv1d(width, width, 1)
        self.stages = nn.ModuleList(
            nn.ModuleList(ResidualBlock(architecture, stage) for _ in range(stage.blocks))
            for stage in architecture.stages
        )
        self.skips = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in architecture.stages)
        self.head = SoftmaxHead(width, architecture.outputs) if head is None else head

    @property
    def flank(self) -> int:
        """Bases on either side that an output position sees."""
        return self.architecture.flank

    def operations(self, length: int) -> float:
        """Floating-point operations of the convolutions on a sequence of so many bases."""
        outputs, positions, total = length - 2 * self.flank, length, 2.0 * length * self.first.weight.numel()
        for blocks in self.stages:
            for block in blocks:  # type: ignore[attr-defined]
                for conv in (block.conv1, block.conv2):
                    positions -= 2 * block.stage.radius
                    total += 2.0 * positions * conv.weight.numel()
        at_outputs = [module.weight.numel() for module in (self.first_skip, *self.skips)]
        at_outputs += [weight.numel() for weight in self.head.parameters() if weight.dim() > 1]
        return total + 2.0 * outputs * sum(at_outputs)

    def forward(self, x: Float[Tensor, "batch 4 length"]) -> Float[Tensor, "batch outputs shorter"]:
        """Probabilities at the inner length - 2·flank positions.

        Raises:
            ValueError: the input is not longer than 2·flank.
        """
        outputs = x.shape[-1] - 2 * self.flank
        if outputs < 1:
            raise ValueError(f"{x.shape[-1]} bases are too few: the network sees {self.flank} to either side")

        def inner(stream: Tensor) -> Tensor:
            crop = (stream.shape[-1] - outputs) // 2
            return stream[..., crop : crop + outputs]

        stream = self.first(x)
        collected = self.first_skip(inner(stream))
        for blocks, skip in zip(self.stages, self.skips, strict=True):
            for block in blocks:  # type: ignore[attr-defined]  # a ModuleList of ModuleLists is opaque to mypy
                stream = block(stream)
            collected = collected + skip(inner(stream))
        return self.head(collected)
