"""What an evaluation is: tidy numbers with intervals, paired differences, coverage, and a verdict in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import KINDS, Scorer
from meta_spliceai.splice_engine.variants.table import Coverage

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
        metrics: one row a scorer and metric, columns METRIC_COLUMNS. `estimate` NaN: undefined, see `reason`;
            `low`/`high` NaN: no interval, see `reason`. `n_positive` and `prevalence` are for binary metrics only.
            `seed_sd` is the standard deviation between the trainings of a model trained several times.
        differences: one row a scorer, reference and metric, columns DIFFERENCE_COLUMNS: scorer minus reference on
            the same rows and the same resamples.
        settings: what was asked for: classes, resamples, seed, level, reference, operating points, rows.
    """

    scorers: list[Scorer]
    metrics: pd.DataFrame
    differences: pd.DataFrame
    coverage: Coverage
    settings: dict[str, Any] = field(default_factory=dict)

    def value(self, scorer: str, metric: str) -> pd.Series:
        found = self.metrics[(self.metrics["scorer"] == scorer) & (self.metrics["metric"] == metric)]
        if found.empty:
            self._refuse(scorer, metric)
        return found.iloc[0]

    def difference(self, scorer: str, reference: str, metric: str) -> pd.Series:
        table = self.differences
        found = table[(table["scorer"] == scorer) & (table["reference"] == reference) & (table["metric"] == metric)]
        if found.empty:
            self._refuse(scorer, metric)
            raise unknown_value("reference", reference, dict.fromkeys(table["reference"]))
        return found.iloc[0]

    def leaderboard(self, metric: str = "auprc") -> pd.DataFrame:
        """One row a scorer with every metric's estimate, low and high: baselines first, then base, then learned.

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

    def _refuse(self, scorer: str, metric: str) -> None:
        names = [s.name for s in self.scorers]
        if scorer not in names:
            raise unknown_value("scorer", scorer, names)
        metrics = list(dict.fromkeys(self.metrics["metric"]))
        if metric not in metrics:
            raise unknown_value("metric", metric, metrics)

    def to_json(self) -> dict[str, Any]:
        """Plain values only; an undefined number is null, its reason stands beside it."""
        return {
            "scorers": [scorer.to_json() for scorer in self.scorers],
            "metrics": _records(self.metrics),
            "differences": _records(self.differences),
            "coverage": self.coverage.to_json(),
            "settings": self.settings,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Evaluation:
        missing = [name for name in cls.__dataclass_fields__ if name not in values]
        if missing:
            raise InputError(f"metrics: {', '.join(missing)} missing; the file is not one that an evaluation wrote")
        account = values["coverage"]
        return cls(
            [Scorer.from_json(scorer) for scorer in values["scorers"]],
            tidy(values["metrics"], METRIC_COLUMNS),
            tidy(values["differences"], DIFFERENCE_COLUMNS),
            Coverage(account["read"], dict(account["left_out"]), {k: list(v) for k, v in account["examples"].items()}),
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


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {key: None if pd.isna(value) else value for key, value in row.items()}
        for row in frame.astype(object).to_dict(orient="records")
    ]


def _signed(value: float) -> str:
    """Three decimals with a true minus sign; never "−0.000"."""
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else text.replace("-", "−")
