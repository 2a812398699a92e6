"""From scores to the text of an INFO entry.

A score is printed with two decimals and a position is where the largest of many values stands, so that float noise
(another batch size, thread count or processor) could tip either. Every entry is therefore made together with the
verdict whether noise up to `NOISE` could change its text; the few entries for which it could are computed again by
`score_file`, each variant alone, so that the text depends on the variant and on nothing beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Float, Int64

from meta_spliceai.errors import unknown_value
from meta_spliceai.splice_engine.base_layer.families import gain_and_loss
from meta_spliceai.splice_engine.base_layer.network import BaseModel
from meta_spliceai.splice_engine.base_layer.scores import ACCEPTOR, CHANNELS, DONOR
from meta_spliceai.splice_engine.genome.annotation import Gene
from meta_spliceai.splice_engine.variants import alleles

NOISE = 1e-5
"""Largest difference between two ways of computing one value (the bound that the scoring methods are tested for)."""

LONGEST_ALTERNATIVE = 10_000
"""Bases; a longer allele has the reason "alternative too long"."""

_SPLICEAI_COLUMNS = "ALLELE|SYMBOL|DS_AG|DS_AL|DS_DG|DS_DL|DP_AG|DP_AL|DP_DG|DP_DL"
_PANGOLIN_COLUMNS = "ALLELE|SYMBOL|DS_GAIN|DS_LOSS|DP_GAIN|DP_LOSS"

Delta = Float[np.ndarray, "positions channels"]


class Reason(StrEnum):
    """Why an allele has no score, in the words used in statistics and (with underscores) in INFO."""

    NO_ALTERNATIVE = "no alternative allele"
    CONTIG_ABSENT = "contig not in reference"
    MISMATCH = "reference mismatch"
    NO_SEQUENCE = alleles.NO_SEQUENCE
    BAD_REFERENCE = "reference allele not made of bases"
    NOT_IN_GENE = "not in a gene"
    TOO_LONG = "reference too long"
    SYMBOLIC = "symbolic allele"
    BREAKEND = "breakend"
    SPANNING = "spanning deletion"
    BAD_ALLELE = "allele not made of bases"
    ALLELE_TOO_LONG = "alternative too long"
    # What SpliceAI's own command leaves out; only under strict compatibility.
    DELINS = "several bases replaced by several"
    NEAR_END = "near contig end"
    LOWER_CASE = "lower-case reference"


def reason_of_allele(alt: str) -> str:
    """Why an allele cannot be scored whatever the gene, or ""."""
    if alt == "*":
        return Reason.SPANNING
    if "<" in alt or ">" in alt:
        return Reason.SYMBOLIC
    if "[" in alt or "]" in alt or alt.startswith(".") or alt.endswith("."):
        return Reason.BREAKEND
    if not re.fullmatch(r"[ACGTN]+", alt, re.IGNORECASE):
        return Reason.BAD_ALLELE
    if len(alt) > LONGEST_ALTERNATIVE:
        return Reason.ALLELE_TOO_LONG
    return ""


@dataclass(frozen=True)
class Peak:
    """The largest of a row of values: value, index, and whether noise could change how either is printed."""

    value: float
    index: int
    sure: bool


def two_decimals(value: float) -> str:
    """The value with two decimals; a zero has no sign."""
    text = f"{value:.2f}"
    return "0.00" if text == "-0.00" else text


def peak_of(values: Float[np.ndarray, " positions"]) -> Peak:
    """The largest value and where it stands (the first such place).

    Where the largest value is printed 0.00, its place is that of the largest value in steps of 0.001, nearest to the
    middle: among values that are all noise the strict maximum would be anywhere, and elsewhere on another machine.
    """
    index = int(values.argmax())
    value = float(values[index])
    if two_decimals(value) == "0.00":
        index, sure = _quiet_peak(values)
    else:
        sure = int(np.count_nonzero(values >= value - 2 * NOISE)) == 1
    sure = sure and two_decimals(value - NOISE) == two_decimals(value + NOISE)
    return Peak(value, index, sure)


def _quiet_peak(values: Float[np.ndarray, " positions"]) -> tuple[int, bool]:
    from_middle = np.abs(np.arange(len(values)) - len(values) // 2)

    def place(steps: Float[np.ndarray, " positions"]) -> int:
        return int(np.argmin(np.where(steps == steps.max(), from_middle, len(values))))

    wide = values.astype(np.float64)
    index = place(np.round(wide * 1000))
    # Noise may push any value over the border to the next step. The place is sure if it holds in the worst case: the
    # chosen value pushed down, all others up.
    worst = np.round((wide + NOISE) * 1000)
    worst[index] = np.round((wide[index] - NOISE) * 1000)
    return index, place(worst) == index


@dataclass(frozen=True)
class InfoField:
    """How one family's scores are written.

    Attributes:
        tool: what the header's description calls the scores.
        columns: what stands between the bars.
        masks_sites: --mask looks at every annotated site by position (CI-SpliceAI, Pangolin); else, as SpliceAI's own
            command does, only at the exon boundary nearest to the variant.
        splits_sites: scores are given for acceptors and donors apart; else as gain and loss of any site.
    """

    key: str
    tool: str
    columns: str
    masks_sites: bool
    splits_sites: bool

    @property
    def reason_key(self) -> str:
        """INFO key of the alleles that have no score."""
        return f"{self.key}_unscored"

    @property
    def source_key(self) -> str:
        """INFO key that says of each entry whether it was computed or taken from a table."""
        return f"{self.key}_source"

    def definitions(self) -> dict[str, str]:
        """INFO key: its line in the header, without line end."""
        what = "Largest gain and largest loss of splice-site probability over tissues (DS) and where (DP)."
        if self.splits_sites:
            what = (
                "These include delta scores (DS) and delta positions (DP) for acceptor gain (AG), acceptor loss (AL), "
                "donor gain (DG), and donor loss (DL)."
            )
        told = {
            self.key: f"{self.tool} variant annotation. {what} Format: {self.columns}",
            self.reason_key: f"Alleles without a {self.key} entry, and why. Format: ALLELE|SYMBOL|REASON",
            self.source_key: f"How each {self.key} entry was made, in their order: computed, or precomputed (taken "
            "from a table)",
        }
        return {
            key: f'##INFO=<ID={key},Number=.,Type=String,Description="{description}">'
            for key, description in told.items()
        }

    def unscored(self) -> str:
        """Scores and positions of an allele that SpliceAI's command names but does not score."""
        return "|".join("." * (self.columns.count("|") - 1))

    def render(self, delta: Delta, gene: Gene, pos: int, mask: bool) -> tuple[str, bool]:
        """One entry without allele and gene (scores and positions, separated by |), and whether no float noise could
        change it.

        Args:
            delta: alternative minus reference in plus-strand orientation; index `len // 2` is `pos`.
            gene: for the mask.
            pos: of the variant, 1-based.
            mask: leave out gains of annotated sites and losses of others.
        """
        distance = len(delta) // 2
        if self.splits_sites:
            gains = [delta[:, ACCEPTOR], -delta[:, ACCEPTOR], delta[:, DONOR], -delta[:, DONOR]]
            sites: list[tuple[int, ...]] = [gene.acceptors(), gene.acceptors(), gene.donors(), gene.donors()]
        else:
            (gain,), (loss,) = gain_and_loss(delta[None])
            gains = [gain, -loss]
            sites = [gene.acceptors() + gene.donors()] * 2
        if mask and self.masks_sites:
            gains = [
                _masked_by_site(values, np.array(sites[kind], dtype=np.int64) - pos, loss=bool(kind % 2))
                for kind, values in enumerate(gains)
            ]
        peaks = [peak_of(values) for values in gains]
        scores = [peak.value for peak in peaks]
        if mask and not self.masks_sites:
            boundaries = gene.boundaries() - pos
            nearest = int(boundaries[np.argmin(np.abs(boundaries))])
            for kind, peak in enumerate(peaks):
                is_boundary = peak.index - distance == nearest
                if is_boundary != bool(kind % 2):  # a gain at the boundary, or a loss anywhere else
                    scores[kind] = 0.0
        if not self.splits_sites:
            scores[1] = -scores[1]  # Pangolin writes losses as negative numbers
        text = "|".join([*map(two_decimals, scores), *(str(peak.index - distance) for peak in peaks)])
        return text, all(peak.sure for peak in peaks)


def _masked_by_site(
    values: Float[np.ndarray, " positions"], sites: Int64[np.ndarray, " sites"], loss: bool
) -> Float[np.ndarray, " positions"]:
    """Gains without those at annotated sites (bases from the variant), or losses without those anywhere else."""
    is_annotated = np.isin(np.arange(len(values)) - len(values) // 2, sites)
    return np.where(is_annotated == loss, values, np.minimum(values, 0))


FIELDS = {
    "spliceai": InfoField("SpliceAI", "SpliceAIv1.3.1", _SPLICEAI_COLUMNS, masks_sites=False, splits_sites=True),
    "cispliceai": InfoField("CISpliceAI", "CI-SpliceAI", _SPLICEAI_COLUMNS, masks_sites=True, splits_sites=True),
    "openspliceai": InfoField("OpenSpliceAI", "OpenSpliceAI", _SPLICEAI_COLUMNS, masks_sites=False, splits_sites=True),
    "pangolin": InfoField("Pangolin", "Pangolin", _PANGOLIN_COLUMNS, masks_sites=True, splits_sites=False),
}
"""Base model's name: its INFO field."""


def field_of(model: BaseModel) -> InfoField:
    """The INFO field of a base model's scores."""
    if model.name in FIELDS:
        return FIELDS[model.name]
    if model.channels == CHANNELS:
        return InfoField(model.name, model.name, _SPLICEAI_COLUMNS, masks_sites=False, splits_sites=True)
    raise unknown_value("base model with an INFO field", model.name, FIELDS)
