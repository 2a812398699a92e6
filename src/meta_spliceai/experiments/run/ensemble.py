"""Finished rows combined: weights fitted on validation only, disagreement shown as uncertainty."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import spearmanr

from meta_spliceai.errors import RunError
from meta_spliceai.experiments.run.job import ALL_PREDICTIONS, MODEL, Job, Trained
from meta_spliceai.experiments.run.utilisation import not_counted
from meta_spliceai.experiments.store.workspace import RunDirectory
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import target_magnitude
from meta_spliceai.splice_engine.meta_layer.models.ensembles import disagreement, fit_shares, prediction_names
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor


def train_ensemble(job: Job) -> Trained:
    """Combine the members' predictions; members that have not been run are run first.

    Only rows that learn validated Δ can be members: there the predictions of all models mean the same. Weights are
    fitted on the labels of the validation part alone; of quantiles what becomes the score, with its direction, is
    compared with them.

    Raises:
        RunError: members that were trained on another split, or whose predictions mean different things.
    """
    ensemble = job.spec.ensemble
    if ensemble is None:
        raise RunError(f"row '{job.spec.id}' names no members")
    members = [job.run_member(row_id) for row_id in ensemble.members]
    each = [_predictions_of(member, job) for member in members]
    predictors = [Predictor.from_pretrained(member.path / MODEL) for member in members]
    _require_one_meaning(job, predictors)
    predictions = np.stack(each)
    (split,) = job.prepared.splits
    validation = split.indices("validation")
    fitted_on = validation[job.prepared.targets.used[validation]]
    weights = np.full(len(members), 1 / len(members))
    if ensemble.combine == "weighted":
        labels = job.prepared.targets.values[fitted_on]
        weights = fit_shares(
            np.stack([_beside_labels(predictors[0], one[fitted_on], labels) for one in predictions]), labels
        )
    columns = predictors[0].columns
    combined = np.tensordot(weights, predictions, axes=1).astype(np.float32)
    table = {row_id: float(weight) for row_id, weight in zip(ensemble.members, weights, strict=True)}
    job.callback.say("weights: " + ", ".join(f"{row_id} {weight:.3f}" for row_id, weight in table.items()))
    records = [member.record() for member in members]
    model: dict[str, Any] = {
        "predictor": "ensemble of " + ", ".join(ensemble.members),
        "parameters": sum(record["parameters"] for record in records),
        "weights": "; ".join(
            f"{row_id}: {record['weights_origin']}" for row_id, record in zip(table, records, strict=True)
        ),
        "member_weights": table,
        "members": [member.name for member in members],
    }
    curves = [member.read_curves().assign(member=row_id) for row_id, member in zip(table, members, strict=True)]
    apart = disagreement(predictions, weights.tolist())
    checked = _checked_against_error(job, apart, columns(combined)["score"])
    training = {"combine": ensemble.combine, "disagreement": checked}
    note = (
        f"the members' predictions differ by {checked['mean']:.3f} on average (standard deviation); rank correlation "
        f"with the ensemble's error on {checked['rows']:,} test variants: "
    )
    r = checked["spearman_with_error"]
    note += "not defined" if r is None else f"{r:.2f}"
    job.callback.say(note)
    return Trained(
        combined,
        lambda values: {**columns(values), "disagreement": apart},
        pd.concat(curves, ignore_index=True),
        model,
        training,
        max(record["peak_memory_bytes"] for record in records),
        not_counted("the members were trained in runs of their own, whose records have theirs"),
        (note,),
    )


def _require_one_meaning(job: Job, predictors: list[Predictor]) -> None:
    """Members whose columns have other names predict something else."""
    ensemble = job.spec.ensemble
    names = [prediction_names(one) for one in predictors]
    for row_id, theirs in zip(ensemble.members if ensemble else (), names, strict=True):
        if theirs != names[0]:
            raise RunError(
                f"row '{job.spec.id}': members predict different things: '{row_id}' gives {', '.join(theirs)}, the "
                f"first one {', '.join(names[0])}; combine rows with one head"
            )


def _beside_labels(
    predictor: Predictor, predictions: Float[np.ndarray, "rows outputs"], labels: Float[np.ndarray, "rows 3"]
) -> Float[np.ndarray, "rows 3"]:
    """The part of the predictions that stands beside the labels (see `Head.comparable`)."""
    pair = predictor.head.comparable(torch.from_numpy(predictions), torch.from_numpy(labels))
    if pair is None:
        raise RunError(f"predictions of {predictor.head.task} cannot be held against validated Δ; use combine: mean")
    return pair[0].numpy()


def _predictions_of(member: RunDirectory, job: Job) -> Float[np.ndarray, "rows outputs"]:
    """The member's predictions, once it is sure that it was trained and tested on the same rows."""
    theirs = member.read_split()
    ours = job.prepared.table["variant_id"].to_numpy()
    same_rows = len(theirs) == len(ours) and (theirs["variant_id"].to_numpy() == ours).all()
    if not same_rows or (theirs["part"].to_numpy() != job.prepared.parts).any():
        raise RunError(
            f"{member.name} was trained on another split than {job.run.name}; give both rows the same data and split"
        )
    return np.load(member.path / ALL_PREDICTIONS, allow_pickle=False)


def _checked_against_error(
    job: Job, apart: Float[np.ndarray, " rows"], score: Float[np.ndarray, " rows"]
) -> dict[str, Any]:
    """How far the members are apart on the test part, and whether that tells where the ensemble errs.

    `mean`: mean over test rows. `spearman_with_error`: rank correlation with the ensemble's absolute error against the
    validated Δ's magnitude; None where it is not defined. `rows`: test rows whose Δ is known.
    """
    (split,) = job.prepared.splits
    test = split.indices("test")
    apart, score = apart[test], score[test]
    target = target_magnitude(job.prepared.targets.values[test], job.prepared.targets.used[test])
    known = np.isfinite(target)
    error = np.abs(score[known] - target[known])
    r = None
    if known.sum() > 2 and np.ptp(apart[known]) > 0 and np.ptp(error) > 0:
        r = float(spearmanr(apart[known], error).statistic)
    return {"mean": float(apart.mean()), "spearman_with_error": r, "rows": int(known.sum())}
