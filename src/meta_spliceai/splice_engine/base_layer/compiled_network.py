"""One network on references and alternatives through compiled convolutions, on one core.

A window's activations are computed layer by layer from the layer's first needed position to its last, in blocks that
lie on a grid of the layer's own, so that they do not depend on where a window begins. Where all bases that a block
sees are N its activations are a constant of the layer, and are not computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8, UInt64

from meta_spliceai.splice_engine.base_layer.changes import Batch, DoubleHead, Window, Workspace
from meta_spliceai.splice_engine.base_layer.compiled_convolution import (
    CHANNELS,
    LONGEST,
    CompiledConvolution,
    Track,
)
from meta_spliceai.splice_engine.base_layer.network import ResidualBlock, SpliceAINetwork, affine, weights_of
from meta_spliceai.splice_engine.genome.sequence import N_CODE

_STRIDE = 4 * CHANNELS  # bytes from one position to the next
_FAR = 1 << 40

Activations = Float32[np.ndarray, "positions 32"]


class _Level(NamedTuple):
    """A layer's activations on a window: address of those at its first output, and floats from one position to the
    next; 0 where one vector stands for all positions."""

    origin: int
    step: int

    def addresses(self, positions: Int64[np.ndarray, " members"]) -> UInt64[np.ndarray, " members"]:
        return (self.origin + 4 * self.step * positions).astype(np.uint64)

    def track(self) -> Track:
        """The level as a track of one member, from the first output on."""
        return Track(None, None, self.origin, 0, 0, -_FAR, _FAR)


@dataclass(frozen=True)
class Reference:
    """The reference of a window; `levels`: the residual stream before the first block, then of each block the first
    convolution's output and the stream after it. They lie in the workspace that it was computed in."""

    levels: list[_Level]
    outputs: list[Float32[np.ndarray, "positions outputs"]]


@dataclass(frozen=True)
class _Layer:
    """A convolution and where it stands.

    Attributes:
        depth, reach: bases that its output has seen to either side, and outputs that its output reaches.
        skip: what is added to the skip connections from its output.
    """

    convolution: CompiledConvolution
    depth: int
    reach: int
    skip: CompiledConvolution | None


class CompiledNetwork:
    """One network, ready to compute the reference of one window at a time, and alternatives."""

    grid = 1
    most_windows: int | None = 1

    def __init__(self, network: SpliceAINetwork) -> None:
        self._head = DoubleHead(network)
        self._flank = network.flank
        weight, bias = weights_of(network.first)
        self._bases = np.concatenate([weight[0] + bias, bias[None]]).astype(np.float32)
        self._first_skip, *skips = (_pointwise(conv) for conv in (network.first_skip, *network.skips))
        self._layers: list[_Layer] = []
        depth = 0
        for blocks, skip in zip(network.stages, skips, strict=True):
            for number, block in enumerate(blocks, start=1):  # type: ignore[arg-type, var-annotated]
                for convolution in _convolutions(block):
                    last = number == len(blocks) and len(self._layers) % 2 == 1  # type: ignore[arg-type]
                    depth += convolution.radius
                    self._layers.append(_Layer(convolution, depth, self._flank - depth, skip if last else None))
        self._constants = self._without_bases()

    @staticmethod
    def fits(network: SpliceAINetwork) -> bool:
        kernels = [stage.kernel for stage in network.architecture.stages]
        width = network.architecture.channels
        return width == CHANNELS and all(kernel % 2 == 1 and kernel <= LONGEST for kernel in kernels)

    def _without_bases(self) -> list[Activations]:
        """Of each level, what it is where all bases are N."""
        stream = self._bases[N_CODE].astype(np.float64)
        values, middle = [stream], stream
        for number, layer in enumerate(self._layers):
            matrix, bias, scale, shift = layer.convolution.constant
            value = (middle if number % 2 else stream) * scale + shift
            middle = np.maximum(value, layer.convolution.slope * value) @ matrix + bias
            if number % 2:
                stream = stream + middle
            values.append(stream if number % 2 else middle)
        return [value.astype(np.float32)[None] for value in values]

    def _ranges(self, start: int, end: int) -> list[tuple[int, int]]:
        """Of each level, positions computed for the outputs [start, end), in the coordinates of these."""
        ranges = [(start, end)]
        for layer in reversed(self._layers):
            span, radius = layer.convolution.span, layer.convolution.radius
            first, last = ranges[0]
            first = (first + layer.reach) // span * span - layer.reach  # blocks of one stage begin together
            last = first + -(-(last - first) // span) * span
            ranges[0] = (first, last)
            ranges.insert(0, (first - radius, last + radius))
        return ranges

    def bases(self, start: int, end: int) -> tuple[int, int]:
        """(start, end) of the bases that a window of outputs [start, end) takes."""
        return self._ranges(start, end)[0]

    def reference(
        self, windows: Sequence[Window], codes: Sequence[UInt8[np.ndarray, " bases"]], workspace: Workspace
    ) -> Reference:
        (window,), (bases,) = windows, codes
        if (bases == N_CODE).all():
            levels = [_Level(value.ctypes.data, 0) for value in self._constants]
        else:
            levels = self._levels(window, bases, workspace)
        count = window.end - window.start if levels[0].step else 1
        collected = _array(workspace, "collected", count)
        sums, place = Track(None, None, collected.ctypes.data, CHANNELS, 0, -_FAR, _FAR), (collected.ctypes.data, 0)
        workspace.operations += self._first_skip.run(levels[0].track(), None, place, 1, (0, count))
        for layer, level in zip(self._layers, levels[1:], strict=True):
            if layer.skip is not None:
                workspace.operations += layer.skip.run(level.track(), sums, place, 1, (0, count))
        outputs = self._head(torch.from_numpy(collected[None]), workspace)[0]
        return Reference(levels, [np.broadcast_to(outputs, (window.end - window.start, outputs.shape[1]))])

    def _levels(self, window: Window, bases: UInt8[np.ndarray, " bases"], workspace: Workspace) -> list[_Level]:
        ranges = self._ranges(window.start, window.end)
        edges = np.flatnonzero(np.diff(bases != N_CODE, prepend=False, append=False)).reshape(-1, 2) + ranges[0][0]
        known = [(int(low), int(high)) for low, high in edges]
        stream = _array(workspace, "level 0", len(bases))
        np.take(self._bases, bases, axis=0, out=stream)
        made = [_Level(stream.ctypes.data + (window.start - ranges[0][0]) * _STRIDE, CHANNELS)]
        for at, (layer, (first, last)) in enumerate(zip(self._layers, ranges[1:], strict=True), start=1):
            values = _array(workspace, f"level {at}", last - first)
            level = _Level(values.ctypes.data + (window.start - first) * _STRIDE, CHANNELS)
            known = _reached(known, layer.convolution, first, last)
            for (_, high), (low, _) in pairwise([(first, first), *known, (last, last)]):
                values[high - first : low - first] = self._constants[at]
            residual = made[-2].track() if at % 2 == 0 else None
            for low, high in known:
                part = (low - window.start, high - window.start)
                workspace.operations += layer.convolution.run(
                    made[-1].track(), residual, (level.origin, 0), 1, part, reference=True
                )
            made.append(level)
        return made

    def alternatives(
        self, reference: Reference, batch: Batch, workspace: Workspace
    ) -> Float32[np.ndarray, "members outputs channels"]:
        """Outputs at lead + core + tail positions around each change, in the alternatives' coordinates."""
        shape, count = batch.shape, len(batch.changes)
        zones = [shape.zone(0, self._flank), *(shape.zone(layer.depth, layer.reach) for layer in self._layers)]
        lowest = min(zone[0] for zone in zones)
        room = max(zone[1] for zone in zones) - lowest
        stream, middle = (_array(workspace, f"alternatives' {name}", count * room) for name in ("stream", "middle"))
        core = stream.reshape(count, room, CHANNELS)[:, -lowest : shape.core - lowest]
        core[...] = self._bases[batch.core]

        def track(number: int, inside: Activations) -> Track:
            """A level of all members, with the part inside its zone from a buffer."""
            level = reference.levels[number]
            left, right = level.addresses(batch.left), level.addresses(batch.right)
            first = inside.ctypes.data - lowest * _STRIDE
            made = Track(left.ctypes.data, right.ctypes.data, first, level.step, room * CHANNELS, *zones[number])
            made.held = (left, right)  # as long as the track is used
            return made

        wanted = shape.wanted
        width = wanted[1] - wanted[0]
        collected = _array(workspace, "collected", count * width)
        place = (collected.ctypes.data - wanted[0] * _STRIDE, width * CHANNELS)
        sums = Track(None, None, place[0], CHANNELS, place[1], -_FAR, _FAR)
        before = track(0, stream)
        operations = self._first_skip.run(before, None, place, count, wanted)
        for number in range(1, len(zones), 2):
            first, second = self._layers[number - 1], self._layers[number]
            out = (middle.ctypes.data - lowest * _STRIDE, room * CHANNELS)
            operations += first.convolution.run(before, None, out, count, zones[number])
            out = (stream.ctypes.data - lowest * _STRIDE, room * CHANNELS)
            operations += second.convolution.run(track(number, middle), before, out, count, zones[number + 1])
            before = track(number + 1, stream)
            if second.skip is not None:
                operations += second.skip.run(before, sums, place, count, wanted)
        workspace.operations += operations
        return self._head(torch.from_numpy(collected.reshape(count, width, CHANNELS)), workspace)


def _reached(
    parts: list[tuple[int, int]], convolution: CompiledConvolution, first: int, last: int
) -> list[tuple[int, int]]:
    """Whole blocks of [first, last) that see any of some parts of the input, joined where they touch."""
    span, radius = convolution.span, convolution.radius
    found: list[tuple[int, int]] = []
    for low, high in parts:
        start = max(first, first + (low - radius - first) // span * span)
        end = min(last, first - (first - high - radius) // span * span)
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        elif start < end:
            found.append((start, end))
    return found


def _array(workspace: Workspace, name: str, positions: int) -> Activations:
    return workspace.take(name, positions, CHANNELS).numpy()


def _pointwise(conv: torch.nn.Conv1d) -> CompiledConvolution:
    weights, bias = weights_of(conv)
    return CompiledConvolution(weights, bias, np.ones(CHANNELS), np.zeros(CHANNELS))


def _convolutions(block: ResidualBlock) -> list[CompiledConvolution]:
    return [
        CompiledConvolution(*weights_of(conv), *affine(norm), block.slope, block.stage.dilation)
        for conv, norm in ((block.conv1, block.norm1), (block.conv2, block.norm2))
    ]
