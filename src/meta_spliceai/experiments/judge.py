"""A trained model's answers beside the rows zero, judged on the test part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from meta_spliceai.experiments.leaderboard import HEADLINES
from meta_spliceai.experiments.prepare import Prepared, digest_of_test
from meta_spliceai.experiments.spec import ExperimentSpec
from meta_spliceai.splice_engine.meta_layer.evaluation.evaluate import evaluate
from meta_spliceai.splice_engine.meta_layer.evaluation.result import Evaluation
from meta_spliceai.splice_engine.meta_layer.evaluation.rows_zero import (
    BASE_MAX_WINDOW,
    BASE_OWN_SITE,
    POSITION,
    base_max_window,
    base_own_site,
    position_only,
)
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import (
    Scorer,
    Scores,
    predictions_frame,
    scores_from_delta,
    target_magnitude,
    unsigned,
)
from meta_spliceai.splice_engine.variants.table import SPLICE_ALTERING


@dataclass(frozen=True)
class Judgement:
    """What a run says about its model.

    Attributes:
        predictions: every row of the table with its part and each scorer's columns.
        evaluation: metrics on the test part.
        test: the test in numbers: digest, rows, positives, groups.
        verdicts: the learned model against every simple rival, in words.
        folds: for a cross-validation, how each headline metric spreads over the folds (see `spread`); else empty.
    """

    predictions: pd.DataFrame
    evaluation: Evaluation
    test: dict[str, Any]
    verdicts: list[str]
    folds: list[dict[str, Any]]


def judge(
    spec: ExperimentSpec, prepared: Prepared, answers: Float32[np.ndarray, "n outputs"], model: dict[str, Any]
) -> Judgement:
    """Judge the answers on the test part, with the rows zero on the same rows.

    Args:
        spec: the row.
        prepared: what it was trained on.
        answers: the model's answers on every row of the table, (n, 3) for Δ heads.
        model: the model's description, for the scorer's note.
    """
    table, parts = prepared.table, prepared.parts
    scores: dict[Scorer, Scores] = {
        POSITION: _out_of_fold_position(spec, prepared),
        BASE_MAX_WINDOW: base_max_window(prepared.scores),
        BASE_OWN_SITE: base_own_site(prepared.scores, table),
        learned_scorer(spec, model): scores_from_delta(answers),
    }
    target = target_magnitude(prepared.targets.values, prepared.targets.used)
    frame = predictions_frame(table, target, scores)
    frame = pd.concat([table, frame[[column for column in frame if column not in table]]], axis=1)
    frame.insert(len(table.columns), "part", parts)
    if len(prepared.splits) > 1:
        frame.insert(len(table.columns) + 1, "fold", prepared.tested_in + 1)
    tested = frame[parts == "test"]
    scorers = list(scores)
    evaluation = evaluate(tested, scorers, BASE_MAX_WINDOW.name, n_boot=spec.bootstrap, seed=spec.seed)
    summary = {
        "digest": digest_of_test(tested, prepared.loaded.dataset.name),
        "rows": len(tested),
        "positives": int((tested["classification"] == SPLICE_ALTERING).sum()),
        "groups": int(tested["group"].nunique()),
    }
    folds = (
        [
            evaluate(rows, scorers, BASE_MAX_WINDOW.name, n_boot=0, seed=spec.seed).metrics.assign(fold=fold)
            for fold, rows in tested.groupby("fold")
        ]
        if "fold" in frame
        else []
    )
    return Judgement(frame, evaluation, summary, [verdict.text for verdict in evaluation.verdicts()], spread(folds))


def _out_of_fold_position(spec: ExperimentSpec, prepared: Prepared) -> Scores:
    """Position alone, for every row from the training part of the split that tests it.

    It sees what a learned model sees. Rows that no split tests are answered by the first split's.
    """
    table = prepared.table
    score = np.full(len(table), np.nan)
    tested_in = prepared.tested_in
    for number, split in enumerate(prepared.splits):
        wanted = tested_in == number
        if number == 0:
            wanted |= tested_in < 0
        if wanted.any():
            learned = position_only(
                table.iloc[split.indices("train")], table[wanted], spec.seed, annotation=prepared.loaded.annotation
            )
            score[wanted] = learned.score
    return unsigned(score)


def spread(folds: list[pd.DataFrame]) -> list[dict[str, Any]]:
    """Each headline metric of each scorer over the folds: values, weighted mean, standard deviation.

    Args:
        folds: the tidy metrics of each fold's own test part. A fold counts as many times as it has rows for the
            metric; a fold in which the metric is undefined (one class only) is left out and not counted in `folds`.
    """
    if not folds:
        return []
    metrics = pd.concat(folds)
    metrics = metrics[metrics["metric"].isin(HEADLINES)]
    found = []
    for (scorer, metric), rows in metrics.groupby(["scorer", "metric"], sort=False):
        known = rows[rows["estimate"].notna()]
        weights = known["n"].astype(float)
        found.append(
            {
                "scorer": scorer,
                "metric": metric,
                "folds": len(known),
                "mean": float(np.average(known["estimate"], weights=weights)) if len(known) else None,
                "sd": float(known["estimate"].std(ddof=1)) if len(known) > 1 else None,
                "values": {str(int(row["fold"])): row["estimate"] for _, row in known.iterrows()},
            }
        )
    return found


def learned_scorer(spec: ExperimentSpec, model: dict[str, Any]) -> Scorer:
    """The row's line on a leaderboard."""
    note = f"{model['predictor']}, {spec.window} nt, {model['parameters']:,} parameters, weights {model['weights']}"
    return Scorer(spec.id, "learned", note, "delta")
