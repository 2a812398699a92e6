"""Lines of a VCF that no gene concerns: most of a genome's variants, found by the block and not record by record."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from meta_spliceai.splice_engine.base_layer.vcf import reasons
from meta_spliceai.splice_engine.base_layer.vcf.info_field import InfoField
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.genome.source import SequenceSource

_PLAIN = re.compile(
    rb"(([^\t]++)\t([0-9]{1,10}+)\t[^\t]*+\t([ACGT]++)\t([ACGTN]++(?:,[ACGTN]++)*+)\t[^\t]*+\t[^\t]*+\t([^\t\r\n]*+))"
    rb"(?:\t|\r?\n?\Z)"
)
"""A line whose alleles are upper-case bases: as far as INFO, and CHROM, POS, REF, ALT and INFO.

Possessive quantifiers (++) never go back, which halves the time and bounds it on any line."""

_LONGEST_ALT = 1000
"""Bytes of the ALT column; a line with more is left to the reader of single records, which knows every bound."""

_CODES = bytes.maketrans(b"ACGT", bytes(range(4)))
_GAP = 4000
"""Bases between two variants from which on reading them apart is quicker than reading all in between."""


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

    def lines(
        self, raws: Sequence[bytes], width: int, contig: Callable[[bytes], str | None]
    ) -> tuple[list[bytes | None], int]:
        """The lines as they are written, and how many alleles they hold; None for a line that must be looked at.

        Args:
            raws: lines with their line ends.
            width: columns of a whole line.
            contig: the genome's name of a contig, or None where it has none.
        """
        found: list[bytes | None] = [None] * len(raws)
        plain = self._plain(raws, width)
        if not plain:
            return found, 0
        rows = [row for row, _ in plain]
        heads, chroms, texts, refs, alts, infos = zip(*(groups for _, groups in plain), strict=True)
        pos = np.fromiter(map(int, texts), np.int64, len(rows))
        by_chrom: dict[bytes, list[int]] = {}
        for place, chrom in enumerate(chroms):
            by_chrom.setdefault(chrom, []).append(place)
        alleles = 0
        before, after = f"{self.info.reason_key}=".encode(), f"||{reasons.in_info(reasons.NOT_IN_GENE)}".encode()
        for chrom, places in by_chrom.items():
            name = contig(chrom)
            if name is None:
                continue
            for one in self._outside(name, pos[places], [refs[place] for place in places]):
                place = places[one]
                row, head, alt = rows[place], heads[place], alts[place]
                raw = raws[row]
                alleles += 1
                if b"," in alt:
                    alleles += alt.count(b",")
                    alt = alt.replace(b",", after + b",")
                if self.reasons:
                    start = head + b";" if infos[place] not in (b".", b"") else head[: len(head) - len(infos[place])]
                    found[row] = b"".join((start, before, alt, after, raw[len(head) :]))
                else:
                    found[row] = raw
        return found, alleles

    def _plain(self, raws: Sequence[bytes], width: int) -> list[tuple[int, tuple[bytes, ...]]]:
        """The rows of plain lines without an older entry, and what _PLAIN found in each."""
        found = [
            (row, match.groups())
            for row, match in enumerate(map(_PLAIN.match, raws))
            if match is not None and len(match[5]) <= _LONGEST_ALT
        ]
        tabs = [raw.count(b"\t") for raw in raws]
        if tabs.count(width - 1) != len(tabs):
            found = [plain for plain in found if tabs[plain[0]] == width - 1]
        keys = [self.info.key.encode(), self.info.reason_key.encode()]
        text = b"".join(raws)
        if any(key in text for key in keys):
            found = [plain for plain in found if not any(key in plain[1][-1] for key in keys)]
        return found

    def _outside(self, contig: str, pos: Int64[np.ndarray, " variants"], refs: list[bytes]) -> list[int]:
        """Places of the variants in no gene whose reference allele has the genome's bases and is not too long."""
        starts = pos - 1
        lengths = np.fromiter(map(len, refs), np.int64, len(refs))
        ends = starts + lengths
        size = self.genome.contigs()[contig]
        asked = ~self.annotation.covered(contig, pos) & (lengths <= self.longest) & (starts >= 0) & (ends <= size)
        if self.margin:
            asked &= (starts >= self.margin) & (pos + self.margin <= size)
        order = np.flatnonzero(asked)[np.argsort(starts[asked], kind="stable")]
        first = np.frombuffer(b"".join(refs).translate(_CODES), dtype=np.uint8)[np.cumsum(lengths) - lengths]
        fits: Bool[np.ndarray, " variants"] = np.zeros(len(pos), dtype=bool)
        for group in np.split(order, np.flatnonzero(np.diff(starts[order]) > _GAP) + 1):
            if not group.size:
                continue
            low = int(starts[group[0]])
            bases = self.genome.fetch(contig, low, int(ends[group].max()))
            fits[group] = bases[starts[group] - low] == first[group]
            held = bases.tobytes()
            for one in group[lengths[group] > 1].tolist():
                fits[one] = held.startswith(refs[one].translate(_CODES), int(starts[one]) - low)
        return np.flatnonzero(fits).tolist()
