"""Does the reference allele stand in the genome? Rows where it does not are refused, counted and named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.sequence import N_CODE, decode, encode, reverse_complement
from meta_spliceai.splice_engine.genome.source import SequenceSource
from meta_spliceai.splice_engine.variants.coverage import Coverage

NO_CONTIG = "contig not in genome"
NO_SEQUENCE = "no reference sequence at the variant"
MISMATCH = "reference mismatch"

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

    Args:
        table: a variant table (see `variants.table`).
        genome: where the bases come from.

    Raises:
        InputError: no contig of the table is in the genome, or so many rows mismatch that the table belongs to
            another build or has its alleles on the gene's strand; the message says which of the two it looks like.
    """
    reasons, coverage = compare_reference(table, genome)
    return table[reasons == ""].reset_index(drop=True), coverage


def compare_reference(
    table: pd.DataFrame, genome: SequenceSource, numbers: Sequence[int] | None = None
) -> tuple[np.ndarray, Coverage]:
    """For every row the reason why its reference allele is not the genome's (empty where it is), and the account.

    Args:
        table, genome: as `check_reference`.
        numbers: what the account calls the rows, where they are not 1, 2, 3 …

    Raises:
        InputError: as `check_reference`.
    """
    coverage = Coverage(len(table))
    reasons = np.full(len(table), "", dtype=object)
    if table.empty:
        return reasons, coverage
    known, first_error = _known_contigs(table, genome)
    if not known:
        raise InputError(f"none of the table's contigs is in the genome: {first_error}")

    lost: dict[str, list[str]] = {NO_CONTIG: [], NO_SEQUENCE: [], MISMATCH: []}
    complemented = 0
    source = Path(genome.name).name  # the account stands in results, which do not say where their maker keeps files
    called = range(1, len(table) + 1) if numbers is None else numbers
    columns = zip(called, table["variant_id"], table["chrom"], table["pos"], table["ref"], table["alt"], strict=True)
    for at, (number, name, chrom, pos, ref, alt) in enumerate(columns):
        words = f"row {number}: {name} ({chrom}:{pos} {ref}>{alt})"
        if chrom not in known:
            reasons[at] = NO_CONTIG
            lost[NO_CONTIG].append(words)
            continue
        expected = encode(ref)
        found = genome.fetch(known[chrom], pos - 1, pos - 1 + len(ref))
        if np.array_equal(expected, found):
            continue
        if (found == N_CODE).any():
            reasons[at] = NO_SEQUENCE
            lost[NO_SEQUENCE].append(f"{words} has {decode(found)} in {source}")
        else:
            reasons[at] = MISMATCH
            complemented += np.array_equal(reverse_complement(expected), found)
            lost[MISMATCH].append(f"{words} expects {ref}, {source} ({genome.build}) has {decode(found)}")
    for reason, rows in lost.items():
        coverage.leave_out(reason, rows)
    _refuse_wrong_table(len(lost[MISMATCH]), int((reasons == "").sum()), complemented, lost[MISMATCH], genome)
    return reasons, coverage


def _known_contigs(table: pd.DataFrame, genome: SequenceSource) -> tuple[dict[str, str], str]:
    """The genome's name of each of the table's contigs it has, and the first complaint about one it has not."""
    known: dict[str, str] = {}
    complaint = ""
    for chrom in table["chrom"].unique():
        try:
            known[chrom] = genome.resolve(chrom)
        except InputError as error:
            complaint = complaint or str(error)
    return known, complaint


def _refuse_wrong_table(
    mismatches: int, matches: int, complemented: int, examples: list[str], genome: SequenceSource
) -> None:
    """Raise when the mismatches are the table's fault and not single rows'."""
    checked = mismatches + matches
    if mismatches < MISMATCHES_THAT_TELL or mismatches <= MANY_MISMATCHES * checked:
        return
    if complemented > 0.9 * mismatches:
        remedy = "the alleles look like those of the gene's strand: write ref and alt on the plus strand"
    else:
        remedy = f"the table looks like another build than {genome.build}: name the right one, or lift it over"
    raise InputError(f"{mismatches} of {checked} reference alleles mismatch, first {examples[0]}; {remedy}")
