"""One network on references and alternatives in PyTorch: on GPUs, in bfloat16, and where nothing was compiled."""

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
from meta_spliceai.splice_engine.base_layer.changes import DoubleHead, Members, Shape, Window, Workspace, affine
from meta_spliceai.splice_engine.base_layer.network import ResidualBlock, SpliceAINetwork


@dataclass(frozen=True)
class _BlockPlan:
    """One residual block's work on a batch of alternatives; (start, end) relative to the change: zones of the block's
    input, of its first and of its second convolution, and what the two convolutions read."""

    before: tuple[int, int]
    between: tuple[int, int]
    after: tuple[int, int]
    need: tuple[int, int]
    need_between: tuple[int, int]


@dataclass(frozen=True)
class _Plan:
    """The work on a batch of alternatives of one shape: where the buffers begin, relative to the change (`lowest`), and
    positions that each of them must hold (`stream`, `entered`, `middle`)."""

    blocks: list[_BlockPlan]
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
        first, second = (
            conv.weight.detach().double().cpu().numpy().transpose(2, 1, 0) for conv in (block.conv1, block.conv2)
        )
        bias1, bias2 = (conv.bias.detach().double().cpu().numpy() for conv in (block.conv1, block.conv2))  # type: ignore[union-attr]
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
        blocks = []
        for block in self._blocks:
            radius = block.radius
            before, between, after = (
                shape.zone(block.depth + seen, block.reach - seen) for seen in (0, radius, 2 * radius)
            )
            need, need_between = ((zone[0] - radius, zone[1] + radius) for zone in (between, after))
            blocks.append(_BlockPlan(before, between, after, need, need_between))
        lowest = min(-shape.lead, *(block.need[0] for block in blocks))
        stream, entered, middle = shape.core + shape.tail - lowest, 0, 0
        for work, block in zip(blocks, self._blocks, strict=True):
            first = block.first.positions(work.between[1] - work.between[0])
            second = block.second.positions(work.after[1] - work.after[0])
            stream = max(stream, work.need[1] - lowest, work.after[0] - lowest + second)
            entered = max(entered, first + 2 * block.radius)
            middle = max(middle, work.between[0] - work.need_between[0] + first, second + 2 * block.radius)
            middle = max(middle, work.need_between[1] - work.need_between[0])
        self._plans[shape] = _Plan(blocks, lowest, stream, entered, middle)
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
            for block, work in zip(self._blocks, self._plan(shape).blocks, strict=True):
                for zone in (work.between, work.after):
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

        def part(of: tuple[int, int]) -> Tensor:
            return stream[of[0] - plan.lowest : of[1] - plan.lowest]

        core = (0, shape.core)
        bases = torch.from_numpy(members.core_codes().T.astype(np.int64)).to(self._base_vectors.device)
        part(core).copy_(self._base_vectors[bases])
        around = fringe.around(reference.streams[0], flank, part(core), core, wanted, take)
        collected = self._collect(None, around, 0)
        for number, (block, work) in enumerate(zip(self._blocks, plan.blocks, strict=True), start=1):
            reach, between, after = block.reach, work.between, work.after
            fringe.fill(reference.streams[number - 1], reach, part(work.need), work.before, work.need)
            block.enter(part(work.need), entered[: work.need[1] - work.need[0]])
            inner = middle[between[0] - work.need_between[0] :]
            block.first_changed.run(entered, inner, between[1] - between[0], None, workspace, add=False)
            block.between(inner[: between[1] - between[0]])
            outer = middle[: work.need_between[1] - work.need_between[0]]
            fringe.fill(reference.middles[number - 1], reach - block.radius, outer, between, work.need_between)
            target = stream[after[0] - plan.lowest :]
            block.second_changed.run(middle, target, after[1] - after[0], None, workspace, add=True)
            if number in self._last_of_stage:
                level, left = reference.streams[number], reach - 2 * block.radius
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

    def fill(self, level: Tensor, reach: int, buffer: Tensor, zone: tuple[int, int], need: tuple[int, int]) -> None:
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
        zone: tuple[int, int],
        wanted: tuple[int, int],
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
