"""Training targets: label rules, each a function of the variant table and the base scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Int

from meta_spliceai.splice_engine.base_layer.scores import ACCEPTOR, DONOR, BaseScores
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import binary_labels
from meta_spliceai.splice_engine.variants.table import (
    CONFLICTING,
    LOW_FREQUENCY,
    NORMAL,
    SPLICE_ALTERING,
    UNKNOWN,
    Coverage,
    describe,
)

GOLD, BASE = "gold", "base"
MARKS = (GOLD, BASE)
"""Where a label is from: an observation, or the base network's own strongest peak. They are evaluated apart: agreement
with the second is agreement with the base network."""


Delta = Float32[np.ndarray, "n positions 3"]
"""Alternative minus reference probability, channels (neither, acceptor, donor)."""

Labels = Float32[np.ndarray, "n outputs"]


@dataclass(frozen=True)
class Targets:
    """Labels aligned with a variant table.

    Attributes:
        values: one row per variant; NaN where there is no label.
        task: the head these labels are for.
        marks: for rules with two sources of labels, where each row's comes from ("gold": observed, "base": the base
            network's own peak, "": no label); None for rules with one source.
    """

    values: Labels
    used: Bool[np.ndarray, " n"]
    coverage: Coverage
    task: str = "validated-delta"
    rule: str = ""
    marks: np.ndarray | None = None

    def counts_by_mark(self, rows: Int[np.ndarray, " rows"] | None = None) -> dict[str, int]:
        """How many labels are from which source, of all rows or of these; empty for rules with one source."""
        if self.marks is None:
            return {}
        marks = self.marks if rows is None else self.marks[rows]
        return {mark: int((marks == mark).sum()) for mark in MARKS}

    def sources(self) -> str:
        """The two sources and how many labels each gave, as a sentence for a result; "" for rules with one source."""
        counts = self.counts_by_mark()
        if not counts:
            return ""
        return (
            f"sites to learn: {counts[GOLD]:,} observed (gold), {counts[BASE]:,} taken from the base network's own "
            "strongest peak (base); they are evaluated apart: agreement with the latter is agreement with that network"
        )


NOT_LABELLED = {
    LOW_FREQUENCY: "Low-frequency: neither clearly altering nor clearly normal",
    CONFLICTING: "Conflicting: sources disagree",
    UNKNOWN: "Unknown: nobody has measured it",
    SPLICE_ALTERING: "Splice-altering: no Δ of the base network",
}


def _why_not(table: pd.DataFrame) -> np.ndarray:
    """For each row, why it has no label where its class gives it none."""
    reasons = [NOT_LABELLED.get(name, f"{name}: not part of this task") for name in table["classification"]]
    return np.array(reasons, dtype=object)


def _targets(
    table: pd.DataFrame, task: str, values: Labels, why_not: np.ndarray, rule: str, marks: np.ndarray | None = None
) -> Targets:
    """Targets whose rows are used where any of their labels is known; the others are counted with their reason."""
    used, coverage = ~np.isnan(values).all(axis=1), Coverage(read=len(table))
    for reason in dict.fromkeys(why_not[~used]):
        rows = table[~used & (why_not == reason)]
        coverage.leave_out(reason, (describe(row) for _, row in rows.iterrows()))
    return Targets(values, used, coverage, task, rule, marks)


def validated_delta(table: pd.DataFrame, scores: BaseScores) -> Targets:
    """The validated Δ: the base network's Δ where an experiment confirms an effect, else zero.

    Splice-altering rows get the base network's Δ (neither, acceptor, donor) at the position where |Δ acceptor| or
    |Δ donor| is largest; the first such position counts when several are equal. Normal rows get zero. All other
    classes are left out and counted.
    """
    classes = table["classification"].to_numpy(dtype=object)
    altering, delta = classes == SPLICE_ALTERING, np.asarray(scores.delta, dtype=np.float32)
    strongest = np.abs(delta[:, :, [ACCEPTOR, DONOR]]).max(axis=2).argmax(axis=1)
    values = np.full((len(table), 3), np.nan, dtype=np.float32)
    values[classes == NORMAL] = 0.0
    values[altering] = delta[np.arange(len(table)), strongest][altering]
    values[np.isnan(values).any(axis=1)] = np.nan
    rule = "Splice-altering: base Δ at its strongest position; Normal: 0; other classes left out"
    return _targets(table, "validated-delta", values, _why_not(table), rule)


def altering(table: pd.DataFrame, scores: BaseScores) -> Targets:
    """1 for Splice-altering, 0 for Normal; other classes are left out and counted. The base scores play no part."""
    values = binary_labels(table).astype(np.float32)[:, None]
    rule = "Splice-altering 1, Normal 0; other classes left out"
    return _targets(table, "altering", values, _why_not(table), rule)


EFFECT_TYPES = ("donor gain", "donor loss", "acceptor gain", "acceptor loss")
"""The four kinds of effect; a label is the index."""

GOLD_COLUMNS = ("donors_gained", "donors_lost", "acceptors_gained", "acceptors_lost")
"""Optional columns of a variant table, in the order of EFFECT_TYPES: 1-based positions (several joined by ';') at which
a splice site was observed to appear or vanish; empty where nothing of the kind was observed."""

SMALLEST_PEAK = 0.1
"""A base network's |Δ| below this is no peak: what kind it is and where it lies would be noise (half of the weakest
threshold that SpliceAI's authors recommend, 0.2)."""


def gold_sites(table: pd.DataFrame) -> list[dict[int, list[int]]]:
    """For each row: kind of effect -> observed positions (1-based)."""
    rows: list[dict[int, list[int]]] = [{} for _ in range(len(table))]
    for kind, column in enumerate(GOLD_COLUMNS):
        if column not in table:
            continue
        for i, cell in enumerate(table[column].astype("string").fillna("")):
            if places := [int(part) for part in cell.replace(".0", "").split(";") if part.strip()]:
                rows[i][kind] = places
    return rows


def _peaks(delta: Delta) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The base network's strongest |Δ| of a site channel: its size, its offset from the variant, its kind."""
    sites = delta[:, :, [DONOR, ACCEPTOR]]
    flat = np.abs(sites).reshape(len(delta), -1)
    best = flat.argmax(axis=1)
    position, channel = np.divmod(best, 2)
    rows = np.arange(len(delta))
    lost = sites[rows, position, channel] < 0
    return flat[rows, best], position - delta.shape[1] // 2, 2 * channel + lost


def base_effect_type(delta: Delta, least: float = SMALLEST_PEAK) -> list[str]:
    """The kind of effect (of EFFECT_TYPES) that a base network's strongest peak of `least` or more shows, else ""."""
    size, _, kind = _peaks(delta)
    return [EFFECT_TYPES[one] if big >= least else "" for big, one in zip(size, kind, strict=True)]


def _observed_or_base(table: pd.DataFrame, scores: BaseScores, task: str, rule: str) -> Targets:
    """Labels of altering rows, from observed sites where there are any, else from the base network's peak."""
    size, offset, kind = _peaks(np.asarray(scores.delta, dtype=np.float32))
    pos, forward = table["pos"].to_numpy(), np.where(table["strand"].to_numpy() == "-", -1, 1)
    values = np.full((len(table), 1), np.nan, dtype=np.float32)
    marks, why_not = np.full(len(table), "", dtype=object), _why_not(table)
    gold = gold_sites(table)
    for i in np.flatnonzero(table["classification"] == SPLICE_ALTERING):
        if gold[i] and task == "position":
            # With several observed sites the nearest one: the effect spreads from the variant.
            near = (np.concatenate([*gold[i].values()]) - pos[i]) * forward[i]
            marks[i], values[i] = GOLD, near[np.abs(near).argmin()]
        elif len(gold[i]) == 1:
            marks[i], values[i] = GOLD, next(iter(gold[i]))
        elif gold[i]:
            why_not[i] = "several kinds of effect were observed"
        elif size[i] >= SMALLEST_PEAK:
            marks[i], values[i] = BASE, offset[i] if task == "position" else kind[i]
        else:
            why_not[i] = f"the base network has no peak of {SMALLEST_PEAK} or more"
    return _targets(table, task, values, why_not, rule, marks)


def effect_type(table: pd.DataFrame, scores: BaseScores) -> Targets:
    """The kind of effect of Splice-altering rows: index in EFFECT_TYPES.

    Observed sites (GOLD_COLUMNS) decide where there are any; otherwise the base network's own strongest peak does, and
    the row is marked "base": agreement with such labels is agreement with the base network, not with an experiment.
    """
    rule = (
        "altering rows: the observed kind of effect (gold), else the kind of the base network's strongest peak (base)"
    )
    return _observed_or_base(table, scores, "effect-type", rule)


def position(table: pd.DataFrame, scores: BaseScores) -> Targets:
    """The affected site's offset from the variant, in bases of the transcript (positive: downstream).

    Observed sites decide where there are any (the nearest of several), otherwise the base network's strongest peak,
    marked "base". An observed site may lie beyond a model's window; the head leaves it out of its loss.
    """
    rule = "altering rows: offset of the nearest observed site (gold), else of the base network's strongest peak (base)"
    return _observed_or_base(table, scores, "position", rule)


def magnitude(table: pd.DataFrame, scores: BaseScores) -> Targets:
    """Two numbers: the measured effect (signed, the data set's unit; any class), and |Δ| of the base network at its
    strongest position (Splice-altering; 0 for Normal). Either may be unknown; rows with neither are left out."""
    classes = table["classification"].to_numpy(dtype=object)
    size, _, _ = _peaks(np.asarray(scores.delta, dtype=np.float32))
    values = np.full((len(table), 2), np.nan, dtype=np.float32)
    values[:, 0] = table["effect"].to_numpy(dtype=np.float32)
    values[:, 1] = np.select([classes == SPLICE_ALTERING, classes == NORMAL], [size, 0], np.nan)
    rule = "the measured effect, and the base network's strongest |Δ| (altering) or 0 (Normal)"
    why_not = np.full(len(table), "no measured effect, and neither altering nor normal", dtype=object)
    return _targets(table, "magnitude", values, why_not, rule)


def multitask(table: pd.DataFrame, scores: BaseScores) -> Targets:
    """The labels of all tasks side by side: validated Δ (3), altering, effect type, position, magnitude (2)."""
    parts = [rule(table, scores) for rule in (validated_delta, altering, effect_type, position, magnitude)]
    values = np.concatenate([part.values for part in parts], axis=1)
    why_not = np.full(len(table), "no label for any task", dtype=object)
    rule = "; ".join(part.rule for part in parts)
    return _targets(table, "multitask", values, why_not, rule, parts[2].marks)


TARGETS = {
    rule.__name__.replace("_", "-"): rule
    for rule in (validated_delta, altering, effect_type, position, magnitude, multitask)
}
"""Name of a task: its label rule, a function of the variant table and the base scores."""
