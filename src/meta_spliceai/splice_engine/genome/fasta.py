"""A whole genome in a FASTA file with an index."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from meta_spliceai.errors import InputError, MissingPackageError
from meta_spliceai.files import atomic_write, cache_dir, sha256_file
from meta_spliceai.splice_engine.genome.builds import check_lengths
from meta_spliceai.splice_engine.genome.sequence import N_CODE, encode
from meta_spliceai.splice_engine.genome.source import find_contig


class IndexedFasta:
    """Bases read on demand from a FASTA file, plain or bgzipped; the .fai index is made when it is missing.

    Args:
        path: the file.
        build: "GRCh37", "GRCh38", or another name.

    Raises:
        InputError: no such file, no FASTA, gzipped but not by bgzip, an index that is missing and cannot be written, or
            chromosomes that have the other build's lengths.
        MissingPackageError: pysam is not installed.
    """

    def __init__(self, path: Path, build: str) -> None:
        self.path = Path(path)
        self.name = str(path)
        self.build = build
        if not self.path.is_file():
            raise InputError(f"no FASTA file at {path}; check the path")
        try:
            import pysam
        except ImportError as error:
            raise MissingPackageError(f"reading {path}, an indexed FASTA file,", "pysam") from error
        try:
            self._file = pysam.FastaFile(str(self.path))
        except (OSError, ValueError) as error:
            raise InputError(self._why_not_open()) from error
        self._contigs = dict(zip(self._file.references, self._file.lengths, strict=True))
        if not self._contigs:
            raise InputError(f"{path} holds no sequence; a FASTA file begins with '>name'")
        check_lengths(self._contigs, build, self.name, whole=True)

    def _why_not_open(self) -> str:
        """The likely reason, as htslib only says that it failed."""
        index = Path(f"{self.path}.fai")
        with self.path.open("rb") as handle:
            head = handle.read(4)
        if head[:2] == b"\x1f\x8b" and head != b"\x1f\x8b\x08\x04":
            return f"{self.path} is gzipped without blocks and cannot be indexed: gunzip it, or compress it with bgzip"
        if head[:1] not in (b">", b"\x1f"):
            return f"{self.path} is no FASTA file: it begins with {head!r}, expected '>'"
        if not index.is_file():
            return (
                f"{self.path} has no index and none could be made beside it; run 'samtools faidx' where the folder can "
                f"be written to, so that {index.name} stands next to it"
            )
        return f"{self.path} and its index {index.name} do not fit; delete the index, it is made anew"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file. Computed once a file: the cache remembers it by path, size and time of change."""
        state = self.path.stat()
        key = [str(self.path.resolve()), state.st_size, state.st_mtime_ns]
        memory = cache_dir() / "genomes" / "digests.json"
        known = json.loads(memory.read_text(encoding="utf-8")) if memory.is_file() else []
        for entry in known:
            if entry[:3] == key:
                return str(entry[3])
        digest = sha256_file(self.path)
        with atomic_write(memory) as handle:
            json.dump([*(entry for entry in known if entry[0] != key[0]), [*key, digest]], handle)
        return digest

    def contigs(self) -> dict[str, int]:
        """Contig name: length in bases."""
        return dict(self._contigs)

    def resolve(self, chrom: str) -> str:
        """The contig's own name, with or without "chr".

        Raises:
            InputError: no such contig.
        """
        return find_contig(chrom, self._contigs, f"{self.name} ({self.build})")

    def fetch(self, chrom: str, start: int, end: int) -> UInt8[np.ndarray, " length"]:
        """Codes of [start, end), 0-based half-open, plus strand, N outside the contig.

        Raises:
            InputError: no such contig, or end before start.
        """
        contig = self.resolve(chrom)
        if end < start:
            raise InputError(f"an interval must not end before it starts: [{start}, {end})")
        cut = np.full(end - start, N_CODE, dtype=np.uint8)
        low, high = max(start, 0), min(end, self._contigs[contig])
        if low < high:
            cut[low - start : high - start] = encode(self._file.fetch(contig, low, high))
        return cut

    def __reduce__(self) -> tuple[type[IndexedFasta], tuple[Path, str]]:
        """Another process opens the file anew: an open file cannot be sent."""
        return type(self), (self.path, self.build)
