"""The inputs of an evaluation (scorers, the frame of their scores on the test variants, the positives and negatives),
and its results: tidy metrics with intervals, paired differences, coverage, and a verdict in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.splice_engine.base_layer.scores import ACCEPTOR, DONOR
from meta_spliceai.splice_engine.variants.table import LOW_FREQUENCY, NORMAL, SPLICE_ALTERING, Coverage

POSITIVE = SPLICE_ALTERING
NEGATIVES: tuple[str, ...] = (NORMAL,)
"""The two sides unless asked otherwise. Low-frequency, Conflicting and Unknown are on neither, and are counted."""

MAY_BE_NEGATIVE = (NORMAL, LOW_FREQUENCY)
"""MFASS's own question is "strong loss or not", with the Low-frequency variants among the negatives."""


def check_negatives(negatives: Sequence[str]) -> tuple[str, ...]:
    """The classes asked for as negatives, in the order of MAY_BE_NEGATIVE; InputError for none or another class."""
    if not negatives or not set(negatives) <= set(MAY_BE_NEGATIVE):
        raise InputError(f"negative classes {', '.join(negatives)}; choose among {', '.join(MAY_BE_NEGATIVE)}")
    return tuple(name for name in MAY_BE_NEGATIVE if name in negatives)


def binary_labels(table: pd.DataFrame, negatives: Sequence[str] = NEGATIVES) -> Float[np.ndarray, " rows"]:
    """1 for Splice-altering, 0 for the negatives, NaN for the classes on neither side."""
    classes = table["classification"]
    sides = np.where(classes.isin(check_negatives(negatives)), 0.0, np.nan)
    return np.where(classes == POSITIVE, 1.0, sides)


def training_labels(
    table: pd.DataFrame, where: str, negatives: Sequence[str] = NEGATIVES
) -> Float[np.ndarray, " rows"]:
    """`binary_labels` of a part to learn from.

    Raises:
        InputError: a side without a variant; the message names the part.
    """
    y = binary_labels(table, negatives)
    for side, name in ((1, POSITIVE), (0, " or ".join(negatives))):
        if not (y == side).any():
            raise InputError(f"{where}: no {name} variant among {len(table)} rows; nothing can be learned from it")
    return y


Kind = Literal["baseline", "base", "external", "learned"]
Scale = Literal["delta", "probability", "rank"]
KINDS: tuple[str, ...] = get_args(Kind)

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


def strongest(delta: Float[np.ndarray, "rows 3"]) -> Float[np.ndarray, " rows"]:
    """The signed Δ of largest magnitude over the acceptor and donor channels (channel order CHANNELS)."""
    sites = delta[:, [ACCEPTOR, DONOR]]
    return sites[np.arange(len(sites)), np.abs(sites).argmax(axis=1)]


def target_magnitude(
    values: Float[np.ndarray, "rows 3"], used: Bool[np.ndarray, " rows"]
) -> Float[np.ndarray, " rows"]:
    """Magnitude of the validated Δ over the acceptor and donor channels; NaN for rows that have no target."""
    return np.where(np.asarray(used, dtype=bool), np.abs(strongest(np.nan_to_num(values))), np.nan)


def predictions_frame(
    table: pd.DataFrame, target: Float[np.ndarray, " rows"] | None, scores: Mapping[Scorer, Scores]
) -> pd.DataFrame:
    """The frame `evaluate` reads: names, groups, classes and effects of the test table, then every scorer's columns."""
    frame = table[[column for column in PREDICTION_COLUMNS if column != "target"]].reset_index(drop=True).copy()
    frame["target"] = np.nan if target is None else target
    for scorer, values in scores.items():
        frame[scorer.score_column] = values.score
        frame[scorer.signed_column] = values.signed
    return frame


def check_predictions(predictions: pd.DataFrame, scorers: Sequence[Scorer]) -> pd.DataFrame:
    """The predictions with a fresh index and float columns; a scorer without a signed column gets NaN there.

    Raises:
        InputError: no rows or scorers, a name twice, a missing column, a duplicated variant, an infinite score.
    """
    trainings = [training for scorer in scorers for training in scorer.trainings()]
    names = [scorer.name for scorer in scorers if scorer.seeds] + [training.name for training in trainings]
    if predictions.empty or not names:
        raise InputError("predictions: no rows or no scorer; there is nothing to evaluate")
    if len(set(names)) < len(names):
        raise InputError(f"a scorer is given twice; names must differ: {', '.join(names)}")
    missing = [
        column
        for column in [*PREDICTION_COLUMNS, *(one.score_column for one in trainings)]
        if column not in predictions
    ]
    if missing:
        raise InputError(f"predictions: column {', '.join(missing)} missing; found {', '.join(map(str, predictions))}")
    frame = predictions.reset_index(drop=True).copy()
    if frame["variant_id"].duplicated().any():
        twice = frame.loc[frame["variant_id"].duplicated(), "variant_id"].iloc[0]
        raise InputError(f"predictions: variant_id '{twice}' stands twice; a variant counts once")
    for column in ("effect", "target", *(name for one in trainings for name in (one.score_column, one.signed_column))):
        frame[column] = frame[column].astype("float64") if column in frame else np.nan
        if np.isinf(frame[column]).any():
            row = int(np.isinf(frame[column]).idxmax()) + 1
            raise InputError(f"predictions: column '{column}' holds an infinite number, first at row {row}")
    return frame


METRIC_COLUMNS = {
    **{"scorer": "object", "kind": "object", "metric": "object"},
    **{"estimate": "float64", "low": "float64", "high": "float64"},
    **{"n": "Int64", "n_positive": "Int64", "n_groups": "Int64", "prevalence": "float64"},
    **{"undefined_resamples": "Int64", "n_seeds": "Int64", "seed_sd": "float64", "reason": "object"},
}
DIFFERENCE_COLUMNS = {
    **{"scorer": "object", "reference": "object", "metric": "object"},
    **{"estimate": "float64", "low": "float64", "high": "float64"},
    **{"undefined_resamples": "Int64", "reason": "object"},
}
"""Columns of the two tables of an evaluation, and their types."""


class Verdict(NamedTuple):
    """One learned model against one baseline, in words.

    Attributes:
        beats: True if the whole interval is above zero, False if it is not, None if there is no difference or interval.
    """

    scorer: str
    rival: str
    metric: str
    beats: bool | None
    text: str


@dataclass
class Evaluation:
    """An evaluation of several scorers on the same rows.

    Attributes:
        metrics: one row per scorer and metric, columns METRIC_COLUMNS. `estimate` NaN: undefined, see `reason`;
            `low`/`high` NaN: no interval, see `reason`. `n_positive` and `prevalence` are for binary metrics only.
            `seed_sd` is the standard deviation between the trainings of a model trained several times.
        differences: scorer minus reference on the same rows and resamples, columns DIFFERENCE_COLUMNS.
        settings: what was asked for: classes, resamples, seed, level, reference, operating points, rows.
    """

    scorers: list[Scorer]
    metrics: pd.DataFrame
    differences: pd.DataFrame
    coverage: Coverage
    settings: dict[str, Any] = field(default_factory=dict)

    def value(self, scorer: str, metric: str) -> pd.Series:
        return _row(self.metrics, scorer=scorer, metric=metric)

    def difference(self, scorer: str, reference: str, metric: str) -> pd.Series:
        return _row(self.differences, scorer=scorer, reference=reference, metric=metric)

    def leaderboard(self, metric: str = "auprc") -> pd.DataFrame:
        """One row per scorer with every metric's estimate, low and high: baselines first, then base, then learned.

        Within a kind the best in `metric` stands first; undefined ones last.
        """
        rows = []
        for scorer in self.scorers:
            row: dict[str, Any] = {"scorer": scorer.name, "kind": scorer.kind, "note": scorer.note}
            for one in self.metrics[self.metrics["scorer"] == scorer.name].itertuples():
                row |= {one.metric: one.estimate, f"{one.metric}.low": one.low, f"{one.metric}.high": one.high}
            rows.append(row)
        table = pd.DataFrame(rows)
        if metric not in table:
            raise unknown_value("metric", metric, dict.fromkeys(self.metrics["metric"]))
        place = pd.Series(pd.Categorical(table["kind"], KINDS).codes)
        return table.iloc[np.lexsort([-table[metric], place])].reset_index(drop=True)

    def verdicts(self, metric: str = "auprc") -> list[Verdict]:
        """Every learned model and external tool against every baseline, base scorer and (other) external tool, in the
        leaderboard's order."""
        board = self.leaderboard(metric)
        rivals = board.loc[board["kind"] != "learned", "scorer"]
        compared = board.loc[board["kind"].isin(("external", "learned")), "scorer"]
        return [self._verdict(one, rival, metric) for one in compared for rival in rivals if one != rival]

    def _verdict(self, scorer: str, rival: str, metric: str) -> Verdict:
        row = self.difference(scorer, rival, metric)
        if np.isnan(row["low"]):
            return Verdict(scorer, rival, metric, None, f"is not shown to beat {rival}: {row['reason']}")
        said = "beats" if row["low"] > 0 else "is worse than" if row["high"] < 0 else "does not beat"
        amount, low, high = (f"{row[name]:+.3f}".replace("-", "−") for name in ("estimate", "low", "high"))
        label = self.settings.get("labels", {}).get(metric, metric)
        text = f"{said} {rival}: {label} difference {amount} [{low}, {high}]"
        return Verdict(scorer, rival, metric, said == "beats", text)

    def to_json(self) -> dict[str, Any]:
        """Plain values only; an undefined number is null, its reason stands beside it."""
        return {
            "scorers": [asdict(scorer) | {"seeds": list(scorer.seeds)} for scorer in self.scorers],
            "metrics": records(self.metrics),
            "differences": records(self.differences),
            "coverage": self.coverage.to_json(),
            "settings": self.settings,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Evaluation:
        missing = [name for name in cls.__dataclass_fields__ if name not in values]
        if missing:
            raise InputError(f"metrics: {', '.join(missing)} missing; the file is not one that an evaluation wrote")
        return cls(
            [Scorer.from_json(scorer) for scorer in values["scorers"]],
            tidy(values["metrics"], METRIC_COLUMNS),
            tidy(values["differences"], DIFFERENCE_COLUMNS),
            Coverage.from_json(values["coverage"]),
            dict(values["settings"]),
        )


def _row(table: pd.DataFrame, **wanted: str) -> pd.Series:
    """The row with these values; InputError where there is none."""
    found = table[np.logical_and.reduce([table[what] == name for what, name in wanted.items()])]
    if found.empty:
        raise InputError(
            f"the evaluation has nothing of {', '.join(f'{what} {name!r}' for what, name in wanted.items())}"
        )
    return found.iloc[0]


def tidy(rows: list[dict[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    """Rows as a frame with these columns in their types."""
    return pd.DataFrame(rows, columns=list(columns)).astype(dict(columns))


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows as dictionaries of plain values; None for what is missing or no finite number."""
    return [{str(name): plain(value) for name, value in row.items()} for row in frame.to_dict(orient="records")]


def plain(value: Any) -> Any:
    """A value as JSON has it; None for NaN."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is None or value is pd.NA or (isinstance(value, float) and not np.isfinite(value)) else value
