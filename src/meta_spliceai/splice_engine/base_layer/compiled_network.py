"""One network on references and alternatives through compiled convolutions, on one core.

A window's activations are computed layer by layer from the layer's first needed position to its last, in blocks that
lie on a grid of the layer's own, so that they do not depend on where a window begins. Where all bases that a block
sees are N its activations are a constant of the layer, and are not computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from meta_spliceai.splice_engine.base_layer.changes import DoubleHead, Members, Shape, Window, Workspace
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


@dataclass(frozen=True)
class _Level:
    """A layer's activations on a window, from coordinate `start` of its outputs on; or one vector for all positions."""

    values: Activations
    start: int
    constant: bool = False

    @property
    def step(self) -> int:
        return 0 if self.constant else CHANNELS

    def address(self, position: int) -> int:
        """Of a position counted from the window's first output."""
        return self.values.ctypes.data + (0 if self.constant else (position - self.start) * _STRIDE)


@dataclass(frozen=True)
class Reference:
    """The references of some windows; `levels`: of each window the residual stream before the first block, then of each
    block the first convolution's output and the stream after it."""

    levels: list[list[_Level]]
    outputs: list[Float32[np.ndarray, "positions outputs"]]


@dataclass(frozen=True)
class _Layer:
    """A convolution and where it stands.

    Attributes:
        depth, reach: bases seen to either side before it, and outputs that still see its input.
        skip: what is added to the skip connections from its output.
    """

    convolution: CompiledConvolution
    depth: int
    reach: int
    skip: CompiledConvolution | None


class CompiledNetwork:
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
                    self._layers.append(_Layer(convolution, depth, self._flank - depth, skip if last else None))
                    depth += convolution.radius
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
            origin = radius - layer.reach  # blocks of one stage begin together
            first = (first - origin) // span * span + origin
            last = first + -(-(last - first) // span) * span
            ranges[0] = (first, last)
            ranges.insert(0, (first - radius, last + radius))
        return ranges

    def bases(self, start: int, end: int) -> tuple[int, int]:
        """(start, end) of the bases that a window of outputs [start, end) takes."""
        return self._ranges(start, end)[0]

    def operations(self, windows: Sequence[Window], shapes: Mapping[Shape, int]) -> float:
        """Floating-point operations of the products for references and for so many alternatives of each shape."""
        total, outputs = 0.0, 0
        for window in windows:
            outputs += window.end - window.start
            for layer, (first, last) in zip(self._layers, self._ranges(window.start, window.end)[1:], strict=True):
                total += layer.convolution.operations(last - first, reference=True)
        for shape, count in shapes.items():
            outputs += (shape.wanted[1] - shape.wanted[0]) * count
            for layer in self._layers:
                low, high = shape.zone(layer.depth + layer.convolution.radius, layer.reach - layer.convolution.radius)
                total += layer.convolution.operations(high - low) * count
        skips = 1 + sum(layer.skip is not None for layer in self._layers)
        return total + 2.0 * outputs * (skips * CHANNELS**2 + self._head.products)

    def reference(
        self, windows: Sequence[Window], codes: Sequence[UInt8[np.ndarray, " bases"]], workspace: Workspace
    ) -> Reference:
        levels, outputs = [], []
        for number, (window, bases) in enumerate(zip(windows, codes, strict=True)):
            if (bases == N_CODE).all():
                made = [_Level(value, 0, constant=True) for value in self._constants]
            else:
                made = self._levels(window, bases, workspace, number)
            levels.append(made)
            outputs.append(self._outputs_of(made, window.end - window.start, workspace))
        return Reference(levels, outputs)

    def _levels(
        self, window: Window, bases: UInt8[np.ndarray, " bases"], workspace: Workspace, number: int
    ) -> list[_Level]:
        ranges = self._ranges(window.start, window.end)
        edges = np.flatnonzero(np.diff(bases != N_CODE, prepend=False, append=False)).reshape(-1, 2) + ranges[0][0]
        known = [(int(low), int(high)) for low, high in edges]
        stream = _array(workspace, f"level 0 of {number}", len(bases))
        np.take(self._bases, bases, axis=0, out=stream)
        made = [_Level(stream, ranges[0][0] - window.start)]
        for at, (layer, (first, last)) in enumerate(zip(self._layers, ranges[1:], strict=True), start=1):
            values = _array(workspace, f"level {at} of {number}", last - first)
            level = _Level(values, first - window.start)
            known = _reached(known, layer.convolution, first, last)
            for (_, high), (low, _) in pairwise([(first, first), *known, (last, last)]):
                values[high - first : low - first] = self._constants[at]
            residual = _whole(made[-2]) if at % 2 == 0 else None
            place = (level.address(0), 0)
            for low, high in known:
                part = (low - window.start, high - window.start)
                layer.convolution.run(_whole(made[-1]), residual, place, 1, part, reference=True)
            made.append(level)
        return made

    def _outputs_of(
        self, levels: list[_Level], length: int, workspace: Workspace
    ) -> Float32[np.ndarray, "positions _"]:
        count = 1 if levels[0].constant else length
        collected = _array(workspace, "collected", count)
        track = Track(None, None, collected.ctypes.data, CHANNELS, 0, -_FAR, _FAR)
        place = (collected.ctypes.data, 0)
        self._first_skip.run(_whole(levels[0]), None, place, 1, (0, count))
        for layer, level in zip(self._layers, levels[1:], strict=True):
            if layer.skip is not None:
                layer.skip.run(_whole(level), track, place, 1, (0, count))
        outputs = self._head(torch.from_numpy(collected[None]))[0]
        return np.broadcast_to(outputs, (length, outputs.shape[1]))

    def alternatives(
        self, reference: Reference, members: Members, workspace: Workspace
    ) -> Float32[np.ndarray, "members outputs channels"]:
        """Outputs at lead + core + tail positions around each change, in the alternatives' coordinates."""
        shape, count = members.shape, len(members)
        zones = [shape.zone(0, self._flank)]
        zones += [
            shape.zone(layer.depth + layer.convolution.radius, layer.reach - layer.convolution.radius)
            for layer in self._layers
        ]
        lowest, room = min(zone[0] for zone in zones), max(zone[1] for zone in zones) - min(zone[0] for zone in zones)
        stream, middle = (_array(workspace, f"alternatives' {name}", count * room) for name in ("stream", "middle"))
        core = stream.reshape(count, room, CHANNELS)[:, -lowest : shape.core - lowest]
        core[...] = self._bases[members.core_codes()]
        places = members.places()

        def track(level: int, inside: Activations, zone: tuple[int, int]) -> Track:
            """A level of all members, with the part inside the zone from a buffer."""
            of = [reference.levels[window][level] for window, _, _ in places]
            left, right = (
                np.array([one.address(place[side]) for one, place in zip(of, places, strict=True)], np.uint64)
                for side in (1, 2)
            )
            first = inside.ctypes.data - lowest * _STRIDE
            made = Track(left.ctypes.data, right.ctypes.data, first, of[0].step, room * CHANNELS, *zone)
            made.held = (left, right)  # as long as the track is used
            return made

        wanted = shape.wanted
        width = wanted[1] - wanted[0]
        collected = _array(workspace, "collected", count * width)
        place = (collected.ctypes.data - wanted[0] * _STRIDE, width * CHANNELS)
        sums = Track(None, None, place[0], CHANNELS, place[1], -_FAR, _FAR)
        before = track(0, stream, zones[0])
        self._first_skip.run(before, None, place, count, wanted)
        for number in range(1, len(zones), 2):
            first, second = self._layers[number - 1], self._layers[number]
            out = (middle.ctypes.data - lowest * _STRIDE, room * CHANNELS)
            first.convolution.run(before, None, out, count, zones[number])
            between = track(number, middle, zones[number])
            out = (stream.ctypes.data - lowest * _STRIDE, room * CHANNELS)
            second.convolution.run(between, before, out, count, zones[number + 1])
            before = track(number + 1, stream, zones[number + 1])
            if second.skip is not None:
                second.skip.run(before, sums, place, count, wanted)
        return self._head(torch.from_numpy(collected.reshape(count, width, CHANNELS)))


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


def _whole(level: _Level) -> Track:
    """A level as a track of one member, from the first output on."""
    return Track(None, None, level.address(0), 0, 0, -_FAR, _FAR)


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
