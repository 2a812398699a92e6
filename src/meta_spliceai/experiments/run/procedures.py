"""The ways to produce a result: train one model, or one per fold; combine finished rows as an ensemble. `fuse` has
base networks fused."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32
from scipy.stats import spearmanr

from meta_spliceai.errors import RunError
from meta_spliceai.experiments.run.build import build_predictor
from meta_spliceai.experiments.run.callback import Inner
from meta_spliceai.experiments.run.prepare import Clock, Prepared, Trained, Work
from meta_spliceai.experiments.run.record import write_all_predictions
from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.run.utilisation import (
    Product,
    in_words,
    not_counted,
    put_together,
    rate_here,
    training_operations,
    utilisation,
)
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.spec.rows import member_of
from meta_spliceai.experiments.store.workspace import (
    ALL_PREDICTIONS,
    CHECKPOINTS,
    FOLD_RECORD,
    FOLDS,
    MODEL,
    RunDirectory,
)
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import target_magnitude
from meta_spliceai.splice_engine.meta_layer.features import choose_device
from meta_spliceai.splice_engine.meta_layer.models.ensembles import disagreement, fit_shares, prediction_names
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.prediction import predict
from meta_spliceai.splice_engine.meta_layer.training import (
    FitReport,
    OutOfMemory,
    fit,
    precision_of,
    with_what_fits,
)
from meta_spliceai.splice_engine.variants.splits import Split

SIDE_BY_SIDE = "folds were trained side by side on one device"


Span = tuple[str, float, float]
"""When a fold was trained: the machine's boot, and from when to when in seconds of its clock since then, which, unlike
the time of day, nobody sets back."""

OF_FOLD = ("model", "training", "peak_memory_bytes", "work", "notes")
"""What of `Trained` stands in a fold's fold.json."""


def train_single(work: Work, prepared: Prepared) -> Trained:
    """One model on the split's train part, stopped early on its validation part."""
    (split,) = prepared.splits
    return _train_on(split, work.run.path, work, prepared)


def train_folds(work: Work, prepared: Prepared) -> Trained:
    """One model a fold; every row is predicted by the model that did not see it.

    Each fold has a folder of its own, and its file fold.json is written last: a resumed run trains only what is left.
    """
    splits = prepared.splits
    folds = [train_fold(work, prepared, number) for number in range(1, len(splits) + 1)]
    predictions = out_of_fold(splits, [fold.predictions for fold in folds])
    records = [work.run.path / FOLDS / str(number) / FOLD_RECORD for number in range(1, len(splits) + 1)]
    shared = shared_seconds([tuple(json.loads(file.read_text(encoding="utf-8"))["span"]) for file in records])
    # Folds trained side by side on one machine took less time together than one after the other.
    work.clock.add({"training": -min(shared, work.clock.seconds["training"])}, {})
    curves = [fold.curves.assign(fold=number) for number, fold in enumerate(folds, start=1)]
    return Trained(
        predictions,
        folds[0].columns,
        pd.concat(curves, ignore_index=True),
        folds[0].model,
        {"folds": [fold.training for fold in folds], "side_by_side": shared > 0},
        max(fold.peak_memory_bytes for fold in folds),
        # Nor is the rate that a fold measured beside others the device's own.
        put_together([fold.work for fold in folds], no_share=SIDE_BY_SIDE if shared else ""),
        tuple(f"fold 1: {note} (further folds: training.folds)" for note in folds[0].notes),
    )


def out_of_fold(
    splits: Sequence[Split], predictions: Sequence[Float32[np.ndarray, "n outputs"]]
) -> Float32[np.ndarray, "n outputs"]:
    """Every row as the fold that tests it predicts it; rows that none tests, which are not evaluated, as the first."""
    whole = predictions[0].copy()
    for split, mine in zip(splits, predictions, strict=True):
        tested = split.indices("test")
        whole[tested] = mine[tested]
    return whole


@cache
def _boot() -> str:
    linux = Path("/proc/sys/kernel/random/boot_id")
    if linux.is_file():
        return linux.read_text(encoding="ascii").strip()
    macos = ["sysctl", "-n", "kern.bootsessionuuid"]
    return subprocess.run(macos, capture_output=True, text=True, check=True).stdout.strip()


def shared_seconds(spans: Collection[Span]) -> float:
    """Seconds by which spans together are longer than the time that they cover, each machine for itself."""
    shared, until = 0.0, dict.fromkeys((boot for boot, _, _ in spans), float("-inf"))
    for boot, began, ended in sorted(spans):
        shared += max(0.0, min(ended, until[boot]) - began)
        until[boot] = max(until[boot], ended)
    return shared


def train_fold(work: Work, prepared: Prepared, number: int) -> Trained:
    """The model of one fold (from 1), trained or, where its fold.json stands, read; the time it took is added to the
    clock.

    Raises:
        RunError: another process trains this fold.
    """
    fold = RunDirectory(work.run.path / FOLDS / str(number))
    work.callback.say(f"fold {number} of {len(prepared.splits)}")
    with fold.taken():
        file = fold.path / FOLD_RECORD
        record = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if "span" in record:
            work.callback.say(f"fold {number} is finished already")
            work.clock.add(record["seconds_by_step"], record["cpu_seconds_by_step"])
            predictions = np.load(fold.path / ALL_PREDICTIONS, allow_pickle=False)
            columns, curves = Predictor.from_pretrained(fold.path / MODEL).columns, fold.read_curves()
            return Trained(predictions, columns, curves, **{name: record[name] for name in OF_FOLD})
        clock, began = Clock(), time.monotonic()
        trained = _train_on(prepared.splits[number - 1], fold.path, replace(work, clock=clock), prepared, number)
        work.clock.add(clock.seconds, clock.cpu_seconds)
        fold.write_frame("curves.parquet", trained.curves)
        write_all_predictions(fold, trained)
        kept = {name: getattr(trained, name) for name in OF_FOLD}
        span: Span = (_boot(), began, time.monotonic())
        fold.write_json(FOLD_RECORD, {**kept, "span": span, **clock.in_record()})
        shutil.rmtree(fold.path / CHECKPOINTS, ignore_errors=True)
        return trained


def _train_on(split: Split, folder: Path, work: Work, prepared: Prepared, fold: int | None = None) -> Trained:
    spec = work.spec
    used = prepared.targets.used
    train, validation = split.indices("train"), split.indices("validation")
    predictor = build_predictor(spec)
    product = _product_of_training(spec, work.device)
    rate_here(product, work.device)  # now, because what it holds must not count in training's peak
    work.callback.say(
        f"training {spec.encoder.name} with {spec.head.name} ({predictor.parameter_count():,} parameters, weights "
        f"{predictor.weights}) on {int(used[train].sum()):,} variants"
    )
    report: FitReport | None = None
    learned_from = predictor, prepared.training_windows, prepared.targets, train[used[train]]
    with work.clock("training"):
        try:
            report = fit(
                *learned_from,
                validation[used[validation]],
                spec.training,
                folder / CHECKPOINTS,
                device=work.device,
                resume=work.resume,
                progress=lambda kind, facts: work.callback.tell(kind, {"fold": fold, **facts}),
            )
        except OutOfMemory:
            work.callback.say("out of memory; looking for the batch that fits")
    if report is None:
        # Outside the handler: there the failed training would still be held by the error's frames.
        raise with_what_fits(*learned_from, spec.training, work.device)
    if report.features is not None:
        kept = "features of the frozen encoder: {sequences:,} sequences, {computed:,} computed, {seconds:.1f} s"
        work.callback.say(kept.format(**report.features))
    work.callback.say(
        f"trained {report.epochs_run} epochs in {report.seconds:.0f} s, {report.windows_per_second:.0f} windows/s, "
        f"best epoch {report.best_epoch}: {report.stopped_because}"
    )
    operations = training_operations(predictor, spec.training, report.train_rows, report.epochs_run)
    share = utilisation(operations, report.step_seconds, product, work.device)
    work.callback.say(f"training: {in_words(share)}")
    with work.clock("predicting"):
        predictions = predict(predictor, prepared.windows, work.device)
    predictor.save_pretrained(folder / MODEL, _trained_on(work, prepared, split, report))
    return Trained(
        predictions,
        predictor.columns,
        report.curves,
        predictor.describe(),
        report.to_json(),
        report.peak_memory_bytes,
        share,
        report.notes,
    )


def _trained_on(work: Work, prepared: Prepared, split: Split, report: FitReport) -> str:
    dataset, targets = prepared.loaded.dataset, prepared.targets
    lines = [
        f"Run `{work.run.name}`, row `{work.spec.id}` ({work.spec.title}), seed {work.spec.seed}.",
        f"Data: {dataset.title} ({dataset.build}; licence: {dataset.licence}).",
        f"Split {split.name}: {report.train_rows:,} variants to train on, {report.val_rows:,} to stop by.",
        f"Labels: {targets.rule}.",
        f"Best of {report.epochs_run} epochs: {report.best_epoch}.",
        *(note[:1].upper() + note[1:] + "." for note in (*prepared.notes, *report.notes)),
        "How it was evaluated stands in the run's metrics.json and evidence.json.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _product_of_training(spec: ExperimentSpec, device: str) -> Product:
    place = choose_device(device)
    precision = precision_of(spec.training.precision, place)
    # On CUDA convolutions of float32 numbers run in TF32, unless that was switched off.
    tf32 = precision == "float32" and place.type == "cuda" and torch.backends.cudnn.allow_tf32
    return "tf32" if tf32 else precision


def train_ensemble(work: Work, prepared: Prepared) -> Trained:
    """Combine the members' predictions; members that have not been run are run first.

    Only rows that learn validated Δ can be members: there the predictions of all models mean the same. Weights are
    fitted on the labels of the validation part alone; of quantiles what becomes the score, with its direction, is
    compared with them.

    Raises:
        RunError: members that were trained on another split, or whose predictions mean different things.
    """
    ensemble = work.spec.ensemble
    if ensemble is None:
        raise RunError(f"row '{work.spec.id}' names no members")
    members = [_run_member(work, row_id) for row_id in ensemble.members]
    each = [_predictions_of(member, work, prepared) for member in members]
    predictors = [Predictor.from_pretrained(member.path / MODEL) for member in members]
    names = [prediction_names(one) for one in predictors]
    for row_id, theirs in zip(ensemble.members, names, strict=True):
        if theirs != names[0]:
            raise RunError(
                f"row '{work.spec.id}': members predict different things: '{row_id}' gives {', '.join(theirs)}, the "
                f"first one {', '.join(names[0])}; combine rows with one head"
            )
    predictions = np.stack(each)
    (split,) = prepared.splits
    validation = split.indices("validation")
    fitted_on = validation[prepared.targets.used[validation]]
    weights = np.full(len(members), 1 / len(members))
    if ensemble.combine == "weighted":
        labels = prepared.targets.values[fitted_on]
        sides = [_beside_labels(predictors[0], one[fitted_on], labels) for one in predictions]
        weights = fit_shares(np.stack(sides), labels)
    columns = predictors[0].columns
    combined = np.tensordot(weights, predictions, axes=1).astype(np.float32)
    shares = {row_id: float(weight) for row_id, weight in zip(ensemble.members, weights, strict=True)}
    work.callback.say("weights: " + ", ".join(f"{row_id} {weight:.3f}" for row_id, weight in shares.items()))
    records = {row_id: member.record() for row_id, member in zip(shares, members, strict=True)}
    model: dict[str, Any] = {
        "predictor": "ensemble of " + ", ".join(shares),
        "parameters": sum(record["parameters"] for record in records.values()),
        "weights": "; ".join(f"{row_id}: {record['weights_origin']}" for row_id, record in records.items()),
        "member_weights": shares,
        "members": [member.name for member in members],
    }
    curves = [member.read_curves().assign(member=row_id) for row_id, member in zip(shares, members, strict=True)]
    apart = disagreement(predictions, weights.tolist())
    checked = _checked_against_error(prepared, apart, columns(combined)["score"])
    r = checked["spearman_with_error"]
    note = (
        f"the members' predictions differ by {checked['mean']:.3f} on average (standard deviation); rank correlation "
        f"with the ensemble's error on {checked['rows']:,} test variants: {'not defined' if r is None else f'{r:.2f}'}"
    )
    work.callback.say(note)
    return Trained(
        combined,
        lambda values: {**columns(values), "disagreement": apart},
        pd.concat(curves, ignore_index=True),
        model,
        {"combine": ensemble.combine, "disagreement": checked},
        max(record["peak_memory_bytes"] for record in records.values()),
        not_counted("the members were trained in runs of their own, whose records have theirs"),
        (note,),
    )


def _run_member(work: Work, row_id: str) -> RunDirectory:
    """The finished run of a member, which is run first where there is none."""
    work.callback.say(f"member {row_id}")
    member, inner = member_of(work.spec, row_id, work.rows), Inner(work.callback)
    outcome = run_experiment(member, work.workspace, work.device, resume=True, rows=work.rows, callback=inner)
    if outcome.run is None:
        raise RunError(f"member {row_id} of '{work.spec.id}' has no result")
    return outcome.run


def _beside_labels(
    predictor: Predictor, predictions: Float[np.ndarray, "rows outputs"], labels: Float[np.ndarray, "rows 3"]
) -> Float[np.ndarray, "rows 3"]:
    """The part of the predictions that stands beside the labels (see `Head.comparable`)."""
    pair = predictor.head.comparable(torch.from_numpy(predictions), torch.from_numpy(labels))
    if pair is None:
        raise RunError(f"predictions of {predictor.head.task} cannot be held against validated Δ; use combine: mean")
    return pair[0].numpy()


def _predictions_of(member: RunDirectory, work: Work, prepared: Prepared) -> Float[np.ndarray, "rows outputs"]:
    """The member's predictions, once it is sure that it was trained and tested on the same rows."""
    theirs = member.read_split()
    ours = prepared.table["variant_id"].to_numpy()
    same_rows = len(theirs) == len(ours) and (theirs["variant_id"].to_numpy() == ours).all()
    if not same_rows or (theirs["part"].to_numpy() != prepared.parts).any():
        raise RunError(
            f"{member.name} was trained on another split than {work.run.name}; give both rows the same data and split"
        )
    return np.load(member.path / ALL_PREDICTIONS, allow_pickle=False)


def _checked_against_error(
    prepared: Prepared, apart: Float[np.ndarray, " rows"], score: Float[np.ndarray, " rows"]
) -> dict[str, Any]:
    """How far the members are apart on the test part, and whether that tells where the ensemble errs.

    `mean`: mean over test rows. `spearman_with_error`: rank correlation with the ensemble's absolute error against the
    validated Δ's magnitude; None where it is not defined. `rows`: test rows whose Δ is known.
    """
    (split,) = prepared.splits
    test = split.indices("test")
    apart, score = apart[test], score[test]
    target = target_magnitude(prepared.targets.values[test], prepared.targets.used[test])
    known = np.isfinite(target)
    error = np.abs(score[known] - target[known])
    r = None
    if known.sum() > 2 and np.ptp(apart[known]) > 0 and np.ptp(error) > 0:
        r = float(spearmanr(apart[known], error).statistic)
    return {"mean": float(apart.mean()), "spearman_with_error": r, "rows": int(known.sum())}
