"""A whole genome in a FASTA file with an index (.fai, and .gzi where it is bgzipped), trusted only while it describes
the file.

An index that was made before the file was changed last, or whose sequences do not lie where it says, gives bases from
other places without a word. Such a one is made anew: beside the file, or in the cache where that folder cannot be
written to.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
import tempfile
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Int64, UInt8

from meta_spliceai.errors import InputError, IntegrityError, MissingPackageError
from meta_spliceai.files import cache_dir, cached_json, sha256_file
from meta_spliceai.read_hostile import MALFORMED
from meta_spliceai.splice_engine.genome.sequence import N_CODE, SequenceSource, check_lengths, encode, gather

_MOST_BETWEEN = 1 << 20
"""Bytes between two sequences: a header line and blank lines."""

_BGZIP = b"\x1f\x8b\x08\x04"
_LAST_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_LARGEST_BLOCK = 1 << 16


class IndexedFasta(SequenceSource):
    """Bases read on demand from a FASTA file, plain or bgzipped. What stands where bases are asked for and is none is
    an IntegrityError.

    Raises:
        InputError: no such file, no FASTA, gzipped but not by bgzip, sequences that cannot be indexed, or chromosomes
            that have the other build's lengths.
        RunError: neither its folder nor the cache can be written to.
    """

    def __init__(self, path: Path, build: str) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"no FASTA file at {path}; check the path")
        try:
            import pysam
        except ImportError as error:
            raise MissingPackageError(f"reading {path}, an indexed FASTA file,", "pysam") from error
        index, blocks = _sound_index(self.path)
        packed = None if blocks is None else str(blocks)
        try:
            self._file = pysam.FastaFile(str(self.path), filepath_index=str(index), filepath_index_compressed=packed)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path} and its index {index} cannot be opened; delete the index") from error
        self._lines = _lines_of(index)
        self._plain = self.path.open("rb", buffering=0) if blocks is None else None
        super().__init__(str(path), build, dict(zip(self._file.references, self._file.lengths, strict=True)))
        check_lengths(self.contigs(), build, self.name, whole=True)

    @cached_property
    def digest(self) -> str:  # type: ignore[override]  # read when it is asked for: it takes seconds
        """SHA-256 of the file; the cache remembers it for this state of the file."""
        state = str(place_in_cache(self.path))
        return str(cached_json("genomes", state, lambda: {"sha256": sha256_file(self.path)})["sha256"])

    def _within(self, contig: str, start: int, end: int) -> UInt8[np.ndarray, " length"]:
        where = f"{self.name}, {contig}:{start + 1}-{end}"
        try:
            codes = encode(self._file.fetch(contig, start, end))
        except (InputError, ValueError) as error:  # ValueError: pysam's own, or bytes that are no text
            raise IntegrityError(f"{where}: no bases there ({error})") from error
        if len(codes) != end - start:
            raise IntegrityError(f"{where}: {len(codes)} bases; was the file changed while it was read?")
        return codes

    def bases_at(self, chrom: str, positions: Int64[np.ndarray, " bases"]) -> UInt8[np.ndarray, " bases"]:
        """As `SequenceSource.bases_at`; of a plain file only the bytes asked for are looked at."""
        if self._plain is None:
            return super().bases_at(chrom, positions)
        contig = self.resolve(chrom)
        offset, bases, size = self._lines[contig]
        inside = (positions >= 0) & (positions < self._lengths[contig])
        asked = positions[inside]
        codes = np.full(len(positions), N_CODE, dtype=np.uint8)
        found = gather(offset + asked // bases * size + asked % bases, self._read)
        try:
            codes[inside] = encode(found.tobytes().decode("latin-1"))
            return codes
        except InputError as error:
            raise IntegrityError(f"{self.name}, {chrom}: no bases where its index has them ({error})") from error

    def _read(self, start: int, end: int) -> UInt8[np.ndarray, " bytes"]:
        raw = os.pread(self._plain.fileno(), end - start, start) if self._plain is not None else b""
        if len(raw) != end - start:
            raise IntegrityError(f"{self.name} ends at byte {start + len(raw)}; was it changed while it was read?")
        return np.frombuffer(raw, dtype=np.uint8)

    def __reduce__(self) -> tuple[type[IndexedFasta], tuple[Path, str]]:
        """Another process opens the file anew: an open file cannot be sent."""
        return type(self), (self.path, self.build)


def _lines_of(index: Path) -> dict[str, tuple[int, int, int]]:
    """Of each sequence the byte that it begins at, and bases and bytes of its lines."""
    rows = (line.split("\t") for line in index.read_text(encoding="utf-8").splitlines())
    return {name: (int(offset), int(bases), int(size)) for name, _, offset, bases, size in rows}


def place_in_cache(path: Path) -> Path:
    """Where the cache keeps what is known of this state of a file, without a suffix."""
    state = path.stat()
    key = f"{path.resolve()} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {state.st_ino}"
    return cache_dir() / "genomes" / hashlib.sha256(key.encode()).hexdigest()[:32]


def _sound_index(path: Path) -> tuple[Path, Path | None]:
    """An index that describes the file as it is, and for a bgzipped file the index of its blocks."""
    zipped = _is_bgzipped(path)
    stem = place_in_cache(path)
    beside = Path(f"{path}.fai"), Path(f"{path}.gzi") if zipped else None
    cached = stem.with_suffix(".fai"), stem.with_suffix(".gzi") if zipped else None
    for places in (beside, cached):
        if _describes(path, *places):
            return places
    places = beside if os.access(path.parent, os.W_OK) else cached
    if not _make(path, *places) or not _describes(path, *places):
        raise InputError(
            f"{path} cannot be indexed: a sequence has no name, no bases or another one's name, or its lines are not "
            f"of one length or end in two ways ('samtools faidx {path.name}' names the line); correct it, or fold it "
            f"anew with 'seqkit seq -w 60 {path.name}'"
        )
    return places


def _is_bgzipped(path: Path) -> bool:
    """Whether the file is bgzipped; InputError where it is neither that nor text that begins with '>', IntegrityError
    for a bgzipped file without the block that ends it."""
    with path.open("rb") as handle:
        head = handle.read(4096)
        if head[:4] == _BGZIP:
            handle.seek(-min(len(_LAST_BLOCK), path.stat().st_size), os.SEEK_END)
            if handle.read() != _LAST_BLOCK:
                raise IntegrityError(f"{path} is truncated: it does not end with bgzip's last block; get it anew")
            return True
    if head[:2] == b"\x1f\x8b":
        raise InputError(
            f"{path} is gzipped without blocks and cannot be indexed: gunzip it, or compress it with bgzip"
        )
    if not head.strip():
        raise InputError(f"{path} holds no sequence; a FASTA file begins with '>name'")
    if head.lstrip()[:1] != b">":
        raise InputError(f"{path} is no FASTA file: it begins with {head[:12]!r}, expected '>'")
    return False


def _describes(path: Path, index: Path, blocks: Path | None) -> bool:
    """Whether an index is there, is younger than its file, and has every sequence where it is: between one sequence's
    last base and the next one's first base lies one header line with its name, and nothing else.

    Raises:
        IntegrityError: the index knows more than the file holds, and fits until there: the file was cut off.
    """
    try:
        with path.open("rb") as handle:
            text = _Text(handle, blocks)
            end = 0
            for line in index.read_text(encoding="utf-8").splitlines():
                name, *numbers = line.split("\t")
                bases, offset, line_bases, line_bytes = map(int, numbers)
                if not (name and bases > 0 and 0 < line_bases < line_bytes and 0 < offset - end <= _MOST_BETWEEN):
                    return False
                header = text.read(end, offset - end).strip().split(b"\n")
                if offset <= text.size and (len(header) > 1 or header[0].split()[:1] != [b">" + name.encode()]):
                    return False
                end = offset + (bases - 1) // line_bases * line_bytes + (bases - 1) % line_bases + 1
                if end > text.size:
                    raise IntegrityError(
                        f"{path} is truncated: it ends at byte {text.size:,}, and its index {index} knows {name} until "
                        f"byte {end:,}; get it anew, or delete the index if the file is right"
                    )
            whole = end > 0 and not text.read(end, _MOST_BETWEEN).strip()
        made = min(one.stat().st_mtime_ns for one in (index, blocks) if one is not None)
        return whole and made >= path.stat().st_mtime_ns
    except MALFORMED:
        return False


class _Text:
    """The uncompressed bytes of a FASTA file at any place; of a bgzipped one by the index of its blocks.

    The index of blocks (.gzi) is a count and pairs of places, compressed and uncompressed, as 64-bit little-endian
    integers; the first block, at 0 and 0, is left out. What is wrong with it is raised as one of `MALFORMED`.
    """

    def __init__(self, handle: IO[bytes], blocks: Path | None) -> None:
        self._handle = handle
        self._blocks: np.ndarray | None = None
        self.size = os.fstat(handle.fileno()).st_size if blocks is None else sys.maxsize
        if blocks is not None:
            numbers = np.frombuffer(blocks.read_bytes(), "<u8").astype(np.int64)
            if len(numbers) != 1 + 2 * numbers[0]:
                raise ValueError(f"{blocks} does not hold the blocks that it says")
            self._blocks = np.concatenate([[0, 0], numbers[1:]]).reshape(-1, 2).T

    def read(self, start: int, size: int) -> bytes:
        """Up to so many bytes from a place on; fewer at the end of the file."""
        if self._blocks is None:
            self._handle.seek(start)
            return self._handle.read(size)
        packed, inflated = self._blocks
        at = int(np.searchsorted(inflated, start, side="right")) - 1
        if start - inflated[at] > _LARGEST_BLOCK:
            raise ValueError("a block lacks in the index of blocks")
        self._handle.seek(packed[at])
        with gzip.GzipFile(fileobj=self._handle, mode="rb") as stream:
            stream.read(int(start - inflated[at]))
            return stream.read(size)


def _make(path: Path, index: Path, blocks: Path | None) -> bool:
    """Make the index with htslib, atomically; whether that could be done."""
    import pysam
    import pysam.samtools

    index.parent.mkdir(parents=True, exist_ok=True)
    loudness = pysam.set_verbosity(0)
    with tempfile.TemporaryDirectory(dir=index.parent, prefix=".index.") as folder:
        made, made_blocks = Path(folder) / "fai", Path(folder) / "gzi"
        given = ["--fai-idx", str(made), *(["--gzi-idx", str(made_blocks)] if blocks is not None else [])]
        try:
            pysam.samtools.faidx(str(path), *given)
        except pysam.SamtoolsError:
            return False
        finally:
            pysam.set_verbosity(loudness)
        # A file from a machine whose clock is ahead must not make its index look old for ever.
        changed = max(path.stat().st_mtime_ns, made.stat().st_mtime_ns)
        for new, place in ((made_blocks, blocks), (made, index)):
            if place is not None:
                os.utime(new, ns=(changed, changed))
                os.replace(new, place)
    return True
