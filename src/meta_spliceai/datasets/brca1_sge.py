"""brca1-sge: every single substitution of 13 BRCA1 exons, edited into the genome (Findlay et al. 2018)."""

from __future__ import annotations

import zipfile
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from meta_spliceai.datasets import human
from meta_spliceai.datasets.registry import Loaded, of_package
from meta_spliceai.errors import InputError
from meta_spliceai.read_hostile import LARGEST_TABLE, limit, one_error
from meta_spliceai.splice_engine.genome.human_genome import AUTO
from meta_spliceai.splice_engine.genome.sequence import GRCH37
from meta_spliceai.splice_engine.variants.table import LOW_FREQUENCY, NORMAL, SPLICE_ALTERING, Coverage

ALTERING_SCORE = -2.0
NORMAL_SCORE = -0.5
NONSENSE = "Nonsense"
NO_SCORE = "no RNA score (the base is not in the mature RNA, or too few reads)"

HEADER_ROW = 3
MOST_COLUMNS, MOST_ROWS = 100, 100_000
"""Of the sheet, which has 62 and 3,893: a cell far out makes a row as long as a sheet is wide."""

COLUMNS = (
    "gene", "chromosome", "position (hg19)", "reference", "alt", "transcript_variant", "consequence", "func.class",
    "experiment", "rna.score.1", "rna.score.2", "mean.rna.score",
)  # fmt: skip


def label_by_rna_score(score: Float[np.ndarray, " variants"], consequence: list[str]) -> list[str]:
    """Classes of brca1-sge from the RNA score: log2 of a variant's share in RNA over its share in DNA.

    Splice-altering: score at most -2, at least three quarters of the RNA with the variant gone.
    Normal: score above -0.5.
    Low-frequency: everything between, and every nonsense variant: its RNA is degraded by nonsense-mediated decay, so
    that a low score says nothing about splicing.

    `data show brca1-sge` prints how far the two replicates differ: for the mean of the two, -2 is far outside, -0.5
    just outside what noise does. A low score can also come
    from lost expression; among variants that change no codon to a stop, splicing is by far the most common cause.
    """
    stops = np.array([name == NONSENSE for name in consequence])
    altering, normal = ~stops & (score <= ALTERING_SCORE), ~stops & (score > NORMAL_SCORE)
    return np.select([altering, normal], [SPLICE_ALTERING, NORMAL], LOW_FREQUENCY).tolist()


def replicate_agreement(loaded: Loaded) -> pd.DataFrame:
    """Robust standard deviation of the replicates' difference and of their mean, by class."""
    table = loaded.variants
    difference = table["rna_score_1"] - table["rna_score_2"]
    lines = []
    for name, rows in difference.groupby(table["classification"]):
        spread = 1.4826 * (rows - rows.median()).abs().median()
        lines.append((name, len(rows), spread, spread / 2))
    return pd.DataFrame(lines, columns=["class", "variants", "sd of the difference", "sd of the mean"])


def load(
    build: str = "GRCh38",
    genome: str = AUTO,
    path: str | None = None,
    annotation: str | None = None,
    chain: str | None = None,
) -> Loaded:
    """BRCA1's substitutions with an RNA score as a variant table.

    Args: as `datasets.human` says.

    Rows are grouped by exon (the set is one gene). Columns beside the schema's: hgvs, consequence, function_class,
    rna_score_1, rna_score_2, genome_chrom, genome_pos (GRCh37).
    """
    source = human.source_file(DATASET, path)
    where = str(source.path)
    rows = read_sheet(source.path)
    coverage = Coverage(len(rows))
    rows = human.without(
        rows, human.numbers(rows, "mean.rna.score", where).isna(), NO_SCORE, coverage, "transcript_variant"
    )
    score = human.numbers(rows, "mean.rna.score", where)
    pos = human.whole_numbers(rows, "position (hg19)", where)
    frame = pd.DataFrame(
        {
            "variant_id": rows["transcript_variant"],
            "chrom": rows["chromosome"],
            "pos": pos,
            "ref": rows["reference"],
            "alt": rows["alt"],
            "strand": "-",
            "gene": rows["gene"],
            "classification": label_by_rna_score(score.to_numpy(), rows["consequence"].tolist()),
            "effect": score,
            "source": "BRCA1 SGE",
            "method": "saturation genome editing",
            "hgvs": rows["transcript_variant"],
            "consequence": rows["consequence"],
            "function_class": rows["func.class"],
            "rna_score_1": human.numbers(rows, "rna.score.1", where),
            "rna_score_2": human.numbers(rows, "rna.score.2", where),
            "experiment": rows["experiment"],
        }
    )
    frame = human.place_in_exons(frame, human.human_annotation(GRCH37, annotation), coverage, strand_known=True)
    frame["group"] = "BRCA1 " + frame["experiment"]
    asked = human.Asked(build, genome, annotation, chain)
    return human.finish_lifted(frame, coverage, source, asked, {}, one_gene=False)


def read_sheet(path: Path) -> pd.DataFrame:
    """The first sheet as text, empty cells as ""; the header is the third row.

    Raises:
        InputError: a column missing or twice, or more than is read.
        IntegrityError: no Excel file, or a damaged one.
    """
    import openpyxl  # not on a machine that only trains

    remedy, allowed = "give the authors' Excel file", limit(LARGEST_TABLE)
    with one_error(path, remedy), zipfile.ZipFile(path) as packed:
        size = sum(member.file_size for member in packed.infolist())
    if size > allowed:
        raise InputError(f"{path} unpacks to {size:,} bytes; set {LARGEST_TABLE[0]} to allow more than {allowed:,}")
    # XML that is none is a SyntaxError.
    with one_error(path, remedy, also=(SyntaxError,)), closing(openpyxl.load_workbook(path, read_only=True)) as book:
        sheet = book.worksheets[0]
        sheet.reset_dimensions()  # whatever the file says of its size
        cells = sheet.iter_rows(min_row=HEADER_ROW, max_col=MOST_COLUMNS, values_only=True)
        header, *lines = [[_as_text(value) for value in row] for row in islice(cells, MOST_ROWS + 1)] or [[]]
    if len(lines) >= MOST_ROWS:
        raise InputError(f"{path} has more than {MOST_ROWS:,} rows; {remedy}")
    while lines and not any(lines[-1]):
        lines.pop()
    rows = pd.DataFrame(lines, columns=header, dtype=object)
    return human.as_read(rows, path, COLUMNS, header, first_line=HEADER_ROW + 1)


def _as_text(value: object) -> str:
    """A cell as its user sees it: nothing for an empty one, a whole number without a fraction."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


DATASET = of_package("brca1-sge", label_by_rna_score, load, replicate_agreement)
