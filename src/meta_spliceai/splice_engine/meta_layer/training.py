"""Training of a predictor: a plain loop with early stopping, a checkpoint per epoch, and resume."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from meta_spliceai.errors import InputError, IntegrityError, RunError
from meta_spliceai.files import atomic_write
from meta_spliceai.splice_engine.meta_layer.features import (
    FeatureData,
    IndexBatches,
    OutOfMemory,
    WindowData,
    check_shift,
    choose_device,
    is_out_of_memory,
    peak_memory,
    reset_peak,
    validation_rows,
)
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.prediction import TrunkData, model_inputs
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig
from meta_spliceai.splice_engine.meta_layer.targets import Targets
from meta_spliceai.splice_engine.meta_layer.trainer import (
    BEST,
    LAST,
    Callback,
    Trainer,
    TrainRows,
    epoch_seed,
    precision_of,
    set_trained,
    trained_state,
)
from meta_spliceai.splice_engine.variants.table import Windows

MOST_VERSIONS = 64
"""Versions that are compiled of one function before PyTorch gives up: batch sizes times layers that unfreeze."""


@dataclass(frozen=True)
class FeatureWork:
    """Distinct sequences of a frozen encoder's features; those that were not in the cache; and the seconds for
    computing, reading and checking them, and for waiting where another process computes them."""

    sequences: int
    computed: int
    seconds: float

    def in_words(self) -> str:
        """What was computed and what was found."""
        found = self.sequences - self.computed
        return f"{self.computed:,} sequences read, {found:,} found in the cache, {self.seconds:.1f} s"


@dataclass(frozen=True)
class FitReport:
    """What a training run did.

    Attributes:
        curves: one row per epoch: epoch (from 1), train_loss, val_loss, val_r (Pearson r of predictions and labels
            over all outputs; NaN where it is not defined), learning_rate, seconds, windows_per_second.
        best_epoch: the epoch (from 1) with the lowest validation loss; the predictor holds its weights.
        windows_per_second: variants (pairs of windows) trained on per second, forward and backward, without validation.
        resumed_from: the epoch after which this process went on; None if it started from the beginning.
        classes: training rows of each of the task's classes, by name; empty for a task without classes.
        rate: in words, the learning rate where it was scaled to the batch; "" where it was not.
        features: a frozen encoder's features, which are not in `seconds`; None where the encoder is trained.
    """

    curves: pd.DataFrame
    best_epoch: int
    epochs_run: int
    seconds: float
    windows_per_second: float
    peak_memory_bytes: int
    resumed_from: int | None
    stopped_because: str
    train_rows: int
    val_rows: int
    device: str
    precision: str
    classes: dict[str, int]
    balance: str
    rate: str
    features: FeatureWork | None

    @property
    def step_seconds(self) -> float:
        """Time spent in training steps: the epochs without their validation."""
        return self.train_rows * self.epochs_run / self.windows_per_second

    def notes(self) -> tuple[str, ...]:
        """Notes about training for a result."""
        return tuple(words for words in (self.imbalance(), self.rate) if words)

    def imbalance(self) -> str:
        if not self.classes:
            return ""
        counts = ", ".join(f"{count:,} {name}" for name, count in self.classes.items())
        how = {"none": "each row weighs the same in the loss", "classes": "each class weighs the same in the loss"}
        return f"trained on {counts}; {how[self.balance]}"

    def to_json(self) -> dict[str, Any]:
        plain = {name: value for name, value in vars(self).items() if name != "curves"}
        return {**plain, "features": None if self.features is None else asdict(self.features)}


def _checked_rows(
    targets: Targets, train_idx: TrainRows, val_idx: Int[np.ndarray, " v"]
) -> tuple[TrainRows, Int[np.ndarray, " v"]]:
    train, validation = np.asarray(train_idx, np.int64), np.asarray(val_idx, np.int64)
    for name, rows in (("training", train), ("validation", validation)):
        if not len(rows):
            raise InputError(f"the {name} part is empty; choose a split with rows in it")
        if without := int((~targets.used[rows]).sum()):
            raise InputError(f"{without} of {len(rows)} rows of the {name} part have no label; leave them out before")
    if len(shared := np.intersect1d(train, validation)):
        raise InputError(f"row {shared[0]} stands in the training and in the validation part ({len(shared)} shared)")
    return train, validation


def _identity(
    predictor: Predictor, data: WindowData | FeatureData, targets: Targets, rows: list[Any], config: TrainingConfig
) -> str:
    """One line that two runs share if and only if one can go on from the other's checkpoint."""
    content = hashlib.sha256(data.digest().encode())
    content.update(np.ascontiguousarray(targets.values).tobytes())
    for part in rows:
        content.update(np.ascontiguousarray(part).tobytes() + b"|")
    settings = {
        "predictor": type(predictor).__name__,
        **predictor.config,
        **config.model_dump(),
        "weights": predictor.weights,
        "data": content.hexdigest(),
    }
    return json.dumps(settings, sort_keys=True)


def write_last(state: dict[str, Any], path: Path) -> None:
    with atomic_write(path, "wb") as handle:
        torch.save(state, handle)


def write_best(model: nn.Module, names: set[str], folder: Path) -> None:
    with atomic_write(folder / BEST, "wb") as handle:
        handle.write(save(trained_state(model, names)))


def load_best(model: nn.Module, names: set[str], folder: Path) -> None:
    """Put the best weights into the model; IntegrityError where the file is gone, damaged, or of another model."""
    path = folder / BEST
    try:
        state = load(path.read_bytes())
    except (FileNotFoundError, SafetensorError) as error:
        raise IntegrityError(f"best weights {path} cannot be read ({error}); delete the checkpoints") from error
    if state.keys() != names:
        raise IntegrityError(f"best weights {path} belong to another model; delete the checkpoints to start over")
    broken = next((name for name, tensor in state.items() if not tensor.isfinite().all()), None)
    if broken is not None:
        raise IntegrityError(f"best weights {path}: {broken} is not finite; delete the checkpoints to start over")
    model.load_state_dict(state, strict=False)


def _check_compiler(mode: str, device: torch.device) -> None:
    """Whether compiled training can run here: RunError where a C++ compiler, or Triton on CUDA, is missing."""
    if mode == "none":
        return
    if device.type == "cuda":
        there, what = importlib.util.find_spec("triton") is not None, "the package triton"
    else:
        there = any(map(shutil.which, (os.environ.get("CXX", ""), "g++", "clang++")))
        what = "a C++ compiler (g++, clang++ or the one that the variable CXX names)"
    if not there:
        raise RunError(f"training.compile = {mode} needs {what}, which is not here; install it or set compile to none")


@contextmanager
def _compiling(mode: str) -> Iterator[None]:
    """A block in which training steps are compiled, with the random numbers that uncompiled ones draw."""
    if mode == "none":
        yield
        return
    import torch._dynamo  # takes seconds
    import torch._inductor.config

    with (
        torch._dynamo.config.patch(recompile_limit=MOST_VERSIONS),
        torch._inductor.config.patch(fallback_random=True),
    ):
        yield


@contextmanager
def _out_of_memory_explained(device: torch.device, config: TrainingConfig, window: int) -> Iterator[None]:
    """Out-of-memory as an error that says where and what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(str(device), config.batch_size, config.accumulate, window) from error


def try_step(
    predictor: Predictor,
    windows: Windows,
    targets: Targets,
    train_idx: TrainRows,
    config: TrainingConfig,
    device: str,
    batch_size: int,
) -> None:
    """One training step of `batch_size` rows, forward, backward and optimiser, to see whether it fits (OutOfMemory
    where it does not); it spoils the predictor. The other arguments are those of `fit`."""
    place = choose_device(device)
    plain = config.model_copy(update={"compile": "none", "batch_size": batch_size})
    with _out_of_memory_explained(place, plain, predictor.window):
        data = model_inputs(predictor, windows, place, write=False, margin=config.window_shift)
        labels = torch.from_numpy(np.asarray(targets.values, np.float32)).to(place)
        rows = np.asarray(train_idx[:batch_size], np.int64)
        trainer = Trainer(predictor, data, labels, rows, plain, steps=1)
        trainer.train_epoch(IndexBatches(rows, batch_size, place))


class FitOptions(TypedDict, total=False):
    """Options of `fit` that do not affect the result.

    Attributes:
        resume: go on after the last whole epoch found in `directory`; without one, start from the beginning.
        progress: called now and then with how far training is, and after each epoch.
    """

    resume: bool
    progress: Callback


def fit(
    predictor: Predictor,
    windows: Windows,
    targets: Targets,
    train_idx: TrainRows,
    val_idx: Int[np.ndarray, " v"],
    config: TrainingConfig,
    directory: Path | str,
    device: str = "auto",
    **options: Unpack[FitOptions],
) -> FitReport:
    """Train the predictor; it ends with the weights of its best epoch by validation loss.

    The same predictor, data, config and device give the same result, in one go or interrupted and resumed.

    Args:
        windows: codes of both alleles, transcript orientation, n rows of the predictor's window length; with
            `config.window_shift` so many bases more on either side.
        val_idx: rows that decide on early stopping and the best epoch. Groups shared with the training rows would
            make the stop too late, so the caller's split keeps them apart.
        directory: the checkpoints' folder (`last.ckpt`, `best.safetensors`).

    Raises:
        RunError: the loss is no longer a number; out of memory; a checkpoint of another run; no CUDA device.
        KeyboardInterrupt: the user stopped it; the last whole epoch can be resumed.
    """
    place = choose_device(device)
    _check_compiler(config.compile, place)
    train_rows, val_rows = _checked_rows(targets, train_idx, val_idx)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    reset_peak(place)
    check_shift(predictor, config)
    started = time.perf_counter()
    data = model_inputs(predictor, windows, place, write=True, margin=config.window_shift)
    features = None
    if isinstance(data, FeatureData) and not isinstance(data, TrunkData):  # which was computed with the base scores
        features = FeatureWork(len(data.store), data.computed, time.perf_counter() - started)
    labels = torch.from_numpy(np.asarray(targets.values, np.float32)).to(place)
    identity = _identity(predictor, data, targets, [train_rows, val_rows], config)
    with (
        _out_of_memory_explained(place, config, predictor.window),
        torch.random.fork_rng(devices=[place] if place.type == "cuda" else []),
        _compiling(config.compile),
        torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False),
    ):
        batches = IndexBatches(
            train_rows, config.batch_size, place, lambda: epoch_seed(config.own_seed, trainer.epoch) ^ 1
        )
        steps = -(-len(batches) // config.accumulate) * config.epochs
        trainer = Trainer(predictor, data, labels, train_rows, config, steps)
        resumed_from = trainer.resume(folder / LAST, identity) if options.get("resume") else None
        rows_at_once = validation_rows(config.batch_size, predictor.window)

        def keep(best: bool) -> None:
            # In this order: a process killed between the two repeats the epoch and writes the same best weights again.
            if best:
                write_best(predictor, trainer.trained, folder)
            write_last({"identity": identity, **trainer.state()}, folder / LAST)

        trainer.run(batches, IndexBatches(val_rows, rows_at_once, place), keep, options.get("progress"))
    set_trained(predictor, config, None)
    load_best(predictor, trainer.trained, folder)
    predictor.eval()
    known = predictor.head.classes(torch.from_numpy(np.asarray(targets.values[train_rows], np.float32)))
    names = predictor.head.class_names
    counts = [] if known is None else torch.bincount(known[known >= 0], minlength=len(names)).tolist()
    classes = dict(zip(names, counts, strict=True)) if counts else {}
    return _report(trainer, resumed_from=resumed_from, val_rows=len(val_rows), classes=classes, features=features)


def _report(trainer: Trainer, **others: Any) -> FitReport:
    config, meant = trainer.config, trainer.config.learning_rate_for_batch
    curves = pd.DataFrame(trainer.history.curves)
    curves["epoch"] = curves["epoch"].astype("int64")
    trained = (trainer.train_rows / curves["windows_per_second"]).sum()
    rate = ""
    if meant is not None:
        ratio = f"{config.rows_a_step}/{meant}"
        rate = (
            f"learning rate {config.highest_rate:.3g}: {config.learning_rate:g}, meant for {meant} variants a step, "
            f"times {f'√({ratio})' if config.rate_rule == 'sqrt' else ratio}"
        )
    return FitReport(
        curves=curves,
        best_epoch=int(curves["epoch"][curves["val_loss"].idxmin()]),
        epochs_run=len(curves),
        seconds=float(curves["seconds"].sum()),
        windows_per_second=float(trainer.train_rows * len(curves) / trained),
        peak_memory_bytes=peak_memory(trainer.device),
        stopped_because=trainer.history.finished,
        train_rows=trainer.train_rows,
        device=str(trainer.device),
        precision=precision_of(config.precision, trainer.device),
        balance=config.balance,
        rate=rate,
        **others,
    )
