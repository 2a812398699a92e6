"""Checks reference alleles against the genome (mismatching rows are refused, counted and listed), merges rows that
measure the same allele, and lifts alleles over to another build with a UCSC chain file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.read_hostile import text_lines
from meta_spliceai.splice_engine.genome.annotation import bare_contig
from meta_spliceai.splice_engine.genome.sequence import N_CODE, SequenceSource, decode, encode, reverse_complement
from meta_spliceai.splice_engine.variants.table import CONFLICTING, UNKNOWN, Coverage, as_variant_table, describe

NO_CONTIG = "contig not in genome"
NO_SEQUENCE = "no reference sequence at the variant"
MISMATCH = "reference mismatch"
SAME_ALLELE = "same allele as another row (merged with it)"

MANY_MISMATCHES = 0.3
"""Share of mismatches above which the table as a whole is refused. Single rows go wrong through typing errors, a few in
a thousand; a table of another build, or with alleles on the gene's strand, goes wrong in half of its rows or more."""

MISMATCHES_THAT_TELL = 20
"""No verdict over the whole table from fewer mismatches than this."""


def check_reference(table: pd.DataFrame, genome: SequenceSource) -> tuple[pd.DataFrame, Coverage]:
    """The rows whose reference allele is what the genome has at `pos`, and the account of the others.

    Reasons: "contig not in genome", "no reference sequence at the variant" (N, as in a sparse genome between its
    regions), "reference mismatch" (each example names row, expected and found bases). Rows keep their order and get a
    fresh index; `chrom` is left as the table writes it.

    Raises:
        InputError: no contig of the table is in the genome, or so many rows mismatch that the table belongs to
            another build or has its alleles on the gene's strand; the message says which of the two it looks like.
    """
    reasons, coverage = compare_reference(table, genome)
    if len(table) and (reasons == NO_CONTIG).all():
        try:
            genome.resolve(table["chrom"].iloc[0])
        except InputError as error:
            raise InputError(f"none of the table's contigs is in the genome: {error}") from error
    return table[reasons == ""].reset_index(drop=True), coverage


def compare_reference(
    table: pd.DataFrame, genome: SequenceSource, numbers: Sequence[int] | None = None
) -> tuple[np.ndarray, Coverage]:
    """For every row the reason why its reference allele is not the genome's (empty where it is), and the account, which
    calls the rows by `numbers` (1, 2, 3 … without); InputError: so many rows mismatch that the table belongs to another
    build or has its alleles on the gene's strand."""
    coverage = Coverage(len(table))
    known: dict[str, str] = {}
    for chrom in table["chrom"].unique():
        with suppress(InputError):
            known[chrom] = genome.resolve(chrom)
    found_reasons, complemented = [], 0
    lost: dict[str, list[str]] = {NO_CONTIG: [], NO_SEQUENCE: [], MISMATCH: []}
    source = Path(genome.name).name  # the account stands in results, which do not say where their maker keeps files
    called = range(1, len(table) + 1) if numbers is None else numbers
    columns = zip(called, table["variant_id"], table["chrom"], table["pos"], table["ref"], table["alt"], strict=True)
    for number, name, chrom, pos, ref, alt in columns:
        expected, reason, told = encode(ref), "", ""
        if chrom not in known:
            reason = NO_CONTIG
        elif not np.array_equal(expected, found := genome.fetch(known[chrom], pos - 1, pos - 1 + len(ref))):
            if (found == N_CODE).any():
                reason, told = NO_SEQUENCE, f" has {decode(found)} in {source}"
            else:
                reason, told = MISMATCH, f" expects {ref}, {source} ({genome.build}) has {decode(found)}"
                complemented += np.array_equal(reverse_complement(expected), found)
        found_reasons.append(reason)
        if reason:
            lost[reason].append(f"row {number}: {name} ({chrom}:{pos} {ref}>{alt}){told}")
    for reason, rows in lost.items():
        coverage.leave_out(reason, rows)
    reasons = np.array(found_reasons, dtype=object)
    mismatches, checked = len(lost[MISMATCH]), int(np.isin(reasons, ("", MISMATCH)).sum())
    if mismatches >= MISMATCHES_THAT_TELL and mismatches > MANY_MISMATCHES * checked:
        remedy = f"the table looks like another build than {genome.build}: name the right one, or lift it over"
        if complemented > 0.9 * mismatches:
            remedy = "the alleles look like those of the gene's strand: write ref and alt on the plus strand"
        first = lost[MISMATCH][0]
        raise InputError(f"{mismatches} of {checked} reference alleles mismatch, first {first}; {remedy}")
    return reasons, coverage


def allele_keys(table: pd.DataFrame) -> pd.Series:
    """One text per allele: contig without "chr", position, alleles with the bases they share at either end cut off.

    Cutting makes "CTG>CTA at 5" and "G>A at 7" equal. Insertions and deletions in repeats are not shifted: that needs
    the genome, and readers of such sources get them as the source aligned them.
    """
    keys = []
    columns = zip(table["chrom"], table["pos"], table["ref"], table["alt"], table["strand"], strict=True)
    for chrom, start, *alleles, strand in columns:
        pos, ref, alt = trimmed(int(start), *alleles)
        keys.append(f"{bare_contig(chrom)}:{pos}:{ref}>{alt}:{strand}")
    return pd.Series(keys, index=table.index, name="allele")


def trimmed(pos: int, ref: str, alt: str, least: int = 0) -> tuple[int, str, str]:
    """Position and alleles without the bases that both share at their ends; `least`: bases that either keeps."""
    while min(len(ref), len(alt)) > least and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    while min(len(ref), len(alt)) > least and ref[0] == alt[0]:
        pos, ref, alt = pos + 1, ref[1:], alt[1:]
    return pos, ref, alt


def merge_class(classes: Iterable[str]) -> str:
    """The class of an allele measured several times: the one class all measurements agree on, else Conflicting.

    Unknown is no measurement and gives way to any other class.
    """
    told = set(classes) - {UNKNOWN}
    return next(iter(told)) if len(told) == 1 else CONFLICTING if told else UNKNOWN


def merge_alleles(table: pd.DataFrame, where: str) -> tuple[pd.DataFrame, Coverage]:
    """Rows with the same allele on the same strand as one row, in order of first appearance, of a table of one source
    or of several put together (with unique names); `where`: the sources in words.

    The merged row has the first row's name and place, the class of `merge_class`, and the sources and methods of all.
    Its effect is the mean if all are of one source, the only one known if there is just one, and otherwise NaN: the
    units of different sources cannot be averaged. Extra columns are those of the first row; `measurements` counts the
    rows that were merged (a table that has the column already is counted on).
    """
    coverage = Coverage(len(table))
    keys = allele_keys(table)
    repeated = keys.duplicated()
    named = zip(table["variant_id"][repeated], keys[repeated], strict=True)
    coverage.leave_out(SAME_ALLELE, [f"{name} ({key})" for name, key in named])
    merged = table[~repeated].copy()
    before = table["measurements"] if "measurements" in table else pd.Series(1, index=table.index)
    merged["measurements"] = before.groupby(keys).transform("sum")[~repeated].to_numpy()
    several = table[keys.duplicated(keep=False)]
    for _, rows in several.groupby(keys[several.index], sort=False):
        first = rows.index[0]
        merged.loc[first, "classification"] = merge_class(rows["classification"])
        effects = rows["effect"].dropna()
        comparable = len(effects) == 1 or len(set(rows["source"])) == 1
        merged.loc[first, "effect"] = effects.mean() if comparable else float("nan")
        for column in ("source", "method"):
            words = [word for text in rows[column] for word in text.split(",") if word]
            merged.loc[first, column] = ",".join(dict.fromkeys(words))
        for column in ("acceptor_pos", "donor_pos"):
            known = rows[column].dropna()
            merged.loc[first, column] = known.iloc[0] if len(known) else pd.NA
    return as_variant_table(merged, where), coverage


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
        InputError: no such file.
        IntegrityError: truncated, or no chain file.
    """

    def __init__(self, path: Path, *, backward: bool = False) -> None:
        rows: dict[str, list[tuple[int, ...]]] = {}  # old start, old end, new base, direction, score, new contig
        names: dict[str, int] = {}
        for chrom, start, end, new_name, new_base, direction, score in _blocks(Path(path)):
            if backward:
                last = new_base + direction * (end - start - 1)
                first = start if direction > 0 else end - 1
                start, end, new_base = min(new_base, last), max(new_base, last) + 1, first
                chrom, new_name = new_name, chrom
            number = names.setdefault(new_name, len(names))
            rows.setdefault(chrom, []).append((start, end, new_base, direction, score, number))
        self._names = list(names)
        self._blocks = {chrom: np.array(blocks, dtype=np.int64) for chrom, blocks in rows.items()}

    def lift(self, chrom: str, pos: int) -> tuple[str, int, str] | None:
        """A 1-based position of the old build in the new one.

        Returns:
            contig without "chr", 1-based position, and "+" or "-" (the new build's strand that reads like the old plus
            strand); None where the base has no counterpart.
        """
        blocks = self._blocks.get(bare_contig(chrom), np.empty((0, 6), dtype=np.int64))
        at = pos - 1
        holding = blocks[(blocks[:, 0] <= at) & (at < blocks[:, 1])]
        if not len(holding):
            return None
        start, _, new_base, direction, _, name = holding[holding[:, 4].argmax()]
        lifted = int(new_base + direction * (at - start))
        return self._names[int(name)], lifted + 1, "+" if direction > 0 else "-"

    def lift_allele(self, chrom: str, pos: int, ref: str, alt: str) -> Lifted | str:
        """A variant (1-based, plus strand) in the new build, its alleles turned where that reads the other way round;
        or why there is none: `NO_PLACE`, or `BROKEN_UP` where the bases of `ref` are apart there."""
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
    old = new = number = 0
    try:
        for line in text_lines(path, encoding="ascii"):
            number, fields = number + 1, line.split()
            if not fields or fields[0].startswith("#"):
                continue
            if fields[0] == "chain" and not header:
                if fields[4] != "+" or fields[9] not in ("+", "-"):
                    raise ValueError("a chain goes from the plus strand to one of the two")
                header, old, new = fields, int(fields[5]), int(fields[10])
                continue
            size, *gaps = (int(field) for field in fields)
            direction = 1 if header[9] == "+" else -1
            first = new if direction > 0 else int(header[8]) - 1 - new
            old_place = bare_contig(header[2]), old, old + size
            found.append((*old_place, bare_contig(header[7]), first, direction, int(header[1])))
            old_gap, new_gap = gaps or (0, 0)
            old, new = old + size + old_gap, new + size + new_gap
            if not gaps:
                if (old, new) != (int(header[6]), int(header[11])):
                    raise ValueError("the blocks of a chain add up to its length")
                header = []
    except (ValueError, IndexError) as error:
        raise IntegrityError(f"{path}, line {number}: this is no chain file, or it is damaged; get it anew") from error
    if header or not found:
        raise IntegrityError(f"{path} ends within a chain, or holds none; get it anew")
    return found


def lift_over(table: pd.DataFrame, chain: Chain) -> tuple[pd.DataFrame, Coverage]:
    """The variants in the chain's new build.

    Position, alleles and the exon's two sites are lifted. Where the new build reads the other way round, alleles are
    reverse-complemented and the gene's strand is turned. Sites without a counterpart become unknown. Contigs are
    written without "chr". The result's reference alleles must still be compared with the new genome
    (`check_reference`): a base may differ between builds.

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
