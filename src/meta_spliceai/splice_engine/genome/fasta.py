"""A whole genome in a FASTA file with an index."""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from meta_spliceai.errors import InputError, IntegrityError, MissingPackageError
from meta_spliceai.files import atomic_write, sha256_file
from meta_spliceai.splice_engine.genome.builds import check_lengths
from meta_spliceai.splice_engine.genome.fasta_index import place_in_cache, sound_index
from meta_spliceai.splice_engine.genome.sequence import encode
from meta_spliceai.splice_engine.genome.source import SequenceSource, gather


class IndexedFasta(SequenceSource):
    """Bases read on demand from a FASTA file, plain or bgzipped.

    Its index is made when it is missing, and made anew when it does not describe the file as it is. What stands where
    bases are asked for and is none is an IntegrityError.

    Args:
        path: the file.
        build: "GRCh37", "GRCh38", or another name.

    Raises:
        InputError: no such file, no FASTA, gzipped but not by bgzip, sequences that cannot be indexed, or chromosomes
            that have the other build's lengths.
        IntegrityError: truncated.
        MissingPackageError: pysam is not installed.
    """

    def __init__(self, path: Path, build: str) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"no FASTA file at {path}; check the path")
        try:
            import pysam
        except ImportError as error:
            raise MissingPackageError(f"reading {path}, an indexed FASTA file,", "pysam") from error
        index, blocks = sound_index(self.path)
        try:
            self._file = pysam.FastaFile(
                str(self.path),
                filepath_index=str(index),
                filepath_index_compressed=None if blocks is None else str(blocks),
            )
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path} and its index {index} cannot be opened; delete the index") from error
        self._lines = _lines_of(index)
        self._plain = self.path.open("rb", buffering=0) if blocks is None else None
        super().__init__(str(path), build, dict(zip(self._file.references, self._file.lengths, strict=True)))
        check_lengths(self.contigs(), build, self.name, whole=True)

    @cached_property
    def digest(self) -> str:  # type: ignore[override]  # read when it is asked for: it takes seconds
        """SHA-256 of the file; the cache remembers it for this state of the file."""
        memory = place_in_cache(self.path).with_suffix(".sha256")
        known = memory.read_bytes().decode("ascii", "replace") if memory.is_file() else ""
        if re.fullmatch("[0-9a-f]{64}", known):
            return known
        digest = sha256_file(self.path)
        with atomic_write(memory) as handle:
            handle.write(digest)
        return digest

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
        offset, bases, size = self._lines[self.resolve(chrom)]
        found = gather(offset + positions // bases * size + positions % bases, self._read)
        try:
            return encode(found.tobytes().decode("latin-1"))
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
