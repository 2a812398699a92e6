"""packaged-human: human variants included in the package, with the sequence around them and one network's scores; and
a part of them as a VCF with a genome, to try the commands on.

CI-SpliceAI's validated variants and MaPSy's, made from the originals by `tools/make_packaged_data.py`. A variant
stands on its chromosome where the sequence around it could be packed, and otherwise in its reporter construct; the
column `context` says which.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from meta_spliceai import resources
from meta_spliceai.datasets.human import CONSTRUCT, CONTEXTS, GENOME, check_context
from meta_spliceai.datasets.registry import Loaded, of_package
from meta_spliceai.errors import InputError
from meta_spliceai.files import atomic_write, whole_file
from meta_spliceai.resources.registry import DESCRIPTION, SEQUENCE, VARIANTS
from meta_spliceai.splice_engine.genome.packed import PackedGenome
from meta_spliceai.splice_engine.genome.sequence import CHROMOSOME_LENGTHS, GRCH38, N_CODE, decode
from meta_spliceai.splice_engine.variants.table import (
    NORMAL,
    SPLICE_ALTERING,
    Coverage,
    as_variant_table,
    describe,
)

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


DATASET = of_package("packaged-human", label_by_source, load)


CHROMOSOME = "17"
"""Of the example: the one with the most genes whose variants have all of their sequence packaged."""

AROUND = 5_050
"""Bases on either side of a variant that decide its scores within 50 bases: 50, and the 5,000 that a network reads."""


class Example(NamedTuple):
    """The files of the example, its variants, and how many bases of its chromosome are known."""

    genome: Path
    vcf: Path
    variants: pd.DataFrame
    bases: int


def write_example(folder: Path, most: int = 3) -> Example:
    """Write a VCF of measured variants, and their chromosome at its full length, N where no sequence is packaged.

    Args:
        most: variants of each class of each gene; all of them have every base within `AROUND`.

    Raises:
        InputError: one of the files is there already.
    """
    import pysam

    contig, length = f"chr{CHROMOSOME}", CHROMOSOME_LENGTHS[GRCH38][CHROMOSOME]
    fasta, vcf = folder / f"{contig}.fa.gz", folder / "variants.vcf"
    for path in (fasta, vcf):
        if path.exists():
            raise InputError(f"{path} is there already and was left as it is; name another folder, or delete it")
    loaded = load(GENOME)
    codes, table = loaded.genome.fetch(contig, 0, length), loaded.variants
    table = table[(table["chrom"] == CHROMOSOME) & table["classification"].isin((NORMAL, SPLICE_ALTERING))]
    ends = table["pos"] - 1 + table["ref"].str.len()
    windows = zip(table["pos"] - 1 - AROUND, ends + AROUND, strict=True)
    whole = [bool((codes[start:end] != N_CODE).all()) for start, end in windows]
    table = table[whole].groupby(["gene", "classification"]).head(most).sort_values(["pos", "ref", "alt"])

    bases = decode(codes)
    with whole_file(fasta) as temporary, pysam.BGZFile(str(temporary), "wb", None) as packed:
        lines = (bases[at : at + 60] for at in range(0, length, 60))
        packed.write("\n".join([f">{contig}", *lines, ""]).encode())
    with atomic_write(vcf) as handle:
        handle.write(
            f"##fileformat=VCFv4.2\n##source={DATASET.name}: {DATASET.citation}; {DATASET.licence}\n"
            f"##contig=<ID={contig},length={length},assembly={GRCH38}>\n"
            '##INFO=<ID=MEASURED,Number=1,Type=String,Description="Class of the measured effect on splicing">\n'
            '##INFO=<ID=SOURCE,Number=.,Type=String,Description="Data set that the measurement comes from">\n'
            "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        )
        for row in table.itertuples():
            info = f"MEASURED={row.classification};SOURCE={row.source}"
            handle.write(f"{contig}\t{row.pos}\t.\t{row.ref}\t{row.alt}\t.\t.\t{info}\n")
    return Example(fasta, vcf, table, int((codes != N_CODE).sum()))
