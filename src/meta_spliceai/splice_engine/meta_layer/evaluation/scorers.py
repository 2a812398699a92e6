"""What is evaluated: scorers, the frame of their scores on the test variants, and the two sides of a binary
question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.splice_engine.base_layer.scores import ACCEPTOR, DONOR
from meta_spliceai.splice_engine.variants.table import CLASSES, LOW_FREQUENCY, NORMAL, SPLICE_ALTERING

POSITIVE = SPLICE_ALTERING
NEGATIVES: tuple[str, ...] = (NORMAL,)
"""The two sides unless asked otherwise. Low-frequency, Conflicting and Unknown are on neither, and are counted."""

MAY_BE_NEGATIVE = (NORMAL, LOW_FREQUENCY)
"""MFASS's own question is "strong loss or not", with the Low-frequency variants among the negatives."""


def check_negatives(negatives: Sequence[str]) -> tuple[str, ...]:
    """The classes asked for as negatives, in the order of MAY_BE_NEGATIVE; InputError for none or another class."""
    for name in negatives:
        if name not in MAY_BE_NEGATIVE:
            raise unknown_value("negative class", name, MAY_BE_NEGATIVE)
    if not negatives:
        raise InputError(f"no negative class; choose among {', '.join(MAY_BE_NEGATIVE)}")
    return tuple(name for name in MAY_BE_NEGATIVE if name in negatives)


def binary_labels(table: pd.DataFrame, negatives: Sequence[str] = NEGATIVES) -> Float[np.ndarray, " rows"]:
    """1 for Splice-altering, 0 for the negatives, NaN for the classes on neither side."""
    classes = table["classification"]
    sides = np.where(classes.isin(check_negatives(negatives)), 0.0, np.nan)
    return np.where(classes == POSITIVE, 1.0, sides)


def training_labels(
    table: pd.DataFrame, where: str, negatives: Sequence[str] = NEGATIVES
) -> Float[np.ndarray, " rows"]:
    """`binary_labels` of a part to learn from. InputError: a class nobody knows, or a side without a variant; the
    message names the part."""
    classes = table["classification"]
    strange = ~classes.isin(CLASSES)
    if strange.any():
        place = int(np.flatnonzero(strange.to_numpy())[0])
        raise unknown_value("class", classes.iloc[place], CLASSES, f"{where}, row {place + 1}")
    y = binary_labels(table, negatives)
    for side, name in ((1, POSITIVE), (0, " or ".join(negatives))):
        if not (y == side).any():
            raise InputError(f"{where}: no {name} variant among {len(table)} rows; nothing can be learned from it")
    return y


Kind = Literal["baseline", "base", "external", "learned"]
Scale = Literal["delta", "probability", "rank"]
KINDS: tuple[str, ...] = get_args(Kind)
SCALES: tuple[str, ...] = get_args(Scale)

PREDICTION_COLUMNS: dict[str, str] = {
    "variant_id": "unique name of the test variant",
    "group": "what the bootstrap draws as one",
    "classification": "class of the measured effect",
    "effect": "measured effect, signed, NaN if none",
    "target": "validated Δ magnitude, NaN where there is none",
}


@dataclass(frozen=True)
class Scorer:
    """One row of the leaderboard.

    Attributes:
        name: heading; its scores stand in the columns `{name}.score` and `{name}.signed`.
        kind: "baseline", "base" (a base network's reduction), "external" (a tool that is not run here) or "learned".
        scale: what its score is: "delta" (a Δ magnitude, to which Δ thresholds apply), "probability" (of being
            Splice-altering) or "rank" (only the order means something).
        seeds: for a model trained several times, the names whose columns hold the scores of each training. Its
            numbers are then the mean over trainings, and its intervals hold the doubt about the training as well.
    """

    name: str
    kind: Kind
    note: str = ""
    scale: Scale = "delta"
    seeds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name:
            raise InputError("a scorer has an empty name; the leaderboard needs one")
        for what, value, choices in (("kind", self.kind, KINDS), ("scale", self.scale, SCALES)):
            if value not in choices:
                raise unknown_value(what, value, choices, f"scorer '{self.name}'")

    def trainings(self) -> tuple[Scorer, ...]:
        """What has columns of its own: the trainings of a model trained several times, else the scorer itself."""
        return tuple(replace(self, name=name, seeds=()) for name in self.seeds) or (self,)

    @property
    def score_column(self) -> str:
        """Column of the magnitude: higher = more likely altering."""
        return f"{self.name}.score"

    @property
    def signed_column(self) -> str:
        """Column of the signed score: negative = loss, like the effect; NaN if the scorer has no sign."""
        return f"{self.name}.signed"

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"seeds": list(self.seeds)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Scorer:
        return cls(**{**values, "seeds": tuple(values.get("seeds", ()))})


@dataclass(frozen=True)
class Scores:
    score: Float[np.ndarray, " rows"]
    signed: Float[np.ndarray, " rows"]


def unsigned(score: Float[np.ndarray, " rows"]) -> Scores:
    """Scores without a direction (a probability)."""
    values = np.asarray(score, dtype=np.float64)
    return Scores(values, np.full(len(values), np.nan))


def signed_scores(signed: Float[np.ndarray, " rows"]) -> Scores:
    """A signed Δ and its magnitude."""
    values = np.asarray(signed, dtype=np.float64)
    return Scores(np.abs(values), values)


def scores_from_delta(delta: Float[np.ndarray, "rows 3"]) -> Scores:
    """The signed Δ of largest magnitude over the acceptor and donor channels (channel order CHANNELS)."""
    values = np.asarray(delta, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != 3:
        raise InputError(f"predicted Δ has shape {values.shape}; it must be (rows, 3): neither, acceptor, donor")
    sites = values[:, [ACCEPTOR, DONOR]]
    return signed_scores(sites[np.arange(len(sites)), np.abs(sites).argmax(axis=1)])


def target_magnitude(
    values: Float[np.ndarray, "rows 3"], used: Bool[np.ndarray, " rows"]
) -> Float[np.ndarray, " rows"]:
    """Magnitude of the validated Δ over the acceptor and donor channels; NaN for rows that have no target."""
    return np.where(np.asarray(used, dtype=bool), scores_from_delta(np.nan_to_num(values)).score, np.nan)


def predictions_frame(
    table: pd.DataFrame, target: Float[np.ndarray, " rows"] | None, scores: Mapping[Scorer, Scores]
) -> pd.DataFrame:
    """The frame `evaluate` reads: names, groups, classes and effects of the test table, then every scorer's columns.
    InputError: a score or the target does not have one value a row."""
    frame = table[[column for column in PREDICTION_COLUMNS if column != "target"]].reset_index(drop=True).copy()
    frame["target"] = np.nan if target is None else _one_a_row(target, len(frame), "target")
    for scorer, values in scores.items():
        frame[scorer.score_column] = _one_a_row(values.score, len(frame), scorer.score_column)
        frame[scorer.signed_column] = _one_a_row(values.signed, len(frame), scorer.signed_column)
    return frame


def _one_a_row(values: Float[np.ndarray, " rows"], rows: int, what: str) -> Float[np.ndarray, " rows"]:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (rows,):
        raise InputError(f"{what} has shape {array.shape}, but the table has {rows} rows; one value a row is needed")
    return array


def check_predictions(predictions: pd.DataFrame, scorers: Sequence[Scorer]) -> pd.DataFrame:
    """The predictions with a fresh index and float columns; a scorer without a signed column gets NaN there.
    InputError: no rows or scorers, a name twice, a missing column, a class nobody knows, a duplicated variant, an
    infinite score. The first offending row is named."""
    if not scorers:
        raise InputError("no scorer to evaluate; give at least one")
    columns = [training for scorer in scorers for training in scorer.trainings()]
    names = [scorer.name for scorer in scorers if scorer.seeds] + [training.name for training in columns]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"scorer '{twice}' is given twice; names must differ")
    needed = [*PREDICTION_COLUMNS, *(training.score_column for training in columns)]
    missing = [column for column in needed if column not in predictions]
    if missing:
        raise InputError(f"predictions: column {', '.join(missing)} missing; found {', '.join(map(str, predictions))}")
    if predictions.empty:
        raise InputError("predictions: no rows; there is nothing to evaluate")
    frame = predictions.reset_index(drop=True).copy()
    twice_in = frame["variant_id"].duplicated()
    if twice_in.any():
        raise InputError(
            f"predictions: {int(twice_in.sum())} duplicated variant_id, first at row {int(twice_in.idxmax()) + 1}: "
            f"'{frame['variant_id'][twice_in.idxmax()]}'; a variant counts once"
        )
    strange = ~frame["classification"].isin(CLASSES)
    if strange.any():
        row = int(strange.idxmax())
        raise unknown_value("class", frame["classification"][row], CLASSES, f"predictions, row {row + 1}")
    for training in columns:
        if training.signed_column not in frame:
            frame[training.signed_column] = np.nan
    numeric = ["effect", "target", *(c for t in columns for c in (t.score_column, t.signed_column))]
    for column in numeric:
        values = pd.to_numeric(frame[column], errors="coerce").astype("float64")
        garbled = values.isna() & frame[column].notna()
        bad = garbled | np.isinf(values)
        if bad.any():
            row = int(bad.idxmax())
            raise InputError(
                f"predictions: column '{column}' holds '{frame[column][row]}' at row {row + 1} "
                f"({frame['variant_id'][row]}); a finite number or nothing is needed"
            )
        frame[column] = values
    return frame
