"""splicevardb, the user's own download, and splicevardb-open, a table of open sources in the same format.

The format is tab-separated with quoted fields: variant_id, hg19 and hg38 (`chrom-pos-ref-alt`, plus strand), gene,
hgvs, method and doi (several, separated by commas), classification, location. It has no strand and no exon: both come
from the annotation (`tested_exon`), which may name another gene where the file's own is not in it.
"""

from __future__ import annotations

import pandas as pd

from meta_spliceai import resources
from meta_spliceai.datasets import human
from meta_spliceai.datasets.open_sources import COLUMNS, build_open_sources, built_table, open_sources_file
from meta_spliceai.datasets.registry import Built, DataSet, Loaded, register
from meta_spliceai.errors import InputError, MissingResourceError
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.genome.builds import GRCH37, build_name
from meta_spliceai.splice_engine.genome.human_genome import AUTO, human_genome
from meta_spliceai.splice_engine.variants.coverage import Coverage
from meta_spliceai.splice_engine.variants.table import CLASSES

_COORDINATE = r"^(?P<chrom>[0-9A-Za-z_.]+)-(?P<pos>[1-9][0-9]{0,11})-(?P<ref>[ACGTacgt]+)-(?P<alt>[ACGTacgt]+)$"


def label_as_downloaded(classification: str) -> str:
    """Classes are the file's own column "classification".

    SpliceVarDB's curators call a variant Splice-altering, Normal, Low-frequency (altering in a small share of
    transcripts, or between the two) or Conflicting (assays disagree). For the open sources the same words follow each
    source's numbers: MFASS ΔPSI at most -0.5 is Splice-altering and below 0.03 in size Normal.

    Nearly all Normal calls come from two reporter assays, and some sources have one class only: a look-up of the
    assay alone tells the class well. Read results beside that baseline.
    """
    return classification


def load_download(
    path: str | None = None, build: str = "GRCh38", genome: str = AUTO, annotation: str | None = None
) -> Loaded:
    """The user's own download.

    Args:
        path: the file from splicevardb.org. Required: nothing stands in for it.
        build: whose coordinates to take.
        genome, annotation: as `datasets.human` says, of that build.

    Columns beside the schema's: hgvs, location, measurements, genome_chrom, genome_pos.
    """
    if path is None:
        raise MissingResourceError(
            f"data set splicevardb needs your own download: {resources.get('splicevardb').how_to_get}; or use the open "
            "sources in the same format: data set splicevardb-open"
        )
    return _load(human.source_file(DATASET, path), build, genome, annotation)


def load_open(
    path: str | None = None, build: str = "GRCh38", genome: str = AUTO, annotation: str | None = None
) -> Loaded:
    """MFASS, MaPSy, CI-SpliceAI's and the deep intronic variants in one table (see `build_open_sources`).

    Args: as `load_download`; without a path, the development copy or the table built on this machine is read.
    """
    return _load(open_sources_file(OPEN) if path is None else human.source_file(OPEN, path), build, genome, annotation)


def _load(source: human.Source, build: str, genome: str, annotation: str | None) -> Loaded:
    wanted = build_name(build)
    genes = human.human_annotation(wanted, annotation)
    frame, coverage = read_splicevardb(source, wanted, genes)
    return human.finish(frame, coverage, source, human_genome(wanted, genome), genes, {"build": wanted})


def read_splicevardb(source: human.Source, build: str, annotation: GeneAnnotation) -> tuple[pd.DataFrame, Coverage]:
    """The file's variants with strand, gene and exon, before alleles that stand in several rows are merged.

    Args:
        source: the file.
        build: whose coordinates to take.
        annotation: genes of the same build.

    Raises:
        InputError: a missing column, a malformed coordinate, an allele not made of A, C, G, T, or an unknown class
            (with its line).
    """
    where = str(source.path)
    rows = human.read_rows(source, "\t", COLUMNS)
    human.only(rows, "classification", CLASSES, where)
    coverage = Coverage(len(rows))
    column = "hg19" if build_name(build) == GRCH37 else "hg38"
    rows = human.without(rows, rows[column].str.strip() == "", human.NO_COORDINATE, coverage, "variant_id")
    parts = rows[column].str.strip().str.extract(_COORDINATE)
    bad = parts["pos"].isna()
    if bad.any():
        line = bad.idxmax()
        raise InputError(
            f"{where}, line {line}: {column} is '{rows.loc[line, column]}', expected chrom-pos-ref-alt with alleles "
            f"made of A, C, G, T, like 13-32890548-CTGT-C ({int(bad.sum())} such rows; correct or remove them)"
        )
    pos = parts["pos"].astype("int64")
    frame = rows[["variant_id", "gene", "classification", "hgvs", "location"]].assign(
        chrom=parts["chrom"],
        pos=pos,
        ref=parts["ref"].str.upper(),
        alt=parts["alt"].str.upper(),
        source=rows["doi"].map(_each_once),
        method=rows["method"].map(_each_once),
    )
    return human.place_in_exons(frame, annotation, coverage, strand_known=False), coverage


def _each_once(text: str) -> str:
    """Comma-separated words, each once, in order of appearance."""
    return ",".join(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


_NOTES = "The file's Normal calls come almost all from MFASS and MaPSy; report by assay."

DATASET = register(
    DataSet(
        name="splicevardb",
        title="SpliceVarDB, the user's own download (path=FILE)",
        resource="splicevardb",
        build="GRCh37 and GRCh38",
        rows=50_715,
        effect="not in the file",
        label_rule=label_as_downloaded,
        loader=load_download,
        notes=_NOTES + " The number of rows is that of the site's table as described by its users; yours is shown.",
    )
)

OPEN = register(
    DataSet(
        name="splicevardb-open",
        title="Open sources (MFASS, MaPSy, CI-SpliceAI, deep intronic) in SpliceVarDB's download format",
        resource="splicevardb-open",
        build="GRCh37 and GRCh38",
        rows=27_775,
        effect="not in the file",
        label_rule=label_as_downloaded,
        loader=load_open,
        notes=_NOTES,
        built=Built(built_table, build_open_sources),
    )
)
