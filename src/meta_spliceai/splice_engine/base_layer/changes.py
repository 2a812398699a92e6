"""Variants in transcript coordinates, and what a batch of them has in common.

Transcript coordinates are the 0-based plus-strand position on plus genes and its negative on minus genes, so that they
run along the transcript and differ from window to window by nothing but their origin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8


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
        """Outputs, relative to the change."""
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
        windows: of the job.
        codes: bases of each window.
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
