"""mfass: human single-nucleotide variants in 170-nt exon reporters (Cheung et al. 2019)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float

from meta_spliceai.datasets import human
from meta_spliceai.datasets.registry import Loaded, of_package
from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.variants.table import LOW_FREQUENCY, NORMAL, SPLICE_ALTERING, Coverage

ALTERING_DPSI = -0.5
NORMAL_DPSI = 0.03

NOT_A_MUTANT = "natural or control construct, no single variant"
NOT_MEASURED = "no ΔPSI (too few reads)"

COLUMNS = (
    "id", "ensembl_id", "category", "chr", "start", "end", "strand", "intron1_len", "exon_len", "intron2_len",
    "ref_allele", "alt_allele", "snp_position", "natural_seq", "original_seq", "label", "v2_dpsi", "v2_dpsi_R1",
    "v2_dpsi_R2", "v2_index", "nat_v2_index",
)  # fmt: skip


def label_by_dpsi(dpsi: Float[np.ndarray, " variants"]) -> list[str]:
    """Classes of MFASS from ΔPSI (inclusion of the variant minus inclusion of its wild type), by SpliceVarDB's rule.

    Splice-altering: ΔPSI at most -0.5, at least half of the inclusion lost (the authors' "strong loss of function").
    Normal: |ΔPSI| below 0.03. Low-frequency: everything between, gains of inclusion among them.

    The library holds exons that are almost fully included (mean wild-type inclusion above 0.9), so that a gain cannot
    show; the rule therefore looks at losses only. `data show mfass` prints how far the two replicates differ: more
    than the 0.03 that separates Normal, far less than the 0.5 that makes Splice-altering. Single Normal calls are less
    certain than Splice-altering ones.
    """
    altering, normal = dpsi <= ALTERING_DPSI, np.abs(dpsi) < NORMAL_DPSI
    return np.select([altering, normal], [SPLICE_ALTERING, NORMAL], LOW_FREQUENCY).tolist()


def replicate_agreement(loaded: Loaded) -> pd.DataFrame:
    """How far the two replicates' ΔPSI differ: by class, and how often the second one repeats the first one's class."""
    table = loaded.variants.dropna(subset=["dpsi_r1", "dpsi_r2"])
    difference = table["dpsi_r1"] - table["dpsi_r2"]
    spread = (difference - difference.median()).abs()
    again = pd.Series(label_by_dpsi(table["dpsi_r2"].to_numpy()), index=table.index)
    first = pd.Series(label_by_dpsi(table["dpsi_r1"].to_numpy()), index=table.index)
    lines = []
    for name in (SPLICE_ALTERING, LOW_FREQUENCY, NORMAL):
        rows = first == name
        lines.append((name, int(rows.sum()), 1.4826 * spread[rows].median(), (again[rows] == name).mean()))
    return pd.DataFrame(
        lines, columns=["class in replicate 1", "variants", "sd of the replicates' difference", "same in replicate 2"]
    )


def read_mutants(source: human.Source) -> tuple[pd.DataFrame, Coverage]:
    """The measured single variants with GRCh37 coordinates and alleles on the plus strand, and their constructs: the
    reporter's 170 bases, one contig per exon; from the R object (`.RData`), or its content as TSV.

    Columns beside the schema's: exon_id, region (exon, upstr_intron, downstr_intron), inclusion, wildtype_inclusion,
    dpsi_r1 and dpsi_r2 (replicates).
    """
    where = str(source.path)
    if source.path.suffix.lower() in (".rdata", ".rda", ".rds"):
        rows = human.read_r_object(source.path)
        rows = human.as_read(rows, source.path, COLUMNS, list(rows.columns), first_line=1)
    else:
        rows = human.read_rows(source, "\t", COLUMNS)
    coverage = Coverage(len(rows))
    rows = human.without(rows, rows["category"] != "mutant", NOT_A_MUTANT, coverage, "id")
    rows = human.without(rows, human.numbers(rows, "v2_dpsi", where).isna(), NOT_MEASURED, coverage, "id")
    dpsi = human.numbers(rows, "v2_dpsi", where)
    whole = {name: human.whole_numbers(rows, name, where) for name in ("start", "end", "snp_position")}
    first, exon, last = (
        human.whole_numbers(rows, name, where, least=0) for name in ("intron1_len", "exon_len", "intron2_len")
    )
    plus = rows["strand"] == "+"
    # the file gives intron lengths in genomic order: on the minus strand the second one lies upstream
    upstream = first.where(plus, last)
    position = (whole["snp_position"] - whole["start"]).where(plus, whole["end"] - whole["snp_position"])
    acceptor = (whole["start"] + upstream).where(plus, whole["end"] - upstream)
    donor = (acceptor + exon - 1).where(plus, acceptor - exon + 1)
    bad = ~rows["strand"].isin(["+", "-"]) | (rows["natural_seq"].str.len() != first + exon + last)
    bad |= (position < 0) | (position >= rows["natural_seq"].str.len())
    if bad.any():
        line = bad.idxmax()
        raise InputError(
            f"{where}, line {line}: {rows.loc[line, 'id']}: strand, lengths and position do not fit its construct "
            f"({int(bad.sum())} such rows)"
        )
    frame = pd.DataFrame(
        {
            "variant_id": rows["id"],
            "chrom": rows["chr"],
            "pos": whole["snp_position"],
            "ref": rows["ref_allele"],
            "alt": rows["alt_allele"],
            "strand": rows["strand"],
            "gene": "",
            "classification": label_by_dpsi(dpsi.to_numpy()),
            "effect": dpsi,
            "source": "MFASS",
            "method": "MFASS",
            "exon_id": rows["ensembl_id"],
            "region": rows["label"],
            "inclusion": human.numbers(rows, "v2_index", where),
            "wildtype_inclusion": human.numbers(rows, "nat_v2_index", where),
            "dpsi_r1": human.numbers(rows, "v2_dpsi_R1", where),
            "dpsi_r2": human.numbers(rows, "v2_dpsi_R2", where),
            "construct": rows["ensembl_id"],
            "construct_sequence": rows["natural_seq"],
            "construct_pos": position,
            "exon_first": upstream,
            "exon_acceptor": acceptor.astype("Int64"),
            "exon_donor": donor.astype("Int64"),
        }
    )
    return frame, coverage


DATASET = of_package("mfass", label_by_dpsi, human.reporter_loader("mfass", read_mutants), replicate_agreement)
