"""What the human data sets share: their file, their genome, their annotation, their build, their exon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from meta_spliceai import resources
from meta_spliceai.datasets.registry import DataSet, Loaded
from meta_spliceai.errors import InputError, IntegrityError, MissingExtraError, unknown_value
from meta_spliceai.resources.human import HUMAN_REGIONS
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.genome.builds import GRCH37, GRCH38, build_name
from meta_spliceai.splice_engine.genome.fasta import IndexedFasta
from meta_spliceai.splice_engine.genome.memory import MemoryGenome
from meta_spliceai.splice_engine.genome.packaged_genes import PackagedGenes
from meta_spliceai.splice_engine.genome.region_fasta import RegionFasta, holds_regions
from meta_spliceai.splice_engine.genome.source import SequenceSource
from meta_spliceai.splice_engine.variants.allele_check import check_reference
from meta_spliceai.splice_engine.variants.coverage import Coverage
from meta_spliceai.splice_engine.variants.liftover import Chain, lift_over
from meta_spliceai.splice_engine.variants.merge import merge_alleles
from meta_spliceai.splice_engine.variants.table import as_variant_table, describe
from meta_spliceai.splice_engine.variants.tested_exon import NO_GENE, TWO_STRANDS, find_tested_exon, nearest_exon

REGIONS = "regions"
"""Value of the option `genome`: the sparse regions of the resource human-regions."""

PACKAGED_GENES = "packaged-genes"
"""Value of the option `genome`: whole genes that a Python package carries (GRCh37)."""

GENOME, CONSTRUCT = "genome", "construct"
CONTEXTS = (GENOME, CONSTRUCT)

_REGION_FILES = {GRCH37: "genome/hg19_regions.fa.gz", GRCH38: "genome/hg38_regions.fa.gz"}


def source_file(dataset: DataSet, path: str | Path | None) -> Path:
    """The user's own file, or the registered copy, checked.

    Raises:
        InputError: the user's file is not there.
        MissingResourceError, IntegrityError: the registered copy is not there, or damaged.
    """
    if path is None:
        return resources.resolve_file(dataset.resource, resources.get(dataset.resource).files[0].path)
    if not Path(path).is_file():
        raise InputError(f"data set {dataset.name}: no file at {path}; check the path")
    return Path(path)


def read_rows(path: Path, separator: str, columns: Sequence[str]) -> pd.DataFrame:
    """A delimited text file as text, empty fields as "", indexed by line number (the header is line 1).

    Raises:
        InputError: no such table, or a missing column (naming those found).
    """
    try:
        rows = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, na_filter=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no table of the expected format: {str(error).strip()}") from error
    rows.index = pd.RangeIndex(2, len(rows) + 2)
    return with_columns(rows, columns, str(path))


def with_columns(rows: pd.DataFrame, columns: Sequence[str], where: str) -> pd.DataFrame:
    """The rows, once every column is there.

    Raises:
        InputError: a missing column.
    """
    missing = [column for column in columns if column not in rows]
    if missing:
        found = ", ".join(map(str, list(rows.columns)[:20]))
        raise InputError(f"{where}: column {', '.join(missing)} missing; found {found}")
    return rows


def read_r_object(path: Path) -> pd.DataFrame:
    """The one data frame in an R file (.RData, .rds), missing values as "" and everything as text.

    Raises:
        MissingExtraError: no reader for R's files is installed.
        InputError: no R file, or not exactly one data frame in it.
    """
    try:
        import pyreadr
    except ImportError as error:
        raise MissingExtraError(f"reading {path.name}, an R object,", "r-objects") from error
    try:
        content = pyreadr.read_r(str(path))
    except (pyreadr.custom_errors.LibrdataError, pyreadr.custom_errors.PyreadrError) as error:
        raise InputError(f"{path} is no R file that can be read: {error}") from error
    if len(content) != 1:
        raise InputError(f"{path} holds {len(content)} data frames ({', '.join(map(str, content))}), expected one")
    frame = next(iter(content.values()))
    rows = frame.astype(object).where(frame.notna(), "").astype(str)
    rows.index = pd.RangeIndex(1, len(rows) + 1)
    return rows


def numbers(rows: pd.DataFrame, column: str, where: str, *, whole: bool = False) -> pd.Series:
    """A text column as numbers; "" and NA are missing.

    Args:
        whole: the numbers are coordinates, above 0 and without a fraction.

    Raises:
        InputError: something that is no number, with its line.
    """
    text = rows[column].astype(str).str.strip()
    text = text.mask(text.isin(["", "NA", "NaN", "nan", "None"]))
    values = pd.to_numeric(text, errors="coerce")
    bad = values.isna() & text.notna()
    if whole:
        bad |= values.notna() & ((values < 1) | (values % 1 != 0))
    if bad.any():
        line = bad.idxmax()
        kind = "a 1-based coordinate" if whole else "a number"
        raise InputError(
            f"{where}, line {line}: {column} is '{rows.loc[line, column]}', expected {kind} "
            f"({int(bad.sum())} such rows)"
        )
    return values


def one_of(value: str, choices: Sequence[str], option: str, dataset: DataSet) -> str:
    """The value, if it is one of the choices.

    Raises:
        InputError: it is not.
    """
    if value not in choices:
        raise unknown_value(option, value, choices, f"data set {dataset.name}")
    return value


def human_genome(build: str, genome: str | Path = REGIONS) -> SequenceSource:
    """The reference sequence of a build.

    Args:
        build: any spelling of GRCh37 or GRCh38.
        genome: "regions" (the sparse regions of the resource human-regions), "packaged-genes" (GRCh37), or a FASTA
            file: a whole genome, or one whose records are regions.

    Raises:
        InputError, IntegrityError, MissingResourceError: the file cannot be had or cannot be right.
    """
    build = build_name(build)
    if str(genome) == REGIONS:
        return RegionFasta(resources.resolve_file(HUMAN_REGIONS.name, _REGION_FILES[build]), build)
    if str(genome) == PACKAGED_GENES:
        return PackagedGenes(build)
    path = Path(genome)
    return RegionFasta(path, build) if holds_regions(path) else IndexedFasta(path, build)


def human_annotation(build: str, annotation: str | None = None) -> GeneAnnotation:
    """The genes of a build: SpliceAI's packaged table, or a user's own.

    Raises:
        InputError: another build's annotation.
        MissingExtraError: the package with the tables is not installed.
    """
    build = build_name(build)
    genes = GeneAnnotation.named(annotation or build.lower(), build)
    if build_name(genes.build) != build:
        raise InputError(f"the annotation {genes.name} is {genes.build}, but the variants are {build}")
    return genes


def lifted(frame: pd.DataFrame, coverage: Coverage, chain: str | Path | None) -> tuple[pd.DataFrame, Coverage]:
    """GRCh37 variants in GRCh38, through UCSC's chain."""
    path = Path(chain) if chain else resources.resolve_file(HUMAN_REGIONS.name, "genome/hg19ToHg38.over.chain")
    moved, account = lift_over(frame, Chain(path))
    return moved, coverage.then(account)


NOT_IN_ONE_GENE = "not in exactly one gene of the target build's annotation by its name and strand"


def in_one_gene(frame: pd.DataFrame, coverage: Coverage, annotation: GeneAnnotation) -> tuple[pd.DataFrame, Coverage]:
    """Lifted rows whose gene is over them in the target build too; the others, which no network can score, counted.

    Genes change between the builds' annotations: some end earlier, some are gone or are named otherwise.
    """
    kept = []
    for chrom, pos, strand, gene in zip(frame["chrom"], frame["pos"], frame["strand"], frame["gene"], strict=True):
        here = [one for one in annotation.overlapping(chrom, int(pos)) if one.strand == strand]
        kept.append(len([one for one in here if one.name == gene or not gene]) == 1)
    account = Coverage(len(frame))
    inside = np.array(kept, dtype=bool)
    account.leave_out(NOT_IN_ONE_GENE, (describe(row) for _, row in frame[~inside].iterrows()))
    return frame[inside].reset_index(drop=True), coverage.then(account)


def place_in_exons(
    rows: pd.DataFrame, annotation: GeneAnnotation, coverage: Coverage, *, strand_known: bool
) -> pd.DataFrame:
    """Rows with gene, strand, group and the tested exon's two sites filled from the annotation.

    Args:
        rows: variant_id, chrom, pos, gene (may be ""), and strand if it is known.
        coverage: rows that no gene is found for are left out in it, unless the strand is known: then gene stays as it
            is, sites stay unknown, and the group is the gene or, without one, the chromosome's 100-kb bin.
    """
    exons = []
    for chrom, pos, gene, strand in zip(
        rows["chrom"], rows["pos"], rows["gene"], rows["strand"] if strand_known else [""] * len(rows), strict=True
    ):
        if not strand_known:
            exons.append(find_tested_exon(annotation, chrom, int(pos), gene))
            continue
        here = [found for found in annotation.overlapping(chrom, int(pos)) if found.strand == strand]
        named = [found for found in here if found.name == gene] or here
        nearest = [nearest_exon(found, int(pos)) for found in named]
        exons.append(min(nearest, key=lambda pair: pair[1])[0] if nearest else NO_GENE)
    found = np.array([not isinstance(exon, str) for exon in exons], dtype=bool)
    if not strand_known:
        for reason in (NO_GENE, TWO_STRANDS):
            lost = np.array([exon == reason for exon in exons], dtype=bool)
            coverage.leave_out(reason, [f"line {line}: {name}" for line, name in rows[lost]["variant_id"].items()])
        rows, exons, found = rows[found], [exon for exon in exons if not isinstance(exon, str)], found[found]
    known = [None if isinstance(exon, str) else exon for exon in exons]
    placed = rows.assign(
        gene=[given if exon is None else exon.gene.name for given, exon in zip(rows["gene"], known, strict=True)],
        acceptor_pos=pd.array([None if exon is None else exon.acceptor for exon in known], dtype="Int64"),
        donor_pos=pd.array([None if exon is None else exon.donor for exon in known], dtype="Int64"),
    )
    if not strand_known:
        placed["strand"] = [exon.gene.strand for exon in known if exon is not None]
    bins = placed["chrom"] + ":" + (placed["pos"].astype(int) // 100_000).astype(str)
    placed["group"] = placed["gene"].where(placed["gene"] != "", bins)
    return placed


def finish(
    frame: pd.DataFrame,
    coverage: Coverage,
    genome: SequenceSource,
    annotation: GeneAnnotation | None,
    dataset: DataSet,
    options: Mapping[str, str],
    *,
    merge: bool = True,
) -> Loaded:
    """The last steps of every loader: the schema, one row an allele, every reference allele compared."""
    table = as_variant_table(frame, dataset.name)
    if merge:
        table, merging = merge_alleles(table, dataset.name)
        coverage = coverage.then(merging)
    table, checked = check_reference(table, genome)
    return Loaded(table, coverage.then(checked), genome, annotation, dataset, dict(options))


def expect_rows(rows: pd.DataFrame, dataset: DataSet, path: str | Path | None) -> None:
    """The registered copy has the registered number of rows.

    Raises:
        IntegrityError: it has not.
    """
    if path is None and len(rows) != dataset.rows:
        raise IntegrityError(f"data set {dataset.name}: {len(rows)} rows, expected {dataset.rows}")


def constructs(names: pd.Series, sequences: pd.Series, dataset: DataSet) -> MemoryGenome:
    """Constructs as a genome: one contig a construct, in transcript orientation.

    Raises:
        InputError: one name for two sequences.
    """
    pairs = pd.DataFrame({"name": names, "sequence": sequences}).drop_duplicates()
    twice = pairs["name"].duplicated()
    if twice.any():
        raise InputError(f"data set {dataset.name}: construct {pairs['name'][twice].iloc[0]} has two sequences")
    return MemoryGenome(
        dict(zip(pairs["name"], pairs["sequence"], strict=True)),
        build=f"{dataset.name} constructs",
        name=f"{dataset.name} constructs",
    )
