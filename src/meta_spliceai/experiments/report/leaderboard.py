"""Leaderboards: runs judged on the same test variants stand on one, with the simple rivals first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from meta_spliceai.experiments.leaderboard import test_of
from meta_spliceai.experiments.report.collect import RunRecord
from meta_spliceai.splice_engine.meta_layer.evaluation.result import Evaluation, Verdict
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import KINDS, Scorer

HEADLINE = "auprc"

Triple = tuple[float, float, float]
"""Estimate, low and high end of its interval."""
NOT_JUDGED: Triple = (np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Standing:
    """One line of a leaderboard.

    Attributes:
        name: what is shown; carries the run's name where two runs have a scorer of the same name.
        scorer: the scorer as judged.
        run: the run it comes from.
        evaluation: that run's judgement.
        verdicts: a learned scorer against each simple rival, in the headline metric; empty for the others.
    """

    name: str
    scorer: Scorer
    run: RunRecord
    evaluation: Evaluation
    verdicts: tuple[Verdict, ...] = ()
    _numbers: dict[str, Triple] = field(default_factory=dict, init=False, repr=False)
    _reasons: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    _differences: dict[tuple[str, str], Triple] = field(default_factory=dict, init=False, repr=False)
    _judged: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        # Looked up for every cell of the page: read out of the frames once.
        mine = self.evaluation.metrics[self.evaluation.metrics["scorer"] == self.scorer.name]
        against = self.evaluation.differences[self.evaluation.differences["scorer"] == self.scorer.name]
        for row in mine.to_dict("records"):
            self._numbers[row["metric"]] = (row["estimate"], row["low"], row["high"])
            self._reasons[row["metric"]] = "" if pd.isna(row["reason"]) else str(row["reason"])
            self._judged[row["metric"]] = 0 if pd.isna(row["n"]) else int(row["n"])
        for row in against.to_dict("records"):
            self._differences[row["reference"], row["metric"]] = (row["estimate"], row["low"], row["high"])

    @property
    def kind(self) -> str:
        """row zero, base or learned."""
        return self.scorer.kind

    def number(self, metric: str) -> Triple:
        """Estimate, low and high; NaN where undefined or not judged."""
        return self._numbers.get(metric, NOT_JUDGED)

    def reason(self, metric: str) -> str:
        """Why a number is undefined, empty if it is not."""
        return self._reasons.get(metric, "")

    def judged(self, metric: str) -> int | None:
        """Test rows that a metric was computed on; None where it was not judged."""
        return self._judged.get(metric)

    def difference(self, reference: str, metric: str) -> Triple:
        """Paired difference to a reference; NaN where there is none."""
        return self._differences.get((reference, metric), NOT_JUDGED)


@dataclass
class Board:
    """Runs that were judged on the same test variants.

    Attributes:
        runs: the runs, by name.
        standings: rows zero first, then base, then learned; within a kind the best in the headline metric first.
        headline: the metric that orders the board.
        metrics: every metric that a run judged.
    """

    runs: list[RunRecord]
    standings: list[Standing] = field(default_factory=list)
    headline: str = HEADLINE
    metrics: list[str] = field(default_factory=list)

    @property
    def learned(self) -> list[Standing]:
        """The learned models' lines."""
        return [standing for standing in self.standings if standing.kind == "learned"]

    @property
    def dataset(self) -> str:
        """The data set's name, as the runs recorded it."""
        run = self.runs[0]
        return str(run.data.get("data_set") or _spec_data(run) or "data set not recorded")


def _spec_data(run: RunRecord) -> str:
    block = run.spec.get("data")
    return str(block.get("name", "")) if isinstance(block, dict) else ""


def same_test(run: RunRecord) -> str:
    """What a run was judged on, as its line in the ledger says: the test's digest and how it was held out.

    The digest was taken when the run was judged, so that runs kept without labels are still known to share a test. A
    run without a line in the ledger shares its test with nobody.
    """
    return "\t".join(test_of(run.entry)) if run.entry else f"run {run.name}"


def boards(runs: Sequence[RunRecord]) -> list[Board]:
    """One board for each distinct test; the one with most runs first."""
    groups: dict[str, Board] = {}
    for run in runs:
        if run.is_result:
            groups.setdefault(same_test(run), Board([])).runs.append(run)
    for board in groups.values():
        _fill(board)
    return sorted(groups.values(), key=lambda board: (-len(board.runs), board.runs[0].name))


def _fill(board: Board) -> None:
    found: list[Standing] = []
    for run in board.runs:
        evaluation = run.evaluation
        if evaluation is None:
            continue
        judged = list(dict.fromkeys(evaluation.metrics["metric"]))
        board.metrics.extend(metric for metric in judged if metric not in board.metrics)
        headline = HEADLINE if HEADLINE in judged else (judged[0] if judged else "")
        verdicts: dict[str, list[Verdict]] = {}
        for verdict in evaluation.verdicts(headline) if headline and not evaluation.differences.empty else ():
            verdicts.setdefault(verdict.scorer, []).append(verdict)
        for scorer in evaluation.scorers:
            standing = Standing(scorer.name, scorer, run, evaluation, tuple(verdicts.get(scorer.name, ())))
            if scorer.kind == "learned" or not _already(standing, found, headline):
                found.append(standing)
    board.headline = HEADLINE if HEADLINE in board.metrics else (board.metrics[0] if board.metrics else HEADLINE)
    names = [standing.name for standing in found]
    place = {kind: i for i, kind in enumerate(KINDS)}

    def order(standing: Standing) -> tuple[int, float, str]:
        value = standing.number(board.headline)[0]
        return place.get(standing.kind, len(place)), -value if np.isfinite(value) else np.inf, standing.name

    board.standings = sorted(
        (
            standing
            if names.count(standing.name) == 1
            else Standing(
                f"{standing.name} ({standing.run.name})",
                standing.scorer,
                standing.run,
                standing.evaluation,
                standing.verdicts,
            )
            for standing in found
        ),
        key=order,
    )


def _already(standing: Standing, found: Sequence[Standing], metric: str) -> bool:
    """Whether the same simple rival with the same number stands on the board from another run."""
    mine = standing.number(metric)[0]
    return any(
        other.scorer.name == standing.scorer.name
        and other.kind == standing.kind
        and (other.number(metric)[0] == mine or (np.isnan(mine) and np.isnan(other.number(metric)[0])))
        for other in found
    )


def worse_than(standing: Standing) -> list[str]:
    """The rivals a learned model is shown to be worse than: the whole interval of the difference is below zero."""
    return [v.rival for v in standing.verdicts if standing.difference(v.rival, v.metric)[2] < 0]


def verdict_level(standing: Standing) -> str:
    """good: beats every simple rival; bad: worse than one; warn: neither; calm: nothing to compare with."""
    if not standing.verdicts:
        return "calm"
    if all(verdict.beats for verdict in standing.verdicts):
        return "good"
    return "bad" if worse_than(standing) else "warn"


def verdict_summary(standing: Standing) -> str:
    """One sentence about a learned model."""
    if not standing.verdicts:
        return "was not compared with any simple rival"
    worse = worse_than(standing)
    beaten = [verdict.rival for verdict in standing.verdicts if verdict.beats]
    open_ = [verdict.rival for verdict in standing.verdicts if not verdict.beats and verdict.rival not in worse]
    everything = len(standing.verdicts)
    phrases = (
        ("beats every simple rival: " if len(beaten) == everything else "beats ", beaten),
        ("is not shown to beat any simple rival: " if len(open_) == everything else "is not shown to beat ", open_),
        ("is worse than every simple rival: " if len(worse) == everything else "is worse than ", worse),
    )
    return "; ".join(f"{words}{_listed(names)}" for words, names in phrases if names)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
