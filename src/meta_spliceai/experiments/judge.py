"""A trained model's answers beside the rows zero, judged on the test part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

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
    """

    predictions: pd.DataFrame
    evaluation: Evaluation
    test: dict[str, Any]
    verdicts: list[str]


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
    table = prepared.table
    parts = prepared.split.parts
    train, test = table[parts == "train"], table[parts == "test"]
    # Rows zero see what a learned model sees: the training part; they answer for every row.
    scores: dict[Scorer, Scores] = {
        POSITION: position_only(train, table, spec.seed, annotation=prepared.loaded.annotation),
        BASE_MAX_WINDOW: base_max_window(prepared.scores),
        BASE_OWN_SITE: base_own_site(prepared.scores, table),
        learned_scorer(spec, model): scores_from_delta(answers),
    }
    target = target_magnitude(prepared.targets.values, prepared.targets.used)
    frame = predictions_frame(table, target, scores)
    frame = pd.concat([table, frame[[column for column in frame if column not in table]]], axis=1)
    frame.insert(len(table.columns), "part", parts)
    evaluation = evaluate(
        frame[parts == "test"], list(scores), BASE_MAX_WINDOW.name, n_boot=spec.bootstrap, seed=spec.seed
    )
    summary = {
        "digest": digest_of_test(test, prepared.loaded.dataset.name),
        "rows": len(test),
        "positives": int((test["classification"] == SPLICE_ALTERING).sum()),
        "groups": int(test["group"].nunique()),
    }
    return Judgement(frame, evaluation, summary, [verdict.text for verdict in evaluation.verdicts()])


def learned_scorer(spec: ExperimentSpec, model: dict[str, Any]) -> Scorer:
    """The row's line on a leaderboard."""
    note = f"{model['predictor']}, {spec.window} nt, {model['parameters']:,} parameters, weights {model['weights']}"
    return Scorer(spec.id, "learned", note, "delta")
