"""The one variant table: a pandas frame with one schema, whatever the source."""

from __future__ import annotations

import pandas as pd

from meta_spliceai.errors import InputError

SPLICE_ALTERING = "Splice-altering"
LOW_FREQUENCY = "Low-frequency"
NORMAL = "Normal"
CONFLICTING = "Conflicting"
UNKNOWN = "Unknown"
"""Class of a variant that nobody has measured (a VCF to be scored)."""

CLASSES = (SPLICE_ALTERING, LOW_FREQUENCY, NORMAL, CONFLICTING, UNKNOWN)

SCHEMA: dict[str, str] = {
    "variant_id": "unique name within the table",
    "chrom": "contig as its source names it",
    "pos": "1-based position of the first reference base, plus strand",
    "ref": "reference allele, plus strand, A/C/G/T",
    "alt": "alternative allele, plus strand, A/C/G/T",
    "strand": "strand of the gene, + or -",
    "gene": "gene symbol or identifier; empty where the source has none",
    "classification": "SpliceVarDB's class of the measured effect (see CLASSES)",
    "effect": "measured effect, signed, negative = less of the normal product (unit: the data set's own); NaN if none",
    "source": "data set or publication the measurement comes from",
    "method": "assay",
    "group": "what must not be shared between training and test (gene, exon, mutated position)",
    "acceptor_pos": "1-based position of the tested exon's first base in transcript order; <NA> if not known",
    "donor_pos": "1-based position of the tested exon's last base in transcript order; <NA> if not known",
}
"""Column: meaning. Readers may add columns of their own; these are always there, in this order, first."""

_TEXT = ("variant_id", "chrom", "ref", "alt", "strand", "gene", "classification", "source", "method", "group")
_OPTIONAL = {"acceptor_pos": pd.NA, "donor_pos": pd.NA, "effect": float("nan")}


def as_variant_table(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """The frame with the schema's columns first, in the schema's types, and a fresh index.

    Args:
        frame: at least the schema's columns; `effect`, `acceptor_pos` and `donor_pos` may be absent (unknown).
        where: the source in words, for messages.

    Raises:
        InputError: a missing column, a duplicated `variant_id`, a position below 1, an allele not made of A, C, G, T,
            ref equal to alt, a strand other than + and -, an unknown class. The first offending row is named.
    """
    table = frame.copy()
    for column, default in _OPTIONAL.items():
        if column not in table:
            table[column] = default
    missing = [column for column in SCHEMA if column not in table]
    if missing:
        raise InputError(f"{where}: column {', '.join(missing)} missing; found {', '.join(map(str, frame.columns))}")
    table = table[[*SCHEMA, *[column for column in table if column not in SCHEMA]]].reset_index(drop=True)
    for column in _TEXT:
        table[column] = table[column].astype("string").fillna("").astype(object)
    table["pos"] = table["pos"].astype("int64")
    table["effect"] = table["effect"].astype("float64")
    table["acceptor_pos"] = table["acceptor_pos"].astype("Int64")
    table["donor_pos"] = table["donor_pos"].astype("Int64")

    def refuse(bad: pd.Series, column: str, rule: str) -> None:
        if bad.any():
            row = table.loc[bad.idxmax()]
            raise InputError(
                f"{where}: {int(bad.sum())} rows with a bad {column}, first at row {bad.idxmax() + 1} "
                f"({row['variant_id']}): '{row[column]}'; {rule}"
            )

    refuse(table["variant_id"].duplicated(), "variant_id", "names must be unique")
    refuse(table["pos"] < 1, "pos", "positions are 1-based")
    for column in ("ref", "alt"):
        refuse(~table[column].str.fullmatch("[ACGT]+"), column, "alleles are made of A, C, G, T")
    refuse(table["ref"] == table["alt"], "alt", "it must differ from ref")
    refuse(~table["strand"].isin(["+", "-"]), "strand", "it is + or -")
    refuse(~table["classification"].isin(CLASSES), "classification", f"classes are {', '.join(CLASSES)}")
    return table


def describe(row: pd.Series) -> str:
    """One variant in words: name and alleles, for messages and coverage examples."""
    return f"{row['variant_id']} ({row['chrom']}:{row['pos']} {row['ref']}>{row['alt']})"
