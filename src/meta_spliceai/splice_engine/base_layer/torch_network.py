"""One network on references and alternatives in PyTorch: for GPUs, for bfloat16, and without compiled code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor
from torch.nn import functional

from meta_spliceai.splice_engine.base_layer.block_convolution import BlockConvolution, Precision
from meta_spliceai.splice_engine.base_layer.changes import Batch, DoubleHead, Shape, Window, Workspace
from meta_spliceai.splice_engine.base_layer.network import ResidualBlock, SpliceAINetwork, affine, weights_of

Zone = tuple[int, int]
"""(start, end) of positions, relative to the change."""


@dataclass(frozen=True)
class Reference:
    """The references of windows of one length; activations are [positions, windows, channels].

    Attributes:
        streams: the residual stream before each block, and after the last one.
        middles: the input of each block's second convolution.
    """

    streams: list[Tensor]
    middles: list[Tensor]
    outputs: list[Float32[np.ndarray, "positions outputs"]]


class _PreparedBlock:
    """One residual block with its normalisations folded into its convolutions (`…_changed`: those for alternatives, in
    their precision)."""

    def __init__(self, block: ResidualBlock, depth: int, reach: int, precision: Precision) -> None:
        """`depth` and `reach`: positions seen to either side before the block, and those its input reaches."""
        self.stage, self.slope = block.stage, block.slope
        self.radius = block.stage.radius
        self.depth, self.reach = depth, reach
        device = block.conv1.weight.device
        scale1, shift1 = affine(block.norm1)
        scale2, shift2 = affine(block.norm2)
        (first, bias1), (second, bias2) = weights_of(block.conv1), weights_of(block.conv2)
        self.low: Tensor | None = None
        if self.slope == 0:
            # relu(s·x + t) = s·(clamp(x) + t/s), where the clamp is from below at -t/s for s > 0 and from above for
            # s < 0. s goes into the weights and t into the bias: one pass over the stream instead of three.
            flat = scale1 == 0
            knee = -shift1 / np.where(flat, 1, scale1)
            constant = np.where(flat, np.maximum(shift1, 0), shift1)
            bias1 = bias1 + np.einsum("jio,i->o", first, constant)
            first = first * np.where(flat, 0, scale1)[None, :, None]
            self.low = _float32(np.where(scale1 > 0, knee, -np.inf), device)
            self.high = _float32(np.where(scale1 < 0, knee, np.inf), device)
        else:
            self.scale, self.shift = _float32(scale1, device), _float32(shift1, device)
        first, bias1 = first * scale2, bias1 * scale2 + shift2
        self.first, self.second, self.first_changed, self.second_changed = (
            BlockConvolution(weights, bias, self.stage.dilation, device, kind)
            for kind in ("fp32", precision)
            for weights, bias in ((first, bias1), (second, bias2))
        )

    @property
    def reference_rows(self) -> int:
        """Outputs of a block in references: half a kernel, so that its edges lie on the grid of all windows, wherever
        a window starts."""
        return max(1, (self.stage.kernel - 1) // 2)

    def zones(self, shape: Shape) -> tuple[Zone, Zone, Zone]:
        """Positions of the input, and of either convolution, that differ from the reference and matter."""
        before, between, after = (
            shape.zone(self.depth + seen, self.reach - seen) for seen in (0, self.radius, 2 * self.radius)
        )
        return before, between, after

    def enter(self, stream: Tensor, out: Tensor) -> None:
        if self.low is not None:
            torch.clamp(stream, self.low, self.high, out=out)
        else:
            torch.addcmul(self.shift, stream, self.scale, out=out)
            functional.leaky_relu_(out, self.slope)

    def between(self, middle: Tensor) -> None:
        """From the first convolution's output to the second's input, in place."""
        if self.slope == 0:
            middle.relu_()
        else:
            functional.leaky_relu_(middle, self.slope)


class TorchNetwork:
    """One network, ready to compute references and alternatives.

    Args:
        precision: of the products that alternatives take; references are always in float32.
    """

    most_windows: int | None = None
    """At once; None: as many as alternatives."""

    def __init__(self, network: SpliceAINetwork, precision: Precision = "fp32") -> None:
        self._head = DoubleHead(network)
        radii = [stage.radius for stage in network.architecture.stages]
        self.grid = math.lcm(*radii) if all(radii) else 1
        self._channels = network.architecture.channels
        self._flank = network.flank
        self._blocks: list[_PreparedBlock] = []
        self._last_of_stage: dict[int, int] = {}
        """Index of the stream after a stage's last block -> the stage."""
        depth = 0
        for number, blocks in enumerate(network.stages):
            for block in blocks:  # type: ignore[attr-defined]
                self._blocks.append(_PreparedBlock(block, depth, self._flank - depth, precision))
                depth += 2 * block.stage.radius
            self._last_of_stage[len(self._blocks)] = number
        weight, bias = network.first.weight.detach(), network.first.bias.detach()  # type: ignore[union-attr]
        self._base_vectors = torch.cat([weight[:, :, 0].T + bias, bias[None]])
        self._skips = [_pointwise(conv) for conv in (network.first_skip, *network.skips)]

    def bases(self, start: int, end: int) -> tuple[int, int]:
        """(start, end) of the bases that a window of outputs [start, end) takes."""
        return start - self._flank, end + self._flank

    def reference(
        self, windows: Sequence[Window], codes: Sequence[UInt8[np.ndarray, " bases"]], workspace: Workspace
    ) -> Reference:
        """All activations of whole windows of one length, and the outputs at their inner positions."""
        bases = torch.from_numpy(np.stack(codes, axis=1).astype(np.int64)).to(self._base_vectors.device)
        positions, count = bases.shape
        wanted = positions - 2 * self._flank
        stream = workspace.take("ref stream 0", positions, count, self._channels)
        stream.copy_(self._base_vectors[bases])
        collected = self._collect(None, stream[self._flank : self._flank + wanted], 0, workspace)
        streams, middles = [stream], []
        for number, block in enumerate(self._blocks, start=1):
            rows = block.reference_rows
            length = len(stream) - 2 * block.radius
            room = len(stream) + rows * block.stage.dilation
            entered = workspace.take("entered", room, count, self._channels)
            block.enter(stream, entered[: len(stream)])
            middle = workspace.take(f"ref middle {number}", room, count, self._channels)
            block.first.run(entered, middle, length, rows, workspace, add=False)
            block.between(middle[:length])
            middles.append(middle[:length])
            length -= 2 * block.radius
            after = workspace.take(f"ref stream {number}", room, count, self._channels)
            after[:length].copy_(stream[2 * block.radius : 2 * block.radius + length])
            block.second.run(middle, after, length, rows, workspace, add=True)
            stream = after[:length]
            streams.append(stream)
            if number in self._last_of_stage:
                margin = (length - wanted) // 2
                skip = self._last_of_stage[number] + 1
                collected = self._collect(collected, stream[margin : margin + wanted], skip, workspace)
        return Reference(streams, middles, list(self._head(collected.transpose(0, 1), workspace)))

    def alternatives(
        self, reference: Reference, batch: Batch, workspace: Workspace
    ) -> Float32[np.ndarray, "members outputs channels"]:
        """Outputs at lead + core + tail positions around each change, in the alternatives' coordinates."""
        members, shape, wanted = len(batch.changes), batch.shape, batch.shape.wanted
        zones = [block.zones(shape) for block in self._blocks]
        lowest, room = self._room(shape, zones)
        device = self._base_vectors.device
        fringe = _Fringe(batch, device)
        stream, entered, middle = (
            workspace.take(name, room, members, self._channels) for name in ("alt stream", "entered", "alt middle")
        )
        bases = torch.from_numpy(batch.core.T.astype(np.int64)).to(device)
        stream[-lowest : shape.core - lowest].copy_(self._base_vectors[bases])

        def around(level: Tensor, reach: int, zone: Zone) -> Tensor:
            """The alternatives' stream on `wanted`: from the zone where it lies, from the reference beside it."""
            buffer = workspace.take("wanted", wanted[1] - wanted[0], members, self._channels)
            low, high = max(zone[0], wanted[0]), min(zone[1], wanted[1])
            buffer[low - wanted[0] : high - wanted[0]].copy_(stream[low - lowest : high - lowest])
            fringe.fill(level, reach, buffer, zone, wanted)
            return buffer

        collected = self._collect(None, around(reference.streams[0], self._flank, (0, shape.core)), 0, workspace)
        for number, (block, (before, between, after)) in enumerate(zip(self._blocks, zones, strict=True), start=1):
            reach, radius = block.reach, block.radius
            # what the two convolutions read
            need, need_between = (between[0] - radius, between[1] + radius), (after[0] - radius, after[1] + radius)
            needed = stream[need[0] - lowest : need[1] - lowest]
            fringe.fill(reference.streams[number - 1], reach, needed, before, need)
            block.enter(needed, entered[: need[1] - need[0]])
            inner = middle[between[0] - need_between[0] :]
            block.first_changed.run(entered, inner, between[1] - between[0], None, workspace, add=False)
            block.between(inner[: between[1] - between[0]])
            outer = middle[: need_between[1] - need_between[0]]
            fringe.fill(reference.middles[number - 1], reach - radius, outer, between, need_between)
            target = stream[after[0] - lowest :]
            block.second_changed.run(middle, target, after[1] - after[0], None, workspace, add=True)
            if number in self._last_of_stage:
                beside = around(reference.streams[number], reach - 2 * radius, after)
                collected = self._collect(collected, beside, self._last_of_stage[number] + 1, workspace)
        return self._head(collected.transpose(0, 1), workspace)

    def _room(self, shape: Shape, zones: Sequence[tuple[Zone, Zone, Zone]]) -> tuple[int, int]:
        """Where the buffers for alternatives begin, relative to the change, and positions that each of them holds: all
        that any convolution reads or writes, with the whole blocks that it is run in."""
        made = [(block, zone) for block, (_, *both) in zip(self._blocks, zones, strict=True) for zone in both]
        lowest = min(-shape.lead, *(zone[0] - block.radius for block, zone in made))
        highest = max(shape.wanted[1], *(zone[1] + block.radius for block, zone in made))
        more = max(block.first.positions(zone[1] - zone[0]) - (zone[1] - zone[0]) for block, zone in made)
        return lowest, highest - lowest + more

    def _collect(self, collected: Tensor | None, stream: Tensor, skip: int, workspace: Workspace) -> Tensor:
        """The sum of skip connections so far, at the output positions."""
        weight, bias = self._skips[skip]
        flat = stream.reshape(-1, self._channels)
        workspace.operations += 2.0 * len(flat) * weight.numel()
        base = bias.expand_as(flat) if collected is None else collected.view_as(flat).add_(bias)
        return torch.addmm(base, flat, weight).view(stream.shape)


class _Fringe:
    """Where the reference's activations lie that surround the zones of a batch of alternatives."""

    def __init__(self, batch: Batch, device: torch.device) -> None:
        self._window, self._left, self._right = (
            torch.from_numpy(one).to(device) for one in (batch.window, batch.left, batch.right)
        )

    def fill(self, level: Tensor, reach: int, buffer: Tensor, zone: Zone, need: Zone) -> None:
        """Put the reference's values (`level`, [positions, windows, channels], the first `reach` positions before the
        windows' outputs) on either side of the zone into `buffer` [need, batch, channels]."""
        windows, channels = level.shape[1:]
        flat = level.view(-1, channels)
        for change, low, high in (
            (self._left, need[0], min(zone[0], need[1])),
            (self._right, max(zone[1], need[0]), need[1]),
        ):
            if low >= high:
                continue
            base = change * windows + self._window
            target = buffer[low - need[0] : high - need[0]]
            steps = torch.arange(low + reach, high + reach, device=base.device) * windows
            chosen = (steps[:, None] + base[None, :]).reshape(-1)
            torch.index_select(flat, 0, chosen, out=target.view(-1, channels))


def _float32(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(device)


def _pointwise(conv: torch.nn.Conv1d) -> tuple[Float[Tensor, "channels channels"], Float[Tensor, " channels"]]:
    return conv.weight.detach()[:, :, 0].T.contiguous(), conv.bias.detach()  # type: ignore[union-attr]
