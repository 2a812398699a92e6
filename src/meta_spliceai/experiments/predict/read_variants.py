"""New variants from a VCF, a BCF or a table, one row an allele; what cannot be used has its reason."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd

from meta_spliceai.errors import InputError, MissingPackageError, shown
from meta_spliceai.read_hostile import LARGEST_TABLE, LONGEST_LINE, one_error, text_lines
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation, find_tested_exon
from meta_spliceai.splice_engine.variants.table import UNKNOWN, as_variant_table

NEEDED = ("chrom", "pos", "ref", "alt")
OPTIONAL = ("strand", "gene", "variant_id")
SITES = ("acceptor_pos", "donor_pos")
NOT_BASES = "alleles are not made of A, C, G, T"
SAME = "ref equals alt"
NO_STRAND = "no strand: give it in the table, or genes with --annotation"

_VCF = (".vcf", ".vcf.gz", ".vcf.bgz", ".bcf")


def read_variants(path: Path, annotation: GeneAnnotation | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a file of variants.

    Args:
        path: VCF, gzipped VCF or BCF (by its name's ending), or a table with a header, separated by tabs or commas
            (gzipped or not): chrom, pos (1-based), ref, alt on the plus strand; strand, gene, variant_id if there, and
            acceptor_pos, donor_pos: first and last base of the tested exon in transcript order.
        annotation: genes, which give the strand where the file does not.

    Returns:
        every allele of the file in order (chrom, pos, ref, alt, strand, gene, reason: empty for usable ones), and the
        usable ones as a variant table whose column `row` says which allele of the file each is.

    Raises:
        InputError: no such file, a missing column, a position that is no number (with its line).
        IntegrityError: a truncated or damaged file.
    """
    if not path.is_file():
        raise InputError(f"no file of variants at {path}")
    alleles = _read_vcf(path) if path.name.endswith(_VCF) else _read_table(path)
    if alleles.empty:
        raise InputError(f"{path} holds no variant")
    return _with_reasons(alleles, annotation, str(path))


def usable_alleles(
    table: pd.DataFrame, annotation: GeneAnnotation | None, where: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """As `read_variants`, of a table in memory.

    Raises:
        InputError: a column is missing, or there is no row.
    """
    missing = [name for name in NEEDED if name not in table]
    if missing or table.empty:
        raise InputError(f"{where}: column {', '.join(missing)} missing" if missing else f"{where} holds no variant")
    kept = [name for name in (*NEEDED, *OPTIONAL, *SITES) if name in table]
    alleles = table[kept].reset_index(drop=True)
    for name in ("chrom", "ref", "alt", *OPTIONAL):
        alleles[name] = alleles[name].fillna("").astype(str) if name in alleles else ""
    return _with_reasons(alleles, annotation, where)


def _with_reasons(
    alleles: pd.DataFrame, annotation: GeneAnnotation | None, where: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    alleles["ref"], alleles["alt"] = alleles["ref"].str.upper(), alleles["alt"].str.upper()
    alleles["reason"] = ""
    bases = alleles["ref"].str.fullmatch("[ACGT]+") & alleles["alt"].str.fullmatch("[ACGT]+")
    alleles.loc[~bases, "reason"] = NOT_BASES
    alleles.loc[bases & (alleles["ref"] == alleles["alt"]), "reason"] = SAME
    _find_strands(alleles, annotation)
    return alleles, _usable(alleles, where)


def _usable(alleles: pd.DataFrame, where: str) -> pd.DataFrame:
    good = alleles[alleles["reason"] == ""]
    frame = good[["chrom", "pos", "ref", "alt", "strand", "gene"]].assign(
        variant_id=[f"allele {row + 1}" for row in good.index],
        classification=UNKNOWN,
        source=where,
        method="",
        group=good["gene"],
        row=good.index,
    )
    for site in SITES:
        if site in good:
            frame[site] = pd.to_numeric(good[site].replace("", pd.NA)).astype("Int64")
    return as_variant_table(frame, where)


def _find_strands(alleles: pd.DataFrame, annotation: GeneAnnotation | None) -> None:
    """Fill in strand, gene and, where there is no strand, the reason."""
    found = [
        (strand, gene, reason) if reason else _strand_of(number, chrom, int(pos), strand, gene, annotation)
        for number, (chrom, pos, strand, gene, reason) in enumerate(
            zip(*(alleles[name] for name in ("chrom", "pos", "strand", "gene", "reason")), strict=True), start=1
        )
    ]
    for place, name in enumerate(("strand", "gene", "reason")):
        alleles[name] = [values[place] for values in found]


def _strand_of(
    number: int, chrom: str, pos: int, strand: str, gene: str, annotation: GeneAnnotation | None
) -> tuple[str, str, str]:
    """Strand, gene and the reason why there is no strand (empty where there is one)."""
    if strand in ("+", "-"):
        return strand, gene, ""
    if strand:
        raise InputError(f"row {number}: strand '{strand}' is neither + nor -")
    if annotation is None:
        return strand, gene, NO_STRAND
    exon = find_tested_exon(annotation, chrom, pos, gene)
    return (strand, gene, exon) if isinstance(exon, str) else (exon.gene.strand, exon.gene.name, "")


def _read_vcf(path: Path) -> pd.DataFrame:
    try:
        import pysam
    except ImportError as error:
        raise MissingPackageError(f"reading {path}, a VCF or BCF,", "pysam") from error
    rows: list[tuple[str, int, str, str, str, str, str]] = []
    verbosity = pysam.set_verbosity(0)  # a header without contigs is no error, and is said once a contig
    try:
        with one_error(f"{path}, read as VCF or BCF,"), pysam.VariantFile(str(path)) as file:
            for record in file:
                # A record without alternative alleles (`.`) has nothing to predict, but it is accounted for.
                alts = record.alts or (".",)
                name = record.id or ""
                rows.extend((record.chrom, record.pos, record.ref or ".", alt, "", "", name) for alt in alts)
    finally:
        pysam.set_verbosity(verbosity)
    return pd.DataFrame(rows, columns=["chrom", "pos", "ref", "alt", *OPTIONAL])


def _read_table(path: Path) -> pd.DataFrame:
    lines = list(text_lines(path, LARGEST_TABLE))
    csv.field_size_limit(LONGEST_LINE)
    with one_error(f"{path}, read as a table,"):
        rows = list(csv.reader(lines, delimiter="\t" if lines and "\t" in lines[0] else ","))
    names = [name.strip() for name in rows[0]] if rows else []
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise InputError(f"{path}: column {', '.join(missing)} missing; found {', '.join(names)}")
    twice = [name for name in (*NEEDED, *OPTIONAL, *SITES) if names.count(name) > 1]
    if twice:
        raise InputError(f"{path}: column {', '.join(twice)} stands more than once; leave one of them")
    frame = pd.DataFrame(
        {name: [row[at] if at < len(row) else "" for row in rows[1:] if row] for at, name in enumerate(names)},
        dtype=str,
    )
    for name in OPTIONAL:
        if name not in frame:
            frame[name] = ""
    frame["strand"] = frame["strand"].replace(".", "")
    _check_positions(path, frame, "pos", _POSITION, "a whole number, 1-based")
    frame["pos"] = frame["pos"].astype("int64")
    for site in SITES:
        if site in frame:
            _check_positions(path, frame, site, f"({_POSITION})?", "a whole number, 1-based, or nothing")
    return frame


_POSITION = "[1-9][0-9]{0,11}"


def _check_positions(path: Path, frame: pd.DataFrame, column: str, form: str, allowed: str) -> None:
    bad = ~frame[column].str.fullmatch(form)
    if bad.any():
        line = int(bad.idxmax())
        raise InputError(
            f"{path}, line {line + 2}: {column} {shown(str(frame[column][line]))} is no position ({allowed}, at most "
            "12 digits)"
        )
