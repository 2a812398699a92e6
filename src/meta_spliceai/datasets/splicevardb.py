"""splicevardb, the user's own download, and splicevardb-open, a table of open sources in the same format."""

from __future__ import annotations

from pathlib import Path

from meta_spliceai import resources
from meta_spliceai.datasets.human import REGIONS, human_annotation, human_genome, source_file
from meta_spliceai.datasets.registry import DataSet, Loaded, register
from meta_spliceai.errors import IntegrityError, MissingResourceError
from meta_spliceai.resources import Resource
from meta_spliceai.resources.human import SPLICEVARDB_OPEN
from meta_spliceai.splice_engine.genome.builds import build_name
from meta_spliceai.splice_engine.variants.allele_check import check_reference
from meta_spliceai.splice_engine.variants.splicevardb import read_splicevardb

SPLICEVARDB = resources.register(
    Resource(
        name="splicevardb",
        title="SpliceVarDB: splicing variants validated by assays, of many publications",
        source="https://splicevardb.org (downloaded by the user)",
        licence="academic use; see the site's terms",
        citation="Sullivan et al. 2024, American Journal of Human Genetics, doi 10.1016/j.ajhg.2024.08.002",
        files=(),
        how_to_get="download the table from splicevardb.org and give it with path=FILE",
    )
)


def label_as_downloaded(classification: str) -> str:
    """Classes are the file's own column "classification".

    SpliceVarDB's curators call a variant Splice-altering, Normal, Low-frequency (altering in a small share of
    transcripts, or between the two) or Conflicting (assays disagree). For the open sources the same words follow each
    source's numbers: MFASS ΔPSI at most -0.5 is Splice-altering and below 0.03 in size Normal.

    Nearly all Normal calls come from two reporter assays, and some sources have one class only: a look-up of the
    assay alone tells the class well. Read results beside that row zero.
    """
    return classification


def load_download(
    path: str | None = None, build: str = "GRCh38", genome: str = REGIONS, annotation: str | None = None
) -> Loaded:
    """The user's own download.

    Args:
        path: the file from splicevardb.org. Required: nothing stands in for it.
        build: whose coordinates to take.
        genome: "regions", or a FASTA file of that build.
        annotation: genes, for strand and exons; SpliceAI's table of that build by default.
    """
    if path is None:
        raise MissingResourceError(
            "data set splicevardb needs the user's own download: get the table from splicevardb.org and give it with "
            "path=FILE; or use the open sources in the same format: data set splicevardb-open"
        )
    return _load(DATASET, path, build, genome, annotation)


def load_open(
    path: str | None = None, build: str = "GRCh38", genome: str = REGIONS, annotation: str | None = None
) -> Loaded:
    """MFASS, MaPSy, CI-SpliceAI's and the deep intronic variants in one table.

    Args: as `load_download`; without a path, the registered copy is read.
    """
    return _load(OPEN, path, build, genome, annotation)


def _load(dataset: DataSet, path: str | None, build: str, genome: str, annotation: str | None) -> Loaded:
    wanted = build_name(build)
    genes = human_annotation(wanted, annotation)
    table, coverage = read_splicevardb(Path(source_file(dataset, path)), wanted, genes)
    if path is None and coverage.read != dataset.rows:
        raise IntegrityError(f"data set {dataset.name}: {coverage.read} rows, expected {dataset.rows}")
    table["genome_chrom"], table["genome_pos"] = table["chrom"], table["pos"]
    sequence = human_genome(wanted, genome)
    table, checked = check_reference(table, sequence)
    return Loaded(table, coverage.then(checked), sequence, genes, dataset, {"build": wanted})


_NOTES = "The file's Normal calls come almost all from MFASS and MaPSy; report by assay."

DATASET = register(
    DataSet(
        name="splicevardb",
        title="SpliceVarDB, the user's own download (path=FILE)",
        resource=SPLICEVARDB.name,
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
        resource=SPLICEVARDB_OPEN.name,
        build="GRCh37 and GRCh38",
        rows=27_775,
        effect="not in the file",
        label_rule=label_as_downloaded,
        loader=load_open,
        notes=_NOTES,
    )
)
