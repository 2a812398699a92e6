"""From one build's coordinates to another's, through a UCSC chain file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.read_hostile import text_lines
from meta_spliceai.splice_engine.genome.annotation import bare_contig
from meta_spliceai.splice_engine.genome.sequence import decode, encode, reverse_complement
from meta_spliceai.splice_engine.variants.coverage import Coverage
from meta_spliceai.splice_engine.variants.table import as_variant_table, describe

NO_PLACE = "no place in the other build"
BROKEN_UP = "reference allele is broken up in the other build"


class Lifted(NamedTuple):
    """A variant in the other build: contig without "chr", 1-based position, alleles on that build's plus strand, and
    whether that reads like the old one."""

    chrom: str
    pos: int
    ref: str
    alt: str
    forward: bool


class Chain:
    """Aligned blocks of two builds, as in a UCSC chain file (https://genome.ucsc.edu/goldenPath/help/chain.html).

    Where several chains cover a base, the one with the highest score is meant.

    Args:
        path: the file (`.chain`, plain or gzipped), from the old build to the new one.
        backward: lead from the new build to the old one instead.

    Raises:
        InputError: no such file, or no chain file (with the line).
        IntegrityError: truncated: a chain's blocks do not add up to its length (with the line).
    """

    def __init__(self, path: Path, *, backward: bool = False) -> None:
        rows: dict[str, list[tuple[int, ...]]] = {}  # old start, old end, new base, direction, score, new contig
        names: dict[str, int] = {}
        for chrom, start, end, new_name, new_base, direction, score in _blocks(Path(path)):
            if backward:
                last = new_base + direction * (end - start - 1)
                start, end, new_base = (
                    min(new_base, last), max(new_base, last) + 1, start if direction > 0 else end - 1
                )  # fmt: skip
                chrom, new_name = new_name, chrom
            number = names.setdefault(new_name, len(names))
            rows.setdefault(chrom, []).append((start, end, new_base, direction, score, number))
        self._names = list(names)
        self._blocks: dict[str, np.ndarray] = {}
        self._reach: dict[str, np.ndarray] = {}  # farthest end of this block and all before it
        for chrom, blocks in rows.items():
            table = np.array(blocks, dtype=np.int64)
            self._blocks[chrom] = table[np.argsort(table[:, 0], kind="stable")]
            self._reach[chrom] = np.maximum.accumulate(self._blocks[chrom][:, 1])

    def lift(self, chrom: str, pos: int) -> tuple[str, int, str] | None:
        """A 1-based position of the old build in the new one.

        Returns:
            contig without "chr", 1-based position, and "+" or "-" (the new build's strand that reads like the old plus
            strand); None where the base has no counterpart.
        """
        blocks = self._blocks.get(bare_contig(chrom))
        if blocks is None:
            return None
        at, reach = pos - 1, self._reach[bare_contig(chrom)]
        number = int(np.searchsorted(blocks[:, 0], at, side="right")) - 1
        holding = []
        while number >= 0 and reach[number] > at:
            if blocks[number, 1] > at:
                holding.append(blocks[number])
            number -= 1
        if not holding:
            return None
        start, _, new_base, direction, _, name = max(holding, key=lambda block: int(block[4]))
        lifted = int(new_base + direction * (at - start))
        return self._names[int(name)], lifted + 1, "+" if direction > 0 else "-"

    def lift_allele(self, chrom: str, pos: int, ref: str, alt: str) -> Lifted | str:
        """A variant (1-based, plus strand) in the new build, its alleles turned where that reads the other way round.

        Returns:
            the variant, or why there is none: `NO_PLACE`, or `BROKEN_UP` where the bases of `ref` are apart there.
        """
        first = self.lift(chrom, pos)
        last = first if len(ref) == 1 else self.lift(chrom, pos + len(ref) - 1)
        if first is None or last is None:
            return NO_PLACE
        forward = first[2] == "+"
        if (last[0], last[2]) != (first[0], first[2]) or last[1] - first[1] != (len(ref) - 1) * (1 if forward else -1):
            return BROKEN_UP
        if not forward:
            ref, alt = (decode(reverse_complement(encode(allele))) for allele in (ref, alt))
        return Lifted(first[0], min(first[1], last[1]), ref, alt, forward)


def _blocks(path: Path) -> list[tuple[str, int, int, str, int, int, int]]:
    """Old contig, old start and end (0-based half-open), new contig, new index of the block's first base (plus strand,
    0-based), +1 or -1, score; one tuple a block."""
    if not path.is_file():
        raise InputError(f"no chain file at {path}; UCSC has hg19ToHg38.over.chain.gz")
    found: list[tuple[str, int, int, str, int, int, int]] = []
    header: list[str] = []
    old = new = 0
    number = 0
    for number, line in enumerate(text_lines(path, encoding="ascii"), start=1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        try:
            if fields[0] == "chain":
                if header:
                    raise IntegrityError(f"{path}, line {number}: the chain before ends without its last block")
                header, old, new = fields, int(fields[5]), int(fields[10])
                if len(fields) < 12 or fields[4] != "+" or fields[9] not in "+-":
                    raise ValueError(line)
                continue
            size, *gaps = (int(field) for field in fields)
            if not header or len(gaps) not in (0, 2):
                raise ValueError(line)
        except (ValueError, IndexError) as error:
            raise InputError(f"{path}, line {number}: '{line[:60]}' is no line of a chain file") from error
        forward = header[9] == "+"
        first = new if forward else int(header[8]) - 1 - new
        found.append(
            (
                bare_contig(header[2]), old, old + size, bare_contig(header[7]), first, 1 if forward else -1,
                int(header[1]),
            )
        )  # fmt: skip
        old, new = old + size, new + size
        if gaps:
            old, new = old + gaps[0], new + gaps[1]
            continue
        if (old, new) != (int(header[6]), int(header[11])):
            raise IntegrityError(f"{path}, line {number}: the blocks of this chain do not add up to its length")
        header = []
    if header:
        raise IntegrityError(f"{path} ends within a chain (line {number}); get it anew")
    if not found:
        raise InputError(f"{path} holds no chain")
    return found


def lift_over(table: pd.DataFrame, chain: Chain) -> tuple[pd.DataFrame, Coverage]:
    """The variants in the chain's new build.

    Position, alleles and the exon's two sites are lifted. Where the new build reads the other way round, alleles are
    reverse-complemented and the gene's strand is turned. Sites without a counterpart become unknown. Contigs are
    written without "chr". The result's reference alleles must still be compared with the new genome (`allele_check`):
    a base may differ between builds.

    Reasons for leaving out: "no place in the other build", "reference allele is broken up in the other build".
    """
    coverage = Coverage(len(table))
    places = zip(table["chrom"], table["pos"], table["ref"], table["alt"], strict=True)
    found = [chain.lift_allele(*place) for place in places]
    for reason in (NO_PLACE, BROKEN_UP):
        coverage.leave_out(reason, [describe(table.iloc[at]) for at, one in enumerate(found) if one == reason])
    kept = table[[isinstance(one, Lifted) for one in found]]
    there = [one for one in found if isinstance(one, Lifted)]
    turned = {"+": "-", "-": "+"}
    return as_variant_table(
        kept.assign(
            **{column: [getattr(one, column) for one in there] for column in ("chrom", "pos", "ref", "alt")},
            strand=[own if one.forward else turned[own] for own, one in zip(kept["strand"], there, strict=True)],
            **{column: _sites(kept, column, there, chain) for column in ("acceptor_pos", "donor_pos")},
        ),
        "lifted-over variants",
    ), coverage


def _sites(rows: pd.DataFrame, column: str, there: list[Lifted], chain: Chain) -> pd.Series:
    """A site of each variant's exon in the new build; unknown where it has no place on the variant's contig."""
    sites: list[int | None] = []
    for chrom, site, variant in zip(rows["chrom"], rows[column], there, strict=True):
        place = None if pd.isna(site) else chain.lift(chrom, int(site))
        sites.append(place[1] if place is not None and place[0] == variant.chrom else None)
    return pd.Series(sites, index=rows.index, dtype="Int64")
