"""wt1-exon5: saturation mutagenesis of WT1 exon 5 in ten backgrounds (Ke et al. 2018), with the minigene around it.

The table lists, for each of ten hexamers at exon sites 5 to 10 ("backgrounds" A to J), the wild type and every single
and every adjacent double substitution of exon sites 2 to 48, each with its enrichment index EI: the share of the
sequence among spliced RNA that includes the exon, divided by its share among the DNA that went in. EI is therefore
proportional to inclusion, with an arbitrary unit; it cannot rise above the value of an exon that is always included.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

from meta_spliceai import resources
from meta_spliceai.datasets.registry import Loaded, of_package
from meta_spliceai.errors import IntegrityError
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome, encode
from meta_spliceai.splice_engine.variants.alleles import check_reference
from meta_spliceai.splice_engine.variants.table import (
    LOW_FREQUENCY,
    NORMAL,
    SPLICE_ALTERING,
    Coverage,
    as_variant_table,
)

TABLE_FILE = "frame_alignment_checks/data/saturation_mutagenesis_Supplemental_Table_S2.xlsx"
MINIGENE_FILE = "frame_alignment_checks/data/minigene_WT1_5.pkl"

BEFORE_EXON = 23
"""Intron bases in front of the exon in the table's 90-nt sequences (16 follow it)."""
SEQUENCE_LENGTH = 90
BUILD = "WT1 exon 5 minigene"

ALTERING_LOG2 = 1.0
"""A two-fold change of inclusion, up or down."""
NORMAL_LOG2 = float(np.log2(1.25))
"""A change by less than a factor of 1.25, up or down."""
FLOOR_EI = 0.05
"""Inclusion below this is treated as this: the assay does not tell such values apart (see `measurement_noise`)."""

WILD_TYPE = "wild type (the reference itself, effect 0 by definition)"
LISTED_TWICE = "same sequence listed under a second background (counted there)"

_COLUMNS = {
    "Table S2": "table_row",
    "Hex-mut #": "background",
    "Posn #": "site",
    "Sequence (90 nt)": "sequence",
    "EI": "inclusion",
}
"""How the spreadsheet's header begins: our name."""


def label_by_relative_inclusion(
    inclusion: Float[np.ndarray, " variants"], wildtype_inclusion: Float[np.ndarray, " variants"]
) -> list[str]:
    """Classes of wt1-exon5 from a mutant's inclusion (EI) and that of its background's wild type.

    Splice-altering: inclusion at least doubled or at least halved, both values first raised to the floor of 0.05.
    Normal: inclusion changed by less than a factor of 1.25.
    Low-frequency: everything between, and every variant of a background whose wild type is below 0.1.

    Why these numbers (`measurement_noise` computes what they rest on, `meta-spliceai data show wt1-exon5` prints it):

    - The table has no replicates. An additive model, log2 EI = background + mutation, over the mutations outside the
      hexamer in the five well-included backgrounds leaves residuals that hold the noise *and* every real interaction
      with the hexamer: an upper bound of noise. Their robust standard deviation is about a third of a doubling. A
      two-fold change is about three of these, so that hardly a variant is called altering by chance; a factor of 1.25
      is about one, so that a variant called Normal has changed by no more than noise explains.
    - Loss and gain both count: both change what is spliced. The sign stays in `effect`.
    - Below EI 0.05 (about 1.3 % of the value of the best included backgrounds) similar backgrounds stop agreeing
      with each other: a fall from 0.02 to 0.005 is no evidence. Hence the floor.
    - Where the wild type is below twice the floor (backgrounds D and E) a halving cannot be seen. Such a background
      could only ever yield gains, never a loss nor a trustworthy Normal, and a background that comes in one class
      only teaches a model the background. All its variants are therefore Low-frequency; their measured effects stay.
    - In saturated backgrounds (C, H) gains cannot occur, but losses show clearly, so that Normal means Normal there.
    - In the weakly included backgrounds (A, G, J) the additive model's residuals are larger; but the similar pair G and
      J, compared above the floor only, agrees about as well as the well-included pairs do. The excess is interaction
      and values below the floor, and the thresholds hold there too.
    - All effects of a background share the error of its one wild type. Within a background they can be ranked more
      finely than their classes say.

    """
    change = np.log2(inclusion / wildtype_inclusion)
    seen_change = np.log2(np.maximum(inclusion, FLOOR_EI) / np.maximum(wildtype_inclusion, FLOOR_EI))
    testable = wildtype_inclusion >= FLOOR_EI * 2**ALTERING_LOG2
    altering = testable & (np.abs(seen_change) >= ALTERING_LOG2)
    normal = testable & (np.abs(change) <= NORMAL_LOG2)
    return [str(name) for name in np.select([altering, normal], [SPLICE_ALTERING, NORMAL], LOW_FREQUENCY)]


def measurement_noise(table: pd.DataFrame) -> pd.DataFrame:
    """What the table itself says about its noise, in log2 inclusion; each line is an upper bound.

    Robust standard deviation = 1.4826 times the median absolute deviation. Mutations within the hexamer are left out,
    because they are not the same mutation in two backgrounds.

    Returns:
        columns: estimate (in words), values (how many), sd_of_one_value, sd_of_an_effect (a difference of two values;
        for the additive model's residuals the two are the same bound, as interactions are in it).
    """
    in_hexamer = table["sites_mutated"].map(lambda text: any(5 <= int(site) <= 10 for site in text.split(";")))
    outside = table[~in_hexamer].assign(log2=lambda rows: np.log2(rows["inclusion"]))
    grid = outside.pivot_table(index=["site", "alt"], columns="background", values="log2", aggfunc="first").dropna()
    lines = []
    for words, backgrounds in (
        ("additive model, well-included backgrounds B C F H I", list("BCFHI")),
        ("additive model, weakly included backgrounds A G J", list("AGJ")),
    ):
        values = grid[backgrounds]
        residual = values.sub(values.mean(axis="columns"), axis="index")
        residual = (residual - residual.mean()).to_numpy() * np.sqrt(len(backgrounds) / (len(backgrounds) - 1))
        bound = _robust_sd(residual)
        lines.append((words, residual.size, bound, bound))
    for words, first, second, low, high in (
        ("saturated pair C and H, both above EI 1", "C", "H", 1.0, np.inf),
        ("similar pair F and I, both above EI 1", "F", "I", 1.0, np.inf),
        ("similar pair G and J, both within EI 0.1 to 1", "G", "J", 0.1, 1.0),
        ("similar pair G and J, both within EI 0.05 to 0.1", "G", "J", 0.05, 0.1),
        ("similar pair G and J, either below EI 0.05", "G", "J", 0.0, 0.05),
    ):
        pair = grid[[first, second]]
        lower, upper = pair.min(axis="columns"), pair.max(axis="columns")
        inside = (lower >= np.log2(low)) & (upper < np.log2(high)) if low > 0 else lower < np.log2(high)
        difference = (pair[first] - pair[second])[inside].to_numpy()
        lines.append((words, difference.size, _robust_sd(difference) / np.sqrt(2), _robust_sd(difference)))
    return pd.DataFrame(lines, columns=["estimate", "values", "sd_of_one_value", "sd_of_an_effect"])


def _robust_sd(values: Float[np.ndarray, ...]) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def read_table() -> pd.DataFrame:
    """The spreadsheet's 5,560 rows: table_row, background, site, sequence (90 nt), inclusion (EI). Its checksum is
    compared, so that its values need not be."""
    sheet = pd.read_excel(resources.resolve_file("wt1-exon5", TABLE_FILE), header=0)
    ours = {next(column for column in sheet if str(column).startswith(one)): name for one, name in _COLUMNS.items()}
    rows = sheet[list(ours)].rename(columns=ours)
    rows = rows[rows["table_row"].notna()].reset_index(drop=True)  # the sheet ends in lines of medians
    return rows.astype({"table_row": "int64", "site": "int64", "inclusion": "float64"})


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy._core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy._core.multiarray", "scalar"): np.float64(0).__reduce__()[0],
}
"""(module, name) as written in the pickle: what it stands for. Nothing else can be named by a pickle that is read."""


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = module.replace("numpy.core.", "numpy._core.")  # as numpy 1 named it
        if (known, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _ALLOWED[known, name]


def read_arrays(path: Path) -> dict[str, Any]:
    """A third party's pickled dictionary of numpy arrays and scalars, and of plain Python values; nothing is run.

    Raises:
        IntegrityError: the file is truncated, is no such dictionary, or names anything but numpy's arrays and scalars.
    """
    try:
        with path.open("rb") as handle:
            content = _ArraysOnly(handle).load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        raise IntegrityError(f"{path} is not a pickle of arrays and cannot be read: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise IntegrityError(f"{path} holds a {type(content).__name__}, expected a dictionary with names as keys")
    return content


def read_minigene() -> tuple[UInt8[np.ndarray, " length"], tuple[tuple[int, int], ...], tuple[int, int]]:
    """WT1 exons 4 to 6 with the introns between, in transcript orientation, from hg19.

    Index i is base chr11:32438086 - (i - 1114), minus strand (1-based).

    Returns:
        codes; its exons (0-based half-open); exon 5.
    """
    content = read_arrays(resources.resolve_file("wt1-exon5", MINIGENE_FILE))
    bases, labels = np.asarray(content["x"]), np.asarray(content["y"])
    starts = np.flatnonzero(labels[:, 1])  # acceptors; the first is the minigene's own beginning
    ends = [*(np.flatnonzero(labels[:, 2]) + 1), len(bases)]  # donors; the last exon runs to the end
    exons = tuple((int(start), int(end)) for start, end in zip(starts, ends, strict=True))
    exon = (int(content["main_exon_start"]), int(content["main_exon_end"]) + 1)
    return bases.argmax(axis=1).astype(np.uint8), exons, exon


def load() -> Loaded:
    """wt1-exon5 as a variant table.

    Contigs `WT1e5-A` to `WT1e5-J` are the minigene with that background's 90 bases put in, transcript orientation
    (strand +); `pos` is the minigene's index plus one. 26 sequences are listed under two backgrounds, as different
    mutants of each, with one and the same measurement. Each is counted once, under the background whose wild type is
    included more: that is the better measured reference.

    Columns beside the schema's: background, site (first mutated exon site, 1-based), sites_mutated ("7" or "7;8"),
    inclusion (EI), wildtype_inclusion, log2_relative_inclusion (equal to `effect`), sequence (90 nt), table_row.
    """
    rows = read_table()
    minigene, exons, exon = read_minigene()
    genome, annotation = _constructs(rows, minigene, exons, exon)
    frame, coverage = _variants(rows, exon)
    table, checked = check_reference(as_variant_table(frame, "wt1-exon5"), genome)
    return Loaded(table, coverage.then(checked), genome, annotation, DATASET, {})


def _constructs(
    rows: pd.DataFrame,
    minigene: UInt8[np.ndarray, " length"],
    exons: tuple[tuple[int, int], ...],
    exon: tuple[int, int],
) -> tuple[MemoryGenome, GeneAnnotation]:
    wild_types = rows[rows["site"] == 0]
    first = exon[0] - BEFORE_EXON
    contigs, genes = {}, []
    for background, sequence in zip(wild_types["background"], wild_types["sequence"], strict=True):
        codes = minigene.copy()
        codes[first : first + SEQUENCE_LENGTH] = encode(sequence)
        contigs[f"WT1e5-{background}"] = codes
        genes.append(Gene("WT1", f"WT1e5-{background}", "+", 0, len(codes), exons))
    name = "wt1-exon5 constructs"
    return MemoryGenome(contigs, build=BUILD, name=name), GeneAnnotation(genes, build=BUILD, name=name)


def _variants(rows: pd.DataFrame, exon: tuple[int, int]) -> tuple[pd.DataFrame, Coverage]:
    """The mutants as schema columns; wild types and second listings are left out and counted."""
    coverage = Coverage(len(rows))
    is_wild = rows["site"] == 0
    wild = rows[is_wild].set_index("background")
    coverage.leave_out(WILD_TYPE, [f"row {row}" for row in rows["table_row"][is_wild]])
    mutants = rows[~is_wild].assign(
        wildtype_inclusion=lambda part: part["background"].map(wild["inclusion"]),
        wildtype_sequence=lambda part: part["background"].map(wild["sequence"]),
    )
    better_first = mutants.sort_values(["wildtype_inclusion", "table_row"], ascending=[False, True])
    second = mutants.loc[better_first.index[better_first["sequence"].duplicated()]]
    coverage.leave_out(LISTED_TWICE, [f"row {row}" for row in sorted(second["table_row"])])
    mutants = mutants.drop(second.index)

    columns: dict[str, list[object]] = {name: [] for name in ("site", "sites_mutated", "ref", "alt")}
    for sequence, wildtype in zip(mutants["sequence"], mutants["wildtype_sequence"], strict=True):
        changed = [at for at in range(SEQUENCE_LENGTH) if sequence[at] != wildtype[at]]  # one base, or two neighbours
        low, high = changed[0], changed[-1] + 1
        columns["site"].append(low - BEFORE_EXON + 1)
        columns["sites_mutated"].append(";".join(str(at - BEFORE_EXON + 1) for at in changed))
        columns["ref"].append(wildtype[low:high])
        columns["alt"].append(sequence[low:high])
    table = mutants.assign(**columns)
    effect = np.log2(table["inclusion"] / table["wildtype_inclusion"])
    site = table["site"].astype(int)
    return table.assign(
        variant_id=table["background"] + ":" + site.astype(str) + table["ref"] + ">" + table["alt"],
        chrom="WT1e5-" + table["background"],
        pos=exon[0] + site,
        strand="+",
        gene="WT1",
        classification=label_by_relative_inclusion(
            table["inclusion"].to_numpy(dtype=float), table["wildtype_inclusion"].to_numpy(dtype=float)
        ),
        effect=effect,
        source="wt1-exon5",
        method="saturation mutagenesis minigene",
        group="site-" + site.astype(str).str.zfill(2),
        acceptor_pos=exon[0] + 1,
        donor_pos=exon[1],
        log2_relative_inclusion=effect,
    ).drop(columns=["wildtype_sequence"]), coverage


DATASET = of_package("wt1-exon5", label_by_relative_inclusion, load, lambda loaded: measurement_noise(loaded.variants))
