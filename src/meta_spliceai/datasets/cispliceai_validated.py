"""cispliceai-validated: literature variants with the splice sites that were lost and gained (Strauch et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from meta_spliceai.datasets import human
from meta_spliceai.datasets.registry import Loaded, of_package
from meta_spliceai.splice_engine.genome.human_genome import AUTO, human_genome
from meta_spliceai.splice_engine.genome.sequence import GRCH38
from meta_spliceai.splice_engine.variants.table import NORMAL, SPLICE_ALTERING, Coverage

GOLD = {"AL": "acceptors_lost", "DL": "donors_lost", "AG": "acceptors_gained", "DG": "donors_gained"}
"""The file's column: ours. 1-based GRCh38 positions joined by ";", empty where the outcome is not known."""

EFFECT_TYPES = (
    "normal", "skip", "retention", "alternative donor", "alternative acceptor", "multiple", "unknown disruption",
)  # fmt: skip

COLUMNS = ("ID", "#CHROM", "POS", "REF", "ALT", "strand", "SpliceAffecting", "Origin", "effect_type", *GOLD)


def label_by_authors(affecting: Sequence[str]) -> list[str]:
    """Classes of cispliceai-validated from its column SpliceAffecting.

    1, splicing was seen to change in a functional assay, is Splice-altering; 0, it was seen not to change, is Normal.
    The compilation has no measured amounts, so that nothing is Low-frequency.
    """
    return [SPLICE_ALTERING if value == "1" else NORMAL for value in affecting]


def load(genome: str = AUTO, path: str | None = None, annotation: str | None = None) -> Loaded:
    """The validated variants as a variant table, GRCh38.

    Args: as `datasets.human` says.

    Columns beside the schema's: effect_type (normal, skip, retention, alternative donor, alternative acceptor,
    multiple, unknown disruption), acceptors_lost, donors_lost, acceptors_gained, donors_gained (gold positions),
    genome_chrom, genome_pos.
    """
    source = human.source_file(DATASET, path)
    frame = read_variants(source)
    coverage = Coverage(len(frame))
    genes = human.human_annotation(GRCH38, annotation)
    frame = human.place_in_exons(frame, genes, coverage, strand_known=True)
    return human.finish(frame, coverage, source, human_genome(GRCH38, genome), genes, {"build": GRCH38})


def read_variants(source: human.Source) -> pd.DataFrame:
    """All variants of the file, classes and gold positions set."""
    where = str(source.path)
    rows = human.read_rows(source, ",", COLUMNS)
    affecting = human.only(rows, "SpliceAffecting", ("0", "1"), where)
    return pd.DataFrame(
        {
            "variant_id": rows["ID"],
            "chrom": rows["#CHROM"],
            "pos": human.whole_numbers(rows, "POS", where),
            "ref": rows["REF"],
            "alt": rows["ALT"],
            "strand": rows["strand"],
            "gene": "",
            "classification": label_by_authors(affecting.tolist()),
            "source": "CI-SpliceAI",
            "method": rows["Origin"].str.strip(),
            "effect_type": human.only(rows, "effect_type", EFFECT_TYPES, where),
            **{ours: _positions(rows, theirs, where) for theirs, ours in GOLD.items()},
        }
    )


def _positions(rows: pd.DataFrame, column: str, where: str) -> pd.Series:
    """Positions joined by ";" as whole numbers, in the file's order."""
    parts = rows[column].str.split(";").explode().str.strip().str.removesuffix(".0")
    wrong = ~parts.str.fullmatch("[0-9]*")
    human.refuse(wrong.groupby(level=0).any(), rows, column, where, "1-based positions joined by ';'")
    return parts[parts != ""].groupby(level=0).agg(";".join).reindex(rows.index, fill_value="")


DATASET = of_package("cispliceai-validated", label_by_authors, load)
