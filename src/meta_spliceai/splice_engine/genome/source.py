"""Where bases come from: one small interface, whatever holds the sequence."""

from __future__ import annotations

import difflib
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import numpy as np
from jaxtyping import Int64, UInt8

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.sequence import N_CODE

_GAP = 4000
"""Bases between two places from which on reading them apart is quicker than reading all in between."""


class SequenceSource(ABC):
    """A genome, a sparse genome or a construct.

    Attributes:
        name: path or data set, for messages.
        build: "GRCh37", "GRCh38" or a construct's name.
        digest: identity of the content (a hash), for caches and data hashes.
    """

    digest: str

    def __init__(self, name: str, build: str, lengths: Mapping[str, int]) -> None:
        self.name = name
        self.build = build
        self._lengths = dict(lengths)
        self._resolved: dict[str, str] = {}

    def contigs(self) -> dict[str, int]:
        """Contig name: length in bases (in a sparse source, the end of its last known base)."""
        return dict(self._lengths)

    def resolve(self, chrom: str) -> str:
        """The contig's own name, asked for with or without "chr".

        Raises:
            InputError: no such contig; the nearest names are given.
        """
        if chrom not in self._resolved:
            self._resolved[chrom] = find_contig(chrom, self._lengths, f"{self.name} ({self.build})")
        return self._resolved[chrom]

    def fetch(self, chrom: str, start: int, end: int) -> UInt8[np.ndarray, " length"]:
        """Codes of [start, end), 0-based half-open, plus strand; N outside the contig or where nothing is known.

        Returns:
            a new array.

        Raises:
            InputError: no such contig, or end before start.
        """
        contig = self.resolve(chrom)
        if end < start:
            raise InputError(f"an interval must not end before it starts: [{start}, {end})")
        cut = np.full(end - start, N_CODE, dtype=np.uint8)
        low, high = max(start, 0), min(end, self._lengths[contig])
        if low < high:
            cut[low - start : high - start] = self._within(contig, low, high)
        return cut

    def bases_at(self, chrom: str, positions: Int64[np.ndarray, " bases"]) -> UInt8[np.ndarray, " bases"]:
        """Codes of single bases (0-based, in any order); what lies near each other is read together.

        Raises:
            InputError: no such contig.
        """
        return gather(positions, partial(self.fetch, chrom))

    @abstractmethod
    def _within(self, contig: str, start: int, end: int) -> UInt8[np.ndarray, " length"]:
        """Codes of an interval that is not empty and lies within the contig."""


def gather(
    places: Int64[np.ndarray, " places"], read: Callable[[int, int], UInt8[np.ndarray, " length"]]
) -> UInt8[np.ndarray, " places"]:
    """What stands at each place, by reading stretches [start, end) that hold several of them."""
    found = np.empty(len(places), dtype=np.uint8)
    order = np.argsort(places, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(places[order]) > _GAP) + 1):
        if group.size:
            here = places[group]
            found[group] = read(int(here[0]), int(here[-1]) + 1)[here - here[0]]
    return found


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


class JoinedSources(SequenceSource):
    """Sources that have no contig in common as one: chromosomes and constructs.

    Raises:
        InputError: two of them have a contig of one name.
    """

    def __init__(self, sources: Sequence[SequenceSource], build: str) -> None:
        self._parts: dict[str, SequenceSource] = {}
        for source in sources:
            for contig in source.contigs():
                bare = contig[3:] if contig[:3].lower() == "chr" else contig
                other = self._parts.get(contig) or self._parts.get(bare) or self._parts.get(f"chr{bare}")
                if other is not None and other is not source:
                    raise InputError(
                        f"{other.name} ({other.build}) and {source.name} ({source.build}) both have contig {contig}"
                    )
                self._parts[contig] = source
        lengths = {contig: length for source in sources for contig, length in source.contigs().items()}
        super().__init__(" and ".join(source.name for source in sources), build, lengths)
        self.digest = hashlib.sha256("\n".join(source.digest for source in sources).encode()).hexdigest()

    def _within(self, contig: str, start: int, end: int) -> UInt8[np.ndarray, " length"]:
        return self._parts[contig].fetch(contig, start, end)
