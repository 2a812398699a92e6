"""splicevardb, the user's own download, and splicevardb-open, a table of open sources in the same format."""

from __future__ import annotations

from meta_spliceai import resources
from meta_spliceai.datasets.human import Source, finish, human_annotation, source_file
from meta_spliceai.datasets.open_sources import build_open_sources, built_table, open_sources_file
from meta_spliceai.datasets.registry import Built, DataSet, Loaded, register
from meta_spliceai.errors import IntegrityError, MissingResourceError
from meta_spliceai.splice_engine.genome.builds import build_name
from meta_spliceai.splice_engine.genome.human_genome import AUTO, human_genome
from meta_spliceai.splice_engine.variants.splicevardb import read_splicevardb


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
        genome: "auto", "regions", or a FASTA file of that build.
        annotation: genes, for strand and exons; SpliceAI's table of that build by default.
    """
    if path is None:
        raise MissingResourceError(
            f"data set splicevardb needs your own download: {resources.get('splicevardb').how_to_get}; or use the open "
            "sources in the same format: data set splicevardb-open"
        )
    return _load(source_file(DATASET, path), build, genome, annotation)


def load_open(
    path: str | None = None, build: str = "GRCh38", genome: str = AUTO, annotation: str | None = None
) -> Loaded:
    """MFASS, MaPSy, CI-SpliceAI's and the deep intronic variants in one table (see `build_open_sources`).

    Args: as `load_download`; without a path, the development copy or the table built on this machine is read.
    """
    return _load(open_sources_file(OPEN) if path is None else source_file(OPEN, path), build, genome, annotation)


def _load(source: Source, build: str, genome: str, annotation: str | None) -> Loaded:
    wanted = build_name(build)
    genes = human_annotation(wanted, annotation)
    table, coverage = read_splicevardb(source.path, wanted, genes)
    if source.rows not in (None, coverage.read):
        raise IntegrityError(f"data set {source.dataset.name}: {coverage.read} rows, expected {source.rows}")
    table["genome_chrom"], table["genome_pos"] = table["chrom"], table["pos"]
    return finish(table, coverage, source, human_genome(wanted, genome), genes, {"build": wanted})


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
