"""How a result comes about: one model trained, or one for each fold; finished rows combined as an ensemble; base
networks, position and k-mers fused."""

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
from meta_spliceai.experiments.run.callback import training_reports
from meta_spliceai.experiments.run.prepare import Clock, Job, Trained
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
from meta_spliceai.experiments.store.workspace import (
    ALL_PREDICTIONS,
    CHECKPOINTS,
    FOLD_RECORD,
    FOLDS,
    MODEL,
    RunDirectory,
)
from meta_spliceai.files import atomic_write
from meta_spliceai.splice_engine.base_layer.scores import BaseScores
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import target_magnitude
from meta_spliceai.splice_engine.meta_layer.features import OutOfMemory, choose_device, peak_memory
from meta_spliceai.splice_engine.meta_layer.fusion import Fusion, fit_fusion
from meta_spliceai.splice_engine.meta_layer.fusion_features import fusion_features
from meta_spliceai.splice_engine.meta_layer.models.ensembles import disagreement, fit_shares, prediction_names
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.prediction import TrunkWindows, predict
from meta_spliceai.splice_engine.meta_layer.training import FitReport, fit, precision_of, try_step
from meta_spliceai.splice_engine.variants.external_scores import ScoreFile, join_scores
from meta_spliceai.splice_engine.variants.splits import Split
from meta_spliceai.splice_engine.variants.table import Windows

SIDE_BY_SIDE = "folds were trained side by side on one device"
TREES = "scikit-learn grows the trees, whose operations nobody counts"
SCORE = ": score"
"""How the feature that holds another tool's score ends; it begins with the tool's name."""


Span = tuple[str, float, float]
"""When a fold was trained: the machine's boot, and from when to when in seconds of its clock since then, which, unlike
the time of day, nobody sets back."""

OF_FOLD = ("model", "training", "peak_memory_bytes", "work", "notes")
"""What of `Trained` stands in a fold's fold.json."""


def train_single(job: Job) -> Trained:
    """One model on the split's train part, stopped early on its validation part."""
    (split,) = job.prepared.splits
    return _train_on(split, job.run.path, job)


def train_folds(job: Job) -> Trained:
    """One model a fold; every row is predicted by the model that did not see it.

    Each fold has a folder of its own, and its file fold.json is written last: a resumed run trains only what is left.
    """
    splits = job.prepared.splits
    folds = [train_fold(job, number) for number in range(1, len(splits) + 1)]
    predictions = _out_of_fold(splits, [fold.predictions for fold in folds])
    records = [job.run.path / FOLDS / str(number) / FOLD_RECORD for number in range(1, len(splits) + 1)]
    shared = shared_seconds([tuple(json.loads(file.read_text(encoding="utf-8"))["span"]) for file in records])
    # Folds trained side by side on one machine took less time together than one after the other.
    job.clock.add({"training": -min(shared, job.clock.seconds["training"])}, {})
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


def _out_of_fold(
    splits: Sequence[Split], predictions: Sequence[Float32[np.ndarray, "n outputs"]]
) -> Float32[np.ndarray, "n outputs"]:
    """Every row as the fold that tests it predicts it; rows that none tests, which are not evaluated, as the first.

    Raises:
        RunError: there are no folds.
    """
    if not predictions:
        raise RunError("the split has no folds")
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


def train_fold(job: Job, number: int) -> Trained:
    """The model of one fold (from 1), trained or, where its fold.json stands, read; the time it took is added to the
    clock.

    Raises:
        RunError: another process trains this fold.
    """
    fold = RunDirectory(job.run.path / FOLDS / str(number))
    job.callback.say(f"fold {number} of {len(job.prepared.splits)}")
    with fold.taken():
        file = fold.path / FOLD_RECORD
        record = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if "span" in record:
            job.callback.say(f"fold {number} is finished already")
            job.clock.add(record["seconds_by_step"], record["cpu_seconds_by_step"])
            predictions = np.load(fold.path / ALL_PREDICTIONS, allow_pickle=False)
            columns, curves = Predictor.from_pretrained(fold.path / MODEL).columns, fold.read_curves()
            return Trained(predictions, columns, curves, **{name: record[name] for name in OF_FOLD})
        clock, began = Clock(), time.monotonic()
        trained = _train_on(job.prepared.splits[number - 1], fold.path, replace(job, clock=clock), number)
        job.clock.add(clock.seconds, clock.cpu_seconds)
        fold.write_frame("curves.parquet", trained.curves)
        write_all_predictions(fold, trained)
        kept = {name: getattr(trained, name) for name in OF_FOLD}
        span: Span = (_boot(), began, time.monotonic())
        fold.write_json(FOLD_RECORD, {**kept, "span": span, **clock.in_record()})
        shutil.rmtree(fold.path / CHECKPOINTS, ignore_errors=True)
        return trained


def _train_on(split: Split, folder: Path, job: Job, fold: int | None = None) -> Trained:
    prepared, spec = job.prepared, job.spec
    used = prepared.targets.used
    train, validation = split.indices("train"), split.indices("validation")
    predictor = build_predictor(spec)
    product = _product_of_training(spec, job.device)
    rate_here(product, job.device)  # now, because what it holds must not count in training's peak
    job.callback.say(
        f"training {spec.encoder.name} with {spec.head.name} ({predictor.parameter_count():,} parameters, weights "
        f"{predictor.weights}) on {int(used[train].sum()):,} variants"
    )
    ran_out: OutOfMemory | None = None
    learned_from = predictor, prepared.training_windows, prepared.targets, train[used[train]]
    with job.clock("training"):
        try:
            report = fit(
                *learned_from,
                validation[used[validation]],
                spec.training,
                folder / CHECKPOINTS,
                device=job.device,
                resume=job.resume,
                progress=training_reports(job.callback, fold),
            )
        except OutOfMemory as error:
            ran_out = error.alone()
    if ran_out is not None:
        # Outside the handler: there the failed training would still be held by the error's frames.
        job.callback.say("out of memory; looking for the batch that fits")
        raise ran_out.with_what_fits(lambda batch: try_step(*learned_from, spec.training, job.device, batch))
    if report.features is not None:
        job.callback.say(f"features of the frozen encoder: {report.features.in_words()}")
    job.callback.say(
        f"trained {report.epochs_run} epochs in {report.seconds:.0f} s, {report.windows_per_second:.0f} windows/s, "
        f"best epoch {report.best_epoch}: {report.stopped_because}"
    )
    operations = training_operations(predictor, spec.training, report.train_rows, report.epochs_run)
    work = utilisation(operations, report.step_seconds, product, job.device)
    job.callback.say(f"training: {in_words(work)}")
    with job.clock("predicting"):
        predictions = predict(predictor, prepared.windows, job.device)
    predictor.save_pretrained(folder / MODEL, _trained_on(job, split, report))
    return Trained(
        predictions,
        predictor.columns,
        report.curves,
        predictor.describe(),
        report.to_json(),
        report.peak_memory_bytes,
        work,
        report.notes(),
    )


def _trained_on(job: Job, split: Split, report: FitReport) -> str:
    dataset, targets = job.prepared.loaded.dataset, job.prepared.targets
    lines = [
        f"Run `{job.run.name}`, row `{job.spec.id}` ({job.spec.title}), seed {job.spec.seed}.",
        f"Data: {dataset.title} ({dataset.build}; licence: {dataset.licence}).",
        f"Split {split.name}: {report.train_rows:,} variants to train on, {report.val_rows:,} to stop by.",
        f"Labels: {targets.rule}.",
        f"Best of {report.epochs_run} epochs: {report.best_epoch}.",
        *(note[:1].upper() + note[1:] + "." for note in (*job.prepared.notes, *report.notes())),
        "How it was evaluated stands in the run's metrics.json and evidence.json.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _product_of_training(spec: ExperimentSpec, device: str) -> Product:
    place = choose_device(device)
    precision = precision_of(spec.training, place)
    # On CUDA convolutions of float32 numbers run in TF32, unless that was switched off.
    tf32 = precision == "float32" and place.type == "cuda" and torch.backends.cudnn.allow_tf32
    return "tf32" if tf32 else precision


def write_all_predictions(run: RunDirectory, trained: Trained) -> None:
    with atomic_write(run.path / ALL_PREDICTIONS, "wb") as handle:
        np.save(handle, trained.predictions, allow_pickle=False)


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
    names = [prediction_names(one) for one in predictors]
    for row_id, theirs in zip(ensemble.members, names, strict=True):
        if theirs != names[0]:
            raise RunError(
                f"row '{job.spec.id}': members predict different things: '{row_id}' gives {', '.join(theirs)}, the "
                f"first one {', '.join(names[0])}; combine rows with one head"
            )
    predictions = np.stack(each)
    (split,) = job.prepared.splits
    validation = split.indices("validation")
    fitted_on = validation[job.prepared.targets.used[validation]]
    weights = np.full(len(members), 1 / len(members))
    if ensemble.combine == "weighted":
        labels = job.prepared.targets.values[fitted_on]
        sides = [_beside_labels(predictors[0], one[fitted_on], labels) for one in predictions]
        weights = fit_shares(np.stack(sides), labels)
    columns = predictors[0].columns
    combined = np.tensordot(weights, predictions, axes=1).astype(np.float32)
    shares = {row_id: float(weight) for row_id, weight in zip(ensemble.members, weights, strict=True)}
    job.callback.say("weights: " + ", ".join(f"{row_id} {weight:.3f}" for row_id, weight in shares.items()))
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
    checked = _checked_against_error(job, apart, columns(combined)["score"])
    r = checked["spearman_with_error"]
    note = (
        f"the members' predictions differ by {checked['mean']:.3f} on average (standard deviation); rank correlation "
        f"with the ensemble's error on {checked['rows']:,} test variants: {'not defined' if r is None else f'{r:.2f}'}"
    )
    job.callback.say(note)
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


def fuse(job: Job) -> Trained:
    """One fusion, or one a fold, by trees that learn from measured labels; every row that a fold tests is predicted by
    the fusion that did not see it.

    The predictions are two numbers a row: the probability of Splice-altering, and the predicted effect (NaN without a
    model of it).
    """
    spec, prepared = job.spec, job.prepared
    started = time.perf_counter()
    with job.clock("features"):
        features = features_of(spec, prepared.table, prepared.all_scores, prepared.windows, prepared.loaded.annotation)
        external, notes = external_scores(spec, prepared.table, spec.data.name)
        features = pd.concat([features, external], axis=1)
    for note in notes:
        job.callback.say(note)
    networks = [scores.model for scores in prepared.all_scores]
    job.callback.say(f"fusing {', '.join(networks)}: {features.shape[1]} features, {len(features):,} variants")
    fusions, each, cards = [], [], []
    with job.callback.stage("fusions", len(prepared.splits)) as advance:
        for number, split in enumerate(prepared.splits, start=1):
            folder = job.run.path / MODEL if len(prepared.splits) == 1 else job.run.path / FOLDS / str(number) / MODEL
            with job.clock("training"):
                fusions.append(_fit_fusion(job, features, split, folder))
            each.append(predict_fusion(fusions[-1], features))
            cards.append({"split": split.name, "tested": len(split.indices("test")), **fusions[-1].card})
            advance(1)
    predictions, last = _out_of_fold(prepared.splits, each), fusions[-1]
    model = {
        "predictor": "fusion",
        "parameters": sum(len(part.value) for part in (last.altering, last.effect) if part is not None),
        "weights": "learned from measured labels: gradient-boosted trees",
        "networks": networks,
        "scores": [name.removesuffix(SCORE) for name in external],
        "features": list(last.features),
    }
    training = {"seconds": round(time.perf_counter() - started, 3), "fusions": cards}
    curves = pd.DataFrame({"fold": range(1, len(cards) + 1), "valid_loss": [c["classes"]["log_loss"] for c in cards]})
    peak = peak_memory(choose_device("cpu"))
    return Trained(predictions, fusion_columns, curves, model, training, peak, not_counted(TREES), notes)


def features_of(
    spec: ExperimentSpec,
    table: pd.DataFrame,
    scores: tuple[BaseScores, ...],
    windows: Windows,
    annotation: GeneAnnotation | None,
) -> pd.DataFrame:
    """What the row's fusion sees of some variants: of those it learns from, and of new ones alike; see
    `external_scores` for what other tools say."""
    words = spec.fusion is not None and spec.fusion.words
    trunk = windows.trunk if isinstance(windows, TrunkWindows) else None
    return fusion_features(table, scores, windows if words else None, annotation, trunk)


def external_scores(spec: ExperimentSpec, table: pd.DataFrame, data: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The scores of `fusion.scores`, a column each, NaN where a file has none; and in words how many have one.

    Args:
        data: what the variants are, for messages.

    Raises:
        InputError: a file that is not there or cannot be used, or has no score for any variant.
        IntegrityError: a damaged file.
    """
    found, notes = pd.DataFrame(index=table.index), []
    for text in () if spec.fusion is None else spec.fusion.scores:
        file = ScoreFile.parse(text)
        joined = join_scores(file, table, data)
        found[f"{file.name}{SCORE}"] = joined.score
        origin = f"{file.name} ({file.path.name}{f', {file.column}' * bool(file.column)})"
        scored = int(np.isfinite(joined.score).sum())
        notes.append(
            f"{origin} scores {scored:,} of {len(table):,} variants; of the others the trees know that it is missing"
        )
        if joined.other_reference:
            notes.append(f"{origin}: {joined.other_reference:,} rows with another reference base were left out")
    return found, tuple(notes)


def predict_fusion(fusion: Fusion, features: pd.DataFrame) -> Float32[np.ndarray, "n 2"]:
    found = fusion.predict(features)
    return np.stack([found.score, found.signed], axis=1).astype(np.float32)


def fusion_columns(predictions: Float32[np.ndarray, "n 2"]) -> dict[str, Float32[np.ndarray, " n"]]:
    """The predictions by name, as a predictor names its own: `score`, a probability; `signed`, the predicted effect."""
    return {"score": predictions[:, 0], "signed": predictions[:, 1]}


def _fit_fusion(job: Job, features: pd.DataFrame, split: Split, folder: Path) -> Fusion:
    """The fusion of one split: fitted and kept, or found where an interrupted run left it."""
    spec = job.spec
    if spec.fusion is None:
        raise RunError(f"row '{spec.id}' names no base networks to fuse")
    if job.resume and (folder / "fusion.json").is_file():
        job.callback.say(f"{split.name} is finished already")
        return Fusion.load(folder)

    def part(rows: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
        return features.iloc[rows].reset_index(drop=True), job.prepared.table.iloc[rows].reset_index(drop=True)

    rows, validation = split.indices("train"), split.indices("validation")
    if spec.fusion.validation == "learn":
        rows = np.sort(np.concatenate([rows, validation]))
    held = part(validation) if spec.fusion.validation == "calibrate" else None
    fusion = fit_fusion(*part(rows), spec.seed, spec.fusion.settings, negatives=spec.negatives, validation=held)
    fusion.save(folder)
    return fusion
