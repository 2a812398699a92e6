"""One row an allele: measurements of the same allele become one row, and a disagreement becomes Conflicting."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from meta_spliceai.splice_engine.genome.annotation import bare_contig
from meta_spliceai.splice_engine.variants.coverage import Coverage
from meta_spliceai.splice_engine.variants.table import CONFLICTING, UNKNOWN, as_variant_table

SAME_ALLELE = "same allele as another row (merged with it)"


def allele_keys(table: pd.DataFrame) -> pd.Series:
    """One text an allele: contig without "chr", position, alleles with the bases they share at either end cut off.

    Cutting makes "CTG>CTA at 5" and "G>A at 7" equal. Insertions and deletions in repeats are not shifted: that needs
    the genome, and readers of such sources get them as the source aligned them.
    """
    keys = []
    columns = zip(table["chrom"], table["pos"], table["ref"], table["alt"], table["strand"], strict=True)
    for chrom, start, ref, alt, strand in columns:
        pos = int(start)
        while ref and alt and ref[-1] == alt[-1]:
            ref, alt = ref[:-1], alt[:-1]
        while ref and alt and ref[0] == alt[0]:
            ref, alt, pos = ref[1:], alt[1:], pos + 1
        keys.append(f"{bare_contig(chrom)}:{pos}:{ref}>{alt}:{strand}")
    return pd.Series(keys, index=table.index, name="allele")


def merge_class(classes: Iterable[str]) -> str:
    """The class of an allele measured several times: the one class all measurements agree on, else Conflicting.

    Unknown is no measurement and gives way to any other class.
    """
    told = set(classes) - {UNKNOWN}
    return next(iter(told)) if len(told) == 1 else CONFLICTING if told else UNKNOWN


def merge_alleles(table: pd.DataFrame, where: str) -> tuple[pd.DataFrame, Coverage]:
    """Rows with the same allele on the same strand as one row, in order of first appearance.

    The merged row has the first row's name and place, the class of `merge_class`, and the sources and methods of all.
    Its effect is the mean if all are of one source, the only one known if there is just one, and otherwise NaN: the
    units of different sources cannot be averaged. Extra columns are those of the first row; `measurements` counts the
    rows that were merged (a table that has the column already is counted on).

    Args:
        table: a variant table, of one source or of several put together (with unique names).
        where: the sources in words, for messages.
    """
    coverage = Coverage(len(table))
    keys = allele_keys(table)
    repeated = keys.duplicated()
    coverage.leave_out(
        SAME_ALLELE,
        [f"{name} ({key})" for name, key in zip(table["variant_id"][repeated], keys[repeated], strict=True)],
    )
    merged = table[~repeated].copy()
    counts = keys.map(keys.value_counts())
    before = table["measurements"] if "measurements" in table else pd.Series(1, index=table.index)
    merged["measurements"] = before.groupby(keys).transform("sum")[~repeated].to_numpy()
    several = table[counts.to_numpy() > 1]
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
