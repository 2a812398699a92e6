"""Where bases come from: one small interface, whatever holds the sequence."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.sequence import N_CODE


@runtime_checkable
class SequenceSource(Protocol):
    """A genome, a sparse genome or a construct."""

    @property
    def name(self) -> str:
        """Path or data set, for messages."""

    @property
    def build(self) -> str:
        """ "GRCh37", "GRCh38" or a construct's name."""

    @property
    def digest(self) -> str:
        """Identity of the content (a hash), for caches and data hashes."""

    def contigs(self) -> dict[str, int]:
        """Contig name: length in bases (in a sparse source, the end of its last known base)."""

    def resolve(self, chrom: str) -> str:
        """The contig's own name, asked for with or without "chr".

        Raises:
            InputError: no such contig; the nearest names are given.
        """

    def fetch(self, chrom: str, start: int, end: int) -> UInt8[np.ndarray, " length"]:
        """Codes of [start, end), 0-based half-open, plus strand; N outside the contig or where nothing is known.

        Raises:
            InputError: no such contig, or end before start.
        """


def find_contig(chrom: str, contigs: Collection[str], where: str) -> str:
    """The name under which a contig is stored, asked for with or without "chr" (and M or MT for the mitochondrion).

    Args:
        chrom: as the user's table writes it.
        contigs: names there are.
        where: the source in words, for the message.

    Raises:
        InputError: none of the spellings is there.
    """
    bare = chrom[3:] if chrom[:3].lower() == "chr" else chrom
    spellings = [chrom, bare, f"chr{bare}"]
    if bare in ("M", "MT"):
        spellings += ["MT", "M", "chrM", "chrMT"]
    for spelling in spellings:
        if spelling in contigs:
            return spelling
    near = difflib.get_close_matches(chrom, list(contigs), n=3, cutoff=0.5) or sorted(contigs)[:3]
    raise InputError(
        f"no contig '{chrom}' in {where}; nearest of its {len(contigs)} contigs: {', '.join(near) or 'none at all'}"
    )


def cut_padded(codes: UInt8[np.ndarray, " contig"], start: int, end: int) -> UInt8[np.ndarray, " length"]:
    """[start, end) of a contig's codes as a new array, with N where it runs past either end (start may be negative).

    Raises:
        InputError: end before start.
    """
    if end < start:
        raise InputError(f"an interval must not end before it starts: [{start}, {end})")
    cut = np.full(end - start, N_CODE, dtype=np.uint8)
    low, high = max(start, 0), min(end, len(codes))
    if low < high:
        cut[low - start : high - start] = codes[low:high]
    return cut
