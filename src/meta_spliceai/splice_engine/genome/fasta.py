"""A whole genome in a FASTA file with an index (.fai, and .gzi where it is bgzipped), trusted only while it describes
the file.

An index that was made before the file was changed last, or that ends elsewhere than the file, gives bases from other
places without a word. Such a one is made anew: beside the file, or in the cache where that folder cannot be written to.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tempfile
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from meta_spliceai.errors import InputError, IntegrityError, MissingPackageError
from meta_spliceai.files import cache_dir, cached_json, sha256_file
from meta_spliceai.read_hostile import MALFORMED
from meta_spliceai.splice_engine.genome.sequence import N_CODE, SequenceSource, check_lengths, encode

_BGZIP = b"\x1f\x8b\x08\x04"
_LAST_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


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
        self._file = pysam.FastaFile(str(self.path), filepath_index=str(index), filepath_index_compressed=packed)
        self._lines = {name: lines for name, _, *lines in _sequences(index)}
        self._bytes = np.memmap(self.path, mode="r") if blocks is None else None
        super().__init__(str(path), build, dict(zip(self._file.references, self._file.lengths, strict=True)))
        check_lengths(self.contigs(), build, self.name, whole=True)

    @cached_property
    def digest(self) -> str:  # type: ignore[override]  # read when it is asked for: it takes seconds
        """SHA-256 of the file; the cache remembers it for this state of the file."""
        state = str(_place_in_cache(self.path))
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
        if self._bytes is None:
            return super().bases_at(chrom, positions)
        contig = self.resolve(chrom)
        offset, bases, size = self._lines[contig]
        inside = (positions >= 0) & (positions < self._lengths[contig])
        asked = positions[inside]
        codes = np.full(len(positions), N_CODE, dtype=np.uint8)
        found = self._bytes[offset + asked // bases * size + asked % bases]
        try:
            codes[inside] = encode(found.tobytes().decode("latin-1"))
            return codes
        except InputError as error:
            raise IntegrityError(f"{self.name}, {chrom}: no bases where its index has them ({error})") from error

    def __reduce__(self) -> tuple[type[IndexedFasta], tuple[Path, str]]:
        """Another process opens the file anew: an open file cannot be sent."""
        return type(self), (self.path, self.build)


def _sequences(index: Path) -> list[tuple[str, int, int, int, int]]:
    """Of each sequence in an index its name, bases, the byte that it begins at, and bases and bytes of its lines;
    ValueError where one has no name or no bases."""
    found = []
    for line in index.read_text(encoding="utf-8").splitlines():
        name, *numbers = line.split("\t")
        bases, offset, line_bases, line_bytes = map(int, numbers)
        if not (name and bases > 0 and offset > 0 and 0 < line_bases < line_bytes):
            raise ValueError(f"{index} has a sequence without a name, bases or lines")
        found.append((name, bases, offset, line_bases, line_bytes))
    return found


def _place_in_cache(path: Path) -> Path:
    """Where the cache keeps what is known of this state of a file, without a suffix."""
    state = path.stat()
    key = f"{path.resolve()} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {state.st_ino}"
    return cache_dir() / "genomes" / hashlib.sha256(key.encode()).hexdigest()[:32]


def _sound_index(path: Path) -> tuple[Path, Path | None]:
    """An index that describes the file as it is, and for a bgzipped file the index of its blocks."""
    zipped = _is_bgzipped(path)
    stem = _place_in_cache(path)
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
    if head.lstrip()[:1] != b">":
        raise InputError(f"{path} is no FASTA file: it begins with {head[:12]!r}, expected '>'")
    return False


def _describes(path: Path, index: Path, blocks: Path | None) -> bool:
    """Whether an index is there, is younger than its file, and ends where the file does.

    Raises:
        IntegrityError: the index knows more than the file holds: the file was cut off.
    """
    try:
        _, bases, offset, line_bases, line_bytes = _sequences(index)[-1]
        end = offset + (bases - 1) // line_bases * line_bytes + (bases - 1) % line_bases + 1
        start, text = _end_of_text(path, blocks, end)
        made = min(one.stat().st_mtime_ns for one in (index, blocks) if one is not None)
    except MALFORMED:
        return False
    if blocks is None and end > start:
        raise IntegrityError(
            f"{path} is truncated: it ends at byte {start:,}, and its index {index} knows bases until byte "
            f"{end:,}; get it anew, or delete the index if the file is right"
        )
    return made >= path.stat().st_mtime_ns and start <= end and not text[end - start :].strip()


def _end_of_text(path: Path, blocks: Path | None, end: int) -> tuple[int, bytes]:
    """A place in the uncompressed file, at or before `end` where that is in it, and what follows it there, at most some
    64 kB.

    The index of blocks (.gzi) is a count and pairs of places, compressed and uncompressed, as 64-bit little-endian
    integers; the first block, at 0 and 0, is left out.
    """
    with path.open("rb") as handle:
        if blocks is None:
            start = min(end, path.stat().st_size)
            handle.seek(start)
            return start, handle.read(1 << 16)
        places = [0, 0, *np.frombuffer(blocks.read_bytes(), "<u8")[1:].tolist()]
        handle.seek(places[-2])
        return places[-1], gzip.decompress(handle.read(1 << 18))


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
        state = path.stat()
        for new, place in ((made_blocks, blocks), (made, index)):
            if place is not None:
                os.utime(
                    new, ns=(state.st_atime_ns, state.st_mtime_ns)
                )  # whatever the clocks of disks and machines say
                os.replace(new, place)
    return True
