"""A sparse genome: a FASTA file of regions, named by where they lie; N everywhere else."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.files import atomic_write, cache_dir, sha256_file
from meta_spliceai.read_hostile import LARGEST_TABLE, one_error, text_lines
from meta_spliceai.splice_engine.genome.builds import check_lengths
from meta_spliceai.splice_engine.genome.sequence import N_CODE, encode
from meta_spliceai.splice_engine.genome.source import find_contig

_HEADER = re.compile(r"(\S+):(\d{1,12})-(\d{1,12})")
_LAYOUT = 1
"""Changes when the cached form changes, so that an older one is made anew."""


Record = tuple[str, int, int, UInt8[np.ndarray, " length"]]
"""Contig, start (0-based), end and codes of one region, plus strand."""

Regions = dict[str, list[tuple[int, int, int]]]
"""Contig: start (0-based), end and place among all codes of each region, ascending."""


class SparseGenome:
    """Regions as one genome, N everywhere else; stored in the cache as one array of codes with an index, and mapped.

    Args:
        name: for messages.
        build: "GRCh37", "GRCh38", or another name.
        key: identity of the source's content; names the cache's folder.
        records: gives the regions; called only when the cache does not hold them. Overlapping ones must agree.

    Raises:
        InputError: a region beyond the end of its chromosome in that build.
        IntegrityError: overlapping regions disagree.
    """

    def __init__(self, name: str, build: str, key: str, records: Callable[[], Iterator[Record]]) -> None:
        self.name = name
        self.build = build
        folder = cache_dir() / "genomes" / f"regions-{_LAYOUT}-{key[:32]}"
        stored = _open_stored(folder)
        if stored is None:
            _store(_join(records(), self.name), folder)
            stored = _open_stored(folder)
        if stored is None:
            raise IntegrityError(f"{folder} does not hold what was just written there; check the disk")
        self._codes, by_contig, digest = stored
        self.digest = hashlib.sha256(f"{build} {digest}".encode()).hexdigest()
        self._starts: dict[str, np.ndarray] = {}
        self._ends: dict[str, np.ndarray] = {}
        self._offsets: dict[str, np.ndarray] = {}
        for chrom, regions in by_contig.items():
            columns = np.array(regions, dtype=np.int64)
            self._starts[chrom], self._ends[chrom], self._offsets[chrom] = columns.T
        self._resolved: dict[str, str] = {}
        check_lengths(self.contigs(), build, self.name, whole=False)

    def contigs(self) -> dict[str, int]:
        """Contig name: end of its last known base."""
        return {chrom: int(ends[-1]) for chrom, ends in self._ends.items()}

    def regions(self, chrom: str) -> list[tuple[int, int]]:
        """Where bases are known: (start, end), 0-based half-open, ascending, not overlapping."""
        contig = self.resolve(chrom)
        return [(int(start), int(end)) for start, end in zip(self._starts[contig], self._ends[contig], strict=True)]

    def resolve(self, chrom: str) -> str:
        """The contig's own name, with or without "chr".

        Raises:
            InputError: no such contig.
        """
        if chrom not in self._resolved:
            self._resolved[chrom] = find_contig(chrom, self._starts, f"{self.name} ({self.build})")
        return self._resolved[chrom]

    def fetch(self, chrom: str, start: int, end: int) -> UInt8[np.ndarray, " length"]:
        """Codes of [start, end), 0-based half-open, plus strand, N between and beyond the regions.

        Raises:
            InputError: no such contig, or end before start.
        """
        contig = self.resolve(chrom)
        if end < start:
            raise InputError(f"an interval must not end before it starts: [{start}, {end})")
        cut = np.full(end - start, N_CODE, dtype=np.uint8)
        starts, ends, offsets = self._starts[contig], self._ends[contig], self._offsets[contig]
        at = int(np.searchsorted(ends, start, side="right"))
        while at < len(starts) and starts[at] < end:
            low, high = max(start, int(starts[at])), min(end, int(ends[at]))
            offset = int(offsets[at]) - int(starts[at])
            cut[low - start : high - start] = self._codes[offset + low : offset + high]
            at += 1
        return cut


class RegionFasta(SparseGenome):
    """Regions `>chr1:946174-948232` (1-based inclusive, plus strand; plain or gzipped) as one genome.

    The first opening reads the whole file into the cache, keyed by the file's content; later openings map it.

    Args:
        path: the file.
        build: "GRCh37" or "GRCh38".

    Raises:
        InputError: no such file, or a header that is no region (with its record's number).
        IntegrityError: truncated, a region whose length is not what its name says, overlapping regions that disagree.
    """

    def __init__(self, path: Path, build: str) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"no FASTA file at {path}; check the path")
        super().__init__(str(path), build, sha256_file(self.path), lambda: _records(self.path))

    def __reduce__(self) -> tuple[type[RegionFasta], tuple[Path, str]]:
        """Another process maps the cached array itself."""
        return type(self), (self.path, self.build)


def holds_regions(path: Path) -> bool:
    """Whether a FASTA file's first record is named by a region.

    Raises:
        InputError: no such file.
        IntegrityError: damaged gzip.
    """
    if not Path(path).is_file():
        raise InputError(f"no FASTA file at {path}; check the path")
    with Path(path).open("rb") as handle:
        head = handle.read(4096)
    if head[:2] == b"\x1f\x8b":
        with one_error(path):
            head = zlib.decompressobj(wbits=31).decompress(head, 4096)
    first = head.split(b"\n", 1)[0].decode("ascii", "replace")
    return first.startswith(">") and _HEADER.fullmatch(first[1:].split()[0] if first[1:].split() else "") is not None


def _records(path: Path) -> Iterator[Record]:
    """Contig, start (0-based), end and codes of each record, in the file's order."""
    header, number = "", 0
    lines: list[str] = []
    for line in text_lines(path, LARGEST_TABLE, "ascii"):
        if line.startswith(">"):
            if header:
                yield _record(header, lines, number, path)
            header, lines, number = line[1:].strip(), [], number + 1
        elif header:
            lines.append(line.strip())
        elif line.strip():
            raise InputError(f"{path} is no FASTA file: it begins with '{line.strip()[:20]}', expected '>'")
    if not header:
        raise InputError(f"{path} holds no sequence; a FASTA file begins with '>'")
    yield _record(header, lines, number, path)


def _record(header: str, lines: list[str], number: int, path: Path) -> Record:
    match = _HEADER.fullmatch(header.split()[0] if header else "")
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
    return match[1], start, end, codes


def _join(records: Iterator[Record], where: str) -> dict[str, list[tuple[int, UInt8[np.ndarray, " length"]]]]:
    """Contig: (start, codes) ascending, overlapping and touching records joined."""
    by_contig: dict[str, list[tuple[int, UInt8[np.ndarray, " length"]]]] = {}
    for chrom, start, _, codes in records:
        by_contig.setdefault(chrom, []).append((start, codes))
    joined = {}
    for chrom, regions in by_contig.items():
        done: list[tuple[int, bytearray]] = []
        for start, codes in sorted(regions, key=lambda region: (region[0], len(region[1]))):
            if not done or start > done[-1][0] + len(done[-1][1]):
                done.append((start, bytearray(codes)))
                continue
            first, known = done[-1]
            before = np.frombuffer(known[start - first : start - first + len(codes)], np.uint8)
            shared = len(before)
            if not np.array_equal(before, codes[:shared]):
                at = start + int(np.flatnonzero(before != codes[:shared])[0]) + 1
                raise IntegrityError(f"{where}: overlapping regions disagree at {chrom}:{at}; get the file anew")
            known += codes[shared:].tobytes()
        joined[chrom] = [(start, np.frombuffer(known, np.uint8)) for start, known in done]
    return joined


def _store(joined: dict[str, list[tuple[int, UInt8[np.ndarray, " length"]]]], folder: Path) -> None:
    """Write codes first and the index last: a folder with an index is a whole one."""
    regions: Regions = {}
    hashed, offset = hashlib.sha256(), 0
    with atomic_write(folder / "codes", "wb") as handle:
        for chrom, parts in joined.items():
            for start, codes in parts:
                handle.write(codes.tobytes())
                hashed.update(codes.tobytes())
                regions.setdefault(chrom, []).append((start, start + len(codes), offset))
                offset += len(codes)
    index = {"codes": hashed.hexdigest(), "digest": _digest(hashed.hexdigest(), regions), "regions": regions}
    with atomic_write(folder / "index.json") as handle:
        json.dump(index, handle)


def _digest(codes: str, regions: Regions) -> str:
    """Identity of bases and places: of the codes' SHA-256 and of where each region lies."""
    return hashlib.sha256(f"{codes} {sorted(regions.items())}".encode()).hexdigest()


def _open_stored(folder: Path) -> tuple[UInt8[np.ndarray, " bases"], Regions, str] | None:
    """The mapped codes, where they lie, and the digest of both, computed from what is there; None where that is absent
    or not what was written (it is then made anew)."""
    if not (folder / "index.json").is_file() or not (folder / "codes").is_file():
        return None
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        regions: Regions = {
            chrom: [(int(start), int(end), int(offset)) for start, end, offset in of_chrom]
            for chrom, of_chrom in index["regions"].items()
        }
        stated = index["digest"]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    digest = _digest(sha256_file(folder / "codes"), regions)
    size = (folder / "codes").stat().st_size
    places = [place for of_chrom in regions.values() for place in of_chrom]
    sound = all(0 <= start < end and 0 <= at <= at + end - start <= size for start, end, at in places)
    if stated != digest or not places or not sound:
        return None
    return np.memmap(folder / "codes", dtype=np.uint8, mode="r"), regions, digest
