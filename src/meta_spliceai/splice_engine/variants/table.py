"""The variant table (a pandas frame with the same schema for every source), the account of every row, and the windows
around its variants: reference and alternative bases, in transcript orientation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int, UInt8

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.sequence import N_CODE, SequenceSource, encode, reverse_complement

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
_NUMBERS = {"pos": "int64", "effect": "float64", "acceptor_pos": "Int64", "donor_pos": "Int64"}
_OPTIONAL = {"acceptor_pos": pd.NA, "donor_pos": pd.NA, "effect": float("nan")}

EXAMPLES_KEPT = 5


def as_variant_table(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """The frame with the schema's columns first, in the schema's types, and a fresh index; `effect`, `acceptor_pos` and
    `donor_pos` may be absent (unknown). `where`: the source in words, for messages.

    Raises:
        InputError: a missing column, a duplicated `variant_id`, a position that is no whole number or below 1, an
            allele not made of A, C, G, T, ref equal to alt, a strand other than + and -, an unknown class. The first
            offending row is named.
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

    def refuse(bad: pd.Series, column: str, rule: str) -> None:
        if bad.any():
            row = table.loc[bad.idxmax()]
            raise InputError(
                f"{where}: {int(bad.sum())} rows with a bad {column}, first at row {bad.idxmax() + 1} "
                f"({row['variant_id']}): '{row[column]}'; {rule}"
            )

    refuse(table["variant_id"].duplicated(), "variant_id", "names must be unique")
    pos = pd.to_numeric(table["pos"], errors="coerce").astype("float64")
    refuse(~(pos.between(1, 2**53) & (pos % 1 == 0)), "pos", "positions are whole numbers, 1-based")
    for column, kind in _NUMBERS.items():
        table[column] = table[column].astype(kind)
    for column in ("ref", "alt"):
        refuse(~table[column].str.fullmatch("[ACGT]+"), column, "alleles are made of A, C, G, T")
    refuse(table["ref"] == table["alt"], "alt", "it must differ from ref")
    refuse(~table["strand"].isin(["+", "-"]), "strand", "it is + or -")
    refuse(~table["classification"].isin(CLASSES), "classification", f"classes are {', '.join(CLASSES)}")
    return table


def describe(row: pd.Series) -> str:
    return f"{row['variant_id']} ({row['chrom']}:{row['pos']} {row['ref']}>{row['alt']})"


@dataclass
class Coverage:
    """The account of a table's rows. `read == used + left out` always holds.

    Attributes:
        examples: up to five rows in words for each reason, so that a user can find them in the source.
    """

    read: int
    left_out: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def used(self) -> int:
        return self.read - sum(self.left_out.values())

    def leave_out(self, reason: str, rows: Iterable[str]) -> None:
        """Count rows under a reason; each row is one line that names it and says what is wrong with it."""
        lines = list(rows)
        if len(lines) > self.used:
            raise ValueError(f"{len(lines)} rows left out as '{reason}', but only {self.used} remain")
        self.add(reason, len(lines), lines)

    def add(self, reason: str, count: int, examples: list[str]) -> None:
        """Count rows under a reason, with examples."""
        if count:
            self.left_out[reason] = self.left_out.get(reason, 0) + count
            kept = self.examples.setdefault(reason, [])
            kept.extend(examples[: EXAMPLES_KEPT - len(kept)])

    def then(self, later: Coverage) -> Coverage:
        if later.read != self.used:
            raise ValueError(f"the later step read {later.read} rows, but {self.used} were handed on")
        joined = Coverage(self.read, dict(self.left_out), {k: list(v) for k, v in self.examples.items()})
        for reason, count in later.left_out.items():
            joined.add(reason, count, later.examples.get(reason, []))
        return joined

    def to_frame(self) -> pd.DataFrame:
        lines = [("read", self.read), *self.left_out.items(), ("used", self.used)]
        return pd.DataFrame(lines, columns=["rows", "count"])

    @classmethod
    def from_json(cls, account: Mapping[str, Any]) -> Coverage:
        examples = {reason: list(lines) for reason, lines in account["examples"].items()}
        return cls(account["read"], dict(account["left_out"]), examples)

    def to_json(self) -> dict[str, object]:
        return {"read": self.read, "used": self.used, "left_out": self.left_out, "examples": self.examples}


@dataclass(frozen=True)
class Windows:
    """Windows of one length, one row per variant, in the table's order: codes (A 0, C 1, G 2, T 3, N 4) in transcript
    orientation, the base at `pos` at index length // 2."""

    ref: UInt8[np.ndarray, "variants length"]
    alt: UInt8[np.ndarray, "variants length"]

    def __len__(self) -> int:
        return len(self.ref)

    @property
    def length(self) -> int:
        return self.ref.shape[1]

    @property
    def real_bases(self) -> Int[np.ndarray, " variants"]:
        """How many bases of each reference window are known (not N)."""
        return (self.ref < N_CODE).sum(axis=1)


def build_windows(table: pd.DataFrame, genome: SequenceSource, length: int) -> Windows:
    """Cut the windows (of an odd number of bases) of every variant.

    On the plus strand, with h = length // 2: the reference window is [pos - 1 - h, pos + h) (0-based, half-open); the
    alternative one is the h bases before `pos`, the alternative allele, then the bases behind the reference allele,
    cut to `length`: a deletion pulls further bases in, an insertion pushes bases out. Both are then
    reverse-complemented for genes on the minus strand, which leaves the base at `pos` at index h. N stands where the
    sequence runs out. The reference allele is not compared with the genome here: `check_reference` does that.

    Raises:
        InputError: an even or non-positive length, or a contig the genome lacks.
    """
    if length < 1 or length % 2 == 0:
        raise InputError(f"a window's length must be odd and positive, so that the variant is at its centre: {length}")
    half = length // 2
    ref = np.empty((len(table), length), dtype=np.uint8)
    alt = np.empty_like(ref)
    contig_of = {chrom: genome.resolve(chrom) for chrom in table["chrom"].unique()}
    alleles = {allele: encode(allele) for allele in table["alt"].unique()}
    columns = zip(table["chrom"], table["pos"], table["ref"], table["alt"], strict=True)
    for at, (chrom, pos, ref_allele, alt_allele) in enumerate(columns):
        start = pos - 1 - half
        behind = half + len(ref_allele)  # first base behind the reference allele, counted from `start`
        around = genome.fetch(contig_of[chrom], start, start + length + len(ref_allele))
        ref[at] = around[:length]
        alt[at] = np.concatenate([around[:half], alleles[alt_allele], around[behind:]])[:length]
    minus = np.flatnonzero((table["strand"] == "-").to_numpy())
    for rows in np.array_split(minus, max(1, len(minus) * length // 20_000_000)):  # bounded extra memory
        ref[rows] = reverse_complement(ref[rows])
        alt[rows] = reverse_complement(alt[rows])
    return Windows(ref, alt)
