"""Every single-base change of a stretch of sequence, scored: the dense case, where neighbours share most work."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from meta_spliceai.errors import InputError
from meta_spliceai.files import whole_file
from meta_spliceai.splice_engine.base_layer.channels import ACCEPTOR, CHANNELS, DONOR
from meta_spliceai.splice_engine.base_layer.model import BaseModel
from meta_spliceai.splice_engine.base_layer.pangolin import gain_and_loss
from meta_spliceai.splice_engine.base_layer.reductions import max_window
from meta_spliceai.splice_engine.base_layer.scores import BaseScores
from meta_spliceai.splice_engine.base_layer.scoring import score_variants
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.sequence import decode
from meta_spliceai.splice_engine.genome.source import SequenceSource

KINDS = ("substitution", "deletion", "insertion")
_POSITIONS_AT_ONCE = 5_000_000
"""Rows times window positions scored in one call: bounds the memory that scores take."""

_SITES_AT_MOST_AT_ONCE = 2000


@dataclass(frozen=True)
class Stretch:
    """What is saturated: bases [start, end) of the plus strand, 0-based, within one gene.

    Attributes:
        chrom: contig.
        gene: the gene whose strand and limits the networks see.
        title: in words, for the figure.
    """

    chrom: str
    start: int
    end: int
    gene: Gene
    title: str

    def __len__(self) -> int:
        return self.end - self.start


def stretch_of_region(text: str, annotation: GeneAnnotation, gene: str | None) -> Stretch:
    """The stretch of "chrom:start-end" (1-based, both ends included; commas allowed).

    Args:
        text: the region.
        annotation: must have a gene there.
        gene: which one, where several overlap.

    Raises:
        InputError: not a region, no gene there, or several and none named; a region that reaches out of the gene.
    """
    match = re.fullmatch(r"([^:\s]+):([\d,]+)-([\d,]+)", text)
    if not match:
        raise InputError(
            f"region '{text}' is not of the form chr17:43,044,295-43,045,802 (1-based, both ends included)"
        )
    chrom, start, end = match.group(1), *(int(part.replace(",", "")) for part in match.groups()[1:])
    if not 1 <= start <= end:
        raise InputError(f"region '{text}' is empty or begins before base 1")
    there = annotation.within(chrom, start - 1, end)
    if gene is not None:
        there = [one for one in there if one.name == gene]
    if len(there) != 1:
        names = ", ".join(one.name for one in there)
        if there:
            raise InputError(f"region {text} overlaps several genes ({names}); name one with --gene")
        what = f"gene '{gene}' is not in region {text}" if gene else f"no gene in region {text}"
        raise InputError(f"{what} of {annotation.name}; scores need a gene's strand and limits")
    (found,) = there
    if start - 1 < found.start or end > found.end:
        raise InputError(
            f"region {text} reaches out of {found.name} ({chrom}:{found.start + 1}-{found.end}); keep within the gene"
        )
    return Stretch(chrom, start - 1, end, found, f"{found.name} {chrom}:{start:,}-{end:,} ({found.strand})")


def stretch_of_exon(text: str, annotation: GeneAnnotation, around: int) -> Stretch:
    """The stretch of "GENE:NUMBER", exons counted from 1 in transcript order, with bases on either side.

    Args:
        around: bases of intron to add on either side, cut at the gene's ends.

    Raises:
        InputError: unknown gene, or it has no such exon.
    """
    name, _, number = text.rpartition(":")
    if not name or not number.isdigit():
        raise InputError(f"exon '{text}' is not of the form GENE:NUMBER, e.g. BRCA1:11")
    gene = annotation.gene(name)
    if not 1 <= int(number) <= len(gene.exons):
        raise InputError(f"{name} has exons 1 to {len(gene.exons)} in {annotation.name}; there is no exon {number}")
    in_order = gene.exons if gene.strand == "+" else gene.exons[::-1]
    start, end = in_order[int(number) - 1]
    start, end = max(gene.start, start - around), min(gene.end, end + around)
    title = f"{name} exon {number} ± {around}, {gene.chrom}:{start + 1:,}-{end:,} ({gene.strand})"
    return Stretch(gene.chrom, start, end, gene, title)


def stretch_of_gene(name: str, annotation: GeneAnnotation) -> Stretch:
    """A whole gene.

    Raises:
        InputError: unknown gene, or one that stands at several places.
    """
    gene = annotation.gene(name)
    title = f"{name} {gene.chrom}:{gene.start + 1:,}-{gene.end:,} ({gene.strand})"
    return Stretch(gene.chrom, gene.start, gene.end, gene, title)


def all_changes(stretch: Stretch, genome: SequenceSource, kinds: Sequence[str], start: int, end: int) -> pd.DataFrame:
    """Every change of the bases [start, end) of a stretch, as VCF writes them; sites that are N are passed over.

    Columns beside those that scoring needs: `kind`; `site`, the changed base's 1-based position; `base`, the letter it
    is changed to, "-" for a deletion, "+A" and so on for an insertion behind it.
    """
    # One base more on the left: a deletion is written with the base before it.
    bases = decode(genome.fetch(stretch.chrom, start - 1, end))
    rows: list[tuple[int, str, str, str, int, str]] = []
    for offset, (before, base) in enumerate(itertools.pairwise(bases)):
        site = start + offset + 1
        if base == "N":
            continue
        if KINDS[0] in kinds:
            rows += [(site, base, other, KINDS[0], site, other) for other in "ACGT" if other != base]
        if KINDS[1] in kinds and before != "N" and site - 2 >= stretch.gene.start:
            rows.append((site - 1, before + base, before, KINDS[1], site, "-"))
        if KINDS[2] in kinds:
            rows += [(site, base, base + other, KINDS[2], site, f"+{other}") for other in "ACGT"]
    table = pd.DataFrame(rows, columns=["pos", "ref", "alt", "kind", "site", "base"])
    table.insert(0, "chrom", stretch.chrom)
    table["strand"], table["gene"] = stretch.gene.strand, stretch.gene.name
    table["variant_id"] = [
        f"{stretch.chrom}:{p}:{r}:{a}" for p, r, a in zip(table.pos, table.ref, table.alt, strict=True)
    ]
    return table


def numbers_of(scores: BaseScores, table: pd.DataFrame) -> pd.DataFrame:
    """Scores and positions of each variant as columns, in SpliceAI's names: DS_AG … DP_DL.

    Positions count along the plus strand. Models without acceptor and donor have DS_GAIN, DS_LOSS (negative), DP_GAIN
    and DP_LOSS. `delta` is the signed Δ of the largest |Δ|.
    """
    delta = scores.delta
    minus = table["strand"].to_numpy() == "-"
    delta[minus] = delta[minus, ::-1]
    if scores.channels == CHANNELS:
        kinds = {
            "AG": delta[:, :, ACCEPTOR],
            "AL": -delta[:, :, ACCEPTOR],
            "DG": delta[:, :, DONOR],
            "DL": -delta[:, :, DONOR],
        }
        signs = dict.fromkeys(kinds, 1)
    else:
        both = gain_and_loss(delta)
        kinds, signs = {"GAIN": both.gain, "LOSS": -both.loss}, {"GAIN": 1, "LOSS": -1}
    columns: dict[str, np.ndarray] = {f"DS_{name}": signs[name] * values.max(axis=1) for name, values in kinds.items()}
    columns |= {f"DP_{n}": (v.argmax(axis=1) - scores.distance).astype(np.int32) for n, v in kinds.items()}
    return pd.DataFrame({**columns, "delta": max_window(scores)})


Progress = Callable[[int, int], None]


def saturate(
    stretch: Stretch,
    genome: SequenceSource,
    annotation: GeneAnnotation,
    model: BaseModel,
    out: Path,
    *,
    distance: int = 50,
    kinds: Sequence[str] = KINDS[:1],
    progress: Progress | None = None,
) -> int:
    """Score every change of a stretch and write a Parquet file, a row a change, whole or not at all.

    Args:
        stretch: what to saturate.
        genome: the reference.
        annotation: where the stretch's gene is from.
        model: the networks.
        out: the Parquet file.
        distance: positions to either side that are looked at.
        kinds: of KINDS.
        progress: told of (sites done, sites in all).

    Returns:
        Rows written. Memory is bounded: the table is written piece by piece.

    Raises:
        InputError: a stretch without any known base.
        RunError: the disk is full, or the folder cannot be written to.
    """
    alone = GeneAnnotation([stretch.gene], annotation.build, annotation.name)
    writer: pq.ParquetWriter | None = None
    rows = 0
    with whole_file(out) as temporary:
        for start, end in _pieces(stretch, distance, kinds):
            table = all_changes(stretch, genome, kinds, start, end)
            if len(table):
                scores = score_variants(table, genome, model, distance, annotation=alone)
                piece = pd.concat([table, numbers_of(scores, table)], axis=1).drop(columns="variant_id")
                arrow = pa.Table.from_pandas(piece, preserve_index=False)
                if writer is None:
                    note = {
                        "model": model.name,
                        "weights": model.digest,
                        "licence": model.licence,
                        "title": stretch.title,
                    }
                    schema = arrow.schema.with_metadata({**(arrow.schema.metadata or {}), **note})
                    writer = pq.ParquetWriter(temporary, schema)
                writer.write_table(arrow.cast(writer.schema))
                rows += len(table)
            if progress is not None:
                progress(end - stretch.start, len(stretch))
        if writer is None:
            raise InputError(f"{stretch.title} has no known base in {genome.name}")
        writer.close()
    return rows


def _pieces(stretch: Stretch, distance: int, kinds: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Consecutive parts of a stretch that are scored together."""
    a_site = sum({"substitution": 3, "deletion": 1, "insertion": 4}[kind] for kind in kinds)
    size = min(_SITES_AT_MOST_AT_ONCE, max(1, _POSITIONS_AT_ONCE // (a_site * (2 * distance + 1))))
    for start in range(stretch.start, stretch.end, size):
        yield start, min(start + size, stretch.end)
