"""Code shared by the loaders of human data sets: files, annotation, builds, exons, and the final steps.

Options that several loaders have: `path`, the user's own file in place of the registered one; `context`, "genome"
(windows are cut from the chromosome) or "construct" (from the reporter's own bases in transcript orientation, N around
them); and those of `Asked`.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool

from meta_spliceai import resources
from meta_spliceai.datasets import registry
from meta_spliceai.datasets.registry import DataSet, Loaded
from meta_spliceai.errors import InputError, MissingExtraError, shown, unknown_value
from meta_spliceai.files import sha256_file
from meta_spliceai.read_hostile import LARGEST_TABLE, limit, one_error, text_lines
from meta_spliceai.splice_engine.genome.annotation import NO_GENE, TWO_STRANDS, GeneAnnotation, find_tested_exon
from meta_spliceai.splice_engine.genome.fasta import IndexedFasta
from meta_spliceai.splice_engine.genome.human_genome import AUTO, genome_in_words, human_genome
from meta_spliceai.splice_engine.genome.sequence import GRCH37, GRCH38, MemoryGenome, SequenceSource, build_name
from meta_spliceai.splice_engine.variants.alleles import NO_SEQUENCE, Chain, check_reference, lift_over, merge_alleles
from meta_spliceai.splice_engine.variants.table import Coverage, as_variant_table, describe

LIFT_OVER_CHAIN = "hg19-to-hg38-chain"
"""The resource: UCSC's chain from GRCh37 to GRCh38."""

NO_COORDINATE = "no coordinate in this build"
NOT_IN_ONE_GENE = "not in exactly one gene of the target build's annotation by its name and strand"

GENOME, CONSTRUCT = "genome", "construct"
CONTEXTS = (GENOME, CONSTRUCT)

COMPLEMENT = str.maketrans("ACGT", "TGCA")


class Source(NamedTuple):
    """The file a data set is read from; `origin`: which one it is, in words for results (edition or the user's own,
    name, checksum)."""

    dataset: DataSet
    path: Path
    origin: str


@dataclass(frozen=True)
class Asked:
    """Options of the loaders of data sets that were published in GRCh37.

    Attributes:
        build: wanted of the genomic context; the source is lifted over to GRCh38.
        genome: "auto", "regions", or a FASTA file of that build (see `human_genome`).
        annotation: genes and exons of GRCh37; SpliceAI's table by default.
        chain: UCSC's hg19ToHg38 chain, instead of the registered one.
    """

    build: str
    genome: str
    annotation: str | None
    chain: str | None


def source_file(dataset: DataSet, path: str | Path | None) -> Source:
    """The user's own file, or the edition of the registered one that is at hand, checked.

    Raises:
        InputError: the user's file is not there.
        MissingResourceError, IntegrityError: no edition can be had, or what is there is damaged.
    """
    if path is None:
        found = resources.resolve_edition(dataset.resource)
        edition, sha256 = found.entry.edition or "registered file", found.entry.sha256
        return Source(dataset, found.path, f"{edition} {found.path.name}, SHA-256 {sha256[:12]}")
    if not Path(path).is_file():
        raise InputError(f"data set {dataset.name}: no file at {path}; check the path")
    return Source(dataset, Path(path), f"own file {Path(path).name}, SHA-256 {sha256_file(Path(path))[:12]}")


def read_rows(source: Source, separator: str, columns: Sequence[str]) -> pd.DataFrame:
    """A delimited text file as text, empty fields as "", indexed by line number (the header is line 1); InputError for
    no such table, or a missing column."""
    numbered = [
        (at, line) for at, line in enumerate(text_lines(source.path, LARGEST_TABLE), start=1) if line.strip(" ")
    ]
    lines = [line for _, line in numbered]
    text = io.StringIO("\n".join(lines))
    try:
        rows = pd.read_csv(text, sep=separator, dtype=str, keep_default_na=False, na_filter=False)
        header = next(csv.reader(lines[:1], delimiter=separator))
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError, OverflowError, csv.Error) as error:
        raise InputError(f"{source.path} is no table of the expected format: {str(error).strip()}") from error
    rows = as_read(rows, source.path, columns, header, first_line=2)
    # Blank lines count, too; where a row goes over several lines, its own is not known.
    return rows.set_axis([at for at, _ in numbered[1:]]) if len(rows) == len(lines) - 1 else rows


def as_read(
    rows: pd.DataFrame, path: Path, columns: Sequence[str], header: Sequence[str], first_line: int
) -> pd.DataFrame:
    """The rows, indexed by their line in the file; every column must be present exactly once."""
    twice = [column for column in columns if list(header).count(column) > 1]
    if twice:
        raise InputError(f"{path}: column {', '.join(twice)} stands more than once; leave one of them")
    missing = [column for column in columns if column not in rows]
    if missing:
        found = ", ".join(map(str, list(rows.columns)[:20]))
        raise InputError(f"{path}: column {', '.join(missing)} missing; found {found}")
    return rows.set_axis(pd.RangeIndex(first_line, len(rows) + first_line))


def without(
    rows: pd.DataFrame, bad: Bool[pd.Series, " rows"], reason: str, coverage: Coverage, named: str
) -> pd.DataFrame:
    """The rows that are not bad; the others are counted, each identified by its line and its value in the column
    `named`."""
    coverage.leave_out(reason, [f"line {line}: {name}" for line, name in rows[named][bad].items()])
    return rows[~bad]


_UNPACKERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
"""First bytes of a compressed R object, and what reads it."""


def read_r_object(path: Path) -> pd.DataFrame:
    """The one data frame in an R file (.RData, .rds), missing values as "" and everything as text.

    Raises:
        MissingExtraError: no reader for R's files is installed.
        InputError: not exactly one data frame in it, or more than is read.
        IntegrityError: no R file, or a damaged one.
    """
    try:
        import pyreadr
    except ImportError as error:
        raise MissingExtraError(f"reading {path.name}, an R object,", "r-objects") from error
    # R's reader takes whatever a file unpacks to: that is found out before, piece by piece.
    with path.open("rb") as handle:
        unpack = _UNPACKERS.get(handle.read(2), open)
    allowed, held = limit(LARGEST_TABLE), 0
    with one_error(path, "give an R file"), unpack(path, "rb") as stream:
        while held <= allowed and (piece := stream.read(1 << 20)):
            held += len(piece)
    if held > allowed:
        raise InputError(f"{path} holds more than {allowed:,} bytes; set {LARGEST_TABLE[0]} to allow more")
    with one_error(path, "give an R file", (pyreadr.custom_errors.LibrdataError, pyreadr.custom_errors.PyreadrError)):
        content = pyreadr.read_r(str(path))
    if len(content) != 1:
        raise InputError(f"{path} holds {len(content)} data frames ({', '.join(map(str, content))}), expected one")
    frame = next(iter(content.values()))
    return frame.astype(object).where(frame.notna(), "").astype(str)


def numbers(rows: pd.DataFrame, column: str, where: str, *, least: int | None = None) -> pd.Series:
    """A text column as numbers; "" and NA are missing. With `least` they are whole, not below it, and of at most 12
    digits. InputError for anything else, with its line."""
    text = rows[column].astype(str).str.strip()
    text = text.mask(text.isin(["", "NA", "NaN", "nan", "None"]))
    values = pd.to_numeric(text, errors="coerce")
    bad = values.isna() & text.notna()
    if least is not None:
        bad |= values.notna() & ~(values.between(least, 10**12 - 1) & (values % 1 == 0))
    refuse(bad, rows, column, where, {None: "a number", 0: "a whole number"}.get(least, "a 1-based coordinate"))
    return values


def whole_numbers(rows: pd.DataFrame, column: str, where: str, least: int = 1) -> pd.Series:
    """As `numbers`, whole and none missing."""
    values = numbers(rows, column, where, least=least)
    refuse(values.isna(), rows, column, where, "a 1-based coordinate" if least else "a whole number")
    return values.astype("int64")


def refuse(bad: pd.Series, rows: pd.DataFrame, column: str, where: str, expected: str) -> None:
    """InputError for the first of the bad rows, with its line and what stands in the column."""
    if bad.any():
        line = bad.idxmax()
        raise InputError(
            f"{where}, line {line}: {column} is {shown(str(rows.loc[line, column]))}, expected {expected} "
            f"({int(bad.sum())} such rows)"
        )


def only(rows: pd.DataFrame, column: str, choices: Sequence[str], where: str) -> pd.Series:
    """A column of a closed set of words; InputError for another word, with its line."""
    bad = ~rows[column].isin(choices)
    if bad.any():
        line = bad.idxmax()
        raise unknown_value(column, rows.loc[line, column], choices, f"{where}, line {line}")
    return rows[column]


def check_context(value: str, choices: Sequence[str], dataset: DataSet) -> None:
    """InputError where the value of the option `context` is none of the choices."""
    if value not in choices:
        raise unknown_value("context", value, choices, f"data set {dataset.name}")


def human_annotation(build: str, annotation: str | None = None) -> GeneAnnotation:
    """The genes of a build: SpliceAI's packaged table, or a user's own.

    Raises:
        InputError: another build's annotation.
        MissingExtraError: the package with the tables is not installed.
    """
    build = build_name(build)
    genes = GeneAnnotation.named(annotation or build.lower(), build)
    if build_name(genes.build) != build:
        raise InputError(
            f"the annotation {genes.name} is {genes.build}, but the variants are {build}; give genes of that build, or "
            "name the variants' build (--build)"
        )
    return genes


def in_one_gene(frame: pd.DataFrame, coverage: Coverage, annotation: GeneAnnotation) -> tuple[pd.DataFrame, Coverage]:
    """Lifted rows whose gene is over them in the target build too; the others, which no network can score, counted.

    Genes change between the builds' annotations: some end earlier, some are gone or are named otherwise.
    """
    inside = np.zeros(len(frame), dtype=bool)
    places = zip(frame["chrom"], frame["pos"], frame["strand"], frame["gene"], strict=True)
    for at, (chrom, pos, strand, gene) in enumerate(places):
        there = [one.name for one in annotation.overlapping(chrom, int(pos)) if one.strand == strand]
        inside[at] = sum(gene in ("", name) for name in there) == 1
    account = Coverage(len(frame))
    account.leave_out(NOT_IN_ONE_GENE, (describe(row) for _, row in frame[~inside].iterrows()))
    return frame[inside].reset_index(drop=True), coverage.then(account)


def place_in_exons(
    rows: pd.DataFrame, annotation: GeneAnnotation, coverage: Coverage, *, strand_known: bool
) -> pd.DataFrame:
    """Rows (variant_id, chrom, pos, gene, which may be "", and strand if it is known) with gene, strand, group and the
    tested exon's two sites filled from the annotation, and their places on the genome kept as `genome_chrom` and
    `genome_pos`, also for when they are lifted over or moved into constructs.

    Rows that no gene is found for are left out in `coverage`, unless the strand is known: then gene stays as it is,
    sites stay unknown, and the group is the gene or, without one, the chromosome's 100-kb bin."""
    strands = rows["strand"] if strand_known else [""] * len(rows)
    exons = [
        find_tested_exon(annotation, chrom, int(pos), gene, strand)
        for chrom, pos, gene, strand in zip(rows["chrom"], rows["pos"], rows["gene"], strands, strict=True)
    ]
    if not strand_known:
        reasons = pd.Series([exon if isinstance(exon, str) else "" for exon in exons], index=rows.index, dtype=object)
        for reason in (NO_GENE, TWO_STRANDS):
            rows = without(rows, reasons[rows.index] == reason, reason, coverage, "variant_id")
        found = [exon for exon in exons if not isinstance(exon, str)]
        rows, exons = rows.assign(strand=[exon.gene.strand for exon in found]), [*found]
    known = [None if isinstance(exon, str) else exon for exon in exons]
    placed = rows.assign(
        gene=[given if exon is None else exon.gene.name for given, exon in zip(rows["gene"], known, strict=True)],
        acceptor_pos=pd.array([None if exon is None else exon.acceptor for exon in known], dtype="Int64"),
        donor_pos=pd.array([None if exon is None else exon.donor for exon in known], dtype="Int64"),
    )
    bins = placed["chrom"] + ":" + (placed["pos"].astype(int) // 100_000).astype(str)
    group = placed["gene"].where(placed["gene"] != "", bins)
    return placed.assign(group=group, genome_chrom=placed["chrom"], genome_pos=placed["pos"])


def waiting_for(build: str) -> str:
    """The reason given for variants that a whole genome would make usable."""
    return f"waits for a whole genome (meta-spliceai data get {build.lower()}): no reference sequence at hand"


def finish(
    frame: pd.DataFrame,
    coverage: Coverage,
    source: Source,
    genome: SequenceSource,
    annotation: GeneAnnotation | None,
    options: Mapping[str, str],
) -> Loaded:
    """The last steps of every loader: the schema, one row per allele, every reference allele compared."""
    table, merging = merge_alleles(as_variant_table(frame, source.dataset.name), source.dataset.name)
    table, checked = check_reference(table, genome)
    if not isinstance(genome, IndexedFasta | MemoryGenome) and NO_SEQUENCE in checked.left_out:
        checked.left_out[waiting_for(genome.build)] = checked.left_out.pop(NO_SEQUENCE)
        checked.examples[waiting_for(genome.build)] = checked.examples.pop(NO_SEQUENCE)
    origin = source.origin if isinstance(genome, MemoryGenome) else f"{source.origin}; {genome_in_words(genome)}"
    coverage = coverage.then(merging).then(checked)
    return Loaded(table, coverage, genome, annotation, source.dataset, dict(options), origin)


def finish_lifted(
    frame: pd.DataFrame,
    coverage: Coverage,
    source: Source,
    asked: Asked,
    options: Mapping[str, str],
    *,
    one_gene: bool = True,
) -> Loaded:
    """`finish` in the build that is asked for, of variants placed in GRCh37; with `one_gene`, lifted variants that are
    not in exactly one gene are left out and counted."""
    wanted = build_name(asked.build)
    sequence = human_genome(wanted, asked.genome)
    genes = human_annotation(wanted, asked.annotation if wanted == GRCH37 else None)
    if wanted == GRCH38:
        chain = Chain(Path(asked.chain) if asked.chain else resources.resolve_edition(LIFT_OVER_CHAIN).path)
        frame, lifting = lift_over(as_variant_table(frame, "variants to lift over"), chain)
        coverage = coverage.then(lifting)
        if one_gene:
            frame, coverage = in_one_gene(frame, coverage, genes)
    return finish(frame, coverage, source, sequence, genes, {**options, "build": wanted})


def on_strand(alleles: pd.Series, minus: Bool[pd.Series, " rows"]) -> pd.Series:
    """Single bases, complemented where the row is on the other strand."""
    return alleles.where(~minus, alleles.str.translate(COMPLEMENT))


def reporter_loader(name: str, read: Callable[[Source], tuple[pd.DataFrame, Coverage]]) -> Callable[..., Loaded]:
    """The loader of a data set of exon reporters, with windows from the chromosome or from their own constructs.

    Columns beside the schema's: those that `read` adds, genome_chrom and genome_pos (GRCh37, in either context).

    Args:
        read: gives the variants of the file, and the account of its rows: GRCh37 coordinates and plus-strand alleles,
            strand, exon_id, exon_acceptor and exon_donor (the tested exon's sites, 1-based), and for the construct
            (transcript orientation) its name `construct`, its bases `construct_sequence`, and 0-based in it the
            variant's `construct_pos` and the exon's first base `exon_first`.
    """

    def load(
        context: str = GENOME,
        build: str = GRCH38,
        genome: str = AUTO,
        path: str | None = None,
        annotation: str | None = None,
        chain: str | None = None,
    ) -> Loaded:
        dataset = registry.get(name)
        check_context(context, CONTEXTS, dataset)
        source = source_file(dataset, path)
        frame, coverage = read(source)
        return _finish_reporter(frame, coverage, source, context, Asked(build, genome, annotation, chain))

    return load


def _finish_reporter(frame: pd.DataFrame, coverage: Coverage, source: Source, context: str, asked: Asked) -> Loaded:
    own = ["construct", "construct_sequence", "construct_pos", "exon_first", "exon_acceptor", "exon_donor"]
    frame = place_in_exons(frame, human_annotation(GRCH37, asked.annotation), coverage, strand_known=True)
    frame["group"] = frame["gene"].where(frame["gene"] != "", frame["exon_id"])
    # the tested exon's own sites, not those of the nearest annotated exon
    frame["acceptor_pos"], frame["donor_pos"] = frame["exon_acceptor"], frame["exon_donor"]
    if context == GENOME:
        return finish_lifted(frame.drop(columns=own), coverage, source, asked, {"context": context})
    name = f"{source.dataset.name} constructs"
    pairs = frame[["construct", "construct_sequence"]].drop_duplicates()
    twice = pairs["construct"].duplicated()
    if twice.any():
        first = pairs["construct"][twice].iloc[0]
        raise InputError(f"data set {source.dataset.name}: construct {first} has two sequences")
    library = MemoryGenome(dict(pairs.itertuples(index=False, name=None)), build=name, name=name)
    minus = frame["strand"] == "-"
    length = (frame["exon_donor"] - frame["exon_acceptor"]).abs() + 1
    frame = frame.assign(
        chrom=frame["construct"],
        pos=frame["construct_pos"] + 1,
        ref=on_strand(frame["ref"], minus),
        alt=on_strand(frame["alt"], minus),
        strand="+",
        acceptor_pos=(frame["exon_first"] + 1).astype("Int64"),
        donor_pos=(frame["exon_first"] + length).astype("Int64"),
    ).drop(columns=own)
    return finish(frame, coverage, source, library, None, {"context": context})
