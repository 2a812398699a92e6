"""Runs of one row that differ only in their random start, evaluated as one model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pandas as pd

from meta_spliceai.experiments.board.leaderboard import HEADLINES, Board, Line, by_kind_and_auprc, folder_of, lines_of
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace
from meta_spliceai.splice_engine.meta_layer.evaluation.evaluate import evaluate
from meta_spliceai.splice_engine.meta_layer.evaluation.result import Evaluation
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import PREDICTION_COLUMNS


def pool_starts(board: Board, workspace: Workspace) -> Board:
    """The board with one line for the runs of a row that differ in `training.start` alone.

    Such a line holds the mean over starts, with intervals that hold both doubts: other groups, and other starts. Its
    seconds are those of all runs together. A row with one run keeps its line.

    Args:
        board: as `boards` gives it.
        workspace: where the runs of its lines are.

    Raises:
        RunError, IntegrityError: predictions or metrics of a run are gone or damaged.
    """
    alike: dict[str, list[Line]] = {}
    for line in board.lines:
        if line.kind == "learned":
            alike.setdefault(_all_but_start(folder_of(workspace, line.run)), []).append(line)
    rivals = [line for line in board.lines if line.kind != "learned"]
    learned = [
        same[0] if len(same) == 1 else _pooled(same, [folder_of(workspace, line.run) for line in same])
        for same in alike.values()
    ]
    return replace(board, lines=by_kind_and_auprc([*rivals, *learned]))


def _all_but_start(run: RunDirectory) -> str:
    """What the run's row decides, apart from the random start."""
    identity = run.spec().identity()
    identity["training"].pop("start")
    return json.dumps(identity, sort_keys=True)


def _pooled(lines: Sequence[Line], runs: Sequence[RunDirectory]) -> Line:
    first = Evaluation.from_json(runs[0].metrics())
    (learned,) = [scorer for scorer in first.scorers if scorer.kind == "learned"]
    frame = _tested(runs[0])
    names = []
    for run in runs:
        name = f"{learned.name}, start {run.spec().training.start}"
        scores = _tested(run).set_index("variant_id").loc[frame["variant_id"]]
        for column in ("score", "signed"):
            frame[f"{name}.{column}"] = scores[f"{learned.name}.{column}"].to_numpy()
        names.append(name)
    pooled = replace(learned, name=f"{learned.name}, {len(runs)} starts", seeds=tuple(names))
    rivals = [scorer for scorer in first.scorers if scorer.kind != "learned"]
    kept = [name for name in frame if name in PREDICTION_COLUMNS or name.endswith((".score", ".signed"))]
    settings = first.settings
    evaluated = evaluate(
        frame[kept],
        [*rivals, pooled],
        settings["reference"],
        settings["n_boot"],
        settings["seed"],
        negatives=settings["negatives"],
    )
    *_, line = lines_of(
        {
            "run": " ".join(run.name for run in runs),
            "row": lines[0].row,
            "seconds": _known(sum, (line.seconds for line in lines)),
            "peak_memory_bytes": _known(max, (line.peak_memory_bytes for line in lines)),
            "dollars": _known(sum, (line.dollars for line in lines)),
            "verdicts": [verdict.text for verdict in evaluated.verdicts()],
        },
        [record for record in evaluated.to_json()["metrics"] if record["metric"] in HEADLINES],
    )
    return line


def _tested(run: RunDirectory) -> pd.DataFrame:
    predictions = run.read_predictions()
    return predictions[predictions["part"] == "test"].reset_index(drop=True)


def _known(together: Callable[[list[float]], float], values: Iterable[float | None]) -> float | None:
    """The values that are known, put together; None where none is."""
    known = [value for value in values if value is not None]
    return together(known) if known else None
