"""Bases as bytes, the encoding used everywhere; a small interface for all sequence sources, and sequence in memory; and
the human builds with their chromosome lengths, so that one is not mistaken for the other."""

from __future__ import annotations

import difflib
import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int64, UInt8

from meta_spliceai.errors import InputError, unknown_value

ALPHABET = "ACGTN"
"""Letter of each code: A 0, C 1, G 2, T 3, N 4."""

N_CODE = 4

_NO_BASE = 255
_ENCODE = bytearray([_NO_BASE] * 256)
for _code, _letter in enumerate(ALPHABET):
    _ENCODE[ord(_letter)] = _ENCODE[ord(_letter.lower())] = _code
# The remaining IUPAC letters say "one of several bases": the networks were trained with N in their place.
for _letter in "RYSWKMBDHVU":
    _ENCODE[ord(_letter)] = _ENCODE[ord(_letter.lower())] = N_CODE
_ENCODE[ord("U")] = _ENCODE[ord("u")] = ALPHABET.index("T")

_DECODE = np.frombuffer(ALPHABET.encode(), dtype=np.uint8)
_COMPLEMENT = np.array([3, 2, 1, 0, 4], dtype=np.uint8)


def encode(sequence: str) -> UInt8[np.ndarray, " length"]:
    """Bases as codes (A 0, C 1, G 2, T 3, N 4); lower case is read as upper, IUPAC ambiguity as N.

    Raises:
        InputError: a letter that is no nucleotide, with its 0-based place.
    """
    # A bytearray, so that the codes can be written to; its translation is quicker than a look-up by NumPy.
    codes = np.frombuffer(bytearray(sequence.encode("latin-1", "replace")).translate(_ENCODE), dtype=np.uint8)
    if codes.size and codes.max() == _NO_BASE:
        at = int(codes.argmax())
        raise InputError(f"'{sequence[at]}' at position {at} of a sequence is not a nucleotide (A, C, G, T or N)")
    return codes


def decode(codes: UInt8[np.ndarray, " length"]) -> str:
    return _DECODE[codes].tobytes().decode("ascii")


def reverse_complement(codes: UInt8[np.ndarray, "*batch length"]) -> UInt8[np.ndarray, "*batch length"]:
    """The other strand, read 5' to 3', along the last axis."""
    return np.ascontiguousarray(_COMPLEMENT[codes][..., ::-1])


def bare_contig(chrom: str) -> str:
    """A contig's name without "chr", and M as MT, so that the naming styles of UCSC and Ensembl meet."""
    bare = chrom[3:] if chrom[:3].lower() == "chr" else chrom
    return "MT" if bare == "M" else bare


_GAP = 4000
"""Bases between two places from which on reading them apart is quicker than reading all in between."""


class SequenceSource(ABC):
    """A genome, a sparse genome or a construct.

    Attributes:
        build: "GRCh37", "GRCh38" or a construct's name.
    """

    digest: str

    def __init__(self, name: str, build: str, lengths: Mapping[str, int]) -> None:
        self.name = name
        self.build = build
        self._lengths = dict(lengths)
        self._by_bare_name = {bare_contig(contig): contig for contig in lengths}

    def contigs(self) -> dict[str, int]:
        """Contig name: length in bases (in a sparse source, the end of its last known base)."""
        return dict(self._lengths)

    def find(self, chrom: str) -> str | None:
        """The contig's own name, asked for with or without "chr" (and M or MT for the mitochondrion), or None."""
        return chrom if chrom in self._lengths else self._by_bare_name.get(bare_contig(chrom))

    def resolve(self, chrom: str) -> str:
        """As `find`; InputError with the nearest names where there is none."""
        found = self.find(chrom)
        if found is None:
            near = difflib.get_close_matches(chrom, self._lengths, n=3, cutoff=0.5) or sorted(self._lengths)[:3]
            raise InputError(
                f"no contig '{chrom}' in {self.name} ({self.build}); nearest of its {len(self._lengths)} contigs: "
                f"{', '.join(near) or 'none at all'}"
            )
        return found

    def fetch(self, chrom: str, start: int, end: int) -> UInt8[np.ndarray, " length"]:
        """Codes of [start, end), 0-based half-open, plus strand, in a new array; N outside the contig or where nothing
        is known. InputError: no such contig, or end before start."""
        contig = self.resolve(chrom)
        if end < start:
            raise InputError(f"an interval must not end before it starts: [{start}, {end})")
        cut = np.full(end - start, N_CODE, dtype=np.uint8)
        low, high = max(start, 0), min(end, self._lengths[contig])
        if low < high:
            cut[low - start : high - start] = self._within(contig, low, high)
        return cut

    def bases_at(self, chrom: str, positions: Int64[np.ndarray, " bases"]) -> UInt8[np.ndarray, " bases"]:
        """Codes of single bases (0-based, in any order; N outside the contig); what lies together is read together.

        Raises:
            InputError: no such contig.
        """
        found = np.empty(len(positions), dtype=np.uint8)
        order = np.argsort(positions, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(positions[order]) > _GAP) + 1):
            if group.size:
                here = positions[group]
                found[group] = self.fetch(chrom, int(here[0]), int(here[-1]) + 1)[here - here[0]]
        return found

    @abstractmethod
    def _within(self, contig: str, start: int, end: int) -> UInt8[np.ndarray, " length"]:
        """Codes of an interval that is not empty and lies within the contig."""


_REGION = re.compile(r"(\S+):([\d,]{1,15})-([\d,]{1,15})")


def read_region(text: str) -> tuple[str, int, int] | None:
    """Contig, first and last base (1-based) of "chr1:1,000-2,000"; None for another form, InputError for no base."""
    found = _REGION.fullmatch(text)
    if found is None:
        return None
    start, end = (int(place.replace(",", "") or 0) for place in found.groups()[1:])
    if not 1 <= start <= end:
        raise InputError(f"region '{text}' is empty or begins before base 1")
    return found[1], start, end


class JoinedSources(SequenceSource):
    """Sources that have no contig in common as one: chromosomes and constructs.

    Raises:
        InputError: two of them have a contig of one name.
    """

    def __init__(self, sources: Sequence[SequenceSource], build: str) -> None:
        self._parts: dict[str, SequenceSource] = {}
        lengths: dict[str, int] = {}
        for source in sources:
            for contig, length in source.contigs().items():
                first = self._parts.setdefault(bare_contig(contig), source)
                if first is not source:
                    raise InputError(
                        f"{first.name} ({first.build}) and {source.name} ({source.build}) both have contig {contig}"
                    )
                lengths[contig] = length
        super().__init__(" and ".join(source.name for source in sources), build, lengths)
        self.digest = hashlib.sha256("\n".join(source.digest for source in sources).encode()).hexdigest()

    def _within(self, contig: str, start: int, end: int) -> UInt8[np.ndarray, " length"]:
        return self._parts[bare_contig(contig)].fetch(contig, start, end)


class MemoryGenome(SequenceSource):
    """Contigs in memory (constructs, toys for tests): bases as a string, or as codes (uint8, A 0, C 1, G 2, T 3, N 4),
    plus strand. InputError: a letter that is no nucleotide, or codes above 4."""

    def __init__(self, contigs: Mapping[str, str | UInt8[np.ndarray, " length"]], build: str, name: str) -> None:
        self._contigs: dict[str, UInt8[np.ndarray, " length"]] = {}
        hashed = hashlib.sha256(build.encode())
        for contig, bases in contigs.items():
            codes = encode(bases) if isinstance(bases, str) else np.array(bases, dtype=np.uint8)
            if codes.ndim != 1 or (codes.size and int(codes.max()) > N_CODE):
                raise InputError(f"contig '{contig}' of {name} is not one row of codes 0 to {N_CODE}")
            self._contigs[contig] = codes
            hashed.update(f"\n{contig}\t{len(codes)}\n".encode())
            hashed.update(codes.tobytes())
        super().__init__(name, build, {contig: len(codes) for contig, codes in self._contigs.items()})
        self.digest = hashed.hexdigest()

    def _within(self, contig: str, start: int, end: int) -> UInt8[np.ndarray, " length"]:
        return self._contigs[contig][start:end]


GRCH37, GRCH38 = "GRCh37", "GRCh38"

_SPELLINGS = {
    GRCH37: ("grch37", "hg19", "37", "b37", "hs37d5"),
    GRCH38: ("grch38", "hg38", "38", "b38"),
}

# Lengths as the UCSC chain file hg19ToHg38 gives them for both builds (assembly reports GCF_000001405.13 and .26).
_LENGTHS = {
    GRCH37: (
        249250621, 243199373, 198022430, 191154276, 180915260, 171115067, 159138663, 146364022, 141213431, 135534747,
        135006516, 133851895, 115169878, 107349540, 102531392, 90354753, 81195210, 78077248, 59128983, 63025520,
        48129895, 51304566, 155270560, 59373566,
    ),
    GRCH38: (
        248956422, 242193529, 198295559, 190214555, 181538259, 170805979, 159345973, 145138636, 138394717, 133797422,
        135086622, 133275309, 114364328, 107043718, 101991189, 90338345, 83257441, 80373285, 58617616, 64444167,
        46709983, 50818468, 156040895, 57227415,
    ),
}  # fmt: skip
_CHROMOSOMES = (*(str(number) for number in range(1, 23)), "X", "Y")

CHROMOSOME_LENGTHS: dict[str, dict[str, int]] = {
    build: dict(zip(_CHROMOSOMES, lengths, strict=True)) for build, lengths in _LENGTHS.items()
}
"""Build: chromosome without "chr": bases."""


def build_name(spelling: str) -> str:
    """ "GRCh37" or "GRCh38" from any usual spelling (hg19, hg38, 37, GRCh38 …); InputError for any other."""
    for build, spellings in _SPELLINGS.items():
        if spelling.lower() in spellings:
            return build
    raise unknown_value("genome build", spelling, ("GRCh37", "hg19", "GRCh38", "hg38"))


def check_lengths(contigs: Mapping[str, int], build: str, where: str, *, whole: bool) -> None:
    """Compare contig lengths with those of the build that was named; another build than the two human ones (a
    construct, another species) and names that are no chromosome are passed over.

    Args:
        whole: the contigs are whole chromosomes, so that lengths must be equal; otherwise they must not be longer.

    Raises:
        InputError: a length that does not fit; the message says which build it fits, if one.
    """
    if build not in CHROMOSOME_LENGTHS:
        return
    for name, length in contigs.items():
        chromosome = bare_contig(name)
        expected = CHROMOSOME_LENGTHS[build].get(chromosome)
        if expected is None or length == expected or (not whole and length < expected):
            continue
        fits = [other for other, known in CHROMOSOME_LENGTHS.items() if known[chromosome] == length]
        if whole and not fits:
            continue  # a cut-out or a toy with a chromosome's name: alleles are compared row by row anyway
        raise InputError(
            f"{where} is not {build}: its {name} has {length:,} bases, {build} has {expected:,}"
            + (f"; that is the length in {fits[0]}, so name that build" if fits else "; name the right build")
        )
