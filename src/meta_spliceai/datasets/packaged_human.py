"""packaged-human: human variants included in the package, with the sequence around them and one network's scores.

CI-SpliceAI's validated variants and MaPSy's, made from the originals by `tools/make_packaged_data.py`. A variant
stands on its chromosome where the sequence around it could be packed, and otherwise in its reporter construct; the
column `context` says which.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from meta_spliceai import resources
from meta_spliceai.datasets.human import CONSTRUCT, CONTEXTS, GENOME, check_context
from meta_spliceai.datasets.registry import DataSet, Loaded, register
from meta_spliceai.resources.registry import DESCRIPTION, SEQUENCE, VARIANTS
from meta_spliceai.splice_engine.genome.packed import PackedGenome
from meta_spliceai.splice_engine.genome.sequence import GRCH38
from meta_spliceai.splice_engine.variants.table import Coverage, as_variant_table, describe

EITHER = "either"

ORIGIN = "the package itself"
"""What a result says it was read from."""

OTHER_CONTEXT = {GENOME: "stands in its construct", CONSTRUCT: "stands on its chromosome"}
"""Why a row is left out where one context only was asked for."""


def label_by_source(classifications: Sequence[str]) -> list[str]:
    """Each source's own rule gives its classes.

    CI-SpliceAI: splicing was seen to change in a functional assay (Splice-altering) or not to (Normal). MaPSy:
    Splice-altering is the authors' call (at least 1.5-fold changed in cells and in extract), Normal is less than a
    factor of 1.22 in both with counts that would have shown a change, Low-frequency everything between. An allele on
    which the two disagree is Conflicting.
    """
    return list(classifications)


def load(context: str = EITHER) -> Loaded:
    """The packaged variants as a variant table.

    Args:
        context: "genome" (only variants on their chromosome, GRCh38, N where no sequence was at hand), "construct"
            (only those in 170-base reporter constructs, transcript orientation, N around them) or "either".

    Columns beside the schema's: context, genome_chrom and genome_pos (GRCh38, in either context), effect_type and the
    observed sites acceptors_lost, donors_lost, acceptors_gained, donors_gained (CI-SpliceAI's, 1-based), exon_id,
    log2_vitro_ratio, vivo_error, vitro_error, called (MaPSy's), measurements.
    """
    check_context(context, (*CONTEXTS, EITHER), DATASET)
    description = json.loads(_file(DESCRIPTION).read_text(encoding="utf-8"))
    table = as_variant_table(pd.read_parquet(_file(VARIANTS)), DATASET.name)
    coverage = Coverage.from_json(description["coverage"])
    if context != EITHER:
        asked = table["context"] == context
        drawn = Coverage(len(table))
        drawn.leave_out(OTHER_CONTEXT[context], (describe(row) for _, row in table[~asked].iterrows()))
        table, coverage = table[asked].reset_index(drop=True), coverage.then(drawn)
    digest = resources.get("packaged-human").file(SEQUENCE).sha256
    genome = PackedGenome(_file(SEQUENCE), "packaged sequence", GRCH38, digest, sparse=True)
    return Loaded(table, coverage, genome, None, DATASET, {"context": context}, ORIGIN)


def _file(path: str) -> Path:
    return resources.resolve_file("packaged-human", path)


DATASET = register(
    DataSet(
        name="packaged-human",
        title="Human variants that travel with the package: CI-SpliceAI's validated ones and MaPSy's",
        resource="packaged-human",
        build=GRCH38,
        rows=5_435,
        effect="MaPSy's: log2 of the mutant's spliced-to-input ratio over the wild type's, in vivo; negative = less "
        "spliced",
        label_rule=label_by_source,
        loader=load,
        notes="Two sources of different difficulty: read results beside the baseline `assay source`, and by the strata "
        "`source` and `context`. Nothing is on chr1 and chr9.",
    )
)
