"""How a result comes about: one model trained, or one for each fold."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Collection
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from meta_spliceai.errors import RunError
from meta_spliceai.experiments.run.build import build_predictor
from meta_spliceai.experiments.run.callback import training_reports
from meta_spliceai.experiments.run.job import Clock, Job, Trained
from meta_spliceai.experiments.run.utilisation import Product, in_words, put_together, rate_here, utilisation
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
from meta_spliceai.splice_engine.meta_layer.fit_report import FitReport
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.out_of_memory import OutOfMemory
from meta_spliceai.splice_engine.meta_layer.prediction import predict
from meta_spliceai.splice_engine.meta_layer.training import fit, precision_of, try_step
from meta_spliceai.splice_engine.meta_layer.training_work import training_operations
from meta_spliceai.splice_engine.meta_layer.window_data import choose_device
from meta_spliceai.splice_engine.variants.splits import Split

SIDE_BY_SIDE = "folds were trained side by side on one device"


class Span(NamedTuple):
    """When a fold was trained, in seconds of the machine's monotonic clock, which begins anew with each boot."""

    boot: str
    began: float
    ended: float


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
    if not folds:
        raise RunError(f"row '{job.spec.id}': the split has no folds")
    # Rows that no fold tests keep the first fold's predictions; they are not evaluated.
    predictions = folds[0].predictions.copy()
    for split, fold in zip(splits, folds, strict=True):
        tested = split.indices("test")
        predictions[tested] = fold.predictions[tested]
    records = [job.run.path / FOLDS / str(number) / FOLD_RECORD for number in range(1, len(splits) + 1)]
    shared = shared_seconds([Span(*json.loads(file.read_text(encoding="utf-8"))["span"]) for file in records])
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


@cache
def _boot() -> str:
    """Identity of the time since this machine was started, within which its monotonic clock goes on for all processes.

    A clock that tells the time of day may be set back, and would make folds overlap that followed each other.
    """
    linux = Path("/proc/sys/kernel/random/boot_id")
    if linux.is_file():
        return linux.read_text(encoding="ascii").strip()
    macos = ["sysctl", "-n", "kern.bootsessionuuid"]
    return subprocess.run(macos, capture_output=True, text=True, check=True).stdout.strip()


def shared_seconds(spans: Collection[Span]) -> float:
    """Seconds by which spans together are longer than the time that they cover, each machine for itself."""
    shared, until = 0.0, dict.fromkeys((span.boot for span in spans), float("-inf"))
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
        if (fold.path / FOLD_RECORD).exists():
            job.callback.say(f"fold {number} is finished already")
            record = json.loads((fold.path / FOLD_RECORD).read_text(encoding="utf-8"))
            job.clock.add(record.get("seconds_by_step", {}), record.get("cpu_seconds_by_step", {}))
            return Trained(
                np.load(fold.path / ALL_PREDICTIONS, allow_pickle=False),
                Predictor.from_pretrained(fold.path / MODEL).columns,
                fold.read_curves(),
                record["model"],
                record["training"],
                record["peak_memory_bytes"],
                record["work"],
                tuple(record["notes"]),
            )
        clock, began = Clock(), time.monotonic()
        trained = _train_on(job.prepared.splits[number - 1], fold.path, replace(job, clock=clock), number)
        job.clock.add(clock.seconds, clock.cpu_seconds)
        fold.write_frame("curves.parquet", trained.curves)
        write_all_predictions(fold, trained)
        record = {
            "model": trained.model,
            "training": trained.training,
            "peak_memory_bytes": trained.peak_memory_bytes,
            "work": trained.work,
            "notes": trained.notes,
            "span": Span(_boot(), began, time.monotonic()),
            **clock.in_record(),
        }
        fold.write_json(FOLD_RECORD, record)
        shutil.rmtree(fold.path / CHECKPOINTS, ignore_errors=True)
        return trained


def _train_on(split: Split, folder: Path, job: Job, fold: int | None = None) -> Trained:
    """Train on one split, predict every row, keep the weights in `folder/model`."""
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
    with job.clock("training"):
        try:
            report = fit(
                predictor,
                prepared.training_windows,
                prepared.targets,
                train[used[train]],
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
        raise ran_out.with_what_fits(
            lambda batch: try_step(
                predictor,
                prepared.training_windows,
                prepared.targets,
                train[used[train]],
                spec.training,
                job.device,
                batch,
            )
        )
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
    """What the model card says of training."""
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
    """The matrix product that is training's limit."""
    place = choose_device(device)
    precision = precision_of(spec.training, place)
    # On CUDA convolutions of float32 numbers run in TF32, unless that was switched off.
    tf32 = precision == "float32" and place.type == "cuda" and torch.backends.cudnn.allow_tf32
    return "tf32" if tf32 else precision


def write_all_predictions(run: RunDirectory, trained: Trained) -> None:
    """Keep the model's predictions on every row of the table, for ensembles and resumed cross-validations."""
    with atomic_write(run.path / ALL_PREDICTIONS, "wb") as handle:
        np.save(handle, trained.predictions, allow_pickle=False)
