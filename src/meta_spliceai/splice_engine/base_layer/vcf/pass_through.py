"""Lines of a VCF that no gene concerns: most of a genome's variants, found by the block and not record by record."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

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
"""Bytes of the ALT column; a line with more is left to the reader of single records, which knows every bound."""

_DIGITS = 10
_CODES = bytes.maketrans(b"ACGT", bytes(range(4)))
_GAP = 4000
"""Bases between two variants from which on reading them apart is quicker than reading all in between."""

Places = Int64[np.ndarray, " lines"]
Chosen = Bool[np.ndarray, " lines"]


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
    alleles: list[int]

    def behind(self, count: int) -> Passed:
        """Without the first lines."""
        rest = self.cuts[count:], self.resumes[count:], self.added[count:], self.alleles[count:]
        return Passed(self.rows[count:], *rest)

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
        chroms: CHROM.
        alleles: REF and ALT, with the tab between them.
        bases: length of REF.
        info, end: where INFO begins and ends in the block's text.
    """

    rows: Places
    pos: Places
    chroms: list[bytes]
    alleles: list[bytes]
    bases: Places
    info: Places
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
        lines = self._lines(block)
        # Most variants are one of twelve substitutions: each pair of alleles is looked at once.
        known = {alleles: self._reason(alleles) for alleles in set(lines.alleles)}
        passes = np.array([known[alleles][1] > 0 for alleles in lines.alleles], dtype=bool)
        by_chrom: dict[bytes, list[int]] = {}
        for place, chrom in enumerate(lines.chroms):
            by_chrom.setdefault(chrom, []).append(place)
        for chrom, places in by_chrom.items():
            name = contig(chrom)
            passes[places] &= name is not None and self._outside(name, lines, places)
        told = [known[lines.alleles[place]] for place in np.flatnonzero(passes).tolist()]
        added = [text for text, _ in told]
        cuts, ends = lines.info[passes], lines.end[passes]
        filled = ends - cuts > 1
        one = ends - cuts == 1
        filled[one] = np.frombuffer(block.text, dtype=np.uint8)[cuts[one]] != ord(".")
        if self.reasons:
            for place in np.flatnonzero(filled).tolist():
                added[place] = b";" + added[place]
            cuts = np.where(filled, ends, cuts)
        return Passed(lines.rows[passes], cuts if self.reasons else ends, ends, added, [count for _, count in told])

    def _reason(self, alleles: bytes) -> tuple[bytes, int]:
        """What is written of a line with these alleles, and how many there are; 0 where they are not plain bases."""
        match = _ALLELES.fullmatch(alleles)
        if match is None:
            return b"", 0
        alts = match[1].decode().split(",")
        told = ",".join(f"{alt}||{reasons.in_info(reasons.NOT_IN_GENE)}" for alt in alts)
        return f"{self.info.reason_key}={told}".encode() if self.reasons else b"", len(alts)

    def _lines(self, block: Block) -> _Lines:
        text, width = block.text, block.variants.width
        data = np.frombuffer(text, dtype=np.uint8)
        tabs = np.flatnonzero(data == ord("\t"))
        first = np.searchsorted(tabs, block.bounds)
        rows = np.flatnonzero(np.diff(first) == width - 1)
        stops = tabs[first[rows, None] + np.arange(INFO)]
        starts, end = block.bounds[rows], block.bounds[rows + 1]
        end = end - (data[end - 1] == ord("\n"))
        returns = data[end - 1] == ord("\r")
        end = tabs[first[rows] + INFO] if width > INFO + 1 else end - returns
        bases = stops[:, 3] - stops[:, 2] - 1
        fits = (stops[:, 0] > starts) & (bases <= self.longest) & (stops[:, 4] - stops[:, 3] <= _LONGEST_ALT)
        if b"\r" in text:
            fits &= returns == np.diff(np.searchsorted(np.flatnonzero(data == ord("\r")), block.bounds))[rows]
        key = self.info.key.encode()
        if key in text:
            fits &= [key not in block.raws[row] for row in rows.tolist()]
        digits = stops[:, 1] - stops[:, 0] - 1
        fits &= (digits > 0) & (digits <= _DIGITS)
        pos = np.zeros(len(rows), dtype=np.int64)
        for back in range(1, min(digits.max(initial=0), _DIGITS) + 1):
            digit = np.where(digits >= back, data[stops[:, 1] - back] - ord("0"), 0)  # unsigned: else 10 and more
            fits &= digit < 10
            pos += digit * np.int64(10 ** (back - 1))
        stops = stops[fits]

        def columns(begin: Places, end: Places) -> list[bytes]:
            return [text[one:other] for one, other in zip(begin.tolist(), end.tolist(), strict=True)]

        return _Lines(
            rows[fits],
            pos[fits],
            columns(starts[fits], stops[:, 0]),
            columns(stops[:, 2] + 1, stops[:, 4]),
            bases[fits],
            stops[:, 6] + 1,
            end[fits],
        )

    def _outside(self, contig: str, lines: _Lines, places: list[int]) -> Chosen:
        """Which of these lines are in no gene and have the genome's bases as their reference allele."""
        pos, lengths = lines.pos[places], lines.bases[places]
        starts, ends = pos - 1, pos - 1 + lengths
        size = self.genome.contigs()[contig]
        asked = ~self.annotation.covered(contig, pos) & (starts >= 0) & (ends <= size)
        if self.margin:
            asked &= (starts >= self.margin) & (pos + self.margin <= size)
        order = np.flatnonzero(asked)[np.argsort(starts[asked], kind="stable")]
        first = np.frombuffer(b"".join(lines.alleles[place][:1] for place in places).translate(_CODES), dtype=np.uint8)
        fits = np.zeros(len(pos), dtype=bool)
        for group in np.split(order, np.flatnonzero(np.diff(starts[order]) > _GAP) + 1):
            if not group.size:
                continue
            low = int(starts[group[0]])
            bases = self.genome.fetch(contig, low, int(ends[group].max()))
            fits[group] = bases[starts[group] - low] == first[group]
            held = bases.tobytes()
            for one in group[lengths[group] > 1].tolist():
                ref = lines.alleles[places[one]][: lengths[one]].translate(_CODES)
                fits[one] = held.startswith(ref, int(starts[one]) - low)
        return fits
