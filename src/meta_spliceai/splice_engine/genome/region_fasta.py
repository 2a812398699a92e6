"""Sparse genomes, N everywhere else: a FASTA file of regions, named by where they lie, and whole human genes that a
Python package carries."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from meta_spliceai import resources
from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.files import atomic_write, cache_dir, sha256_file
from meta_spliceai.read_hostile import LARGEST_TABLE, MALFORMED, one_error, text_lines
from meta_spliceai.splice_engine.genome.packed import StretchedGenome, joined
from meta_spliceai.splice_engine.genome.sequence import N_CODE, encode, reverse_complement
from meta_spliceai.splice_engine.genome.source import GRCH37, build_name, check_lengths

_HEADER = re.compile(r"(\S+):(\d{1,12})-(\d{1,12})")
_LAYOUT = 1
"""Changes when the cached form changes, so that an older one is made anew."""

_NO_BASE = 255

Record = tuple[str, int, int, UInt8[np.ndarray, " length"]]
"""Contig, start (0-based), end and codes of one region, plus strand."""

Regions = dict[str, list[tuple[int, int, int]]]
"""Contig: start (0-based), end and place among all codes of each region, ascending."""

PACKAGED = resources.get("packaged-genes")
SEQUENCE_FILE = "frame_alignment_checks/data/relevant_validation_genes.npz"
PLACES_FILE = "frame_alignment_checks/data/relevant_validation_genes_transcript_coords.json"


class SparseGenome(StretchedGenome):
    """Regions as one genome, N everywhere else; stored in the cache as one array of codes with an index, and mapped.

    Args:
        key: identity of the source's content; names the cache's folder.
        records: gives the regions; called only when the cache does not hold them. Overlapping ones must agree.

    Raises:
        InputError: a region beyond the end of its chromosome in that build.
    """

    def __init__(self, name: str, build: str, key: str, records: Callable[[], Iterator[Record]]) -> None:
        folder = cache_dir() / "genomes" / f"regions-{_LAYOUT}-{key[:32]}"
        stored = _open_stored(folder)
        if stored is None:
            _store(*_join(records(), name), folder)
            stored = _open_stored(folder)
        if stored is None:
            raise IntegrityError(f"{folder} does not hold what was just written there; check the disk")
        self._codes, regions, digest = stored
        self.digest = hashlib.sha256(f"{build} {digest}".encode()).hexdigest()
        self._stretches = {contig: np.array(found, dtype=np.int64).T.copy() for contig, found in regions.items()}
        super().__init__(name, build, {contig: found[-1][1] for contig, found in regions.items()})
        check_lengths(self.contigs(), build, name, whole=False)


class RegionFasta(SparseGenome):
    """Regions `>chr1:946174-948232` (1-based inclusive, plus strand; plain or gzipped) as one genome.

    The first opening reads the whole file into the cache, keyed by the file's content; later openings map it.
    InputError: no such file, or a header that is no region (with its record's number); IntegrityError: truncated, a
    region whose length is not what its name says, overlapping regions that disagree.
    """

    def __init__(self, path: Path, build: str) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"no FASTA file at {path}; check the path")
        super().__init__(str(path), build, sha256_file(self.path), lambda: _records(self.path))

    def __reduce__(self) -> tuple[type[RegionFasta], tuple[Path, str]]:
        """Another process maps the cached array itself."""
        return type(self), (self.path, self.build)


class PackagedGenes(SparseGenome):
    """The packaged genes with known coordinates as a genome in GRCh37, N between them: real sequence without a
    download. InputError: another build."""

    def __init__(self, build: str = GRCH37) -> None:
        if build_name(build) != GRCH37:
            raise InputError(f"the packaged genes are sequence of GRCh37, not of {build}; use build=GRCh37 for them")
        sequence, places = (resources.resolve_file(PACKAGED.name, file) for file in (SEQUENCE_FILE, PLACES_FILE))
        key = PACKAGED.file(SEQUENCE_FILE).sha256[:16] + PACKAGED.file(PLACES_FILE).sha256[:16]
        super().__init__("packaged genes", GRCH37, key, lambda: _packaged_records(sequence, places))

    def __reduce__(self) -> tuple[type[PackagedGenes], tuple[str]]:
        """Another process maps the cached array itself."""
        return type(self), (self.build,)


def _packaged_records(sequence: Path, places: Path) -> Iterator[Record]:
    """Arrays run along the transcript: the first base is `hg19_start` on + and `hg19_end` on - (1-based)."""
    with np.load(sequence, allow_pickle=False) as arrays:
        for number, place in json.loads(places.read_text(encoding="utf-8")).items():
            bases = arrays[f"x{number}"]
            codes = bases.argmax(axis=1).astype(np.uint8)
            codes[bases.sum(axis=1) == 0] = N_CODE
            start, end = int(place["hg19_start"]) - 1, int(place["hg19_end"])
            yield place["chrom"], start, end, reverse_complement(codes) if place["strand"] == "-" else codes


def holds_regions(path: Path) -> bool:
    """Whether a FASTA file's first record is named by a region; InputError for no such file, IntegrityError for damaged
    gzip."""
    if not Path(path).is_file():
        raise InputError(f"no FASTA file at {path}; check the path")
    with Path(path).open("rb") as handle:
        head = handle.read(4096)
    if head[:2] == b"\x1f\x8b":
        with one_error(path):
            head = zlib.decompressobj(wbits=31).decompress(head, 4096)
    words = head.split(b"\n", 1)[0].decode("ascii", "replace").split()
    return bool(words) and words[0].startswith(">") and _HEADER.fullmatch(words[0][1:]) is not None


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


def _join(records: Iterator[Record], where: str) -> tuple[UInt8[np.ndarray, " bases"], Regions]:
    """All codes in one array, overlapping and touching records as one region, contigs in order of appearance."""
    by_contig: dict[str, list[Record]] = {}
    for record in records:
        by_contig.setdefault(record[0], []).append(record)
    regions: Regions = {}
    parts: list[UInt8[np.ndarray, " length"]] = []
    held = 0
    for contig, found in by_contig.items():
        regions[contig] = []
        for _, start, end in joined((contig, start, end) for _, start, end, _ in found):
            regions[contig].append((start, end, held))
            parts.append(np.full(end - start, _NO_BASE, dtype=np.uint8))
            held += end - start
        of_contig, starts = parts[-len(regions[contig]) :], [start for start, _, _ in regions[contig]]
        for _, start, end, codes in found:
            at = bisect_right(starts, start) - 1
            there = of_contig[at][start - starts[at] : end - starts[at]]
            differing = np.flatnonzero((there != _NO_BASE) & (there != codes))
            if differing.size:
                place = f"{contig}:{start + int(differing[0]) + 1}"
                raise IntegrityError(f"{where}: overlapping regions disagree at {place}; get the file anew")
            there[:] = codes
    return np.concatenate(parts), regions


def _store(codes: UInt8[np.ndarray, " bases"], regions: Regions, folder: Path) -> None:
    """Write codes first and the index last: a folder with an index is a whole one."""
    with atomic_write(folder / "codes", "wb") as handle:
        handle.write(codes.tobytes())
    digest = _digest(hashlib.sha256(codes.tobytes()).hexdigest(), regions)
    with atomic_write(folder / "index.json") as handle:
        json.dump({"digest": digest, "regions": regions}, handle)


def _digest(codes: str, regions: Regions) -> str:
    """Identity of bases and places: of the codes' SHA-256 and of where each region lies."""
    return hashlib.sha256(f"{codes} {sorted(regions.items())}".encode()).hexdigest()


def _open_stored(folder: Path) -> tuple[UInt8[np.ndarray, " bases"], Regions, str] | None:
    """The mapped codes, where they lie, and the digest of both, computed from what is there; None where that is absent
    or not what was written (it is then made anew)."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        regions: Regions = {
            contig: [(int(start), int(end), int(offset)) for start, end, offset in found]
            for contig, found in index["regions"].items()
        }
        digest = _digest(sha256_file(folder / "codes"), regions)
        codes = np.memmap(folder / "codes", dtype=np.uint8, mode="r")
        places = [place for found in regions.values() for place in found]
        sound = all(0 <= start < end and 0 <= at <= at + end - start <= len(codes) for start, end, at in places)
        return (codes, regions, digest) if index["digest"] == digest and places and sound else None
    except MALFORMED:
        return None
