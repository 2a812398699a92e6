"""The inputs of an evaluation (scorers, the frame of their scores on the test variants, the positives and negatives),
and its results: tidy metrics with intervals, paired differences, coverage, and a verdict in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.splice_engine.base_layer.scores import ACCEPTOR, DONOR
from meta_spliceai.splice_engine.variants.table import CLASSES, LOW_FREQUENCY, NORMAL, SPLICE_ALTERING, Coverage

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


def strongest(delta: Float[np.ndarray, "rows 3"]) -> Float[np.ndarray, " rows"]:
    """The signed Δ of largest magnitude over the acceptor and donor channels (channel order CHANNELS)."""
    sites = delta[:, [ACCEPTOR, DONOR]]
    return sites[np.arange(len(sites)), np.abs(sites).argmax(axis=1)]


def scores_from_delta(delta: Float[np.ndarray, "rows 3"]) -> Scores:
    return signed_scores(strongest(delta))


def target_magnitude(
    values: Float[np.ndarray, "rows 3"], used: Bool[np.ndarray, " rows"]
) -> Float[np.ndarray, " rows"]:
    """Magnitude of the validated Δ over the acceptor and donor channels; NaN for rows that have no target."""
    return np.where(np.asarray(used, dtype=bool), scores_from_delta(np.nan_to_num(values)).score, np.nan)


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
        InputError: no rows or scorers, a name twice, a missing column, a class nobody knows, a duplicated variant,
            an infinite score. The first offending row is named.
    """
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


METRIC_COLUMNS = (
    "scorer",
    "kind",
    "metric",
    "estimate",
    "low",
    "high",
    "n",
    "n_positive",
    "n_groups",
    "prevalence",
    "undefined_resamples",
    "n_seeds",
    "seed_sd",
    "reason",
)
DIFFERENCE_COLUMNS = ("scorer", "reference", "metric", "estimate", "low", "high", "undefined_resamples", "reason")
COUNTS = ("n", "n_positive", "n_groups", "undefined_resamples", "n_seeds")


@dataclass(frozen=True)
class Verdict:
    """One learned model against one baseline, in words.

    Attributes:
        beats: True if the whole interval is above zero, False if it is not, None if the difference is undefined.
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
        return self._row(self.metrics, scorer=scorer, metric=metric)

    def difference(self, scorer: str, reference: str, metric: str) -> pd.Series:
        return self._row(self.differences, scorer=scorer, metric=metric, reference=reference)

    def leaderboard(self, metric: str = "auprc") -> pd.DataFrame:
        """One row per scorer with every metric's estimate, low and high: baselines first, then base, then learned.

        Within a kind the best in `metric` stands first; undefined ones last.
        """
        names = list(dict.fromkeys(self.metrics["metric"]))
        if metric not in names:
            raise unknown_value("metric", metric, names)
        rows = []
        for scorer in self.scorers:
            mine = self.metrics[self.metrics["scorer"] == scorer.name].set_index("metric")
            row: dict[str, Any] = {"scorer": scorer.name, "kind": scorer.kind, "note": scorer.note}
            for name in names:
                row |= {name: mine.loc[name, "estimate"], f"{name}.low": mine.loc[name, "low"]}
                row[f"{name}.high"] = mine.loc[name, "high"]
            rows.append(row)
        table = pd.DataFrame(rows)
        kinds = pd.Categorical(table["kind"], KINDS).codes
        table = table.assign(_kind=kinds).sort_values(["_kind", metric], ascending=[True, False], kind="stable")
        return table.drop(columns="_kind").reset_index(drop=True)

    def verdicts(self, metric: str = "auprc") -> list[Verdict]:
        """Every learned model and external tool against every baseline, base scorer and (other) external tool, in the
        leaderboard's order."""
        board = self.leaderboard(metric)
        rivals = board.loc[board["kind"] != "learned", "scorer"]
        compared = board.loc[board["kind"].isin(("external", "learned")), "scorer"]
        return [self._verdict(one, rival, metric) for one in compared for rival in rivals if one != rival]

    def _verdict(self, scorer: str, rival: str, metric: str) -> Verdict:
        row = self.difference(scorer, rival, metric)
        label = self.settings.get("labels", {}).get(metric, metric)
        if np.isnan(row["estimate"]):
            return Verdict(scorer, rival, metric, None, f"cannot be compared with {rival}: {row['reason']}")
        amount = f"{label} difference {_signed(row['estimate'])}"
        if np.isnan(row["low"]):
            text = f"is not shown to beat {rival}: {amount}, {row['reason']}"
            return Verdict(scorer, rival, metric, None, text)
        amount += f" [{_signed(row['low'])}, {_signed(row['high'])}]"
        if row["low"] > 0:
            return Verdict(scorer, rival, metric, True, f"beats {rival}: {amount}")
        if row["high"] < 0:
            return Verdict(scorer, rival, metric, False, f"is worse than {rival}: {amount}")
        return Verdict(scorer, rival, metric, False, f"does not beat {rival}: {amount}")

    def _row(self, table: pd.DataFrame, **wanted: str) -> pd.Series:
        """The row with these values; InputError for one that no row has."""
        found = table[np.logical_and.reduce([table[what] == name for what, name in wanted.items()])]
        for what, name in wanted.items() if found.empty else ():
            if not (table[what] == name).any():
                raise unknown_value(what, name, dict.fromkeys(table[what]))
        return found.iloc[0]

    def to_json(self) -> dict[str, Any]:
        """Plain values only; an undefined number is null, its reason stands beside it."""
        return {
            "scorers": [scorer.to_json() for scorer in self.scorers],
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


def tidy(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    """Rows as a frame with these columns in fixed types: counts Int64, numbers float, the rest text."""
    frame = pd.DataFrame(rows, columns=list(columns))
    for column in columns:
        if column in COUNTS:
            frame[column] = frame[column].astype("Int64")
        elif column in ("estimate", "low", "high", "prevalence", "seed_sd"):
            frame[column] = frame[column].astype("float64")
        else:
            frame[column] = frame[column].astype(object)
    return frame


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows as dictionaries of plain values; None for what is missing or no finite number."""
    return [{str(name): plain(value) for name, value in row.items()} for row in frame.to_dict(orient="records")]


def plain(value: Any) -> Any:
    """A value as JSON has it; None for NaN."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is None or value is pd.NA or (isinstance(value, float) and not np.isfinite(value)) else value


def _signed(value: float) -> str:
    """Three decimals with a true minus sign; never "−0.000"."""
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else text.replace("-", "−")
