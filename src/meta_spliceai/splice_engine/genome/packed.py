"""Segments of a genome: regions of a FASTA file named by their coordinates, whole human genes from a Python package,
and a file at two bits per base, which is also how the cache keeps the other two.

A bundle carries what a machine without the genome needs of it, and nothing else. There, asking for another base is an
error and never N, so that whatever comes out of it is what the whole genome gives. A `sparse` source is a genome of its
own: what it does not hold is N, as in a FASTA file of regions.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from meta_spliceai import resources
from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.files import atomic_write, cache_dir, sha256_file
from meta_spliceai.read_hostile import LARGEST_TABLE, limit, one_error, text_lines
from meta_spliceai.splice_engine.genome.sequence import (
    GRCH37,
    N_CODE,
    SequenceSource,
    build_name,
    check_lengths,
    encode,
    reverse_complement,
)

Interval = tuple[str, int, int]
"""Contig, start, end: 0-based half-open, plus strand."""

Stretches = dict[str, list[tuple[int, int, int]]]
"""Contig: start, end (0-based half-open, ascending, apart) and place among all codes of each stretch."""

_INTEGERS = ("contig", "start", "end", "n_start", "n_end", "lengths")

MOST_BASES = 2**29
"""Bases that a packed genome may hold; they take a byte each in memory."""

LARGEST_ARRAY = "META_SPLICEAI_LARGEST_ARRAY", 2**30
"""Bytes. The largest of a bundle, base scores of twelve channels of all MFASS variants, has a quarter of it."""


def read_npz(path: Path, names: Sequence[str], what: str) -> dict[str, np.ndarray]:
    """The arrays of these names from an `.npz` file that anybody may have made: nothing is unpickled, and no more is
    read than it may hold.

    Raises:
        IntegrityError: cut off, altered, an array too large or of Python objects, or one that is missing.
    """
    most = limit(LARGEST_ARRAY)
    with one_error(f"{path} holds no {what}: it"):
        with zipfile.ZipFile(path) as pack:
            for name in names:
                if pack.getinfo(f"{name}.npy").file_size > most:
                    raise ValueError(f"{name} has more than {most:,} bytes; set {LARGEST_ARRAY[0]} to allow more")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}


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
    """Write stretches of a genome into one file of plain arrays (`.npz`, no pickle); the number of bases kept. What
    lies outside a contig is not kept; InputError for a contig that the genome does not have by this name."""
    lengths = genome.contigs()
    inside = [(contig, max(start, 0), min(end, lengths[contig])) for contig, start, end in intervals]
    kept = joined(one for one in inside if one[1] < one[2])
    codes = np.concatenate([np.empty(0, np.uint8), *(genome.fetch(*one) for one in kept)])
    _write(path, kept, {contig: lengths[contig] for contig, _, _ in kept}, codes)
    return len(codes)


def _write(path: Path, kept: list[Interval], lengths: dict[str, int], codes: UInt8[np.ndarray, " bases"]) -> None:
    """Write the codes of some intervals, which stand contig by contig in the order of `lengths`."""
    names = list(lengths)
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
            lengths=np.array(list(lengths.values()), np.int64),
        )


class PackedGenome(SequenceSource):
    """Stretches of a genome that `write_packed` kept.

    Args:
        name, build, digest: of the genome they are from. What is read here is what that genome holds, so results have
            its address.
        sparse: bases between and beyond the stretches are N, and not an error.
    """

    def __init__(self, path: Path, name: str, build: str, digest: str, sparse: bool = False) -> None:
        self.path, self.digest, self.sparse = Path(path), digest, sparse
        arrays = read_npz(self.path, (*_INTEGERS, "bases", "names"), "packed genome")
        with one_error(f"{path} holds no packed genome: it", "open its bundle again"):
            if not _sound(arrays):
                raise ValueError("its arrays do not fit each other")
        super().__init__(name, build, dict(zip(arrays["names"].tolist(), arrays["lengths"].tolist(), strict=True)))
        start, end = arrays["start"], arrays["end"]
        places = np.stack([start, end, np.cumsum(end - start) - (end - start)])
        self._stretches = {name: places[:, arrays["contig"] == at] for at, name in enumerate(self._lengths)}
        codes = ((arrays["bases"][:, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3).reshape(-1)
        for first, last in zip(arrays["n_start"], arrays["n_end"], strict=True):
            codes[first:last] = N_CODE
        self._codes = codes[: int((end - start).sum())]

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


def _sound(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether the arrays of a packed genome fit each other."""
    contig, start, end, n_start, n_end, lengths = columns = [arrays[name] for name in _INTEGERS]
    names, packed = arrays["names"], arrays["bases"]
    total, further = int((end - start).sum()), np.diff(contig)
    return bool(
        all(column.dtype == np.int64 and column.ndim == 1 for column in columns)
        and (names.dtype.kind, packed.dtype) == ("U", np.uint8)
        and names.shape == lengths.shape
        and len(set(names.tolist())) == names.size
        and contig.shape == start.shape == end.shape
        and n_start.shape == n_end.shape
        and ((contig >= 0) & (contig < len(names)) & (start >= 0) & (end > start)).all()
        and (end <= lengths[contig]).all()
        and ((further > 0) | ((further == 0) & (start[1:] > end[:-1]))).all()
        and 0 <= total <= MOST_BASES
        and packed.shape == (-(-total // 4),)
        and ((n_start >= 0) & (n_end > n_start) & (n_end <= total)).all()
    )


_HEADER = re.compile(r"(\S+):(\d{1,12})-(\d{1,12})")
_LAYOUT = 2
"""Changes when the cached form changes, so that an older one is made anew."""

Record = tuple[str, int, bytes]
"""Contig, start (0-based) and codes of one region, plus strand."""

PACKAGED = resources.get("packaged-genes")
SEQUENCE_FILE = "frame_alignment_checks/data/relevant_validation_genes.npz"
PLACES_FILE = "frame_alignment_checks/data/relevant_validation_genes_transcript_coords.json"


class SparseGenome(PackedGenome):
    """Regions as one genome, N everywhere else; its digest is of its bases and places as they are read.

    Args:
        key: identity of the source's content; names the file in the cache.
        records: gives the regions; called only when the cache does not hold them. Overlapping ones must agree.

    Raises:
        InputError: a region beyond the end of its chromosome in that build.
    """

    def __init__(self, name: str, build: str, key: str, records: Callable[[], Iterator[Record]]) -> None:
        file = cache_dir() / "genomes" / f"regions-{_LAYOUT}-{key[:32]}.npz"
        try:
            super().__init__(file, name, build, "", sparse=True)
        except IntegrityError:  # not there yet, or damaged
            codes, stretches = _join(records(), name)
            kept = [(contig, start, end) for contig, found in stretches.items() for start, end, _ in found]
            _write(file, kept, {contig: found[-1][1] for contig, found in stretches.items()}, codes)
            super().__init__(file, name, build, "", sparse=True)
        places = sorted((contig, [*map(tuple, found.T.tolist())]) for contig, found in self._stretches.items())
        content = f"{hashlib.sha256(self._codes.data).hexdigest()} {places}"
        self.digest = hashlib.sha256(f"{build} {hashlib.sha256(content.encode()).hexdigest()}".encode()).hexdigest()
        check_lengths(self.contigs(), build, name, whole=False)


class RegionFasta(SparseGenome):
    """Regions `>chr1:946174-948232` (1-based inclusive, plus strand; plain or gzipped) as one genome.

    The first opening reads the whole file into the cache, keyed by the file's content; later openings read it there.

    Raises:
        InputError: no such file, or a header that is no region (with its record's number).
        IntegrityError: truncated, a region whose length is not what its name says, overlapping regions that disagree.
    """

    def __init__(self, path: Path, build: str) -> None:
        if not Path(path).is_file():
            raise InputError(f"no FASTA file at {path}; check the path")
        super().__init__(str(path), build, sha256_file(Path(path)), lambda: _records(Path(path)))


class PackagedGenes(SparseGenome):
    """The packaged genes with known coordinates as a genome in GRCh37, N between them: real sequence without a
    download; InputError for another build."""

    def __init__(self, build: str = GRCH37) -> None:
        if build_name(build) != GRCH37:
            raise InputError(f"the packaged genes are sequence of GRCh37, not of {build}; use build=GRCh37 for them")
        key = PACKAGED.file(SEQUENCE_FILE).sha256[:16] + PACKAGED.file(PLACES_FILE).sha256[:16]
        super().__init__("packaged genes", GRCH37, key, _packaged_records)


def packaged_transcripts() -> Iterator[tuple[int, dict[str, Any], UInt8[np.ndarray, " bases"]]]:
    """Number, place, and bases along the transcript of each packaged gene with coordinates, in the file's order."""
    sequence, places = (resources.resolve_file(PACKAGED.name, file) for file in (SEQUENCE_FILE, PLACES_FILE))
    with np.load(sequence, allow_pickle=False) as arrays:
        for number, place in json.loads(places.read_text(encoding="utf-8")).items():
            bases = arrays[f"x{number}"]
            codes = bases.argmax(axis=1).astype(np.uint8)
            codes[bases.sum(axis=1) == 0] = N_CODE
            yield int(number), place, codes


def _packaged_records() -> Iterator[Record]:
    """The first base of a transcript is `hg19_start` on + and `hg19_end` on - (1-based)."""
    for _, place, codes in packaged_transcripts():
        plus = reverse_complement(codes) if place["strand"] == "-" else codes
        yield place["chrom"], int(place["hg19_start"]) - 1, plus.tobytes()


def holds_regions(path: Path) -> bool:
    """Whether a FASTA file's first record is named by a region; InputError for no such file, IntegrityError for damaged
    gzip."""
    words = next(text_lines(Path(path), encoding="latin-1"), "").split()
    return bool(words) and words[0].startswith(">") and _HEADER.fullmatch(words[0][1:]) is not None


def _records(path: Path) -> Iterator[Record]:
    """The regions of a FASTA file, in its order."""
    header, number, lines = "", 0, list[str]()
    for line in text_lines(path, LARGEST_TABLE, "ascii"):
        if line.startswith(">"):
            if header:
                yield _record(header, lines, number, path)
            header, lines, number = line[1:].strip() or "(nothing)", [], number + 1
        elif header:
            lines.append(line.strip())
        elif line.strip():
            raise InputError(f"{path} is no FASTA file: it begins with '{line.strip()[:20]}', expected '>'")
    if not header:
        raise InputError(f"{path} holds no sequence; a FASTA file begins with '>'")
    yield _record(header, lines, number, path)


def _record(header: str, lines: list[str], number: int, path: Path) -> Record:
    match = _HEADER.fullmatch(header.split()[0])
    if match is None or not 0 < int(match[2]) <= int(match[3]):
        raise InputError(
            f"{path}: record {number} is named '{header}', expected a region like 'chr1:946174-948232' (1-based, "
            "inclusive); use a whole-genome FASTA reader for other files"
        )
    start, end = int(match[2]) - 1, int(match[3])
    try:
        codes = encode("".join(lines))
    except InputError as error:
        raise InputError(f"{path}: record {number} ({header}): {error}") from error
    if len(codes) != end - start:
        raise IntegrityError(
            f"{path}: record {number} ({header}) has {len(codes):,} bases, its name says {end - start:,}; get it anew"
        )
    return match[1], start, codes.tobytes()


def _join(records: Iterator[Record], where: str) -> tuple[UInt8[np.ndarray, " bases"], Stretches]:
    """All codes in one array, overlapping and touching records as one stretch, contigs in order of appearance."""
    by_contig: dict[str, list[tuple[int, bytes]]] = {}
    for contig, start, bases in records:
        by_contig.setdefault(contig, []).append((start, bases))
    codes, stretches = bytearray(), Stretches()
    for contig, found in by_contig.items():
        of_contig = stretches[contig] = []
        for start, bases in sorted(found, key=itemgetter(0)):
            if not of_contig or start > of_contig[-1][1]:
                of_contig.append((start, start, len(codes)))
            first, end, place = of_contig[-1]
            there = codes[place + start - first : place + start - first + len(bases)]
            if there != bases[: len(there)]:
                at = next(at for at, code in enumerate(there) if code != bases[at])
                raise IntegrityError(
                    f"{where}: overlapping regions disagree at {contig}:{start + at + 1}; get the file anew"
                )
            codes += bases[len(there) :]
            of_contig[-1] = (first, max(end, start + len(bases)), place)
    return np.frombuffer(codes, np.uint8), stretches
