"""Scores every single-base change in a stretch of sequence (the dense case, where neighbours share most work), and
draws its heat map: one column per base, one row per change, coloured by gain or loss."""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from meta_spliceai.colours import LOSS_TO_GAIN
from meta_spliceai.errors import InputError, MissingPackageError, brief
from meta_spliceai.files import atomic_write, whole_table
from meta_spliceai.splice_engine.base_layer.families import gain_and_loss
from meta_spliceai.splice_engine.base_layer.network import BaseModel
from meta_spliceai.splice_engine.base_layer.scores import ACCEPTOR, CHANNELS, DONOR, BaseScores, max_window
from meta_spliceai.splice_engine.base_layer.scoring import score_variants
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.sequence import SequenceSource, decode, read_region

KINDS = ("substitution", "deletion", "insertion")
_CHANGES_A_SITE = {"substitution": 3, "deletion": 1, "insertion": 4}
_POSITIONS_AT_ONCE = 5_000_000
"""Rows times window positions scored in one call: bounds the memory that scores take."""

_SITES_AT_MOST_AT_ONCE = 2000

FORMATS = ("png", "svg")
_COLUMNS_A_PANEL = 120
_COLUMNS_AT_MOST = 2400
_ROWS = ("A", "C", "G", "T", "-", "+A", "+C", "+G", "+T")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Stretch:
    """What is saturated: bases [start, end) of the plus strand, 0-based, within one gene, whose strand and limits the
    networks see; `title`: in words, for the figure."""

    chrom: str
    start: int
    end: int
    gene: Gene
    title: str

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def ends(self) -> tuple[str, str]:
        """Which ends of the transcript lie to the left and to the right on the plus strand."""
        return ("5′", "3′") if self.gene.strand == "+" else ("3′", "5′")


def _stretch(gene: Gene, start: int, end: int, what: str) -> Stretch:
    return Stretch(gene.chrom, start, end, gene, f"{what} {gene.chrom}:{start + 1:,}-{end:,} ({gene.strand})")


def stretch_of_region(text: str, annotation: GeneAnnotation, gene: str | None) -> Stretch:
    """The stretch of "chrom:start-end" (1-based, both ends included; commas allowed); `gene` where several overlap.

    Raises:
        InputError: not a region, no gene there, or several and none named; a region that reaches out of the gene.
    """
    region = read_region(text)
    if region is None:
        raise InputError(
            f"region '{text}' is not of the form chr17:43,044,295-43,045,802 (1-based, both ends included)"
        )
    chrom, start, end = region
    there = [one for one in annotation.within(chrom, start - 1, end) if gene in (None, one.name)]
    if len(there) != 1:
        names = ", ".join(one.name for one in there) or "none"
        named = f"gene '{gene}'" if gene else "one gene"
        raise InputError(
            f"region {text} does not overlap {named} of {annotation.name}, whose strand and limits scores need (there: "
            f"{names}); name one with --gene"
        )
    (found,) = there
    if start - 1 < found.start or end > found.end:
        raise InputError(
            f"region {text} reaches out of {found.name} ({chrom}:{found.start + 1}-{found.end}); keep within the gene"
        )
    return _stretch(replace(found, chrom=chrom), start - 1, end, found.name)


def stretch_of_exon(text: str, annotation: GeneAnnotation, around: int) -> Stretch:
    """The stretch of "GENE:NUMBER", exons counted from 1 in transcript order, with `around` bases of intron on either
    side, cut at the gene's ends; InputError for an unknown gene, or one that has no such exon."""
    name, _, number = text.rpartition(":")
    if not name or not number.isdecimal():
        raise InputError(f"exon '{text}' is not of the form GENE:NUMBER, e.g. BRCA1:11")
    gene = annotation.gene(name)
    if not 1 <= int(number) <= len(gene.exons):
        raise InputError(f"{name} has exons 1 to {len(gene.exons)} in {annotation.name}; there is no exon {number}")
    in_order = gene.exons if gene.strand == "+" else gene.exons[::-1]
    start, end = in_order[int(number) - 1]
    start, end = max(gene.start, start - around), min(gene.end, end + around)
    return _stretch(gene, start, end, f"{name} exon {number} ± {around},")


def stretch_of_gene(name: str, annotation: GeneAnnotation) -> Stretch:
    """A whole gene; InputError for an unknown one, or one that stands at several places."""
    gene = annotation.gene(name)
    return _stretch(gene, gene.start, gene.end, name)


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
        acceptor, donor = delta[:, :, ACCEPTOR], delta[:, :, DONOR]
        kinds = {"AG": acceptor, "AL": -acceptor, "DG": donor, "DL": -donor}
    else:
        gain, loss = gain_and_loss(delta)
        kinds = {"GAIN": gain, "LOSS": -loss}
    columns: dict[str, np.ndarray] = {f"DS_{name}": values.max(axis=1) for name, values in kinds.items()}
    if "LOSS" in kinds:
        columns["DS_LOSS"] *= -1
    columns |= {f"DP_{n}": (v.argmax(axis=1) - scores.distance).astype(np.int32) for n, v in kinds.items()}
    return pd.DataFrame({**columns, "delta": max_window(scores)})


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
    """Score every change (of `kinds`) of a stretch and write a table in the format of OUT's suffix, a row per change,
    atomically; `progress` is told of (sites done, sites in all). Returns the rows written. Memory is bounded.

    Raises:
        InputError: a stretch without any known base.
        RunError: the disk is full, or the folder cannot be written to.
    """
    alone = GeneAnnotation([stretch.gene], annotation.build, annotation.name)
    note = {"model": model.name, "weights": model.digest, "licence": model.licence, "title": stretch.title}
    changes = (2 * distance + 1) * sum(_CHANGES_A_SITE[kind] for kind in kinds)
    size = min(_SITES_AT_MOST_AT_ONCE, max(1, _POSITIONS_AT_ONCE // changes))
    rows = 0
    with whole_table(out, note) as write:
        for start in range(stretch.start, stretch.end, size):
            end = min(start + size, stretch.end)
            table = all_changes(stretch, genome, kinds, start, end)
            if len(table):
                scores = score_variants(table, genome, model, distance, annotation=alone)
                write(pd.concat([table, numbers_of(scores, table)], axis=1).drop(columns="variant_id"))
                rows += len(table)
            if progress is not None:
                progress(end - stretch.start, len(stretch))
        if not rows:
            raise InputError(f"{stretch.title} has no known base in {genome.name}")
    return rows


def check_drawable(out: Path) -> str:
    """The kind of figure, "png" or "svg", once it is sure that it can be drawn.

    Raises:
        InputError: another kind of file.
        MissingPackageError: matplotlib is not installed.
    """
    kind = out.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise InputError(f"figure '{out}' is neither .png nor .svg")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingPackageError(f"drawing {out}", "matplotlib")
    return kind


def draw(table: pd.DataFrame, stretch: Stretch, model_name: str, out: Path) -> int:
    """Draw the table that `saturate` wrote (its columns `site`, `ref`, `kind`, `base`, `delta`) into a .png or .svg
    file: a letter in the row of each reference base, and at the ends which is the transcript's 5′ end.

    Returns:
        Bases that one column stands for: 1, or more for a long stretch, of which the largest |Δ| is shown.
    """
    kind = check_drawable(out)
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    values, names = matrix(table, stretch)
    substituted = table[(table["kind"] == KINDS[0]) & table["ref"].isin(names)].drop_duplicates("site")
    reference = list(zip(substituted["site"], substituted["ref"], strict=True))
    bases = math.ceil(values.shape[1] / _COLUMNS_AT_MOST)
    shown = pooled(values, bases)
    per_panel = _COLUMNS_A_PANEL if bases == 1 else 4 * _COLUMNS_A_PANEL
    panels = math.ceil(shown.shape[1] / per_panel)
    limit = max(0.1, float(np.nanmax(np.abs(shown))))
    colours = LinearSegmentedColormap.from_list("loss to gain", LOSS_TO_GAIN)
    look: Any = {"aspect": "auto", "cmap": colours, "vmin": -limit, "vmax": limit, "interpolation": "nearest"}
    # Names are text: dollar signs in them begin no formula.
    settings: Any = {"font.size": 7, "svg.hashsalt": "meta-spliceai", "svg.fonttype": "none", "text.parse_math": False}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(12, panels * (0.16 * len(names) + 0.5) + 1.0), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(panels, 1, squeeze=False)[:, 0]
        for panel, axis in enumerate(axes):
            left = panel * per_panel
            piece = shown[:, left : left + per_panel]
            # Half a column to either side, so that a base's number stands under its middle.
            edge = stretch.start + left * bases + 0.5
            extent = (edge, edge + piece.shape[1] * bases, len(names) - 0.5, -0.5)
            image = axis.imshow(piece, extent=extent, **look)
            axis.set_xlim(edge, edge + per_panel * bases)
            axis.set_yticks(range(len(names)), names)
            axis.set_facecolor("0.92")
            axis.ticklabel_format(axis="x", style="plain", useOffset=False)
            for start, end in stretch.gene.exons:  # a bar above the map
                ends = [start + 0.5, end + 0.5]
                axis.plot(ends, [-0.9, -0.9], color="black", lw=3, solid_capstyle="butt", clip_on=True)
            axis.set_ylim(len(names) - 0.5, -1.3)
            beside = {"transform": axis.get_yaxis_transform(), "va": "center"}
            axis.text(0, -0.9, f"{stretch.ends[0]} ", ha="right", **beside)
            axis.text(1, -0.9, f" {stretch.ends[1]}", ha="left", **beside)
            if bases == 1:
                for site, letter in reference:
                    if edge < site < edge + per_panel:
                        axis.text(site, names.index(letter), letter, ha="center", va="center", fontsize=5)
        axes[-1].set_xlabel(f"position on {brief(stretch.chrom)} (plus strand); black bars are exons")
        each = "" if bases == 1 else f"; each column is the largest |Δ| of {bases} bases"
        figure.suptitle(f"{brief(stretch.title)}: {brief(model_name)}{each}")
        bar = figure.colorbar(image, ax=axes, fraction=0.015, pad=0.01)
        bar.set_label("Δ of largest |Δ|")
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        with atomic_write(out, "wb") as handle:
            figure.savefig(handle, format=kind, dpi=150, metadata=metadata)
    return bases


def matrix(table: pd.DataFrame, stretch: Stretch) -> tuple[Float[np.ndarray, "changes bases"], list[str]]:
    """Δ by change and base, NaN where there is no such change, and the rows' names."""
    names = [name for name in _ROWS if (table["base"] == name).any()]
    values = np.full((len(names), len(stretch)), np.nan)
    row = table["base"].map({name: place for place, name in enumerate(names)}).to_numpy()
    values[row, table["site"].to_numpy() - stretch.start - 1] = table["delta"].to_numpy()
    return values, names


def pooled(values: Float[np.ndarray, "changes bases"], bases: int) -> Float[np.ndarray, "changes columns"]:
    """Each `bases` neighbouring columns as one: the value of the largest magnitude, NaN where all are."""
    padded = np.pad(values, ((0, 0), (0, -values.shape[1] % bases)), constant_values=np.nan)
    grouped = padded.reshape(len(values), -1, bases)
    chosen = np.nan_to_num(np.abs(grouped), nan=-1.0).argmax(axis=2)
    return np.take_along_axis(grouped, chosen[:, :, None], axis=2)[:, :, 0]
