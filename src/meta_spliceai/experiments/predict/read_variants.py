"""New variants from a VCF, a BCF or a table, one row per allele; an unusable allele has its reason."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from meta_spliceai.errors import InputError, shown
from meta_spliceai.read_hostile import LARGEST_TABLE, LONGEST_LINE, one_error, text_lines
from meta_spliceai.splice_engine.base_layer.vcf.info_field import Reason, reason_of_allele
from meta_spliceai.splice_engine.base_layer.vcf.reader import reopened
from meta_spliceai.splice_engine.base_layer.vcf.text import BLOCK_RECORDS, Block, TextVariants
from meta_spliceai.splice_engine.genome.annotation import NO_GENE, GeneAnnotation, find_tested_exon
from meta_spliceai.splice_engine.variants.table import UNKNOWN, as_variant_table

NEEDED = ("chrom", "pos", "ref", "alt")
OPTIONAL = ("strand", "gene", "variant_id")
SITES = ("acceptor_pos", "donor_pos")
SAME = "ref equals alt"
NO_STRAND = "no strand: give it in the table, or genes with --annotation"
OTHER_GENE = "the gene named is not there in the annotation"
OTHER_STRAND = "no gene there on the strand given"

_POSITION = "[1-9][0-9]{0,11}"
_VCF = (".vcf", ".vcf.gz", ".vcf.bgz", ".bcf")


Row = tuple[int, list[str]]
"""Number of a row's last line in the file, 1-based, and its fields."""


@dataclass(frozen=True)
class TableBlock:
    """Rows of a table that follow one another."""

    variants: TableVariants
    rows: list[Row]

    @cached_property
    def text(self) -> bytes:
        """Their content, by which a run that goes on knows them."""
        return "\n".join("\t".join(fields) for _, fields in self.rows).encode()

    def __len__(self) -> int:
        return len(self.rows)


class TableVariants:
    """The rows of a table, separated by tabs or commas, gzipped or not; `rows` are those that are still to be read."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.rows = self._read(path)
        _, names = next(self.rows, (0, []))
        self.columns = [name.strip() for name in names]
        if missing := [name for name in NEEDED if name not in self.columns]:
            found = ", ".join(self.columns) or "nothing"
            raise InputError(
                f"{path} is read as a table, as its name ends in none of {', '.join(_VCF)}: column "
                f"{', '.join(missing)} missing; found {found}"
            )
        if twice := sorted({name for name in self.columns if self.columns.count(name) > 1}):
            raise InputError(f"{path}: column {', '.join(twice)} stands more than once; leave one of them")

    def _read(self, path: Path) -> Iterator[Row]:
        csv.field_size_limit(LONGEST_LINE)
        lines = text_lines(path, LARGEST_TABLE)
        with one_error(f"{path}, read as a table,"):
            first = next(lines, "")
            form: dict[str, Any] = {"delimiter": "\t" if "\t" in first else ",", "strict": True}
            yield 1, next(csv.reader([first], **form), [])
            reader = csv.reader((f"{line}\n" for line in lines), **form)
            for fields in reader:
                if fields:  # a line break within a cell becomes a space: what is written has a row on every line
                    yield 1 + reader.line_num, [field.replace("\n", " ") for field in fields]

    def placed(self, rows: Iterator[Row]) -> Iterator[tuple[Row, str, int, int]]:
        """Each of some rows, its contig and position, and the one allele that it has."""
        chrom, pos = self.columns.index("chrom"), self.columns.index("pos")
        for number, fields in rows:
            if len(fields) != len(self.columns) or not re.fullmatch(_POSITION, fields[pos]):
                self.frame(TableBlock(self, [(number, fields)]), 0)  # says what is wrong
            yield (number, fields), fields[chrom], int(fields[pos]), 1

    def blocks(self) -> Iterator[TableBlock]:
        """Rows in blocks."""
        while rows := list(islice(self.rows, BLOCK_RECORDS)):
            yield TableBlock(self, rows)

    def frame(self, block: TableBlock, first: int) -> pd.DataFrame:
        """The rows' alleles, numbered from `first` on."""
        for number, fields in block.rows:
            if len(fields) != len(self.columns):
                raise InputError(
                    f"{self.name}, line {number}: {len(fields)} fields where the header has {len(self.columns)} columns"
                )
        index = pd.RangeIndex(first, first + len(block))
        frame = pd.DataFrame([fields for _, fields in block.rows], columns=self.columns, index=index, dtype=str)
        return _checked(frame, [f"{self.name}, line {number}" for number, _ in block.rows])


Variants = TextVariants | TableVariants


def open_file(path: Path) -> Variants:
    """A file of variants, opened: VCF, gzipped VCF or BCF by its name's ending, else a table.

    A table is separated by tabs or commas, gzipped or not: chrom, pos (1-based), ref, alt on the plus strand; strand,
    gene, variant_id if there, and acceptor_pos, donor_pos: first and last base of the tested exon in transcript order.
    """
    if not path.is_file():
        raise InputError(f"no file of variants at {path}")
    return reopened(str(path)) if path.name.lower().endswith(_VCF) else TableVariants(path)


def alleles_of(
    block: Block | TableBlock, annotation: GeneAnnotation | None, first: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every allele of a block and the usable ones; the first allele has the number `first`.

    Returns:
        every allele in order (chrom, pos, ref, alt, strand, gene, reason: empty for usable ones), and the usable ones
        as a variant table whose column `row` says which allele of the file each is.
    """
    if isinstance(block, TableBlock):
        return _with_reasons(block.variants.frame(block, first), annotation, block.variants.name)
    rows: list[tuple[str, int, str, str, str, str, str]] = []
    for record in block:
        name = record.raw.split(b"\t", 3)[2].decode("utf-8", "backslashreplace")
        # A record without alternative alleles (`.`) has nothing to predict, but it is accounted for.
        given = "" if name == "." else name
        rows.extend((record.chrom, record.pos, record.ref, alt, "", "", given) for alt in record.alts or (".",))
    frame = pd.DataFrame(rows, columns=["chrom", "pos", "ref", "alt", *OPTIONAL])
    frame.index = pd.RangeIndex(first, first + len(rows))
    return _with_reasons(frame, annotation, block.variants.name)


def usable_alleles(
    table: pd.DataFrame, annotation: GeneAnnotation | None, where: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """As `alleles_of`, of a table in memory."""
    missing = [name for name in NEEDED if name not in table]
    if missing or table.empty:
        raise InputError(f"{where}: column {', '.join(missing)} missing" if missing else f"{where} holds no variant")
    known = [name for name in (*NEEDED, *OPTIONAL, *SITES) if name in table]
    alleles = table.reset_index(drop=True).assign(**{name: table[name].map(_as_text).to_numpy() for name in known})
    alleles = _checked(alleles, [f"{where}, row {row + 1}" for row in range(len(table))])
    for site in SITES:
        if site in alleles:
            alleles[site] = _numbers(alleles[site])
    return _with_reasons(alleles, annotation, where)


def _as_text(value: Any) -> str:
    """A cell as it would stand in a file."""
    if pd.isna(value):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _numbers(text: pd.Series) -> pd.Series:
    return pd.to_numeric(text.replace("", pd.NA)).astype("Int64")


def _checked(alleles: pd.DataFrame, places: Sequence[str]) -> pd.DataFrame:
    """Rows of text with all columns, positions as numbers; `places` say where each row stands, for messages."""
    for name in OPTIONAL:
        if name not in alleles:
            alleles[name] = ""
    alleles["strand"] = alleles["strand"].replace(".", "")
    allowed = {
        "pos": (_POSITION, "position (a whole number, 1-based, at most 12 digits)"),
        "strand": ("[+-]?", "strand: + or -"),
    }
    allowed |= dict.fromkeys(SITES, (f"({_POSITION})?", "position (a whole number, 1-based) or nothing"))
    for name, (pattern, what) in allowed.items():
        if name in alleles:
            good = alleles[name].str.fullmatch(pattern).to_numpy(dtype=bool)
            if not good.all():
                place = int(good.argmin())
                raise InputError(f"{places[place]}: {name} {shown(alleles[name].iloc[place])} is no {what}")
    alleles["pos"] = alleles["pos"].astype("int64")
    return alleles


def _with_reasons(
    alleles: pd.DataFrame, annotation: GeneAnnotation | None, where: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    columns = [alleles[name] for name in ("chrom", "pos", "ref", "alt", "strand", "gene")]
    found = pd.DataFrame(
        [_find(annotation, *row) for row in zip(*columns, strict=True)], index=alleles.index, columns=_Found._fields
    )
    for name in ("strand", "gene", "reason"):
        alleles[name] = found[name].astype(object)
    good = alleles[alleles["reason"] == ""]
    sites = found.loc[good.index, list(SITES)].astype("Int64")
    own = pd.DataFrame({site: _numbers(good[site]) for site in SITES if site in good}, good.index)
    for site in own:
        sites.loc[own.notna().any(axis=1), site] = own[site]
    frame = good[["chrom", "pos", "ref", "alt", "strand", "gene"]].assign(
        ref=good["ref"].str.upper(),
        alt=good["alt"].str.upper(),
        variant_id=[f"allele {row + 1}" for row in good.index],
        classification=UNKNOWN,
        source=where,
        method="",
        group=good["gene"],
        row=good.index,
    )
    return alleles, as_variant_table(frame.join(sites), where)


def _reason_of(ref: str, alt: str) -> str:
    """Why an allele cannot be predicted whatever the gene, in the words of `score`; or ""."""
    if alt == ".":
        return str(Reason.NO_ALTERNATIVE)
    if not re.fullmatch("[ACGT]+", ref, re.IGNORECASE):
        return str(Reason.BAD_REFERENCE)
    if reason := reason_of_allele(alt):
        return str(reason)
    if "N" in alt.upper():
        return str(Reason.BAD_ALLELE)
    return SAME if ref.upper() == alt.upper() else ""


class _Found(NamedTuple):
    """What the genes say of an allele: where it stands and the sites of its exon, or why it cannot be predicted."""

    strand: str
    gene: str
    reason: str = ""
    acceptor_pos: int | None = None
    donor_pos: int | None = None


def _find(
    annotation: GeneAnnotation | None, chrom: str, pos: int, ref: str, alt: str, strand: str, gene: str
) -> _Found:
    if reason := _reason_of(ref, alt):
        return _Found(strand, gene, reason)
    if annotation is None:
        return _Found(strand, gene, "" if strand else NO_STRAND)
    exon = find_tested_exon(annotation, chrom, int(pos), gene, strand)
    if isinstance(exon, str):
        elsewhere = strand and annotation.overlapping(chrom, pos)
        reason = OTHER_STRAND if elsewhere else str(Reason.NOT_IN_GENE) if exon == NO_GENE else exon
        return _Found(strand, gene, reason)
    if gene not in ("", exon.gene.name):
        return _Found(strand, gene, OTHER_GENE)
    return _Found(exon.gene.strand, exon.gene.name, "", exon.acceptor, exon.donor)
