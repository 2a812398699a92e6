"""VCF lines that need no network, found block by block rather than record by record: those outside all genes (most of a
genome's variants), and those with scores in a table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from meta_spliceai.splice_engine.base_layer.vcf.info_field import InfoField, Reason
from meta_spliceai.splice_engine.base_layer.vcf.precomputed import ScoreTable
from meta_spliceai.splice_engine.base_layer.vcf.text import INFO, Block, info_safe, text_of
from meta_spliceai.splice_engine.genome.annotation import IN_NONE, IN_SEVERAL, Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.sequence import SequenceSource

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
_Entry = tuple[bytes, bytes, int]
"""What is written into an empty INFO and behind a filled one, and of how many alleles; 0 where a line is not plain."""


@dataclass(frozen=True)
class Passed:
    """Lines of a block that need no network.

    Attributes:
        rows: which, ascending.
        cuts, resumes: where each line's text ends before what is added, and goes on behind it.
        added: to each line.
        alleles: of each line.
        looked_up: their scores stood in a table; else they lie outside all genes.
    """

    rows: Places
    cuts: Places
    resumes: Places
    added: list[bytes]
    alleles: Places
    looked_up: Chosen

    def where(self, chosen: Chosen) -> Passed:
        """Some of the lines."""
        added = list(compress(self.added, chosen.tolist()))
        rest = self.alleles[chosen], self.looked_up[chosen]
        return Passed(self.rows[chosen], self.cuts[chosen], self.resumes[chosen], added, *rest)

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
    """Finds the lines of one file that need no network, and what is added to them.

    Attributes:
        longest: reference allele that is scored, in bases.
        margin: bases to either side of a variant that the contig must have.
        strict: only what SpliceAI's own command scores, and no reasons in INFO.
        tables: of scores; the first that has an allele counts.
    """

    genome: SequenceSource
    annotation: GeneAnnotation
    info: InfoField
    longest: int
    margin: int
    strict: bool
    tables: Sequence[ScoreTable] = ()

    def find(self, block: Block) -> Passed:
        """The lines of a block that need no network."""
        text, data = block.text, np.frombuffer(block.text, dtype=np.uint8)
        lines = self._lines(block, data)
        genes, passes = np.full(len(lines.rows), IN_SEVERAL), np.zeros(len(lines.rows), dtype=bool)
        for name, places in _by_contig(text, data, lines):
            if known := self.genome.find(text_of(name)):
                genes[places] = self.annotation.only(known, lines.pos[places])
                here = places[(genes[places] == IN_NONE) | ((genes[places] >= 0) & bool(self.tables))]
                passes[here] = self._matches(known, data, lines, here)
        passes &= data[lines.end - 1] != ord(";")  # added to by `with_info`, which takes the separator out
        info, end, inside = lines.stops[passes, INFO - 1] + 1, lines.end[passes], genes[passes] >= 0
        filled = (end - info > 1) | ((end - info == 1) & (data[np.minimum(info, len(data) - 1)] != ord(".")))
        spans = zip((lines.stops[passes, 2] + 1).tolist(), lines.stops[passes, 4].tolist(), strict=True)
        alleles = [text[start:stop] for start, stop in spans]
        # Most variants are one of twelve substitutions: each pair of alleles is looked at once.
        told = {pair: self._reasons(pair) for pair in set(alleles)}
        entries = [told[pair] for pair in alleles]
        for place, row in zip(np.flatnonzero(inside).tolist(), np.flatnonzero(passes)[inside].tolist(), strict=True):
            chrom = text_of(text[lines.starts[row] : lines.stops[row, 0]])
            gene = self.annotation.genes[genes[row]]
            entries[place] = self._entries(chrom, int(lines.pos[row]), alleles[place], gene)
        added = [entry[1] if one else entry[0] for entry, one in zip(entries, filled.tolist(), strict=True)]
        counts = np.array([entry[2] for entry in entries], dtype=np.int64)
        cuts = np.where(filled | (self.strict & ~inside), end, info)
        return Passed(lines.rows[passes], cuts, end, added, counts, inside).where(counts > 0)

    def _reasons(self, alleles: bytes) -> _Entry:
        """What is written of REF and ALT outside all genes."""
        match = _ALLELES.fullmatch(alleles)
        if match is None:
            return b"", b"", 0
        alts = match[1].decode().split(",")
        told = ",".join(f"{alt}||{Reason.NOT_IN_GENE.replace(' ', '_')}" for alt in alts)
        entry = b"" if self.strict else f"{self.info.reason_key}={told}".encode()
        return entry, entry and b";" + entry, len(alts)

    def _entries(self, chrom: str, pos: int, alleles: bytes, gene: Gene) -> _Entry:
        """What is written of REF and ALT in a gene, where tables have the scores of all alleles."""
        if _ALLELES.fullmatch(alleles) is None:
            return b"", b"", 0
        ref, alts = alleles.decode().split("\t")
        told = []
        for alt in alts.split(","):
            found = None if self.strict and len(ref) > 1 and len(alt) > 1 else self.look_up(chrom, pos, ref, alt, gene)
            if found is None:
                return b"", b"", 0
            told.append(f"{alt}|{found}")
        sources = ",".join(["precomputed"] * len(told))
        entry = f"{self.info.key}={','.join(told)};{self.info.source_key}={sources}".encode()
        return entry, b";" + entry, len(told)

    def look_up(self, chrom: str, pos: int, ref: str, alt: str, gene: Gene) -> str | None:
        """Symbol, scores and positions of an allele in a gene, where a table has them."""
        if gene.name in self._twice:
            return None
        symbol = info_safe(gene.name)
        for table in self.tables:
            found = table.find(chrom, pos, ref, alt, symbol)
            if found is not None:
                return f"{symbol}|{found}"
        return None

    @cached_property
    def _twice(self) -> Collection[str]:
        """Names of several genes, which a table does not tell apart."""
        return {name for name, count in Counter(gene.name for gene in self.annotation.genes).items() if count > 1}

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

    def _matches(self, contig: str, data: Text, lines: _Lines, places: Places) -> Chosen:
        """Which of these lines have the genome's bases as their reference allele."""
        begin = lines.stops[places, 2] + 1
        lengths, starts = lines.stops[places, 3] - begin, lines.pos[places] - 1
        size = self.genome.contigs()[contig]
        fits = (starts >= self.margin) & (starts + np.maximum(lengths, self.margin + 1) <= size)
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
