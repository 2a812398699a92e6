"""Stretches of a genome: in memory or mapped, and in a file at two bits a base.

A bundle carries what a machine without the genome needs of it, and nothing else. There, asking for another base is an
error and never N, so that whatever comes out of it is what the whole genome gives. A `sparse` source is a genome of its
own: what it does not hold is N, as in a FASTA file of regions.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.files import atomic_write
from meta_spliceai.read_hostile import limit, one_error
from meta_spliceai.splice_engine.genome.sequence import N_CODE
from meta_spliceai.splice_engine.genome.source import SequenceSource

Interval = tuple[str, int, int]
"""Contig, start, end: 0-based half-open, plus strand."""

Stretches = Int64[np.ndarray, "3 stretches"]
"""Starts, ends (0-based half-open, ascending, not overlapping) and places of the first bases among all codes."""

_INTEGERS = ("contig", "start", "end", "n_start", "n_end", "lengths")

MOST_BASES = 2**29
"""Bases that a packed genome may hold; they take a byte each in memory."""

LARGEST_ARRAY = "META_SPLICEAI_LARGEST_ARRAY", 2**30
"""Bytes. The largest of a bundle, base scores of twelve channels of all MFASS variants, has a quarter of it."""


def read_npz(path: Path, names: Sequence[str], what: str) -> dict[str, np.ndarray]:
    """The arrays of these names from an `.npz` file that anybody may have made: nothing is unpickled, and no more is
    read than it may hold. IntegrityError: cut off, altered, an array too large or of Python objects, or one that is
    missing."""
    with one_error(f"{path} holds no {what}: it"), zipfile.ZipFile(path) as pack:
        return {name: _read_array(pack, f"{name}.npy") for name in names}


def _read_array(pack: zipfile.ZipFile, member: str) -> np.ndarray:
    most = limit(LARGEST_ARRAY)
    with pack.open(member) as handle:
        content = handle.read(most + 1)
    stream = io.BytesIO(content)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, by_column, dtype = read_header[np.lib.format.read_magic(stream)](stream)
    left = len(content) - stream.tell()
    # What an array claims to hold is compared before anything of that size is made.
    if len(content) > most:
        raise ValueError(f"{member} holds more than {most:,} bytes; set {LARGEST_ARRAY[0]} to allow more")
    if dtype.hasobject or prod(shape) * dtype.itemsize != left:
        raise ValueError(f"{member} does not hold the {shape} of {dtype} that it says")
    return np.frombuffer(content, dtype, offset=stream.tell()).reshape(shape, order="F" if by_column else "C")


def joined(intervals: Iterable[Interval]) -> list[Interval]:
    """Overlapping and touching intervals as one, by contig and start."""
    found: list[Interval] = []
    for contig, start, end in sorted(intervals):
        if found and found[-1][0] == contig and start <= found[-1][2]:
            found[-1] = (contig, found[-1][1], max(end, found[-1][2]))
        else:
            found.append((contig, start, end))
    return found


class StretchedGenome(SequenceSource):
    """Stretches of some contigs; elsewhere N if it is sparse, else an error."""

    sparse = True
    _codes: UInt8[np.ndarray, " bases"]
    _stretches: dict[str, Stretches]

    def regions(self, chrom: str) -> list[tuple[int, int]]:
        """Where bases are known: (start, end), 0-based half-open, ascending, not overlapping."""
        starts, ends, _ = self._stretches[self.resolve(chrom)].tolist()
        return list(zip(starts, ends, strict=True))

    def _within(self, contig: str, start: int, end: int) -> UInt8[np.ndarray, " length"]:
        starts, ends, offsets = self._stretches[contig]
        cut = np.full(end - start, N_CODE, dtype=np.uint8)
        first, behind = np.searchsorted(ends, start, side="right"), np.searchsorted(starts, end)
        if not self.sparse and not (behind == first + 1 and starts[first] <= start and end <= ends[first]):
            raise InputError(
                f"what was packed of {self.name} does not hold {contig}:{start + 1}-{end}; it holds what its rows "
                "needed when it was made: make the bundle again with the rows that are to be run"
            )
        for at in range(first, behind):
            low, high = max(start, int(starts[at])), min(end, int(ends[at]))
            offset = int(offsets[at] - starts[at])
            cut[low - start : high - start] = self._codes[offset + low : offset + high]
        return cut


def write_packed(genome: SequenceSource, intervals: Iterable[Interval], path: Path) -> int:
    """Write stretches of a genome into one file of plain arrays (`.npz`, no pickle); the number of bases kept. What
    lies outside a contig is not kept; InputError for a contig that the genome does not have by this name."""
    lengths = genome.contigs()
    inside = [(contig, max(start, 0), min(end, lengths[contig])) for contig, start, end in intervals]
    kept = joined(one for one in inside if one[1] < one[2])
    names = sorted({contig for contig, _, _ in kept})
    codes = np.concatenate([np.empty(0, np.uint8), *(genome.fetch(*one) for one in kept)])
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


class PackedGenome(StretchedGenome):
    """Stretches of a genome that `write_packed` kept.

    Args:
        name, build, digest: of the genome they are from. What is read here is what that genome holds, so results have
            its address.
        sparse: bases between and beyond the stretches are N, and not an error.
    """

    def __init__(self, path: Path, name: str, build: str, digest: str, sparse: bool = False) -> None:
        self.path, self.digest, self.sparse = Path(path), digest, sparse
        arrays = read_npz(self.path, (*_INTEGERS, "bases", "names"), "packed genome")
        damage = _damage(arrays)
        if damage:
            raise IntegrityError(f"{path} holds no packed genome ({damage}); open its bundle again")
        super().__init__(name, build, dict(zip(arrays["names"].tolist(), arrays["lengths"].tolist(), strict=True)))
        start, end = arrays["start"], arrays["end"]
        places = np.stack([start, end, np.cumsum(end - start) - (end - start)])
        self._stretches = {name: places[:, arrays["contig"] == at] for at, name in enumerate(self._lengths)}
        codes = ((arrays["bases"][:, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3).reshape(-1)
        for first, last in zip(arrays["n_start"], arrays["n_end"], strict=True):
            codes[first:last] = N_CODE
        self._codes = codes


def _damage(arrays: Mapping[str, np.ndarray]) -> str:
    """How the arrays of a packed genome do not fit each other; "" where they do."""
    contig, start, end, n_start, n_end, lengths = columns = [arrays[name] for name in _INTEGERS]
    names, packed = arrays["names"], arrays["bases"]
    if any(column.dtype != np.int64 or column.ndim != 1 for column in columns):
        return "its tables are no columns of whole numbers"
    if names.dtype.kind != "U" or names.shape != lengths.shape or len(set(names.tolist())) < names.size:
        return "its contigs have no names, or one name twice"
    if not len(contig) == len(start) == len(end) or not ((contig >= 0) & (contig < len(names))).all():
        return "a stretch lies on no contig"
    following = (contig[1:] == contig[:-1]) & (start[1:] <= end[:-1])
    if (start < 0).any() or (end <= start).any() or (end > lengths[contig]).any() or following.any():
        return "its stretches are empty, overlap, or run past the end of their contig"
    if (np.diff(contig) < 0).any():
        return "its stretches are not in order"
    total = int((end - start).sum())
    if not 0 <= total <= MOST_BASES or packed.dtype != np.uint8 or packed.shape != (-(-total // 4),):
        return f"{packed.size:,} bytes for {total:,} bases, of which {MOST_BASES:,} are allowed"
    if n_start.shape != n_end.shape or (n_start < 0).any() or (n_end <= n_start).any() or (n_end > total).any():
        return "its runs of N are no intervals"
    return ""
