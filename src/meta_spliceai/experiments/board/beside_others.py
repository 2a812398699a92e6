"""A leaderboard with tools that are not run here: all scorers evaluated anew on the variants that those tools score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from meta_spliceai.experiments.run.evidence import MOST_RESAMPLES, records_of_strata
from meta_spliceai.experiments.run.prepare import digest_of_test, load_rows_of
from meta_spliceai.experiments.store.keep_runs import PREDICTIONS
from meta_spliceai.experiments.store.ledger import HEADLINES
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.meta_layer.evaluation.evaluate import covering, evaluate
from meta_spliceai.splice_engine.meta_layer.evaluation.result import Evaluation
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import NEGATIVES, Scorer
from meta_spliceai.splice_engine.meta_layer.evaluation.strata import strata_of
from meta_spliceai.splice_engine.variants.external_scores import ScoreFile, join_scores
from meta_spliceai.splice_engine.variants.table import SPLICE_ALTERING


@dataclass(frozen=True)
class _Test:
    """What is evaluated: test variants with the columns of scorers, and how.

    Attributes:
        frame: one row a test variant, as `evaluate` reads it.
        scorers: whose columns it has.
        where: the data set and its build, for messages.
        settings: of the evaluation: reference, n_boot, seed, negatives.
        genes: looked up only where strata need them.
    """

    frame: pd.DataFrame
    scorers: Sequence[Scorer]
    where: str
    settings: Mapping[str, Any]
    genes: Callable[[], GeneAnnotation | None]


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
    tested = frames[first.name][frames[first.name]["part"] == "test"].reset_index(drop=True)
    columns = {name: tested[name] for name in tested if "." not in name}
    scorers: dict[str, Scorer] = {}
    for run in sorted((run for run in runs if run.name in frames), key=lambda run: run.name != first.name):
        mine = frames[run.name].set_index("variant_id").loc[tested["variant_id"]]
        base = str(run.data().get("base", {}).get("name", board.base))
        for scorer in Evaluation.from_json(run.metrics()).scorers:
            named = scorer.name if base == board.base else with_base_named(scorer.name, base)
            own = replace(scorer, name=run.name if scorer.kind == "learned" else named)
            if own.name not in scorers:
                scorers[own.name] = own
                columns[own.score_column] = mine[scorer.score_column].to_numpy()
                columns[own.signed_column] = mine[scorer.signed_column].to_numpy()
    if without := [run.name for run in runs if run.name not in frames]:
        note = f"no line, as these runs were kept without predictions: {', '.join(without)}"
        board = replace(board, notes=[*board.notes, note])
    data, settings = first.data(), Evaluation.from_json(first.metrics()).settings
    where = f"{board.data} ({data.get('options', {}).get('build') or data['build']})"
    test = _Test(
        pd.DataFrame(columns),
        list(scorers.values()),
        where,
        settings,
        lambda: load_rows_of(first.spec().data).annotation,
    )
    return _evaluated(board, test, files)


def beside_none(name: str, files: Sequence[ScoreFile]) -> Board:
    """A board of external tools alone, on all variants of a data set that no run was tested on; as `beside_runs`."""
    loaded = load_dataset(name)
    frame = loaded.variants.assign(target=float("nan"))
    settings = {"reference": None, "n_boot": 2000, "seed": 0, "negatives": NEGATIVES}
    build = str(loaded.options.get("build") or loaded.dataset.build)
    board = Board(name, "all variants", digest_of_test(frame, name), 0, 0, 0, coverage=loaded.coverage.to_json())
    return _evaluated(board, _Test(frame, [], f"{name} ({build})", settings, lambda: loaded.annotation), files)


def _evaluated(board: Board, test: _Test, files: Sequence[ScoreFile]) -> Board:
    external = [Scorer(file.name, "external", f"scores from {file.path.name}", "rank") for file in files]
    scorers = [*test.scorers, *external]
    frame, scores, notes = test.frame, [], []
    for file, scorer in zip(files, external, strict=True):
        joined = join_scores(file, frame, test.where)
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
        raise InputError(f"no variant of {test.where} is scored by all of {', '.join(file.name for file in files)}")
    settings = test.settings
    found = evaluate(
        rows, scorers, settings["reference"], settings["n_boot"], settings["seed"], negatives=settings["negatives"]
    )
    if len(rows) < len(frame):
        notes.append(f"every line is evaluated on the {len(rows):,} variants that all of these tools score")
    try:
        strata = _strata(rows, scorers, test)
    except MissingResourceError as error:
        strata, notes = [], [*notes, f"no strata: {error}"]
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
    records = [record for record in found.to_json()["metrics"] if record["metric"] in HEADLINES]
    return [
        replace(
            before.get(line.scorer, line), values=line.values, rows=line.rows, verdicts=verdicts.get(line.scorer, ())
        )
        for line in lines_of({"run": "", "row": ""}, records)
    ]


def _strata(rows: pd.DataFrame, scorers: Sequence[Scorer], test: _Test) -> list[dict[str, Any]]:
    known = rows[["acceptor_pos", "donor_pos"]].notna().all(axis=None)
    within = strata_of(rows, None if known else test.genes())
    resamples = min(test.settings["n_boot"], MOST_RESAMPLES)
    return records_of_strata(
        rows, covering(scorers, rows), within, test.settings["negatives"], resamples, test.settings["seed"]
    )
