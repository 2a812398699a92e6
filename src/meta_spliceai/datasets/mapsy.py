"""mapsy: disease variants spliced in cells and in nuclear extract, as 170-nt constructs (Soemedi et al. 2017)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float

from meta_spliceai.datasets import human
from meta_spliceai.datasets.registry import Loaded, of_package
from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.variants.table import LOW_FREQUENCY, NORMAL, SPLICE_ALTERING, Coverage

ADAPTER = 15
"""Bases of the library's own adapters at either end of the 200-nt sequences; 170 between them are genomic."""

NORMAL_LOG2 = float(np.log2(1.5) / 2)
"""Half of the authors' threshold of a 1.5-fold change, in log2."""

COLUMNS = (
    "ID", "WT_SEQ", "MUT_SEQ", "chr", "strand", "Exon_Start", "Exon_End", "acceptor", "donor", "ESM",
    "log2_vivo_ratio", "log2_vitro_ratio", "Vivo_WT_Spliced", "Vivo_MUT_Spliced", "Vivo_WT_Input", "Vivo_MUT_Input",
    "Vitro_WT_Spliced", "Vitro_MUT_Spliced", "Vitro_WT_Input", "Vitro_MUT_Input",
)  # fmt: skip


def label_by_both_assays(
    called: Float[np.ndarray, " variants"],
    vivo: Float[np.ndarray, " variants"],
    vitro: Float[np.ndarray, " variants"],
    vivo_error: Float[np.ndarray, " variants"],
    vitro_error: Float[np.ndarray, " variants"],
) -> list[str]:
    """Classes of MaPSy from the authors' call and the two allelic log2 ratios.

    Splice-altering: the authors' call ("ESM"): at least 1.5-fold changed in cells and in extract, in the same way
    and significantly, up or down.
    Normal: not called, both ratios within half of that threshold (less than a factor of 1.22), and both counted well
    enough that a 1.5-fold change would have been two standard errors of counting.
    Low-frequency: everything between, and what was counted too thinly to be called unchanged.

    The standard error of a log2 ratio of four counts is sqrt(1/a + 1/b + 1/c + 1/d) / ln 2 (Poisson counting, half a
    read added to each); it leaves out all other noise, so that it only ever bars a call of Normal.

    Args:
        called: 1 where the authors call the variant, else 0.
        vivo, vitro: log2 of the mutant's spliced-to-input ratio over the wild type's; NaN where it is not defined.
        vivo_error, vitro_error: their standard errors of counting.
    """
    calm = (np.abs(vivo) < NORMAL_LOG2) & (np.abs(vitro) < NORMAL_LOG2)
    counted = (vivo_error <= NORMAL_LOG2) & (vitro_error <= NORMAL_LOG2)
    altering, normal = called == 1, (called == 0) & calm & counted
    return np.select([altering, normal], [SPLICE_ALTERING, NORMAL], LOW_FREQUENCY).tolist()


def assay_agreement(loaded: Loaded) -> pd.DataFrame:
    """How the two assays agree by class: correlation of their log2 ratios, and how often they have the same sign."""
    table = loaded.variants.dropna(subset=["effect", "log2_vitro_ratio"])
    lines = []
    for name, rows in table.groupby("classification"):
        same = np.sign(rows["effect"]) == np.sign(rows["log2_vitro_ratio"])
        lines.append((name, len(rows), rows["effect"].corr(rows["log2_vitro_ratio"]), same.mean()))
    return pd.DataFrame(lines, columns=["class", "variants", "r of in vivo and in vitro", "same direction"])


def read_variants(source: human.Source) -> tuple[pd.DataFrame, Coverage]:
    """All variants with GRCh37 coordinates and plus-strand alleles, and their constructs: the 170 genomic bases, one
    contig a wild-type sequence.

    Columns beside the schema's: exon_id, log2_vitro_ratio, vivo_error, vitro_error, called.

    The exon is found in the construct by the 15 bases the file lists before and behind it; its genomic place then
    gives that of the changed base.
    """
    where = str(source.path)
    with source.path.open("rb") as handle:
        separator = "\t" if b"\t" in handle.readline() else ","
    rows = human.read_rows(source, separator, COLUMNS)
    start = human.whole_numbers(rows, "Exon_Start", where)
    end = human.whole_numbers(rows, "Exon_End", where)
    found: dict[str, list[object]] = {name: [] for name in ("construct_pos", "ref", "alt", "exon_first", "pos")}
    columns = (rows["WT_SEQ"], rows["MUT_SEQ"], rows["acceptor"], rows["donor"], rows["strand"], start, end)
    for line, wild, mutant, acceptor, donor, strand, first, last in zip(rows.index, *columns, strict=True):
        changed = [at for at, (one, two) in enumerate(zip(wild, mutant, strict=False)) if one != two]
        length = last - first + 1
        behind = len(acceptor)
        exons = [
            at + behind
            for at in range(len(wild))
            if wild.startswith(acceptor, at) and wild.startswith(donor, at + behind + length)
        ]
        fits = len(wild) == len(mutant) == 200 and len(changed) == 1 and len(exons) == 1 and strand in ("+", "-")
        if not fits or not ADAPTER <= changed[0] < len(wild) - ADAPTER:
            raise InputError(
                f"{where}, line {line}: {rows.loc[line, 'ID']}: expected two sequences of 200 bases that differ in one "
                f"genomic base, with one exon of {length} bases; found {len(changed)} changes, {len(exons)} such exons"
            )
        offset = changed[0] - exons[0]
        found["construct_pos"].append(changed[0] - ADAPTER)
        found["exon_first"].append(exons[0] - ADAPTER)
        found["ref"].append(wild[changed[0]])
        found["alt"].append(mutant[changed[0]])
        found["pos"].append(first + offset if strand == "+" else last - offset)
    place = pd.DataFrame(found, index=rows.index)
    minus = rows["strand"] == "-"
    vivo, vitro = (
        human.numbers(rows, column, where).replace([np.inf, -np.inf], np.nan)
        for column in ("log2_vivo_ratio", "log2_vitro_ratio")
    )
    errors = {assay: _counting_error(rows, assay, where) for assay in ("Vivo", "Vitro")}
    called = human.numbers(rows, "ESM", where)
    exon = rows["chr"] + ":" + start.astype(str) + "-" + end.astype(str)
    wildtype = rows["WT_SEQ"].str[ADAPTER:-ADAPTER]
    arrays = (series.to_numpy(dtype=float) for series in (called, vivo, vitro, errors["Vivo"], errors["Vitro"]))
    frame = pd.DataFrame(
        {
            "variant_id": rows["ID"],
            "chrom": rows["chr"],
            "pos": place["pos"],
            "ref": human.on_strand(place["ref"], minus),
            "alt": human.on_strand(place["alt"], minus),
            "strand": rows["strand"],
            "gene": "",
            "classification": label_by_both_assays(*arrays),
            "effect": vivo,
            "source": "MaPSy",
            "method": "MaPSy",
            "exon_id": exon,
            "log2_vitro_ratio": vitro,
            "vivo_error": errors["Vivo"],
            "vitro_error": errors["Vitro"],
            "called": called == 1,
            "construct": exon + "#" + pd.Series(pd.factorize(wildtype)[0], index=rows.index).astype(str),
            "construct_sequence": wildtype,
            "construct_pos": place["construct_pos"],
            "exon_first": place["exon_first"],
            "exon_acceptor": start.where(~minus, end).astype("Int64"),
            "exon_donor": end.where(~minus, start).astype("Int64"),
        }
    )
    return frame, Coverage(len(frame))


def _counting_error(rows: pd.DataFrame, assay: str, where: str) -> pd.Series:
    counts = [
        human.numbers(rows, f"{assay}_{allele}_{state}", where) + 0.5
        for allele in ("WT", "MUT")
        for state in ("Spliced", "Input")
    ]
    return np.sqrt(sum(1 / count for count in counts)) / np.log(2)


DATASET = of_package("mapsy", label_by_both_assays, human.reporter_loader("mapsy", read_variants), assay_agreement)
