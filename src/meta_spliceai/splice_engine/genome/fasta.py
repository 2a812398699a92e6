"""A whole genome in a FASTA file with an index."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from meta_spliceai.errors import InputError, IntegrityError, MissingPackageError
from meta_spliceai.files import atomic_write, cache_dir, sha256_file
from meta_spliceai.splice_engine.genome.builds import check_lengths
from meta_spliceai.splice_engine.genome.fasta_index import sound_index
from meta_spliceai.splice_engine.genome.sequence import N_CODE, encode
from meta_spliceai.splice_engine.genome.source import find_contig

_REMEMBERED = 6
"""Values that say which file it was, and its digest."""


class IndexedFasta:
    """Bases read on demand from a FASTA file, plain or bgzipped.

    Its index is made when it is missing, and made anew when it does not describe the file as it is.

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
        self.name = str(path)
        self.build = build
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
        self._contigs = dict(zip(self._file.references, self._file.lengths, strict=True))
        check_lengths(self._contigs, build, self.name, whole=True)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file. The cache remembers it by path, inode, size and times of change."""
        state = self.path.stat()
        key = [str(self.path.resolve()), state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
        memory = cache_dir() / "genomes" / "digests.json"
        known = _remembered(memory)
        for entry in known:
            if entry[:-1] == key:
                return str(entry[-1])
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
            IntegrityError: what stands there are no bases.
        """
        contig = self.resolve(chrom)
        if end < start:
            raise InputError(f"an interval must not end before it starts: [{start}, {end})")
        cut = np.full(end - start, N_CODE, dtype=np.uint8)
        low, high = max(start, 0), min(end, self._contigs[contig])
        if low < high:
            try:
                codes = encode(self._file.fetch(contig, low, high))
            except (InputError, ValueError) as error:  # ValueError: pysam's own, or bytes that are no text
                raise IntegrityError(f"{self.name}, {contig}:{low + 1}-{high}: no bases there ({error})") from error
            if len(codes) != high - low:
                raise IntegrityError(
                    f"{self.name}, {contig}:{low + 1}-{high}: {len(codes)} bases instead of {high - low}; was the file "
                    "changed while it was read?"
                )
            cut[low - start : high - start] = codes
        return cut

    def __reduce__(self) -> tuple[type[IndexedFasta], tuple[Path, str]]:
        """Another process opens the file anew: an open file cannot be sent."""
        return type(self), (self.path, self.build)


def _remembered(memory: Path) -> list[list[object]]:
    """Path, inode, size, times and digest of files hashed before; empty where the memory is absent or damaged."""
    try:
        known = json.loads(memory.read_text(encoding="utf-8")) if memory.is_file() else []
    except ValueError:
        return []
    whole = isinstance(known, list) and all(isinstance(one, list) and len(one) == _REMEMBERED for one in known)
    return known if whole else []
