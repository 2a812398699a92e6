"""Lines of a VCF that no gene concerns: most of a genome's variants, found by the block and not record by record."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import compress

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from meta_spliceai.splice_engine.base_layer.vcf import reasons
from meta_spliceai.splice_engine.base_layer.vcf.info_field import InfoField
from meta_spliceai.splice_engine.base_layer.vcf.text import INFO, Block
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.genome.source import SequenceSource

_ALLELES = re.compile(rb"[ACGT]++\t([ACGTN]++(?:,[ACGTN]++)*+)")
"""REF and ALT of upper-case bases. Possessive quantifiers (++) never go back, which bounds the time on any line."""

_LONGEST_ALT = 1000
_LONGEST_REF = 100
_LONGEST_CHROM = 100
_DIGITS = 10
"""Bytes of the columns; a line with more is left to the reader of single records, which knows every bound."""

_CODES = np.frombuffer(bytes.maketrans(b"ACGT", bytes(range(4))), dtype=np.uint8)

Places = Int64[np.ndarray, " lines"]
Chosen = Bool[np.ndarray, " lines"]
Text = UInt8[np.ndarray, " bytes"]


@dataclass(frozen=True)
class Passed:
    """Lines of a block that hold nothing to be scored.

    Attributes:
        rows: which, ascending.
        cuts, resumes: where each line's text ends before what is added, and goes on behind it.
        added: to each line.
        alleles: of each line.
    """

    rows: Places
    cuts: Places
    resumes: Places
    added: list[bytes]
    alleles: Places

    def where(self, chosen: Chosen) -> Passed:
        """Some of the lines."""
        added = list(compress(self.added, chosen.tolist()))
        return Passed(self.rows[chosen], self.cuts[chosen], self.resumes[chosen], added, self.alleles[chosen])

    def text(self, block: Block, others: Places, lines: list[bytes]) -> bytes:
        """The block as it is written: these lines with what is added to them, and `lines` in place of the others."""
        text, cuts, resumes = block.text, block.bounds[:-1].copy(), block.bounds[1:].copy()
        cuts[self.rows], resumes[self.rows] = self.cuts, self.resumes
        kept = zip([0, *resumes.tolist()], [*cuts.tolist(), len(text)], strict=True)
        added = [b""] * len(block)
        for row, new in zip([*self.rows.tolist(), *others.tolist()], [*self.added, *lines], strict=True):
            added[row] = new
        pieces = [b""] * (2 * len(block) + 1)
        pieces[::2] = [text[start:end] for start, end in kept]
        pieces[1::2] = added
        return b"".join(pieces)


@dataclass(frozen=True)
class _Lines:
    """Lines with as many columns as the header, a number as POS, and no older entry.

    Attributes:
        rows: which.
        pos: 1-based.
        starts: where CHROM begins in the block's text.
        stops: where each of the columns before INFO ends.
        end: where INFO ends.
    """

    rows: Places
    pos: Places
    starts: Places
    stops: Int64[np.ndarray, "lines columns"]
    end: Places


@dataclass(frozen=True)
class PassThrough:
    """Finds the lines of one file that hold nothing to be scored, and gives them their reason.

    Attributes:
        genome: the reference.
        annotation: the genes.
        info: how scores, and reasons for there being none, are written.
        longest: reference allele that is scored, in bases.
        margin: bases to either side of a variant that the contig must have.
        reasons: write the reason into INFO; else lines stay as they are.
    """

    genome: SequenceSource
    annotation: GeneAnnotation
    info: InfoField
    longest: int
    margin: int
    reasons: bool

    def find(self, block: Block, contig: Callable[[bytes], str | None]) -> Passed:
        """The lines of a block that no gene concerns.

        Args:
            block: of the file.
            contig: the genome's name of a contig, or None where it has none.
        """
        text, data = block.text, np.frombuffer(block.text, dtype=np.uint8)
        lines = self._lines(block, data)
        passes = np.zeros(len(lines.rows), dtype=bool)
        for name, places in _by_contig(text, data, lines):
            if known := contig(name):
                passes[places] = self._outside(known, data, lines, places)
        info, end = lines.stops[passes, INFO - 1] + 1, lines.end[passes]
        filled = (end - info > 1) | ((end - info == 1) & (data[np.minimum(info, len(data) - 1)] != ord(".")))
        spans = zip((lines.stops[passes, 2] + 1).tolist(), lines.stops[passes, 4].tolist(), strict=True)
        alleles = [text[start:stop] for start, stop in spans]
        # Most variants are one of twelve substitutions: each pair of alleles is looked at once.
        told = {pair: self._reasons(pair) for pair in set(alleles)}
        added = [told[pair][1] if one else told[pair][0] for pair, one in zip(alleles, filled.tolist(), strict=True)]
        counts = np.array([told[pair][2] for pair in alleles], dtype=np.int64)
        cuts = np.where(filled, end, info) if self.reasons else end
        return Passed(lines.rows[passes], cuts, end, added, counts).where(counts > 0)

    def _reasons(self, alleles: bytes) -> tuple[bytes, bytes, int]:
        """What is written into an empty INFO and behind a filled one for REF and ALT, and how many alleles there are;
        0 where they are not made of upper-case bases."""
        match = _ALLELES.fullmatch(alleles)
        if match is None:
            return b"", b"", 0
        alts = match[1].decode().split(",")
        told = ",".join(f"{alt}||{reasons.in_info(reasons.NOT_IN_GENE)}" for alt in alts)
        entry = f"{self.info.reason_key}={told}".encode() if self.reasons else b""
        return entry, b";" + entry if entry else b"", len(alts)

    def _lines(self, block: Block, data: Text) -> _Lines:
        text, bounds, width = block.text, block.bounds, block.variants.width
        tabs = np.flatnonzero(data == ord("\t"))
        first = np.searchsorted(tabs, bounds)
        rows = np.flatnonzero(np.diff(first) == width - 1)
        starts, stops = bounds[rows], tabs[first[rows, None] + np.arange(INFO)]
        end = bounds[rows + 1]
        end = end - (data[end - 1] == ord("\n"))
        returns = data[end - 1] == ord("\r")
        end = tabs[first[rows] + INFO] if width > INFO + 1 else end - returns
        sizes = np.diff(stops, axis=1, prepend=starts[:, None] - 1) - 1
        fits = (sizes[:, [0, 1, 3]] > 0).all(axis=1) & (sizes[:, 0] <= _LONGEST_CHROM)
        fits &= (
            (sizes[:, 1] <= _DIGITS) & (sizes[:, 3] <= min(self.longest, _LONGEST_REF)) & (sizes[:, 4] <= _LONGEST_ALT)
        )
        if b"\r" in text:
            fits &= returns == np.diff(np.searchsorted(np.flatnonzero(data == ord("\r")), bounds))[rows]
        key = self.info.key.encode()
        if key in text:
            fits &= np.array([key not in block.raws[row] for row in rows.tolist()], dtype=bool)
        pos = np.zeros(len(rows), dtype=np.int64)
        for back in range(1, min(sizes[:, 1].max(initial=0), _DIGITS) + 1):
            digit = data[stops[:, 1] - back] - ord("0")  # unsigned: what stands before 0 becomes more than 9
            digit[sizes[:, 1] < back] = 0
            fits &= digit <= 9
            pos += digit * np.int64(10 ** (back - 1))
        return _Lines(rows[fits], pos[fits], starts[fits], stops[fits], end[fits])

    def _outside(self, contig: str, data: Text, lines: _Lines, places: Places) -> Chosen:
        """Which of these lines are in no gene and have the genome's bases as their reference allele."""
        pos, begin = lines.pos[places], lines.stops[places, 2] + 1
        lengths = lines.stops[places, 3] - begin
        starts, ends = pos - 1, pos - 1 + lengths
        size = self.genome.contigs()[contig]
        fits = ~self.annotation.covered(contig, pos) & (starts >= self.margin) & (ends <= size)
        if self.margin:
            fits &= pos + self.margin <= size
        asked = np.flatnonzero(fits)
        if asked.size:
            lengths, firsts = lengths[asked], np.cumsum(lengths[asked]) - lengths[asked]
            within = np.arange(lengths.sum()) - np.repeat(firsts, lengths)
            bases = _CODES[data[np.repeat(begin[asked], lengths) + within]]
            same = self.genome.bases_at(contig, np.repeat(starts[asked], lengths) + within) == bases
            fits[asked] = np.logical_and.reduceat(same, firsts)
        return fits


def _by_contig(text: bytes, data: Text, lines: _Lines) -> Iterator[tuple[bytes, Places]]:
    """Contigs as the lines name them, and the places of their lines."""
    left = np.arange(len(lines.rows))
    ends = lines.stops[:, 0]
    while left.size:
        name = text[lines.starts[left[0]] : ends[left[0]]]
        same = ends[left] - lines.starts[left] == len(name)
        wide = lines.starts[left[same], None] + np.arange(len(name))
        same[same] = (data[wide] == np.frombuffer(name, dtype=np.uint8)).all(axis=1)
        yield name, left[same]
        left = left[~same]
