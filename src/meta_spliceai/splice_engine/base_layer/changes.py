"""Variants in transcript coordinates, batches of them, and code shared by both ways of running a network
(`compiled_network`, `torch_network`): scratch memory, and the parts in double precision.

Transcript coordinates are the 0-based plus-strand position on plus genes and its negative on minus genes, so that they
run along the transcript and differ from window to window by nothing but their origin.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from meta_spliceai.splice_engine.base_layer.network import SpliceAINetwork
from meta_spliceai.splice_engine.genome.sequence import N_CODE, reverse_complement


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


LONGEST_CONSTRUCT = 512
"""Bases. A library of constructs has thousands of short contigs with a dozen variants each, and a reference costs as
much as about eight alternatives. But all share one reference: the contig of N alone. Put into it, a construct's wild
type is one change and each of its mutants another. Above this length a wild type of its own is the cheaper
reference."""


def bare(group: int, start: int, end: int) -> UInt8[np.ndarray, " length"]:
    return np.full(end - start, N_CODE, dtype=np.uint8)


def in_bare(row: int, codes: UInt8[np.ndarray, " bases"], length: int, strand: str, start: int, outputs: int) -> Change:
    """A construct as a change of N.

    Args:
        codes: the construct's bases, plus strand, with the allele in question.
        length: bases of its wild type, whose place it takes.
        start: first position asked for, in the 0-based plus-strand coordinates of `codes`.
    """
    return Change(row, 0, 0, length, codes, (0, 1), (start, start + outputs)).along(strand)


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
class Members:
    """Alternatives of one shape that run together, and the windows that hold their references.

    Attributes:
        changes: (index of its window, change) of each.
        first: coordinate of each window's first base.
    """

    shape: Shape
    changes: list[tuple[int, Change]]
    windows: list[Window]
    codes: list[UInt8[np.ndarray, " bases"]]
    first: list[int]

    def __len__(self) -> int:
        return len(self.changes)

    def places(self) -> list[tuple[int, int, int]]:
        """Of each member: its window, and its change in the window's outputs before, and behind, the change."""
        found = []
        for index, change in self.changes:
            at = change.at - self.windows[index].start
            found.append((index, at, at - change.shift))
        return found

    def core_codes(self) -> UInt8[np.ndarray, "members core"]:
        """Bases of the alternatives from the change on: what is inserted, then the reference behind it."""
        core = np.empty((len(self.changes), self.shape.core), dtype=np.uint8)
        for place, (index, change) in enumerate(self.changes):
            behind = change.at + change.removed - self.first[index]
            inserted = len(change.inserted)
            core[place, :inserted] = change.inserted
            core[place, inserted:] = self.codes[index][behind : behind + self.shape.core - inserted]
        return core


class Workspace:
    """Named float32 buffers on one device, each as large as its largest use so far: fresh pages cost more than the
    arithmetic done on them. What a buffer holds when it is taken is whatever its last use left there, always finite."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
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
        self.products = sum(p.numel() for p in self._module.parameters() if p.dim() > 1)

    def __call__(
        self, hidden: Float[Tensor, "batch positions channels"]
    ) -> Float32[np.ndarray, "batch positions outputs"]:
        outputs = self._module(hidden.transpose(1, 2).double())
        return outputs.transpose(1, 2).float().cpu().numpy()
