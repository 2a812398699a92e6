"""Two or more runs side by side: what was asked for, on which machine, and what came out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from meta_spliceai.errors import InputError
from meta_spliceai.experiments.board.leaderboard import HEADLINES
from meta_spliceai.experiments.store.workspace import RunDirectory
from meta_spliceai.experiments.tracking.tracked import flat
from meta_spliceai.splice_engine.meta_layer.evaluation.baselines import BASE_MAX_WINDOW
from meta_spliceai.splice_engine.meta_layer.evaluation.evaluate import evaluate
from meta_spliceai.splice_engine.meta_layer.evaluation.result import Evaluation
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Scorer
from meta_spliceai.splice_engine.meta_layer.evaluation.sides import NEGATIVES

WORDS = ("title", "section", "purpose", "wish")
"""Fields of a row that say what it is called and wished for, and change nothing of a run."""


ENVIRONMENT = "environment.json"
RECORDED = ("code", "device", "seconds", "peak_memory_bytes", "parameters", "weights_origin")
"""What of run.json two runs are compared in."""


def differing_fields(runs: Sequence[RunDirectory]) -> pd.DataFrame:
    """Fields of specification, data, code and machine in which the runs differ; one row a field, one column a run."""
    return _differing({run.name: _facts(run) for run in runs})


def diff_runs(first: RunDirectory, second: RunDirectory) -> dict[str, pd.DataFrame]:
    """What differs between two runs, in three tables.

    Returns:
        `fields` (specification, data, code, run) and `environment` (machine and package versions): one row a field
        that differs, columns field and the two runs' names. `metrics`: every metric of the learned models, columns
        metric, the two runs' names, difference (second minus first); empty unless both runs are finished.
    """
    one, other = learned_metrics(first), learned_metrics(second)
    rows = []
    for name in [name for name in one if name in other]:
        pair = [np.nan if side[name]["estimate"] is None else side[name]["estimate"] for side in (one, other)]
        rows.append([name, *pair, pair[1] - pair[0]])
    return {
        "fields": differing_fields([first, second]),
        "environment": _differing({run.name: _environment(run) for run in (first, second)}),
        "metrics": pd.DataFrame(rows, columns=["metric", first.name, second.name, "difference"]),
    }


def _differing(columns: dict[str, dict[str, Any]]) -> pd.DataFrame:
    rows = []
    for name in dict.fromkeys(name for values in columns.values() for name in values):
        values = [mine.get(name) for mine in columns.values()]
        if any(value != values[0] for value in values):
            rows.append([name, *values])
    return pd.DataFrame(rows, columns=["field", *columns], dtype=object)


def _environment(run: RunDirectory) -> dict[str, Any]:
    """The content of environment.json by dotted name; empty for a run that failed before it was written."""
    return flat(run.environment()) if (run.path / ENVIRONMENT).exists() else {}


def learned_metrics(run: RunDirectory) -> dict[str, dict[str, Any]]:
    """The records of the learned model by metric; empty for a run without a result."""
    if run.record().get("state") != "finished":
        return {}
    return {record["metric"]: record for record in run.metrics()["metrics"] if record["kind"] == "learned"}


def compare_on_shared_rows(runs: Sequence[RunDirectory], n_boot: int = 2000, seed: int = 0) -> Evaluation:
    """Evaluate the learned models of several runs on the test rows that all of them have, with paired differences.

    The first run's baselines stand for all; the first run's model is the reference. A run that was kept without the
    data set's labels borrows those of another one.

    Raises:
        InputError: fewer than two runs, no test row in common, rows that differ in class between runs, runs with other
            negatives, no run with labels.
    """
    if len(runs) < 2:
        raise InputError("give at least two runs to compare")
    frames = [_test_rows(run) for run in runs]
    shared = set(frames[0].index)
    for frame in frames[1:]:
        shared &= set(frame.index)
    if not shared:
        raise InputError(f"{' and '.join(run.name for run in runs)} have no test variant in common; nothing to compare")
    kept = [name for name in frames[0].index if name in shared]
    labelled = next((frame for frame in frames if "classification" in frame), None)
    if labelled is None:
        raise InputError(
            f"{' and '.join(run.name for run in runs)} were kept without the data set's labels, so that they cannot be "
            "evaluated again; their own metrics stand in 'meta-spliceai runs diff' and on the leaderboard"
        )
    joined = frames[0].loc[kept]
    joined = joined.join(labelled.loc[kept, [name for name in labelled if name not in joined and "." not in name]])
    negatives = [_negatives(run) for run in runs]
    for run, others in zip(runs, negatives, strict=True):
        if others != negatives[0]:
            raise InputError(
                f"{run.name} counts {' and '.join(others)} as negative, {runs[0].name} {' and '.join(negatives[0])}"
            )
    scorers = [scorer for scorer in _scorers(runs[0]) if scorer.kind != "learned"]
    for run, frame in zip(runs, frames, strict=True):
        if "classification" in frame and (frame.loc[kept, "classification"] != joined["classification"]).any():
            raise InputError(f"{run.name} gives shared variants another class than {runs[0].name}; not the same data")
        for scorer in _scorers(run):
            if scorer.kind == "learned":
                own = Scorer(run.name, "learned", scorer.note, scorer.scale)
                scorers.append(own)
                joined = joined.assign(
                    **{
                        own.score_column: frame.loc[kept, scorer.score_column],
                        own.signed_column: frame.loc[kept, scorer.signed_column],
                    }
                )
    reference = next(scorer.name for scorer in scorers if scorer.kind == "learned")
    if BASE_MAX_WINDOW.name not in [scorer.name for scorer in scorers]:
        raise InputError(f"{runs[0].name} has no baseline '{BASE_MAX_WINDOW.name}'")
    return evaluate(joined.reset_index(), scorers, reference, n_boot=n_boot, seed=seed, negatives=negatives[0])


def headline_table(evaluation: Evaluation) -> pd.DataFrame:
    """Scorer, metric, estimate and interval of the headline metrics."""
    metrics = evaluation.metrics
    return metrics[metrics["metric"].isin(HEADLINES)][["scorer", "kind", "metric", "estimate", "low", "high", "n"]]


def _test_rows(run: RunDirectory) -> pd.DataFrame:
    frame = run.read_predictions()
    return frame[frame["part"] == "test"].set_index("variant_id")


def _negatives(run: RunDirectory) -> tuple[str, ...]:
    return tuple(Evaluation.from_json(run.metrics()).settings.get("negatives") or NEGATIVES)


def _scorers(run: RunDirectory) -> list[Scorer]:
    return Evaluation.from_json(run.metrics()).scorers


def _facts(run: RunDirectory) -> dict[str, Any]:
    spec = run.spec().model_dump(mode="json")
    return facts_of(spec, run.data() if (run.path / "data.json").exists() else {}, run.record())


def facts_of(spec: dict[str, Any], data: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """What two runs can differ in, by dotted name.

    Args:
        spec: spec.yaml; its words (title, section, purpose, wish) are left aside.
        data: data.json; empty where it is not written yet.
        record: run.json.
    """
    facts: dict[str, Any] = {name: value for name, value in spec.items() if name not in WORDS}
    split = data.get("split")
    if data:
        facts["data.digest"] = data.get("digest")
        facts["split.digest"] = split.get("digest") if isinstance(split, dict) else None
    return flat(facts) | {f"run.{name}": record.get(name) for name in RECORDED}
