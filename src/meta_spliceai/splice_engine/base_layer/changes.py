"""Variants in transcript coordinates, batches of them, and code shared by both ways of running a network
(`compiled_network`, `torch_network`): scratch memory, and the parts in double precision.

Transcript coordinates are the 0-based plus-strand position on plus genes and its negative on minus genes, so that they
run along the transcript and differ from window to window by nothing but their origin.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor

from meta_spliceai.splice_engine.base_layer.network import SpliceAINetwork
from meta_spliceai.splice_engine.genome.sequence import reverse_complement


@dataclass(frozen=True)
class Change:
    """One variant in transcript coordinates.

    Attributes:
        group: variants share a reference only within a group (contig, strand and gene limits).
        at: first reference coordinate that is replaced (or before which bases are inserted).
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

    def along(self, strand: str) -> Change:
        """Of a change in plus-strand coordinates, the one in those of a transcript on this strand."""
        if strand == "+":
            return self
        (first, end), (alt_first, alt_end) = self.ref_outputs, self.alt_outputs
        # Coordinates change sign; those of the alternative are shifted on the other side of the change.
        alt_outputs = (1 - alt_end + self.shift, 1 - alt_first + self.shift)
        inserted, at = reverse_complement(self.inserted), 1 - self.at - self.removed
        return Change(self.row, self.group, at, self.removed, inserted, (1 - end, 1 - first), alt_outputs)


@dataclass(frozen=True)
class Shape:
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

    @property
    def wanted(self) -> tuple[int, int]:
        return -self.lead, self.core + self.tail


def shape_of(change: Change, distance: int) -> Shape:
    """The batch a change runs in. Rounded up, so that most changes share one."""
    step = 1 << max(0, (len(change.inserted) - 1).bit_length() - 4)
    core = -(-len(change.inserted) // step) * step
    if core <= 16:
        core = 1 << max(0, core - 1).bit_length()
    usual = distance + 1
    start, end = change.alt_outputs
    return Shape(core, max(usual, change.at - start), max(usual, end - change.at - core))


@dataclass(frozen=True)
class Window:
    """A stretch of outputs [start, end) of one group, whose reference is computed at once."""

    group: int
    start: int
    end: int
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Batch:
    """Alternatives of one shape that run together.

    Attributes:
        changes: the alternatives, each a member of the batch.
        window: index of the window that holds each one's reference.
        left, right: where its change lies among the window's outputs, seen from before and from behind the change.
        core: bases of the alternatives from the change on: what is inserted, then the reference behind it.
    """

    shape: Shape
    changes: tuple[Change, ...]
    window: Int64[np.ndarray, " members"]
    left: Int64[np.ndarray, " members"]
    right: Int64[np.ndarray, " members"]
    core: UInt8[np.ndarray, "members core"]

    @classmethod
    def of(
        cls,
        shape: Shape,
        members: Sequence[tuple[int, Change]],
        windows: Sequence[Window],
        codes: Sequence[UInt8[np.ndarray, " bases"]],
        first: Sequence[int],
    ) -> Batch:
        """Changes, each with the index of its window; `first`: coordinate of each window's first base."""
        core = np.empty((len(members), shape.core), dtype=np.uint8)
        for member, (index, change) in enumerate(members):
            behind = change.at + change.removed - first[index]
            inserted = len(change.inserted)
            core[member, :inserted] = change.inserted
            core[member, inserted:] = codes[index][behind : behind + shape.core - inserted]
        left = np.array([change.at - windows[index].start for index, change in members])
        shift = np.array([change.shift for _, change in members])
        window = np.array([index for index, _ in members])
        return cls(shape, tuple(change for _, change in members), window, left, left - shift, core)


class Workspace:
    """Named float32 buffers on one device, each as large as its largest use so far: fresh pages cost more than the
    arithmetic done on them. What a buffer holds when it is taken is whatever its last use left there, always finite.

    Whoever computes with it adds the floating-point operations of its products to `operations`.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.operations = 0.0
        self._buffers: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """The named buffer in this shape; a later `take` of the same name is the same memory."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            buffer = torch.zeros(size, device=self.device)
            self._buffers[name] = buffer
        return buffer[:size].view(shape)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run the block with one thread of PyTorch's."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class DoubleHead:
    """A network's head in double precision: its few operations choose their order of summation by batch and threads."""

    def __init__(self, network: SpliceAINetwork) -> None:
        self._module = copy.deepcopy(network.head).double()
        self._products = sum(p.numel() for p in self._module.parameters() if p.dim() > 1)

    def __call__(
        self, hidden: Float[Tensor, "batch positions channels"], workspace: Workspace
    ) -> Float32[np.ndarray, "batch positions outputs"]:
        workspace.operations += 2.0 * hidden.shape[0] * hidden.shape[1] * self._products
        outputs = self._module(hidden.transpose(1, 2).double())
        return outputs.transpose(1, 2).float().cpu().numpy()
