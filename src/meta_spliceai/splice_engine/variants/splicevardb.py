"""SpliceVarDB's own download format, and tables put together in it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.genome.builds import GRCH37, build_name
from meta_spliceai.splice_engine.variants.coverage import Coverage
from meta_spliceai.splice_engine.variants.merge import merge_alleles
from meta_spliceai.splice_engine.variants.table import CLASSES, as_variant_table
from meta_spliceai.splice_engine.variants.tested_exon import NO_GENE, TWO_STRANDS, find_tested_exon

COLUMNS = ("variant_id", "hg19", "hg38", "gene", "hgvs", "method", "classification", "location", "doi")
NO_COORDINATE = "no coordinate in this build"

_COORDINATE = r"(?P<chrom>(?:chr)?[0-9A-Za-z_.]+)-(?P<pos>[1-9][0-9]*)-(?P<ref>[A-Za-z]+)-(?P<alt>[A-Za-z]+)"


def read_splicevardb(path: Path, build: str, annotation: GeneAnnotation) -> tuple[pd.DataFrame, Coverage]:
    """A SpliceVarDB download as a variant table.

    The file is tab-separated with quoted fields: variant_id, hg19 and hg38 (`chrom-pos-ref-alt`, plus strand), gene,
    hgvs, method and doi (several, separated by commas), classification, location. It has no strand and no exon: both
    come from the annotation (`tested_exon`), which may name another gene where the file's own is not in it.
    Classes are SpliceVarDB's own. An allele that stands in several rows becomes one row (`merge`).

    Columns beside the schema's: hgvs, location, exon_number, measurements.

    Args:
        path: the file.
        build: whose coordinates to take ("GRCh37", "hg38" …).
        annotation: genes of the same build.

    Raises:
        InputError: no such file, a missing column, a malformed coordinate or an allele not made of A, C, G, T (with its
            line), an unknown class (with its line), a duplicated variant_id, or an annotation of another build.
    """
    build = build_name(build)
    if build_name(annotation.build) != build:
        raise InputError(
            f"the annotation {annotation.name} is {annotation.build}, but {build} coordinates were asked for"
        )
    rows = _read_rows(path)
    coverage = Coverage(len(rows))
    column = "hg19" if build == GRCH37 else "hg38"

    without = rows[column].str.strip() == ""
    coverage.leave_out(NO_COORDINATE, [f"line {line}: {name}" for line, name in rows[without]["variant_id"].items()])
    rows = rows[~without]
    parts = rows[column].str.strip().str.extract(f"^{_COORDINATE}$")
    bad = parts["pos"].isna() | ~parts["ref"].fillna("").str.fullmatch("[ACGTacgt]+")
    bad |= ~parts["alt"].fillna("").str.fullmatch("[ACGTacgt]+")
    if bad.any():
        line = bad.idxmax()
        raise InputError(
            f"{path}, line {line}: {column} is '{rows.loc[line, column]}', expected chrom-pos-ref-alt with alleles "
            f"made of A, C, G, T, like 13-32890548-CTGT-C ({int(bad.sum())} such rows; correct or remove them)"
        )

    exons = [
        find_tested_exon(annotation, chrom, int(pos), gene)
        for chrom, pos, gene in zip(parts["chrom"], parts["pos"], rows["gene"], strict=True)
    ]
    for reason in (NO_GENE, TWO_STRANDS):
        lost = np.array([exon == reason for exon in exons], dtype=bool)
        coverage.leave_out(reason, [f"line {line}: {text}" for line, text in rows[column][lost].items()])
    found = np.array([not isinstance(exon, str) for exon in exons], dtype=bool)
    rows, parts = rows[found], parts[found]
    tested = [exon for exon in exons if not isinstance(exon, str)]
    table = as_variant_table(
        pd.DataFrame(
            {
                "variant_id": rows["variant_id"],
                "chrom": parts["chrom"],
                "pos": parts["pos"].astype("int64"),
                "ref": parts["ref"].str.upper(),
                "alt": parts["alt"].str.upper(),
                "strand": [exon.gene.strand for exon in tested],
                "gene": [exon.gene.name for exon in tested],
                "classification": rows["classification"],
                "source": rows["doi"].map(_each_once),
                "method": rows["method"].map(_each_once),
                "group": [exon.gene.name for exon in tested],
                "acceptor_pos": pd.array([exon.acceptor for exon in tested], dtype="Int64"),
                "donor_pos": pd.array([exon.donor for exon in tested], dtype="Int64"),
                "hgvs": rows["hgvs"],
                "location": rows["location"],
                "exon_number": [exon.number for exon in tested],
            }
        ),
        str(path),
    )
    merged, merging = merge_alleles(table, str(path))
    return merged, coverage.then(merging)


def _read_rows(path: Path) -> pd.DataFrame:
    """The file's fields as text, indexed by line number (the header is line 1)."""
    if not Path(path).is_file():
        raise InputError(f"no SpliceVarDB table at {path}; download it from splicevardb.org and give its path")
    try:
        rows = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_MINIMAL)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no tab-separated table: {str(error).strip()}") from error
    missing = [column for column in COLUMNS if column not in rows]
    if missing:
        raise InputError(f"{path}: column {', '.join(missing)} missing; found {', '.join(map(str, rows.columns))}")
    rows.index = pd.RangeIndex(2, len(rows) + 2)
    unknown = ~rows["classification"].isin(CLASSES)
    if unknown.any():
        line = unknown.idxmax()
        raise unknown_value("classification", rows.loc[line, "classification"], CLASSES, f"{path}, line {line}")
    return rows


def _each_once(text: str) -> str:
    """Comma-separated words, each once, in order of appearance."""
    return ",".join(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
