"""deep-intronic: variants far from annotated sites that do or do not affect splicing (Barbosa et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from meta_spliceai.datasets import human
from meta_spliceai.datasets.registry import Loaded, of_package
from meta_spliceai.splice_engine.genome.human_genome import AUTO, human_genome
from meta_spliceai.splice_engine.genome.sequence import GRCH37, build_name
from meta_spliceai.splice_engine.variants.table import NORMAL, SPLICE_ALTERING, UNKNOWN, Coverage

POPULATION = ("gnomAD_v2.1",)
"""Sources that are population data: nobody has assayed these variants."""

COLUMNS = (
    "Chromosome", "Position_hg19", "Position_hg38", "Ref", "Alt", "Gene_name", "HGVSc", "Affects_splicing",
    "Functional_consequence", "Major_group", "Data_Source",
)  # fmt: skip


def label_by_outcome(affects: Sequence[str], sources: Sequence[str]) -> list[str]:
    """Classes of deep-intronic from its columns Affects_splicing and Data_Source.

    TRUE is Splice-altering. FALSE is Normal where an assay says so, and Unknown where the variant was only taken from
    the population (gnomAD) and supposed to be harmless: a supposition is no measurement.

    Altering and not altering variants come from different sources throughout (`data show deep-intronic` prints the
    table), so that whatever tells the sources apart tells the classes apart. Use this set for testing, and read
    results within one kind of change.
    """
    return [
        SPLICE_ALTERING if value == "TRUE" else UNKNOWN if source in POPULATION else NORMAL
        for value, source in zip(affects, sources, strict=True)
    ]


def classes_by_source(loaded: Loaded) -> pd.DataFrame:
    """Class counts of each source: how far the source alone tells the class."""
    return pd.crosstab(loaded.variants["source"], loaded.variants["classification"]).reset_index()


def load(build: str = "GRCh38", genome: str = AUTO, path: str | None = None, annotation: str | None = None) -> Loaded:
    """The deep intronic variants as a variant table; the file has both builds, so that nothing is lifted over.

    Args: as `datasets.human` says.

    Columns beside the schema's: hgvs, consequence, major_group, genome_chrom, genome_pos.
    """
    wanted = build_name(build)
    source = human.source_file(DATASET, path)
    rows = read_source(source)
    coverage = Coverage(len(rows))
    column = "Position_hg19" if wanted == GRCH37 else "Position_hg38"
    pos = human.numbers(rows, column, str(source.path), least=1)
    rows = human.without(rows, pos.isna(), human.NO_COORDINATE, coverage, "HGVSc")
    frame = pd.DataFrame(
        {
            "variant_id": [f"deep-intronic-{line}" for line in rows.index],
            "chrom": rows["Chromosome"],
            "pos": pos[rows.index].astype("int64"),
            "ref": rows["Ref"],
            "alt": rows["Alt"],
            "gene": rows["Gene_name"],
            "classification": label_by_outcome(rows["Affects_splicing"].tolist(), rows["Data_Source"].tolist()),
            "source": rows["Data_Source"],
            "method": rows["Data_Source"],
            "hgvs": rows["HGVSc"],
            "consequence": rows["Functional_consequence"],
            "major_group": rows["Major_group"],
        }
    )
    genes = human.human_annotation(wanted, annotation)
    frame = human.place_in_exons(frame, genes, coverage, strand_known=False)
    return human.finish(frame, coverage, source, human_genome(wanted, genome), genes, {"build": wanted})


def read_source(source: human.Source) -> pd.DataFrame:
    """The file's rows as text, Affects_splicing as TRUE or FALSE."""
    rows = human.read_rows(source, "\t", COLUMNS)
    rows["Affects_splicing"] = rows["Affects_splicing"].str.upper()
    human.only(rows, "Affects_splicing", ("TRUE", "FALSE"), str(source.path))
    return rows


DATASET = of_package("deep-intronic", label_by_outcome, load, classes_by_source)
