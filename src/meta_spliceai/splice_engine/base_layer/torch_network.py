"""One network on references and alternatives in PyTorch: for GPUs, for bfloat16, and without compiled code."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor
from torch.nn import functional

from meta_spliceai.splice_engine.base_layer.block_convolution import BlockConvolution, Precision, products_in
from meta_spliceai.splice_engine.base_layer.changes import DoubleHead, Members, Shape, Window, Workspace
from meta_spliceai.splice_engine.base_layer.network import ResidualBlock, SpliceAINetwork, affine, weights_of

Zone = tuple[int, int]
"""(start, end) of positions, relative to the change."""


@dataclass(frozen=True)
class _Plan:
    """The work on a batch of alternatives of one shape.

    Attributes:
        zones: of each block's input, and of its first and second convolution.
        lowest: where the buffers begin, relative to the change.
        stream, entered, middle: positions that each of them must hold.
    """

    zones: list[tuple[Zone, Zone, Zone]]
    lowest: int
    stream: int
    entered: int
    middle: int


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
        self._products = products_in(precision)
        self._blocks: list[_PreparedBlock] = []
        self._plans: dict[Shape, _Plan] = {}
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

    def _plan(self, shape: Shape) -> _Plan:
        if shape in self._plans:
            return self._plans[shape]
        zones = [block.zones(shape) for block in self._blocks]
        lowest = min(-shape.lead, *(zone[1][0] - block.radius for zone, block in zip(zones, self._blocks, strict=True)))
        stream, entered, middle = shape.core + shape.tail - lowest, 0, 0
        for (_, between, after), block in zip(zones, self._blocks, strict=True):
            radius = block.radius
            first = block.first.positions(between[1] - between[0])
            second = block.second.positions(after[1] - after[0])
            stream = max(stream, between[1] + radius - lowest, after[0] - lowest + second)
            entered = max(entered, first + 2 * radius)
            middle = max(middle, between[0] - after[0] + radius + first, second + 2 * radius)
        self._plans[shape] = _Plan(zones, lowest, stream, entered, middle)
        return self._plans[shape]

    def operations(self, windows: Sequence[Window], shapes: Mapping[Shape, int]) -> float:
        total = 0.0
        for window in windows:
            positions = window.end - window.start + 2 * self._flank
            for block in self._blocks:
                for _ in range(2):
                    positions -= 2 * block.radius
                    total += block.first.operations(positions, 1, block.reference_rows)
        outputs = sum(window.end - window.start for window in windows)
        for shape, count in shapes.items():
            outputs += (shape.lead + shape.core + shape.tail) * count
            for block, zones in zip(self._blocks, self._plan(shape).zones, strict=True):
                for zone in zones[1:]:
                    total += self._products * block.first.operations(zone[1] - zone[0], count)
        return total + 2.0 * outputs * (sum(weight.numel() for weight, _ in self._skips) + self._head.products)

    def reference(
        self, windows: Sequence[Window], codes: Sequence[UInt8[np.ndarray, " bases"]], workspace: Workspace
    ) -> Reference:
        """All activations of whole windows of one length, and the outputs at their inner positions."""
        stacked = np.stack(codes, axis=1).astype(np.int64)
        positions, count = stacked.shape
        wanted = positions - 2 * self._flank
        table = torch.from_numpy(stacked).to(self._base_vectors.device)
        stream = workspace.take("ref stream 0", positions, count, self._channels)
        stream.copy_(self._base_vectors[table])
        collected = self._collect(None, stream[self._flank : self._flank + wanted], 0)
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
                collected = self._collect(collected, stream[margin : margin + wanted], self._last_of_stage[number] + 1)
        return Reference(streams, middles, list(self._head(collected.transpose(0, 1))))

    def alternatives(
        self, reference: Reference, members: Members, workspace: Workspace
    ) -> Float32[np.ndarray, "members outputs channels"]:
        """Outputs at lead + core + tail positions around each change, in the alternatives' coordinates."""
        batch, flank, shape = len(members), self._flank, members.shape
        plan, wanted = self._plan(shape), shape.wanted
        fringe = _Fringe(members, self._base_vectors.device)
        take = workspace.take
        stream = workspace.take("alt stream", plan.stream, batch, self._channels)
        entered = workspace.take("entered", plan.entered, batch, self._channels)
        middle = workspace.take("alt middle", plan.middle, batch, self._channels)

        def part(of: Zone) -> Tensor:
            return stream[of[0] - plan.lowest : of[1] - plan.lowest]

        core = (0, shape.core)
        bases = torch.from_numpy(members.core_codes().T.astype(np.int64)).to(self._base_vectors.device)
        part(core).copy_(self._base_vectors[bases])
        around = fringe.around(reference.streams[0], flank, part(core), core, wanted, take)
        collected = self._collect(None, around, 0)
        for number, (block, (before, between, after)) in enumerate(zip(self._blocks, plan.zones, strict=True), start=1):
            reach, radius = block.reach, block.radius
            # what the two convolutions read
            need, need_between = (between[0] - radius, between[1] + radius), (after[0] - radius, after[1] + radius)
            fringe.fill(reference.streams[number - 1], reach, part(need), before, need)
            block.enter(part(need), entered[: need[1] - need[0]])
            inner = middle[between[0] - need_between[0] :]
            block.first_changed.run(entered, inner, between[1] - between[0], None, workspace, add=False)
            block.between(inner[: between[1] - between[0]])
            outer = middle[: need_between[1] - need_between[0]]
            fringe.fill(reference.middles[number - 1], reach - radius, outer, between, need_between)
            target = stream[after[0] - plan.lowest :]
            block.second_changed.run(middle, target, after[1] - after[0], None, workspace, add=True)
            if number in self._last_of_stage:
                level, left = reference.streams[number], reach - 2 * radius
                around = fringe.around(level, left, part(after), after, wanted, take)
                collected = self._collect(collected, around, self._last_of_stage[number] + 1)
        return self._head(collected.transpose(0, 1))

    def _collect(self, collected: Tensor | None, stream: Tensor, skip: int) -> Tensor:
        """The sum of skip connections so far, at the output positions."""
        weight, bias = self._skips[skip]
        flat = stream.reshape(-1, self._channels)
        base = bias.expand_as(flat) if collected is None else collected.view_as(flat).add_(bias)
        return torch.addmm(base, flat, weight).view(stream.shape)


class _Fringe:
    """Where the reference's activations lie that surround the zones of a batch of alternatives."""

    def __init__(self, members: Members, device: torch.device) -> None:
        window, left, right = zip(*members.places(), strict=True)
        self._window, self._left, self._right = (torch.tensor(one, device=device) for one in (window, left, right))

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

    def around(
        self,
        level: Tensor,
        reach: int,
        zone_values: Tensor,
        zone: Zone,
        wanted: Zone,
        take: Callable[..., Tensor],
    ) -> Tensor:
        """The alternatives' activations on `wanted`: from the zone where it lies, from the reference beside it."""
        _, batch, channels = zone_values.shape
        buffer = take("wanted", wanted[1] - wanted[0], batch, channels)
        low, high = max(zone[0], wanted[0]), min(zone[1], wanted[1])
        buffer[low - wanted[0] : high - wanted[0]].copy_(zone_values[low - zone[0] : high - zone[0]])
        self.fill(level, reach, buffer, zone, wanted)
        return buffer


def _float32(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(device)


def _pointwise(conv: torch.nn.Conv1d) -> tuple[Float[Tensor, "channels channels"], Float[Tensor, " channels"]]:
    return conv.weight.detach()[:, :, 0].T.contiguous(), conv.bias.detach()  # type: ignore[union-attr]
