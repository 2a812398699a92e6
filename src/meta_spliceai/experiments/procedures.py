"""How a result comes about: one model, or one for each fold."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from meta_spliceai.errors import RunError
from meta_spliceai.experiments.build_predictor import build_predictor
from meta_spliceai.experiments.prepare import Prepared
from meta_spliceai.experiments.spec import ExperimentSpec
from meta_spliceai.experiments.watcher import Watcher
from meta_spliceai.experiments.workspace import RunDirectory
from meta_spliceai.files import atomic_write
from meta_spliceai.splice_engine.meta_layer.training import fit, predict
from meta_spliceai.splice_engine.variants.splits import Split

ANSWERS = "answers.npy"
CHECKPOINTS = "checkpoints"
FOLDS = "folds"
FOLD_RECORD = "fold.json"
MODEL = "model"


@dataclass(frozen=True)
class Trained:
    """A trained model's answers on every row of the table, and how training went."""

    answers: Float32[np.ndarray, "n outputs"]
    curves: pd.DataFrame
    model: dict[str, Any]
    training: dict[str, Any]
    peak_memory_bytes: int


class Clock:
    """Seconds spent in each step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Measure one step; a step measured twice is added up."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - started


def train_single(
    run: RunDirectory,
    spec: ExperimentSpec,
    prepared: Prepared,
    device: str,
    resume: bool,
    watcher: Watcher,
    clock: Clock,
) -> Trained:
    """One model on the split's train part, stopped early on its validation part."""
    (split,) = prepared.splits
    return _train_on(split, run.path, run.path / CHECKPOINTS, spec, prepared, device, resume, watcher, clock)


def train_folds(
    run: RunDirectory,
    spec: ExperimentSpec,
    prepared: Prepared,
    device: str,
    resume: bool,
    watcher: Watcher,
    clock: Clock,
) -> Trained:
    """One model a fold; every row is answered by the model that did not see it.

    Each fold has a folder of its own, and its file fold.json is written last: a resumed run trains only what is left.
    """
    answers: np.ndarray | None = None
    curves, reports, models, peak = [], [], [], 0
    for number, split in enumerate(prepared.splits, start=1):
        fold = RunDirectory(run.path / FOLDS / str(number))
        watcher.say(f"fold {number} of {len(prepared.splits)}")
        if (fold.path / FOLD_RECORD).exists():
            watcher.say(f"fold {number} is finished already")
            record = json.loads((fold.path / FOLD_RECORD).read_text(encoding="utf-8"))
            trained = Trained(
                np.load(fold.path / ANSWERS, allow_pickle=False),
                fold.read_curves(),
                record["model"],
                record["training"],
                record["peak_memory_bytes"],
            )
        else:
            trained = _train_on(
                split, fold.path, fold.path / CHECKPOINTS, spec, prepared, device, resume, watcher, clock
            )
            fold.write_frame("curves.parquet", trained.curves)
            with atomic_write(fold.path / ANSWERS, "wb") as handle:
                np.save(handle, trained.answers, allow_pickle=False)
            fold.write_json(
                FOLD_RECORD,
                {"model": trained.model, "training": trained.training, "peak_memory_bytes": trained.peak_memory_bytes},
            )
            shutil.rmtree(fold.path / CHECKPOINTS, ignore_errors=True)
        if answers is None:
            # Rows that no fold tests keep the first fold's answers; they are not judged.
            answers = trained.answers.copy()
        tested = split.indices("test")
        answers[tested] = trained.answers[tested]
        curves.append(trained.curves.assign(fold=number))
        reports.append(trained.training)
        models.append(trained.model)
        peak = max(peak, trained.peak_memory_bytes)
    if answers is None:
        raise RunError(f"row '{spec.id}': the split has no folds")
    return Trained(answers, pd.concat(curves, ignore_index=True), models[0], {"folds": reports}, peak)


def _train_on(
    split: Split,
    folder: Path,
    checkpoints: Path,
    spec: ExperimentSpec,
    prepared: Prepared,
    device: str,
    resume: bool,
    watcher: Watcher,
    clock: Clock,
) -> Trained:
    """Train on one split, answer for every row, keep the weights in `folder/model`."""
    used = prepared.targets.used
    train, validation = split.indices("train"), split.indices("validation")
    predictor = build_predictor(spec)
    watcher.say(
        f"training {type(predictor).__name__} ({predictor.parameter_count():,} parameters, weights "
        f"{predictor.weights}) on {int(used[train].sum()):,} variants"
    )
    with clock("training"):
        report = fit(
            predictor,
            prepared.windows,
            prepared.targets,
            train[used[train]],
            validation[used[validation]],
            spec.training,
            checkpoints,
            device=device,
            resume=resume,
            progress=watcher.shows_bars,
        )
    watcher.say(
        f"trained {report.epochs_run} epochs in {report.seconds:.0f} s, {report.windows_per_second:.0f} windows/s, "
        f"best epoch {report.best_epoch}: {report.stopped_because}"
    )
    with clock("predicting"):
        answers = predict(predictor, prepared.windows, device)
    predictor.save_pretrained(folder / MODEL)
    return Trained(answers, report.curves, predictor.describe(), report.to_json(), report.peak_memory_bytes)


PROCEDURES: dict[str, Callable[..., Trained]] = {"single": train_single, "cross-validation": train_folds}
"""How a result comes about: what trains."""
