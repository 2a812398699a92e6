"""Stretches of a genome at two bits a base: what a machine without the genome needs of it, and nothing else.

A base outside the packed stretches is not known here, though the genome may have it. In a bundle, asking for one is an
error and never N, so that whatever comes out of a packed genome is what the whole one gives. A `sparse` one is a
genome of its own: what it does not hold is N, as in a FASTA file of regions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.files import atomic_write
from meta_spliceai.splice_engine.genome.read_npz import read_npz
from meta_spliceai.splice_engine.genome.sequence import N_CODE
from meta_spliceai.splice_engine.genome.source import SequenceSource, find_contig

Interval = tuple[str, int, int]
"""Contig, start, end: 0-based half-open, plus strand."""

_ARRAYS = ("contig", "start", "end", "n_start", "n_end", "bases", "names", "lengths")

MOST_BASES = 2**29
"""Bases that a packed genome may hold; they take a byte each in memory."""


def joined(intervals: Iterable[Interval]) -> list[Interval]:
    """Overlapping and touching intervals as one, by contig and start."""
    found: list[Interval] = []
    for contig, start, end in sorted(intervals):
        if found and found[-1][0] == contig and start <= found[-1][2]:
            found[-1] = (contig, found[-1][1], max(end, found[-1][2]))
        else:
            found.append((contig, start, end))
    return found


def write_packed(genome: SequenceSource, intervals: Iterable[Interval], path: Path) -> int:
    """Write stretches of a genome into one file of plain arrays.

    Args:
        genome: where the bases come from.
        intervals: what to keep; contigs by the genome's own names. What lies outside a contig need not be kept.
        path: the file (`.npz`, no pickle).

    Returns:
        bases kept.

    Raises:
        InputError: a contig the genome does not have.
    """
    lengths = genome.contigs()
    inside = [(contig, max(start, 0), min(end, lengths[contig])) for contig, start, end in intervals]
    kept = joined(one for one in inside if one[1] < one[2])
    names = sorted({contig for contig, _, _ in kept})
    pieces = [genome.fetch(*one) for one in kept]
    codes = np.concatenate(pieces) if pieces else np.empty(0, np.uint8)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], codes == N_CODE, [False]]).astype(np.int8)))
    two_bits = np.where(codes == N_CODE, 0, codes)
    two_bits = np.concatenate([two_bits, np.zeros(-len(two_bits) % 4, np.uint8)]).reshape(-1, 4)
    packed = two_bits[:, 0] | two_bits[:, 1] << 2 | two_bits[:, 2] << 4 | two_bits[:, 3] << 6
    with atomic_write(path, "wb") as handle:
        np.savez(
            handle,
            contig=np.array([names.index(contig) for contig, _, _ in kept], np.int64),
            start=np.array([start for _, start, _ in kept], np.int64),
            end=np.array([end for _, _, end in kept], np.int64),
            n_start=edges[::2].astype(np.int64),
            n_end=edges[1::2].astype(np.int64),
            bases=packed.astype(np.uint8),
            names=np.array(names, dtype=np.str_),
            lengths=np.array([lengths[name] for name in names], np.int64),
        )
    return len(codes)


@dataclass(frozen=True)
class _Stretches:
    """What is known of one contig, ascending."""

    starts: Int64[np.ndarray, " stretches"]
    ends: Int64[np.ndarray, " stretches"]
    offsets: Int64[np.ndarray, " stretches"]


class PackedGenome:
    """Stretches of a genome that `write_packed` kept.

    Args:
        path: the file.
        name: of the genome they are from, for messages.
        build: its build.
        digest: its identity. What is read here is what that genome holds, so results have its address.
        sparse: bases between and beyond the stretches are N, and not an error.

    Raises:
        IntegrityError: the file is damaged, or its arrays do not fit each other.
    """

    def __init__(self, path: Path, name: str, build: str, digest: str, sparse: bool = False) -> None:
        self.path, self.name, self.build, self.digest, self.sparse = Path(path), name, build, digest, sparse
        arrays = read_npz(self.path, _ARRAYS, "packed genome")
        self._codes = _unpacked(arrays, self.path)
        self._lengths = {str(one): int(length) for one, length in zip(arrays["names"], arrays["lengths"], strict=True)}
        spans = arrays["end"] - arrays["start"]
        offsets = np.concatenate([[0], np.cumsum(spans)])[:-1]
        self._stretches: dict[str, _Stretches] = {}
        for number, contig in enumerate(self._lengths):
            here = arrays["contig"] == number
            starts, ends = arrays["start"][here], arrays["end"][here]
            if (starts[1:] <= ends[:-1]).any() or (ends > self._lengths[contig]).any():
                raise _damaged(self.path, f"the stretches of {contig} overlap or run past its end")
            self._stretches[contig] = _Stretches(starts, ends, offsets[here])

    def contigs(self) -> dict[str, int]:
        """Contig name: length in the whole genome; contigs nothing was kept of are not named."""
        return dict(self._lengths)

    def resolve(self, chrom: str) -> str:
        """The contig's own name, with or without "chr".

        Raises:
            InputError: no such contig.
        """
        return find_contig(chrom, self._lengths, f"the packed stretches of {self.name} ({self.build})")

    def fetch(self, chrom: str, start: int, end: int) -> UInt8[np.ndarray, " length"]:
        """Codes of [start, end), 0-based half-open, plus strand, N outside the contig; a new array.

        Raises:
            InputError: no such contig, end before start, or bases that were not kept.
        """
        contig = self.resolve(chrom)
        if end < start:
            raise InputError(f"an interval must not end before it starts: [{start}, {end})")
        cut = np.full(end - start, N_CODE, dtype=np.uint8)
        low, high = max(start, 0), min(end, self._lengths[contig])
        if low >= high:
            return cut
        known = self._stretches[contig]
        at = int(np.searchsorted(known.ends, low, side="right"))
        whole = at < len(known.starts) and known.starts[at] <= low and known.ends[at] >= high
        if not whole and not self.sparse:
            raise InputError(
                f"{self.path} does not hold {contig}:{low + 1}-{high}; it holds what its rows needed when it was made: "
                "make the bundle again with the rows that are to be run"
            )
        while at < len(known.starts) and known.starts[at] < high:
            first, last = max(low, int(known.starts[at])), min(high, int(known.ends[at]))
            offset = int(known.offsets[at]) - int(known.starts[at])
            cut[first - start : last - start] = self._codes[offset + first : offset + last]
            at += 1
        return cut


def _unpacked(arrays: Mapping[str, np.ndarray], path: Path) -> UInt8[np.ndarray, " bases"]:
    """One byte a base; N runs put back."""
    columns, names = [arrays[name] for name in (*_ARRAYS[:5], "lengths")], arrays["names"]
    if any(column.dtype != np.int64 or column.ndim != 1 for column in columns):
        raise _damaged(path, "its tables are no columns of whole numbers")
    if names.dtype.kind != "U" or names.shape != arrays["lengths"].shape or len(set(names.tolist())) < names.size:
        raise _damaged(path, "its contigs have no names, or one name twice")
    start, end = arrays["start"], arrays["end"]
    if len({len(arrays[name]) for name in _ARRAYS[:3]}) != 1 or (start < 0).any() or (end <= start).any():
        raise _damaged(path, "its stretches are no intervals")
    if len(arrays["contig"]) and not (arrays["contig"].min() >= 0 and arrays["contig"].max() < len(arrays["names"])):
        raise _damaged(path, "a stretch lies on no contig")
    total = int((end - start).sum())
    packed = arrays["bases"]
    if not 0 <= total <= MOST_BASES:
        raise _damaged(path, f"it says that it holds {total:,} bases, and {MOST_BASES:,} are allowed")
    if packed.dtype != np.uint8 or packed.shape != (-(-total // 4),):
        raise _damaged(path, f"{packed.size:,} bytes for {total:,} bases")
    codes = ((packed[:, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3).reshape(-1)[:total].astype(np.uint8)
    n_start, n_end = arrays["n_start"], arrays["n_end"]
    if n_start.shape != n_end.shape or (n_start < 0).any() or (n_end <= n_start).any() or (n_end > total).any():
        raise _damaged(path, "its runs of N are no intervals")
    for first, last in zip(n_start, n_end, strict=True):
        codes[first:last] = N_CODE
    codes.flags.writeable = False
    return codes


def _damaged(path: Path, why: str) -> IntegrityError:
    return IntegrityError(f"{path} holds no packed genome ({why}); open its bundle again")
