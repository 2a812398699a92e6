"""Re-evaluate models on the rows that all of them score: several runs, pooled initialisations of a row, and a
leaderboard with external tools."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from meta_spliceai.datasets import load_dataset
from meta_spliceai.errors import InputError, MissingResourceError
from meta_spliceai.experiments.board.leaderboard import (
    Board,
    Line,
    by_kind_and_auprc,
    folder_of,
    lines_of,
    with_base_named,
)
from meta_spliceai.experiments.run.evidence import MOST_RESAMPLES
from meta_spliceai.experiments.run.prepare import digest_of_test, load_rows_of
from meta_spliceai.experiments.store.keep_runs import PREDICTIONS
from meta_spliceai.experiments.store.ledger import HEADLINES
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.meta_layer.evaluation.baselines import BASE_MAX_WINDOW
from meta_spliceai.splice_engine.meta_layer.evaluation.evaluate import covering, evaluate
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import NEGATIVES, PREDICTION_COLUMNS, Evaluation, Scorer
from meta_spliceai.splice_engine.meta_layer.evaluation.strata import evaluate_strata, strata_of
from meta_spliceai.splice_engine.variants.external_scores import ScoreFile, join_scores
from meta_spliceai.splice_engine.variants.table import SPLICE_ALTERING


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
    joined = joined.reset_index()
    evaluated = [Evaluation.from_json(run.metrics()) for run in runs]
    scorers = [scorer for scorer in evaluated[0].scorers if scorer.kind != "learned"]
    sides = [tuple(one.settings.get("negatives") or NEGATIVES) for one in evaluated]
    for run, frame, own, negatives in zip(runs, frames, evaluated, sides, strict=True):
        if negatives != sides[0]:
            raise InputError(
                f"{run.name} counts {' and '.join(negatives)} as negative, {runs[0].name} {' and '.join(sides[0])}"
            )
        if "classification" in frame and (frame.loc[kept, "classification"].values != joined["classification"]).any():
            raise InputError(f"{run.name} gives shared variants another class than {runs[0].name}; not the same data")
        scorers += [_added(joined, frame, one, run.name) for one in own.scorers if one.kind == "learned"]
    reference = next(scorer.name for scorer in scorers if scorer.kind == "learned")
    if BASE_MAX_WINDOW.name not in [scorer.name for scorer in scorers]:
        raise InputError(f"{runs[0].name} has no baseline '{BASE_MAX_WINDOW.name}'")
    return evaluate(joined, scorers, reference, n_boot=n_boot, seed=seed, negatives=sides[0])


def _added(frame: pd.DataFrame, predictions: pd.DataFrame, scorer: Scorer, name: str) -> Scorer:
    """A run's scorer under another name, whose columns are added to a frame of variants.

    Args:
        predictions: of the run, by variant_id.
    """
    mine, own = predictions.loc[frame["variant_id"]], replace(scorer, name=name)
    frame[own.score_column] = mine[scorer.score_column].to_numpy()
    frame[own.signed_column] = mine[scorer.signed_column].to_numpy()
    return own


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
    first, frame = Evaluation.from_json(runs[0].metrics()), runs[0].read_test()
    (learned,) = [scorer for scorer in first.scorers if scorer.kind == "learned"]
    starts = [f"{learned.name}, start {run.spec().training.start}" for run in runs]
    for run, name in zip(runs, starts, strict=True):
        _added(frame, run.read_test().set_index("variant_id"), learned, name)
    pooled = replace(learned, name=f"{learned.name}, {len(runs)} starts", seeds=tuple(starts))
    rivals = [scorer for scorer in first.scorers if scorer.kind != "learned"]
    kept = [name for name in frame if name in PREDICTION_COLUMNS or name.endswith((".score", ".signed"))]
    settings = first.settings
    evaluated = evaluate(
        frame[kept],
        [*rivals, pooled],
        *(settings[name] for name in ("reference", "n_boot", "seed")),
        negatives=settings["negatives"],
    )
    run_facts = {
        "run": " ".join(run.name for run in runs),
        "row": lines[0].row,
        "seconds": _known(sum, [line.seconds for line in lines]),
        "peak_memory_bytes": _known(max, [line.peak_memory_bytes for line in lines]),
        "dollars": _known(sum, [line.dollars for line in lines]),
        "verdicts": [verdict.text for verdict in evaluated.verdicts()],
    }
    return lines_of(run_facts, _headlines(evaluated))[-1]


def _known(together: Callable[[list[float]], float], values: Sequence[float | None]) -> float | None:
    """The values that are known, put together; None where none is."""
    known = [value for value in values if value is not None]
    return together(known) if known else None


def _headlines(evaluated: Evaluation) -> list[dict[str, Any]]:
    return [record for record in evaluated.to_json()["metrics"] if record["metric"] in HEADLINES]


def beside_runs(board: Board, workspace: Workspace, files: Sequence[ScoreFile]) -> Board:
    """The board on the tested variants that every external tool scores, with a line for each tool.

    Baselines, base networks and models are evaluated on the same variants and the same resamples, so that differences
    are paired. Runs that were kept without predictions have no line; a note names them.

    Raises:
        InputError: no run has predictions and labels; see also `join_scores`.
    """
    runs = [folder_of(workspace, line.run) for line in board.lines if line.kind == "learned"]
    frames = {run.name: run.read_predictions() for run in runs if (run.path / PREDICTIONS).is_file()}
    first = next((run for run in runs if "classification" in frames.get(run.name, ())), None)
    if first is None:
        raise InputError(
            f"{board.data}, {board.split}: no run here has predictions and labels, beside which other scores could "
            f"stand; run a row on this data set{f', for example {runs[0].row_id}' if runs else ''}"
        )
    tested = first.read_test()
    frame = tested[[name for name in tested if "." not in name]].copy()
    scorers: dict[str, Scorer] = {}
    for run in sorted((run for run in runs if run.name in frames), key=lambda run: run.name != first.name):
        mine = frames[run.name].set_index("variant_id")
        base = str(run.data().get("base", {}).get("name", board.base))
        for scorer in Evaluation.from_json(run.metrics()).scorers:
            named = scorer.name if base == board.base else with_base_named(scorer.name, base)
            name = run.name if scorer.kind == "learned" else named
            if name not in scorers:
                scorers[name] = _added(frame, mine, scorer, name)
    if without := [run.name for run in runs if run.name not in frames]:
        note = f"no line, as these runs were kept without predictions: {', '.join(without)}"
        board = replace(board, notes=[*board.notes, note])
    data, settings = first.data(), Evaluation.from_json(first.metrics()).settings
    where = f"{board.data} ({data.get('options', {}).get('build') or data['build']})"
    genes = lambda: load_rows_of(first.spec().data).annotation  # noqa: E731 - looked up only where strata need them
    return _evaluated(board, files, frame, list(scorers.values()), where, settings, genes)


def beside_none(name: str, files: Sequence[ScoreFile]) -> Board:
    """A board of external tools alone, on all variants of a data set that no run was tested on; as `beside_runs`."""
    loaded = load_dataset(name)
    frame = loaded.variants.assign(target=float("nan"))
    settings = {"reference": None, "n_boot": 2000, "seed": 0, "negatives": NEGATIVES}
    where = f"{name} ({loaded.options.get('build') or loaded.dataset.build})"
    board = Board(name, "all variants", digest_of_test(frame, name), 0, 0, 0, coverage=loaded.coverage.to_json())
    return _evaluated(board, files, frame, [], where, settings, lambda: loaded.annotation)


def _evaluated(
    board: Board,
    files: Sequence[ScoreFile],
    frame: pd.DataFrame,
    scorers: Sequence[Scorer],
    where: str,
    settings: Mapping[str, Any],
    genes: Callable[[], GeneAnnotation | None],
) -> Board:
    """The board with external scores.

    Args:
        frame: one row per test variant, with the columns of `scorers`.
        where: the data set and its build, for messages.
        settings: of the evaluation: reference, n_boot, seed, negatives.
        genes: looked up only where strata need them.
    """
    external = [Scorer(file.name, "external", f"scores from {file.path.name}", "rank") for file in files]
    scorers, scores, notes = [*scorers, *external], [], []
    for file, scorer in zip(files, external, strict=True):
        joined = join_scores(file, frame, where)
        frame = frame.assign(**{scorer.score_column: joined.score})
        covered = int(np.isfinite(joined.score).sum())
        origin = f"{file.path.name}{f', {file.column}' * bool(file.column)}"
        about = {"name": file.name, "file": file.path.name, "column": file.column, "scored": covered}
        scores.append({**about, "tested": len(frame), "other_reference": joined.other_reference})
        notes.append(f"{file.name} ({origin}) scores {covered:,} of {len(frame):,} tested variants")
        if joined.other_reference:
            notes.append(f"{origin}: {joined.other_reference:,} rows with another reference base were left out")
    rows = frame[frame[[one.score_column for one in external]].notna().all(axis=1)].reset_index(drop=True)
    if rows.empty:
        raise InputError(f"no variant of {where} is scored by all of {', '.join(file.name for file in files)}")
    n_boot, seed, negatives = (settings[name] for name in ("n_boot", "seed", "negatives"))
    found = evaluate(rows, scorers, settings["reference"], n_boot, seed, negatives=negatives)
    if len(rows) < len(frame):
        notes.append(f"every line is evaluated on the {len(rows):,} variants that all of these tools score")
    strata: list[dict[str, Any]] = []
    try:
        known = rows[["acceptor_pos", "donor_pos"]].notna().all(axis=None)
        within, resamples = strata_of(rows, None if known else genes()), min(n_boot, MOST_RESAMPLES)
        strata = evaluate_strata(
            rows, covering(scorers, rows), within, n_boot=resamples, seed=seed, negatives=negatives
        )
    except MissingResourceError as error:
        notes.append(f"no strata: {error}")
    return replace(
        board,
        rows=len(rows),
        positives=int((rows["classification"] == SPLICE_ALTERING).sum()),
        groups=int(rows["group"].nunique()),
        ceiling=board.ceiling if len(rows) == len(frame) else {},
        lines=by_kind_and_auprc(_lines(board, found)),
        notes=[*board.notes, *notes],
        scores=scores,
        strata=strata,
    )


def _lines(board: Board, found: Evaluation) -> list[Line]:
    """Lines of the new evaluation; what a run took stands as it stood."""
    before = {line.run: line for line in board.lines if line.kind == "learned"}
    verdicts: dict[str, tuple[str, ...]] = {}
    for verdict in found.verdicts():
        verdicts[verdict.scorer] = (*verdicts.get(verdict.scorer, ()), verdict.text)
    return [
        replace(
            before.get(line.scorer, line), values=line.values, rows=line.rows, verdicts=verdicts.get(line.scorer, ())
        )
        for line in lines_of({"run": "", "row": ""}, _headlines(found))
    ]
