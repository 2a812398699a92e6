"""Networks with SpliceAI's architecture (a residual trunk of dilated convolutions, with a pointwise head), and base
models: ensembles of such networks, averaged, with name, licence and identity.

The shape is that of Jaganathan et al. 2019 (10.1016/j.cell.2018.12.015), figure 1. The original pads its
convolutions with zeros and then crops `flank` positions from either end; no output it keeps ever saw that padding, so
the unpadded convolutions here give the same numbers with less work.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor, nn
from torch.nn import functional

from meta_spliceai.splice_engine.base_layer.scores import CHANNELS


def one_hot(codes: UInt8[Tensor, "*batch length"]) -> Float[Tensor, "*batch 4 length"]:
    """Codes (see `sequence`) as channels A, C, G, T on the codes' own device; N is a column of zeros."""
    table = torch.eye(5, 4, device=codes.device)
    return table[codes.long()].movedim(-1, -2)


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
        slope: of the activation below zero: 0 is ReLU (SpliceAI), 0.1 LeakyReLU (OpenSpliceAI).
        norm_eps: what the batch normalisation adds to the variance: Keras 1e-3, PyTorch 1e-5.
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
    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, outputs, 1)

    def forward(self, x: Float[Tensor, "batch channels length"]) -> Float[Tensor, "batch outputs length"]:
        return torch.softmax(self.conv(x), dim=1)


class SpliceAINetwork(nn.Module):
    """A SpliceAI-shaped network.

    Inputs are one-hot bases in transcript orientation, channels A, C, G, T; N is a column of zeros. Outputs are given
    for the positions that have `flank` bases on either side, channels as the head orders them (`CHANNELS` for the
    softmax head).

    Args:
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
        """Probabilities at the inner length - 2·flank positions; ValueError for an input not longer than 2·flank."""
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


def weights_of(
    conv: nn.Conv1d,
) -> tuple[Float64[np.ndarray, "taps channels outputs"], Float64[np.ndarray, " outputs"]]:
    """A convolution's weights and bias in double precision."""
    weight, bias = (one.detach().double().cpu().numpy() for one in (conv.weight, conv.bias))  # type: ignore[union-attr]
    return weight.transpose(2, 1, 0), bias


def affine(norm: nn.BatchNorm1d) -> tuple[Float64[np.ndarray, " channels"], Float64[np.ndarray, " channels"]]:
    """A normalisation in evaluation mode as scale and shift, in double precision."""
    weight, bias, mean, variance = (
        tensor.detach().double().cpu().numpy()  # type: ignore[union-attr]
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    scale = weight / np.sqrt(variance + norm.eps)
    return scale, bias - mean * scale


@dataclass(frozen=True)
class BaseIdentity:
    """What a base model is, without its weights: all that a result says of it and that its scores are found by."""

    name: str
    licence: str
    citation: str
    channels: tuple[str, ...]
    digest: str
    flank: int
    size: int


@dataclass(frozen=True)
class BaseModel:
    """Networks that score together.

    A network's outputs are averaged with those of the other networks of its slot, in probability space. The ensembles
    of SpliceAI, OpenSpliceAI and CI-SpliceAI have one slot; Pangolin has one slot a tissue, three networks each.

    Attributes:
        networks: members, in evaluation mode, on one device, all with the same flank and number of outputs.
        channels: names of the scores' channels: each slot's outputs, slots one after the other.
        slots: slot of each network; all in slot 0 by default.
        digest: identity of architecture and weights (SHA-256, hexadecimal), computed when empty.
    """

    name: str
    networks: tuple[SpliceAINetwork, ...]
    licence: str
    citation: str
    channels: tuple[str, ...] = CHANNELS
    slots: tuple[int, ...] = ()
    digest: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.networks:
            raise ValueError(f"base model {self.name} has no networks")
        if not self.slots:
            object.__setattr__(self, "slots", (0,) * len(self.networks))
        if len(self.slots) != len(self.networks) or set(self.slots) != set(range(max(self.slots) + 1)):
            raise ValueError(f"base model {self.name}: slots {self.slots} for {len(self.networks)} networks")
        if len(self.channels) % (max(self.slots) + 1):
            raise ValueError(f"base model {self.name}: {len(self.channels)} channels in {max(self.slots) + 1} slots")
        if len({network.flank for network in self.networks}) != 1:
            raise ValueError(f"base model {self.name}: its networks see different flanks")
        for network in self.networks:
            network.eval().requires_grad_(False)
        if not self.digest:
            object.__setattr__(self, "digest", networks_digest(self.networks))

    @property
    def identity(self) -> BaseIdentity:
        own = (self.name, self.licence, self.citation, self.channels, self.digest)
        return BaseIdentity(*own, self.flank, len(self.networks))

    @property
    def flank(self) -> int:
        """Bases on either side that an output position sees (5,000 for the published 10,000-nt networks)."""
        return self.networks[0].flank

    @property
    def outputs(self) -> int:
        return len(self.channels) // (max(self.slots) + 1)

    @property
    def device(self) -> torch.device:
        return self.networks[0].first.weight.device


def networks_digest(networks: tuple[SpliceAINetwork, ...]) -> str:
    """SHA-256 over the architectures and weights of networks, in order."""
    total = hashlib.sha256()
    for network in networks:
        total.update(f"{network.architecture} {network.head}".encode())
        for name, tensor in sorted(network.state_dict().items()):
            total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def trunk_of(model: BaseModel) -> BaseModel:
    """The model without its heads, whose "probabilities" are what these read: the sum of skip connections, 32 channels
    a network.

    Channels of different networks mean different things, so that nothing is averaged: each network is a slot of its
    own. Everything that scores a model (incremental or full) works on it, alignment of insertions and deletions
    included: deleted positions are 0, inserted ones are folded into `pos` by the maximum of each channel.
    """
    bare = []
    for network in model.networks:
        trunk = SpliceAINetwork(network.architecture, head=nn.Identity())
        weights = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("head.")}
        trunk.load_state_dict(weights, assign=True)
        bare.append(trunk)
    networks = tuple(bare)
    width = networks[0].architecture.channels
    return replace(
        model,
        name=f"{model.name}-trunk",
        networks=networks,
        channels=tuple(f"{number}.{channel}" for number in range(len(networks)) for channel in range(width)),
        slots=tuple(range(len(networks))),
        digest=networks_digest(networks),
    )
