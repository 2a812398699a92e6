"""Two or more runs side by side: what was asked for, on which machine, and what came out; and as one table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from meta_spliceai.errors import InputError
from meta_spliceai.experiments.board.leaderboard import Board, Line, by_kind_and_auprc, folder_of, lines_of
from meta_spliceai.experiments.store.ledger import HEADLINES
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace, flat
from meta_spliceai.files import atomic_write
from meta_spliceai.splice_engine.meta_layer.evaluation.baselines import BASE_MAX_WINDOW
from meta_spliceai.splice_engine.meta_layer.evaluation.evaluate import evaluate
from meta_spliceai.splice_engine.meta_layer.evaluation.result import Evaluation
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import NEGATIVES, PREDICTION_COLUMNS, Scorer

WORDS = ("title", "section", "purpose", "wish")
"""Fields of a row that say what it is called and wished for, and change nothing of a run."""

RECORDED = ("code", "device", "seconds", "peak_memory_bytes", "parameters", "weights_origin")
"""What of run.json two runs are compared in."""

IN_TABLE = (
    *("title", "smoke", "seed", "started", "finished", "seconds", "price_per_hour", "dollars", "device"),
    *("peak_memory_bytes", "peak_gpu_memory_bytes", "parameters", "weights_origin", "code"),
)
"""What of run.json stands in a table of runs."""

FORMATS = (".csv", ".json", ".parquet")


def differing_fields(runs: Sequence[RunDirectory]) -> pd.DataFrame:
    """Fields of specification, data, code and machine in which the runs differ; one row a field, one column a run."""
    return _differing(
        {
            run.name: facts_of(
                run.spec().model_dump(mode="json"),
                run.data() if (run.path / "data.json").exists() else {},
                run.record(),
            )
            for run in runs
        }
    )


def diff_runs(first: RunDirectory, second: RunDirectory) -> dict[str, pd.DataFrame]:
    """What differs between two runs, in three tables.

    Returns:
        `fields` (specification, data, code, run) and `environment` (machine and package versions; empty for a run that
        failed before it was written): one row a field that differs, columns field and the two runs' names. `metrics`:
        every metric of the learned models, columns metric, the two runs' names, difference (second minus first); empty
        unless both runs are finished.
    """
    runs = (first, second)
    one, other = map(_learned_metrics, runs)
    rows = []
    for name in [name for name in one if name in other]:
        pair = [np.nan if side[name]["estimate"] is None else side[name]["estimate"] for side in (one, other)]
        rows.append([name, *pair, pair[1] - pair[0]])
    machines = {run.name: run.environment() if (run.path / "environment.json").exists() else {} for run in runs}
    return {
        "fields": differing_fields(runs),
        "environment": _differing({name: flat(machine) for name, machine in machines.items()}),
        "metrics": pd.DataFrame(rows, columns=["metric", first.name, second.name, "difference"]),
    }


def _differing(columns: dict[str, dict[str, Any]]) -> pd.DataFrame:
    rows = []
    for name in dict.fromkeys(name for values in columns.values() for name in values):
        values = [mine.get(name) for mine in columns.values()]
        if any(value != values[0] for value in values):
            rows.append([name, *values])
    return pd.DataFrame(rows, columns=["field", *columns], dtype=object)


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


def _learned_metrics(run: RunDirectory) -> dict[str, dict[str, Any]]:
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
    names = " and ".join(run.name for run in runs)
    frames = [run.read_test().set_index("variant_id") for run in runs]
    shared = set.intersection(*(set(frame.index) for frame in frames))
    if not shared:
        raise InputError(f"{names} have no test variant in common; nothing to compare")
    kept = [name for name in frames[0].index if name in shared]
    labelled = next((frame for frame in frames if "classification" in frame), None)
    if labelled is None:
        raise InputError(
            f"{names} were kept without the data set's labels, so that they cannot be evaluated again; their own "
            "metrics stand in 'meta-spliceai runs diff' and on the leaderboard"
        )
    joined = frames[0].loc[kept]
    joined = joined.join(labelled.loc[kept, [name for name in labelled if name not in joined and "." not in name]])
    evaluated = [Evaluation.from_json(run.metrics()) for run in runs]
    scorers = [scorer for scorer in evaluated[0].scorers if scorer.kind != "learned"]
    sides = [tuple(one.settings.get("negatives") or NEGATIVES) for one in evaluated]
    for run, frame, own, negatives in zip(runs, frames, evaluated, sides, strict=True):
        if negatives != sides[0]:
            raise InputError(
                f"{run.name} counts {' and '.join(negatives)} as negative, {runs[0].name} {' and '.join(sides[0])}"
            )
        if "classification" in frame and (frame.loc[kept, "classification"] != joined["classification"]).any():
            raise InputError(f"{run.name} gives shared variants another class than {runs[0].name}; not the same data")
        for scorer in own.scorers:
            if scorer.kind == "learned":
                named = Scorer(run.name, "learned", scorer.note, scorer.scale)
                scorers.append(named)
                joined[named.score_column] = frame.loc[kept, scorer.score_column]
                joined[named.signed_column] = frame.loc[kept, scorer.signed_column]
    reference = next(scorer.name for scorer in scorers if scorer.kind == "learned")
    if BASE_MAX_WINDOW.name not in [scorer.name for scorer in scorers]:
        raise InputError(f"{runs[0].name} has no baseline '{BASE_MAX_WINDOW.name}'")
    return evaluate(joined.reset_index(), scorers, reference, n_boot=n_boot, seed=seed, negatives=sides[0])


def pool_starts(board: Board, workspace: Workspace) -> Board:
    """The board with one line for the runs of a row that differ in `training.start` alone.

    Such a line holds the mean over starts, with intervals that hold both doubts: other groups, and other starts. Its
    seconds are those of all runs together. A row with one run keeps its line.
    """
    alike: dict[str, list[Line]] = {}
    for line in board.lines:
        if line.kind == "learned":
            identity = folder_of(workspace, line.run).spec().identity()
            identity["training"].pop("start")
            alike.setdefault(json.dumps(identity, sort_keys=True), []).append(line)
    rivals = [line for line in board.lines if line.kind != "learned"]
    learned = [
        same[0] if len(same) == 1 else _pooled(same, [folder_of(workspace, line.run) for line in same])
        for same in alike.values()
    ]
    return replace(board, lines=by_kind_and_auprc([*rivals, *learned]))


def _pooled(lines: Sequence[Line], runs: Sequence[RunDirectory]) -> Line:
    first = Evaluation.from_json(runs[0].metrics())
    (learned,) = [scorer for scorer in first.scorers if scorer.kind == "learned"]
    frame = runs[0].read_test()
    names = []
    for run in runs:
        name = f"{learned.name}, start {run.spec().training.start}"
        scores = run.read_test().set_index("variant_id").loc[frame["variant_id"]]
        for column in ("score", "signed"):
            frame[f"{name}.{column}"] = scores[f"{learned.name}.{column}"].to_numpy()
        names.append(name)
    pooled = replace(learned, name=f"{learned.name}, {len(runs)} starts", seeds=tuple(names))
    rivals = [scorer for scorer in first.scorers if scorer.kind != "learned"]
    kept = [name for name in frame if name in PREDICTION_COLUMNS or name.endswith((".score", ".signed"))]
    evaluated = evaluate(
        frame[kept],
        [*rivals, pooled],
        first.settings["reference"],
        first.settings["n_boot"],
        first.settings["seed"],
        negatives=first.settings["negatives"],
    )
    run_facts = {
        "run": " ".join(run.name for run in runs),
        "row": lines[0].row,
        "seconds": _known(sum, (line.seconds for line in lines)),
        "peak_memory_bytes": _known(max, (line.peak_memory_bytes for line in lines)),
        "dollars": _known(sum, (line.dollars for line in lines)),
        "verdicts": [verdict.text for verdict in evaluated.verdicts()],
    }
    records = [record for record in evaluated.to_json()["metrics"] if record["metric"] in HEADLINES]
    return lines_of(run_facts, records)[-1]


def _known(together: Callable[[list[float]], float], values: Iterable[float | None]) -> float | None:
    """The values that are known, put together; None where none is."""
    known = [value for value in values if value is not None]
    return together(known) if known else None


def runs_as_table(runs: Sequence[RunDirectory]) -> pd.DataFrame:
    """One row a run.

    Columns: run, row, state, reason, stale; those of `IN_TABLE`; data.rows and data.digest; `spec.<field>` for every
    field of the specification (lists as JSON); `<metric>`, `<metric>_low` and `<metric>_high` of the learned model.
    What a run does not have is missing.
    """
    lines = []
    for run in runs:
        record = run.record()
        line: dict[str, Any] = {"run": run.name, "row": run.row_id, "state": run.state(), "reason": run.reason()}
        line |= {"stale": run.stale(), **{name: record.get(name) for name in IN_TABLE}}
        if (run.path / "data.json").exists():
            data = run.data()
            line |= {"data.rows": data.get("n_variants"), "data.digest": data.get("digest")}
        if (run.path / "spec.yaml").exists():
            spec = run.spec().model_dump(mode="json")
            for name, value in flat({name: value for name, value in spec.items() if name not in WORDS}).items():
                line[f"spec.{name}"] = json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
        for metric, found in _learned_metrics(run).items():
            line |= {metric: found["estimate"], f"{metric}_low": found["low"], f"{metric}_high": found["high"]}
        lines.append(line)
    return pd.DataFrame(lines)


def write_table(frame: pd.DataFrame, out: Path) -> Path:
    """Write the table in the format that the file's name says, one of `FORMATS`; written whole or not at all."""
    with atomic_write(out, "wb") as handle:
        if out.suffix == ".parquet":
            # One column may hold numbers for one row and words for another (a setting of two encoders).
            mixed = {name: "string" for name in frame.columns if frame[name].map(type).isin([str]).any()}
            frame.astype(mixed).to_parquet(handle, index=False)
        elif out.suffix == ".csv":
            handle.write(frame.to_csv(index=False).encode())
        else:
            handle.write(frame.to_json(orient="records", double_precision=15, indent=2, force_ascii=False).encode())
    return out
