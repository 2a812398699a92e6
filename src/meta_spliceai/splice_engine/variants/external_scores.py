"""Scores of a tool that is not run here, from its own file, joined to variants."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from meta_spliceai.errors import InputError, shown, unknown_value
from meta_spliceai.read_hostile import LONGEST_LINE, one_error, text_lines
from meta_spliceai.splice_engine.genome.annotation import bare_contig
from meta_spliceai.splice_engine.variants.alleles import trimmed
from meta_spliceai.splice_engine.variants.families import genomic_places

NEEDED = ("chrom", "pos", "ref", "alt")
VCF = (".vcf", ".vcf.gz", ".vcf.bgz")
TABLE = (".tsv", ".csv", ".txt", ".tsv.gz", ".csv.gz", ".txt.gz", ".tsv.bgz")
PARQUET = (".parquet",)
NO_SCORE = ("", ".", "NA")
"""What stands for "no score" in a text; "nan" does not, as it may be the result of a failed computation."""
APART = 5000
"""Bases between two tested variants from which on an indexed file is read in two pieces."""
ANCHORS = 100
"""Bases before a variant that an indexed file is read from: its row may begin with so many that both alleles share."""
ENOUGH = 100
"""Rows of a file at the places of a part of the variants from which on they say whether the build is another."""
MOST_HELD = 1_000_000
"""Rows of a file without an index that are held for variants that come in parts; a row takes some 600 bytes."""
_COMPLEMENT = str.maketrans("ACGT", "TGCA")

Allele = tuple[str, int, str, str]
"""Contig without "chr", position, reference and alternative allele, without the bases that both share at their ends."""
Places = dict[tuple[str, int], set[str]]
"""Reference bases of variants by contig and position."""


class Row(NamedTuple):
    """A row of a file: where it stands, its allele, the gene (or ""), the score as the file has it."""

    where: str
    allele: Allele
    gene: str
    score: object


@dataclass(frozen=True)
class ScoreFile:
    """A tool's file of scores: a VCF (`column` is INFO/KEY), a table or a Parquet file.

    Attributes:
        name: the tool's name.
        path: the file.
        column: which score; empty where the file has only one.
    """

    name: str
    path: Path
    column: str = ""

    @classmethod
    def parse(cls, text: str) -> ScoreFile:
        """NAME=FILE, NAME=FILE:COLUMN or NAME=FILE:INFO/KEY."""
        name, _, rest = text.partition("=")
        if not name.strip() or not rest:
            raise InputError(f"scores {text}: write NAME=FILE, NAME=FILE:COLUMN or NAME=FILE:INFO/KEY")
        path, _, column = ("", "", "") if Path(rest).is_file() else rest.rpartition(":")
        found = cls(name.strip(), Path(path or rest), column)
        if not found.path.is_file():
            raise InputError(f"scores {name}: no file at {found.path}; check the path")
        if not found.path.name.lower().endswith((*VCF, *TABLE, *PARQUET)):
            raise InputError(f"{found.path}: its name must end in {', '.join((*VCF, *TABLE, *PARQUET))}")
        return found


class Joined(NamedTuple):
    """A tool's scores on some variants.

    Attributes:
        score: one value per variant, NaN where the file has none.
        other_reference: rows of the file at the variants' positions whose REF is not the variants'.
    """

    score: Float[np.ndarray, " variants"]
    other_reference: int


def join_scores(file: ScoreFile, table: pd.DataFrame, data: str) -> Joined:
    """The scores that a file has for the variants of a table.

    Contigs match with and without "chr", alleles once the bases that both share at their ends are taken away. A variant
    in a construct is looked for where it stands on the genome, on either strand. Of several genes' scores the one of
    the variant's own gene is taken; where none is, the largest.

    Args:
        table: variants: chrom, pos, ref, alt, gene; genome_chrom and genome_pos where they stand in constructs.
        data: what they are, for messages.

    Raises:
        InputError: a missing column, a score that is no finite number, two scores of one variant (and gene), another
            build, no score for any variant.
        IntegrityError: the file is damaged, or not what its name says.
    """
    joined = ScoresInParts(file, hold=False).join(table, data, enough=1)
    if np.isnan(joined.score).all():
        raise InputError(
            f"{file.path} has no score for any of the {len(table):,} variants of {data}; compare build and alleles"
        )
    return joined


class ScoresInParts:
    """A file's scores for variants that come in parts, such as the blocks of a VCF.

    A file with an index is read near each part's variants. Any other is read once, at the first part, and held (or not,
    where there is one part).
    """

    def __init__(self, file: ScoreFile, hold: bool = True) -> None:
        self.file = file
        self._hold = hold and not _has_index(file.path)
        self._held: dict[tuple[str, int], list[Row]] | None = None
        self._read = self._other = 0

    def join(self, table: pd.DataFrame, data: str, enough: int | None = None) -> Joined:
        """As `join_scores`, but none needs to have a score, and another build shows once there were `ENOUGH` rows.

        Raises:
            InputError: the file has no index, and more than `MOST_HELD` rows.
        """
        wanted = _alleles(table)
        asked = {allele for alleles in wanted for allele in alleles}
        places: Places = {}
        for chrom, pos, ref, _ in asked:
            places.setdefault((chrom, pos), set()).add(ref[0])
        found: dict[Allele, dict[str, float]] = {}
        before, other = self._other, ""
        for where, allele, gene, value in self._rows(places):
            chrom, pos, ref, alt = allele
            if (chrom, pos) not in places or not ref:
                continue
            self._read += 1
            if ref[0] not in places[chrom, pos]:
                self._other += 1
                other = other or f"{where}: {ref[0]}, where the data have {' or '.join(sorted(places[chrom, pos]))}"
            elif allele in asked:
                score = _number(value, where, self.file)
                known = found.setdefault(allele, {})
                if score is not None and known.setdefault(gene, score) != score:
                    named = f"{chrom}:{pos} {ref}>{alt}{f' ({gene})' if gene else ''}"
                    raise InputError(f"{where}: a second score of {named}, {score:g} after {known[gene]:g}; leave one")
        if self._read >= (enough or ENOUGH) and self._other > self._read / 2:
            raise InputError(
                f"{self._other:,} of {self._read:,} rows of {self.file.path} at positions of {data} have another "
                f"reference base ({other}): they are of another build; lift the file over"
            )
        scores = np.full(len(table), np.nan)
        for number, (alleles, gene) in enumerate(zip(wanted, table["gene"], strict=True)):
            for allele in alleles:
                if of_genes := found.get(allele):
                    scores[number] = of_genes.get(str(gene), max(of_genes.values()))
        return Joined(scores, self._other - before)

    def _rows(self, places: Places) -> Iterator[Row]:
        if not self._hold:
            yield from _rows(self.file, places)
            return
        if self._held is None:
            self._held = {}
            for number, row in enumerate(_rows(self.file, places), start=1):
                if number > MOST_HELD:
                    raise InputError(
                        f"{self.file.path} has no index and more than {MOST_HELD:,} rows, too many to hold: sort it by "
                        "chromosome and position, compress it with bgzip and index it with tabix"
                    )
                self._held.setdefault(row.allele[:2], []).append(row)
        for place in places:
            yield from self._held.get(place, ())


def require_scores(scored: Mapping[str, int], predicted: int) -> None:
    """InputError where predictions rest on a tool's scores and its file has none.

    Args:
        scored: predicted alleles that each tool's file has a score for.
    """
    for name, count in scored.items():
        if predicted and not count:
            raise InputError(
                f"the model reads the scores of {name}, whose file has none for any of {predicted:,} alleles: give "
                f"theirs, --scores {name}=FILE, of the same build and with the same alleles"
            )


def _alleles(table: pd.DataFrame) -> list[tuple[Allele, ...]]:
    """What each variant is looked for as: one allele, or, for a substitution in a construct, that of either strand."""
    on_genome = genomic_places(table)
    found: list[tuple[Allele, ...]] = []
    columns = (table["chrom"].map(bare_contig), table["pos"], table["ref"], table["alt"], *on_genome)
    for chrom, pos, ref, alt, chrom_there, pos_there in zip(*columns, strict=True):
        if chrom == chrom_there:  # a lifted variant keeps its source's place in the other two columns
            found.append(((chrom, *trimmed(int(pos), ref, alt, least=1)),))
        elif len(ref) == len(alt) == 1:
            pairs = ((ref, alt), (ref.translate(_COMPLEMENT), alt.translate(_COMPLEMENT)))
            found.append(tuple((chrom_there, int(pos_there), one, two) for one, two in pairs))
        else:
            found.append(())
    return found


def _number(value: object, where: str, file: ScoreFile) -> float | None:
    if value is None or value in NO_SCORE:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        what = file.column or "the score"
        raise InputError(f"{where}: {what} is {shown(value)}; write a finite number, or nothing where there is none")
    return number


def _row(where: str, chrom: object, pos: object, ref: object, alt: object, gene: object, score: object) -> Row:
    """A row whose variant is as a file has it; InputError for a position that is no whole number."""
    if not re.fullmatch("[0-9]{1,12}", str(pos)):
        raise InputError(f"{where}: pos {shown(pos)} is no position (a whole number, 1-based)")
    allele = trimmed(int(str(pos)), str(ref).upper(), str(alt).upper(), least=1)
    return Row(where, (bare_contig(str(chrom)), *allele), str(gene or ""), score)


def _has_index(path: Path) -> bool:
    return any(path.with_name(path.name + suffix).is_file() for suffix in (".tbi", ".csi"))


def _rows(file: ScoreFile, places: Places) -> Iterator[Row]:
    """All rows of a file without an index, and those around the places of one with an index."""
    name = file.path.name.lower()
    if name.endswith(PARQUET):
        yield from _parquet_rows(file)
        return
    lines = enumerate(text_lines(file.path), start=1)
    head: list[str] = []
    for _, line in lines:
        head.append(line)
        if not line.startswith("##"):
            break
    if not head or head[-1].startswith("##"):
        raise InputError(f"{file.path} has no line of column names")
    is_vcf = head[0].startswith("##fileformat=VCF")
    if is_vcf != name.endswith(VCF):
        raise InputError(f"{file.path} is {'a' if is_vcf else 'no'} VCF, which its name does not say; rename it")
    numbered = ((f"{file.path}, line {number}", line) for number, line in lines)
    body = _around(file.path, places) if _has_index(file.path) else numbered
    yield from (_vcf_rows if is_vcf else _table_rows)(file, head, body)


def _around(path: Path, places: Places) -> Iterator[tuple[str, str]]:
    """The lines of a file with an index that stand near the places."""
    import pysam

    with one_error(f"{path}, read by its index,", "make file and index anew"), pysam.TabixFile(str(path)) as opened:
        for name in opened.contigs:
            pos = np.array(sorted(pos for chrom, pos in places if chrom == bare_contig(name)), np.int64)
            for piece in np.split(pos, np.flatnonzero(np.diff(pos) > APART) + 1) if len(pos) else ():
                where = f"{path}, {name}:{piece[0]}-{piece[-1]}"
                for line in opened.fetch(name, max(0, int(piece[0]) - ANCHORS), int(piece[-1])):
                    yield where, line


def _vcf_rows(file: ScoreFile, head: Sequence[str], body: Iterator[tuple[str, str]]) -> Iterator[Row]:
    key = file.column.removeprefix("INFO/")
    declared = {found[1]: line for line in head if (found := re.match(r"##INFO=<(?:[^\"]*?,)?ID=([^,>]+)", line))}
    if key not in declared:
        raise unknown_value("INFO key", key, declared, f"{file.path}; write {file.name}={file.path}:INFO/KEY")
    form = re.search(r"Format: *([\w|]+)", declared[key])
    parts = form[1].split("|") if form else []
    scores = [place for place, part in enumerate(parts) if part.startswith("DS_")]
    for where, line in body:
        fields = line.split("\t", 8)
        if len(fields) < 8:
            raise InputError(f"{where}: no record of a VCF ({shown(line)})")
        chrom, pos, _, ref, alt = fields[:5]
        alts = alt.split(",")
        entry = next((one for one in fields[7].split(";") if one.startswith(f"{key}=")), "")
        values = entry[len(key) + 1 :].split(",") if entry else []
        if len(values) == 1:
            values *= len(alts) if "|" not in values[0] else 1
        for place, value in enumerate(values):
            if "|" in value:
                held = value.split("|")
                if len(held) != len(parts) or not scores or parts[:2] != ["ALLELE", "SYMBOL"]:
                    raise InputError(f"{where}: {key}={shown(value)} is not of the header's form ALLELE|SYMBOL|DS_…")
                numbers = [_number(held[one], where, file) for one in scores]
                largest = max((abs(one) for one in numbers if one is not None), default=None)
                yield _row(where, chrom, pos, ref, held[0], held[1], largest)
            elif len(values) == len(alts):
                yield _row(where, chrom, pos, ref, alts[place], "", value)
            else:
                raise InputError(f"{where}: {key} has {len(values)} values for {len(alts)} alternative alleles")


def _table_rows(file: ScoreFile, head: Sequence[str], body: Iterator[tuple[str, str]]) -> Iterator[Row]:
    separator = "\t" if "\t" in head[-1] else ","
    csv.field_size_limit(LONGEST_LINE)

    def split(where: str, line: str) -> list[str]:
        if separator == "\t":
            return line.split(separator)
        with one_error(f"{where}, read as a table,"):
            return next(csv.reader([line], strict=True), [])

    names = split(str(file.path), head[-1])
    places = _columns(file, names)
    for where, line in body:
        values = split(where, line) if line else []
        if values and len(values) != len(names):
            raise InputError(f"{where}: {len(values)} columns where the first line names {len(names)}")
        if values:
            yield _row(where, *("" if place is None else values[place] for place in places))


def _columns(file: ScoreFile, names: Sequence[str]) -> list[int | None]:
    """Places of chrom, pos, ref, alt, gene (None where there is none) and the score; upper case and # do not matter."""
    plain = [name.strip().lower().removeprefix("#") for name in names]
    missing = [name for name in NEEDED if name not in plain]
    if missing:
        raise InputError(f"{file.path}: column {', '.join(missing)} missing; found {', '.join(names)}")
    others = [name for name, low in zip(names, plain, strict=True) if low not in (*NEEDED, "gene")]
    score = file.column or (others[0] if len(others) == 1 else "")
    if score not in names:
        raise unknown_value("column", score, others, f"{file.path}; write {file.name}={file.path}:COLUMN")
    gene = plain.index("gene") if "gene" in plain else None
    return [*(plain.index(name) for name in NEEDED), gene, list(names).index(score)]


def _parquet_rows(file: ScoreFile) -> Iterator[Row]:
    number, damaged = 0, f"{file.path}, read as Parquet,"
    with one_error(damaged, also=(pa.ArrowException,)):
        opened = pq.ParquetFile(file.path)
        names = opened.schema_arrow.names
    wanted = [None if place is None else names[place] for place in _columns(file, names)]
    batches = opened.iter_batches(1 << 16, columns=[name for name in wanted if name is not None])
    while True:
        with one_error(damaged, also=(pa.ArrowException,)):
            batch = next(batches, None)
            if batch is None:
                return
            columns = [[""] * len(batch) if name is None else batch.column(name).to_pylist() for name in wanted]
        for values in zip(*columns, strict=True):
            number += 1
            yield _row(f"{file.path}, row {number}", *values)
