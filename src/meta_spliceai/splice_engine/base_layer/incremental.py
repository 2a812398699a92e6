"""Exact incremental scoring: compute for an alternative only what differs from the reference.

A variant changes one place. At depth r (positions seen so far to either side) only activations within r of the change
differ from the reference's, and of those only the ones within reach R of an output that is asked for matter. Between
the two lies a zone of half-width min(r, distance + R), which grows and shrinks again through the network. Left of the
zone an activation is the reference's at the same place, right of it the reference's shifted by the difference in
length, so substitutions, insertions and deletions are all the same case.

Everything here is in transcript coordinates: the 0-based plus-strand position on plus genes, its negative on minus
genes, so that coordinates run along the transcript and differ from window to window by nothing but their origin.

The reference is computed on windows whose ends lie on a fixed grid, in blocks that lie on that grid too, and an
alternative in blocks that are placed by the change itself. With compiled convolutions a variant's numbers therefore do
not depend on its neighbours in the file, on the batch, or on the number of threads; in PyTorch they do by no more than
`compiled_convolution.NOISE`.
"""

from __future__ import annotations

import copy
import math
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, UInt8
from torch import Tensor
from torch.nn import functional

from meta_spliceai.splice_engine.base_layer.block_convolution import BlockConvolution, convolution_operations
from meta_spliceai.splice_engine.base_layer.compiled_convolution import CompiledConvolution
from meta_spliceai.splice_engine.base_layer.model import BaseModel
from meta_spliceai.splice_engine.base_layer.network import ResidualBlock, SpliceAINetwork
from meta_spliceai.splice_engine.base_layer.split_products import Precision, products_in
from meta_spliceai.splice_engine.base_layer.tally import Tally
from meta_spliceai.splice_engine.base_layer.workspace import Workspace

_MOST_A_JOB = 192
"""Changes that share one computation of their reference, which costs about as much as eight of them."""

_FEWEST_A_JOB = 16


@dataclass(frozen=True)
class Change:
    """One variant in transcript coordinates.

    Attributes:
        row: where its results go.
        group: variants share a reference only within a group (contig, strand and gene limits).
        at: first reference coordinate that is replaced (or before which bases are inserted).
        removed: reference bases replaced.
        inserted: codes put in their place, along the transcript.
        ref_outputs: (start, end) of the reference positions asked for.
        alt_outputs: (start, end) of the alternative's positions asked for, in the alternative's own coordinates: those
            of the reference before the change, shifted by the difference in length behind it.
    """

    row: int
    group: int
    at: int
    removed: int
    inserted: UInt8[np.ndarray, " bases"]
    ref_outputs: tuple[int, int]
    alt_outputs: tuple[int, int]

    @property
    def shift(self) -> int:
        """Alternative coordinate minus reference coordinate behind the change."""
        return len(self.inserted) - self.removed


Fetch = Callable[[int, int, int], UInt8[np.ndarray, " length"]]
"""(group, start, end) -> codes of the transcript coordinates [start, end)."""

Result = tuple[int, Float32[np.ndarray, "positions channels"], Float32[np.ndarray, "outputs channels"]]
"""(row, probabilities at `ref_outputs`, probabilities at `alt_outputs`)."""


@dataclass(frozen=True)
class _Shape:
    """What alternatives must have in common to be run in one batch.

    Attributes:
        core: positions, from the change on, that are recomputed from the first layer on.
        lead, tail: outputs before and behind the core.
    """

    core: int
    lead: int
    tail: int

    def zone(self, depth: int, reach: int) -> tuple[int, int]:
        """Positions, relative to the change, that differ from the reference and matter."""
        return max(-depth, -self.lead - reach), min(self.core + depth, self.core + self.tail + reach)


@dataclass(frozen=True)
class _BlockPlan:
    """One residual block's work on a batch of alternatives; (start, end) relative to the change.

    Attributes:
        before, between, after: zone of the block's input, of its first and of its second convolution.
        need, need_between: what the two convolutions read.
    """

    before: tuple[int, int]
    between: tuple[int, int]
    after: tuple[int, int]
    need: tuple[int, int]
    need_between: tuple[int, int]


@dataclass(frozen=True)
class _Plan:
    """The work on a batch of alternatives of one shape.

    Attributes:
        blocks: one for each residual block.
        lowest: where the buffers begin, relative to the change.
        stream, entered, middle: positions each buffer must hold.
    """

    blocks: list[_BlockPlan]
    lowest: int
    stream: int
    entered: int
    middle: int


@dataclass(frozen=True)
class _Window:
    """A stretch of outputs [start, end) of one group, whose reference is computed at once."""

    group: int
    start: int
    end: int
    changes: tuple[Change, ...]


class IncrementalScorer:
    """Scores changes with every network of a model.

    Args:
        model: the networks.
        distance: positions to either side that are usually asked for (shapes are made for it; others work too).
        batch_size: alternatives run at once.
        precision: of the products that alternatives take; references are always in float32.
        tally: where operations are counted.
    """

    def __init__(
        self,
        model: BaseModel,
        distance: int,
        batch_size: int,
        precision: Precision = "fp32",
        tally: Tally | None = None,
    ) -> None:
        self._tally = tally or Tally()
        self._model = model
        self._distance = distance
        self._batch_size = batch_size
        self._prepared = [_PreparedNetwork(network, precision) for network in model.networks]
        self._stopped = threading.Event()
        radii = [stage.radius for stage in model.networks[0].architecture.stages]
        self._grid = math.lcm(*radii) if all(radii) else 1

    def score(self, changes: Sequence[Change], fetch: Fetch) -> Iterator[list[Result]]:
        """Results of all changes, some at a time, in no particular order.

        Neighbours share a reference; in a job, one network runs at a time. On a CPU jobs run side by side, one on each
        of PyTorch's threads: a product is too small to be worth sharing among threads, and threads that wait for each
        other at every product come to a halt on a busy machine.
        """
        flank = self._model.flank
        threads = torch.get_num_threads() if self._model.device.type == "cpu" else 1
        jobs = list(self._jobs(self._windows(changes), threads))
        self._tally.operations += sum(map(self._operations, jobs))
        # Bases are fetched here: not every source of sequence may be read from several threads.
        loaded = (
            (job, np.stack([fetch(w.group, w.start - flank, w.end + flank) for w in job], axis=1)) for job in jobs
        )
        if threads == 1:
            workspace = Workspace(self._model.device)
            for job, codes in loaded:
                yield self._score_windows(job, codes, workspace)
            return
        self._stopped.clear()
        spare: queue.SimpleQueue[Workspace] = queue.SimpleQueue()
        for _ in range(threads):
            spare.put(Workspace(self._model.device))

        def run(job: list[_Window], codes: np.ndarray) -> list[Result]:
            torch.set_num_threads(1)  # PyTorch keeps this for each thread
            workspace = spare.get()
            try:
                return self._score_windows(job, codes, workspace)
            finally:
                spare.put(workspace)

        pool = ThreadPoolExecutor(threads, thread_name_prefix="score")
        try:
            for done in as_completed([pool.submit(run, job, codes) for job, codes in loaded]):
                yield done.result()
        finally:
            self._stopped.set()
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)

    def _operations(self, job: list[_Window]) -> float:
        """Of every network on one job."""
        shapes = Counter(map(self._shape, chain.from_iterable(window.changes for window in job)))
        length = job[0].end - job[0].start
        return sum(prepared.operations(length, len(job), shapes) for prepared in self._prepared)

    def _windows(self, changes: Sequence[Change]) -> list[_Window]:
        """Cut the changes into neighbourhoods, no longer than memory allows."""
        flank = self._model.flank
        windows: list[_Window] = []
        current: list[Change] = []
        low = high = 0

        def close() -> None:
            if current:
                start = low // self._grid * self._grid
                end = -(-high // self._grid) * self._grid
                windows.append(_Window(current[0].group, start, end, tuple(current)))

        for change in sorted(changes, key=lambda change: (change.group, change.at)):
            start, end = self._outputs_needed(change)
            near = current and change.group == current[0].group and start - high <= flank
            if near and max(end, high) - min(start, low) <= 4 * flank:
                low, high = min(low, start), max(high, end)
                current.append(change)
            else:
                close()
                current, low, high = [change], start, end
        close()
        return windows

    def _outputs_needed(self, change: Change) -> tuple[int, int]:
        """Reference positions whose outputs, and whose surroundings, a change needs."""
        shape = self._shape(change)
        behind = change.at + shape.core + shape.tail - change.shift
        return (
            min(change.ref_outputs[0], change.at - shape.lead),
            max(change.ref_outputs[1], change.at + 1, behind),
        )

    def _shape(self, change: Change) -> _Shape:
        """The batch a change runs in. Rounded up, so that most changes share one."""
        core = 1 << max(0, len(change.inserted) - 1).bit_length()
        usual = self._distance + 1
        start, end = change.alt_outputs
        return _Shape(core, max(usual, change.at - start), max(usual, end - change.at - core))

    def _jobs(self, windows: list[_Window], threads: int) -> Iterator[list[_Window]]:
        """Windows of one length, as many at a time as hold a batch of alternatives and fit in memory.

        Windows with many changes are cut into several with the same reference, which is computed once for each.
        """
        total = sum(len(window.changes) for window in windows)
        most = max(_FEWEST_A_JOB, min(_MOST_A_JOB, -(-total // threads)))
        by_length: dict[int, list[_Window]] = {}
        for window in windows:
            parts = -(-len(window.changes) // most)
            size = -(-len(window.changes) // parts)
            by_length.setdefault(window.end - window.start, []).extend(
                replace(window, changes=window.changes[at : at + size]) for at in range(0, len(window.changes), size)
            )
        for length, group in by_length.items():
            fitting = 10 * self._model.flank // (length + 2 * self._model.flank)
            at_once = max(1, min(self._batch_size, fitting, -(-len(group) // threads)))
            batch: list[_Window] = []
            for window in group:
                if batch and (len(batch) == at_once or sum(len(one.changes) for one in [*batch, window]) > most):
                    yield batch
                    batch = []
                batch.append(window)
            yield batch

    def _score_windows(
        self, windows: list[_Window], codes: UInt8[np.ndarray, "positions windows"], workspace: Workspace
    ) -> list[Result]:
        model = self._model
        length = windows[0].end - windows[0].start
        by_shape: dict[_Shape, list[tuple[int, Change]]] = {}
        for index, window in enumerate(windows):
            for change in window.changes:
                by_shape.setdefault(self._shape(change), []).append((index, change))
        batches = [
            (shape, members[at : at + self._batch_size])
            for shape, members in by_shape.items()
            for at in range(0, len(members), self._batch_size)
        ]
        outputs = model.outputs
        shares = [1.0 / model.slots.count(slot) for slot in model.slots]
        ref = np.zeros((length, len(windows), len(model.channels)), np.float32)
        alts = [
            np.zeros((shape.lead + shape.core + shape.tail, len(members), len(model.channels)), np.float32)
            for shape, members in batches
        ]
        for prepared, slot, share in zip(self._prepared, model.slots, shares, strict=True):
            channels = slice(slot * outputs, (slot + 1) * outputs)
            with torch.inference_mode():
                reference = prepared.reference(codes, workspace)
                ref[..., channels] += reference.outputs * np.float32(share)
                for (shape, members), alt in zip(batches, alts, strict=True):
                    if self._stopped.is_set():
                        return []
                    found = prepared.alternatives(reference, shape, members, windows, codes, workspace)
                    alt[..., channels] += found * np.float32(share)
        results: list[Result] = []
        for (shape, members), alt in zip(batches, alts, strict=True):
            for place, (index, change) in enumerate(members):
                begin, end = (at - windows[index].start for at in change.ref_outputs)
                first, last = (at - change.at + shape.lead for at in change.alt_outputs)
                results.append((change.row, ref[begin:end, index], alt[first:last, place]))
        return results


@dataclass(frozen=True)
class _Reference:
    """The reference's activations, [positions, windows, channels] each.

    Attributes:
        streams: the residual stream before each block, and after the last one.
        middles: the input of each block's second convolution.
        outputs: the network's outputs [positions, windows, outputs], on the processor.
    """

    streams: list[Tensor]
    middles: list[Tensor]
    outputs: Float32[np.ndarray, "positions windows outputs"]


class _PreparedBlock:
    """One residual block with its normalisations folded into its convolutions.

    Attributes:
        first, second: its convolutions.
        first_changed, second_changed: the same for alternatives, in their precision.
    """

    def __init__(self, block: ResidualBlock, depth: int, reach: int, precision: Precision) -> None:
        """`depth` and `reach`: positions seen to either side before the block, and those its input reaches."""
        self.stage, self.slope = block.stage, block.slope
        self.radius, self.channels = block.stage.radius, block.conv1.out_channels
        self.depth, self.reach = depth, reach
        device = block.conv1.weight.device
        scale1, shift1 = _affine(block.norm1)
        scale2, shift2 = _affine(block.norm2)
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
        dilation = self.stage.dilation
        if precision == "fp32":
            self.first = self.first_changed = _convolution(first, bias1, dilation, device)
            self.second = self.second_changed = _convolution(second, bias2, dilation, device)
            return
        # Compiled convolutions are float32 and want another layout.
        self.first, self.first_changed = (
            BlockConvolution(first, bias1, dilation, device, one) for one in ("fp32", precision)
        )
        self.second, self.second_changed = (
            BlockConvolution(second, bias2, dilation, device, one) for one in ("fp32", precision)
        )

    @property
    def reference_rows(self) -> int:
        """Outputs of a block in references: half a kernel, so that its edges lie on the grid of all windows, wherever
        a window starts."""
        return max(1, (self.stage.kernel - 1) // 2)

    def operations(self, positions: int, batch: int, rows: int | None) -> float:
        """Of either convolution in float32; see `convolution_operations`."""
        stage = self.stage
        return convolution_operations(stage.kernel, self.channels, stage.dilation, positions, batch, rows)

    def enter(self, stream: Tensor, out: Tensor) -> None:
        """The input of the first convolution."""
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


def _convolution(
    weights: Float64[np.ndarray, "taps channels channels"],
    bias: Float64[np.ndarray, " channels"],
    dilation: int,
    device: torch.device,
) -> BlockConvolution | CompiledConvolution:
    """Compiled where that is possible (see `compiled_convolution`)."""
    if CompiledConvolution.available(len(bias), len(weights), device):
        return CompiledConvolution(weights, bias, dilation)
    return BlockConvolution(weights, bias, dilation, device)


class _PreparedNetwork:
    """One network, ready to compute references and alternatives."""

    def __init__(self, network: SpliceAINetwork, precision: Precision) -> None:
        # In double precision: its few operations choose their order of summation by batch and threads.
        self._head_module = copy.deepcopy(network.head).double()
        self._channels = network.architecture.channels
        self._flank = network.flank
        self._products = products_in(precision)
        self._blocks: list[_PreparedBlock] = []
        self._plans: dict[_Shape, _Plan] = {}
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

    def _buffer(self, workspace: Workspace, name: str, positions: int, batch: int) -> Tensor:
        """A buffer [positions, batch, channels].

        Compiled convolutions go from one batch member to the next, so there each stands by itself in memory, where it
        stays in the processor's cache; matrix products want all members of a position side by side.
        """
        if isinstance(self._blocks[0].first, CompiledConvolution):
            return workspace.take(name, batch, positions, self._channels).transpose(0, 1)
        return workspace.take(name, positions, batch, self._channels)

    def _plan(self, shape: _Shape) -> _Plan:
        """Zones and block sizes for a shape, made once."""
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

    def operations(self, length: int, windows: int, shapes: Mapping[_Shape, int]) -> float:
        """Floating-point operations of references and of their alternatives, as `BlockConvolution` does
        them; compiled ones come to the same numbers by another transform, whose work is not counted.

        Args:
            length: outputs of each window.
            windows: references.
            shapes: how many alternatives there are of each shape.
        """
        outputs, total = length * windows, 0.0
        positions = length + 2 * self._flank
        for block in self._blocks:
            rows = block.reference_rows
            for _ in range(2):
                positions -= 2 * block.radius
                total += block.operations(positions, windows, rows)
        for shape, count in shapes.items():
            outputs += (shape.lead + shape.core + shape.tail) * count
            for block, work in zip(self._blocks, self._plan(shape).blocks, strict=True):
                for zone in (work.between, work.after):
                    total += self._products * block.operations(zone[1] - zone[0], count, None)
        pointwise = [
            *(weight for weight, _ in self._skips),
            *(p for p in self._head_module.parameters() if p.dim() > 1),
        ]
        return total + 2.0 * outputs * sum(weight.numel() for weight in pointwise)

    def reference(self, codes: UInt8[np.ndarray, "positions windows"], workspace: Workspace) -> _Reference:
        """All activations of whole windows, and the outputs at their inner positions."""
        positions, windows = codes.shape
        wanted = positions - 2 * self._flank
        table = torch.from_numpy(codes.astype(np.int64)).to(self._base_vectors.device)
        stream = self._buffer(workspace, "ref stream 0", positions, windows)
        stream.copy_(self._base_vectors[table])
        collected = self._collect(None, stream[self._flank : self._flank + wanted], 0)
        streams, middles = [stream], []
        for number, block in enumerate(self._blocks, start=1):
            rows = block.reference_rows
            length = len(stream) - 2 * block.radius
            room = len(stream) + rows * block.stage.dilation
            entered = self._buffer(workspace, "entered", room, windows)
            block.enter(stream, entered[: len(stream)])
            middle = self._buffer(workspace, f"ref middle {number}", room, windows)
            block.first.run(entered, middle, length, rows, workspace, add=False)
            block.between(middle[:length])
            middles.append(middle[:length])
            length -= 2 * block.radius
            after = self._buffer(workspace, f"ref stream {number}", room, windows)
            after[:length].copy_(stream[2 * block.radius : 2 * block.radius + length])
            block.second.run(middle, after, length, rows, workspace, add=True)
            stream = after[:length]
            streams.append(stream)
            if number in self._last_of_stage:
                margin = (length - wanted) // 2
                collected = self._collect(collected, stream[margin : margin + wanted], self._last_of_stage[number] + 1)
        return _Reference(streams, middles, self._head(collected))

    def alternatives(
        self,
        reference: _Reference,
        shape: _Shape,
        members: list[tuple[int, Change]],
        windows: list[_Window],
        codes: UInt8[np.ndarray, "positions windows"],
        workspace: Workspace,
    ) -> Float32[np.ndarray, "outputs members channels"]:
        """Outputs at lead + core + tail positions around each change, in the alternatives' coordinates."""
        batch, flank = len(members), self._flank
        plan = self._plan(shape)
        fringe = _Fringe(members, windows, self._base_vectors.device)
        wanted = (-shape.lead, shape.core + shape.tail)
        take = workspace.take
        stream = self._buffer(workspace, "alt stream", plan.stream, batch)
        entered = self._buffer(workspace, "entered", plan.entered, batch)
        middle = self._buffer(workspace, "alt middle", plan.middle, batch)

        def part(of: tuple[int, int]) -> Tensor:
            return stream[of[0] - plan.lowest : of[1] - plan.lowest]

        core = (0, shape.core)
        bases = _core_codes(shape, members, windows, codes, flank).to(self._base_vectors.device)
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
        return self._head(collected)

    def _collect(self, collected: Tensor | None, stream: Tensor, skip: int) -> Tensor:
        """The sum of skip connections so far, at the output positions."""
        weight, bias = self._skips[skip]
        flat = stream.reshape(-1, self._channels)
        base = bias.expand_as(flat) if collected is None else collected.view_as(flat).add_(bias)
        return torch.addmm(base, flat, weight).view(stream.shape)

    def _head(self, collected: Tensor) -> Float32[np.ndarray, "positions batch outputs"]:
        outputs = self._head_module(collected.permute(1, 2, 0).double())
        return outputs.permute(2, 0, 1).float().cpu().numpy()


class _Fringe:
    """Where the reference's activations lie that surround the zones of a batch of alternatives."""

    def __init__(self, members: list[tuple[int, Change]], windows: list[_Window], device: torch.device) -> None:
        places = [(change.at - windows[index].start, index, change.shift) for index, change in members]
        self._left = torch.tensor([at for at, _, _ in places], device=device)
        self._right = torch.tensor([at - shift for at, _, shift in places], device=device)
        self._window = torch.tensor([index for _, index, _ in places], device=device)

    def fill(self, level: Tensor, reach: int, buffer: Tensor, zone: tuple[int, int], need: tuple[int, int]) -> None:
        """Put the reference's values on either side of the zone.

        Args:
            level: the reference's activations [positions, windows, channels]; the first is `reach` before the windows.
            reach: positions to either side of the windows' outputs.
            buffer: [need, batch, channels], whose part inside the zone is left alone.
            zone, need: (start, end) relative to the change.
        """
        channels = level.shape[-1]
        per_position, per_window = level.stride(0) // channels, level.stride(1) // channels
        rows = (level.shape[0] - 1) * per_position + (level.shape[1] - 1) * per_window + 1
        flat = level.as_strided((rows, channels), (channels, 1))
        for change, low, high in (
            (self._left, need[0], min(zone[0], need[1])),
            (self._right, max(zone[1], need[0]), need[1]),
        ):
            if low >= high:
                continue
            base = change * per_position + self._window * per_window
            target = buffer[low - need[0] : high - need[0]]
            steps = torch.arange(low + reach, high + reach, device=base.device) * per_position
            if target.is_contiguous():
                chosen = (steps[:, None] + base[None, :]).reshape(-1)
                torch.index_select(flat, 0, chosen, out=target.view(-1, channels))
            else:
                chosen = (base[:, None] + steps[None, :]).reshape(-1)
                members = flat.index_select(0, chosen).view(len(base), len(steps), channels)
                target.copy_(members.transpose(0, 1))

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


def _core_codes(
    shape: _Shape,
    members: list[tuple[int, Change]],
    windows: list[_Window],
    codes: UInt8[np.ndarray, "positions windows"],
    flank: int,
) -> Tensor:
    """Bases of the alternatives from the change on: what is inserted, then the reference behind it."""
    core = np.empty((shape.core, len(members)), dtype=np.int64)
    for place, (index, change) in enumerate(members):
        behind = change.at + change.removed - windows[index].start + flank
        inserted = len(change.inserted)
        core[:inserted, place] = change.inserted
        core[inserted:, place] = codes[behind : behind + shape.core - inserted, index]
    return torch.from_numpy(core)


def _affine(norm: torch.nn.BatchNorm1d) -> tuple[np.ndarray, np.ndarray]:
    """A normalisation in evaluation mode as scale and shift, in double precision."""
    weight, bias, mean, variance = (
        tensor.detach().double().cpu().numpy()  # type: ignore[union-attr]
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    scale = weight / np.sqrt(variance + norm.eps)
    return scale, bias - mean * scale


def _float32(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(device)


def _pointwise(conv: torch.nn.Conv1d) -> tuple[Float[Tensor, "channels channels"], Float[Tensor, " channels"]]:
    """A one-tap convolution as a matrix to multiply with from the right, and its bias."""
    return conv.weight.detach()[:, :, 0].T.contiguous(), conv.bias.detach()  # type: ignore[union-attr]
