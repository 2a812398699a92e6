"""Training of a predictor: a plain loop with early stopping, a checkpoint an epoch, and resume."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.files import atomic_write, cache_dir
from meta_spliceai.splice_engine.meta_layer.checkpoints import (
    LAST,
    load_best,
    read_checkpoint,
    trained_state,
    write_best,
)
from meta_spliceai.splice_engine.meta_layer.embedding_cache import FeatureData
from meta_spliceai.splice_engine.meta_layer.fine_tuning import parameter_groups, set_trained
from meta_spliceai.splice_engine.meta_layer.fit_report import FeatureWork, FitReport, TrainingState, training_bar
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.out_of_memory import OutOfMemory
from meta_spliceai.splice_engine.meta_layer.peak_memory import is_out_of_memory, peak_memory, reset_peak
from meta_spliceai.splice_engine.meta_layer.prediction import EMBEDDINGS, model_inputs
from meta_spliceai.splice_engine.meta_layer.targets import Targets
from meta_spliceai.splice_engine.meta_layer.training_config import TrainingConfig
from meta_spliceai.splice_engine.meta_layer.trunk_features import TrunkData
from meta_spliceai.splice_engine.meta_layer.window_data import (
    IndexBatches,
    WindowData,
    WindowPair,
    check_shift,
    choose_device,
    draw_shifts,
    validation_rows,
)

FINITE_CHECK_STEPS = 25
"""On CUDA the loss is looked at every so many steps: each look waits for the device."""

SECONDS_BETWEEN_REPORTS = 1.0
"""A running loss is reported this often at most, for the same reason."""

MOST_VERSIONS = 64
"""Versions that are compiled of one function before PyTorch gives up: batch sizes times layers that unfreeze."""

Callback = Callable[[TrainingState], None]
TrainRows = Int[np.ndarray, " t"]


@dataclass
class _History:
    """What has happened so far; with weights and optimiser, all that resuming needs.

    Attributes:
        curves: a line an epoch, see `FitReport`.
        best: the lowest validation loss.
        best_to_stop: the one that patience counts from, which only a fall of more than `min_improvement` replaces.
        waited: epochs since then.
        finished: why training ended, in words; empty while it goes on.
    """

    curves: list[dict[str, float]] = field(default_factory=list)
    best: float = math.inf
    best_to_stop: float = math.inf
    waited: int = 0
    finished: str = ""

    def add(self, line: dict[str, float], config: TrainingConfig) -> bool:
        """Take up an epoch; whether it is the best one so far."""
        self.curves.append(line)
        loss = line["val_loss"]
        if loss < self.best_to_stop - config.min_improvement:
            self.best_to_stop, self.waited = loss, 0
        else:
            self.waited += 1
        if config.patience and self.waited >= config.patience:
            self.finished = f"validation loss no better for {config.patience} epochs"
        elif len(self.curves) == config.epochs:
            self.finished = f"all {config.epochs} epochs done"
        if loss < self.best:
            self.best = loss
            return True
        return False


class Trainer:
    """One predictor (trained in place, on the labels' device), its data, and the optimiser, whose learning rate falls
    over `steps` steps in all."""

    def __init__(
        self,
        predictor: Predictor,
        data: WindowData | FeatureData,
        labels: Float[Tensor, "n labels"],
        train_rows: TrainRows,
        config: TrainingConfig,
        steps: int,
    ) -> None:
        self.device = labels.device
        self.predictor = predictor.to(self.device)
        self.data, self.labels, self.config, self.steps = data, labels, config, steps
        self.train_rows = len(train_rows)
        set_trained(predictor, config, None)
        self.trained = {name for name, p in predictor.named_parameters() if p.requires_grad}
        rows = torch.from_numpy(train_rows).to(self.device)
        predictor.head.learn_scale(labels[rows])
        self.weights = class_weights(predictor, labels, rows) if config.balance == "classes" else None
        self.compiled: Callable[..., Tensor] | None = None
        if config.compile != "none":
            work: Callable[..., Any] = predictor.compare if data.encoded else predictor.forward
            mode = None if config.compile == "default" else config.compile
            # The last batch of an epoch may be smaller and gets a version of its own: code for any size is slower.
            self.compiled = torch.compile(work, dynamic=False, mode=mode)
        self.optimizer = torch.optim.AdamW(parameter_groups(predictor, config), lr=config.highest_rate, fused=True)
        self.rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.steps_done = 0
        self.history = _History()
        self.bfloat16 = precision_of(config, self.device) == "bfloat16"

    @property
    def epoch(self) -> int:
        """The epoch that is running, from 0."""
        return len(self.history.curves)

    def set_rate(self) -> None:
        """The learning rate of the next step: it climbs in proportion, then falls as a cosine."""
        step, warmup = self.steps_done, max(1, round(self.config.warmup_fraction * self.steps))
        if step < warmup:
            factor = (step + 1) / warmup
        else:
            factor = 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, self.steps - warmup)))
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    def predict(self, rows: Int[Tensor, " batch"], shift: Int[Tensor, " batch"] | None = None) -> Tensor:
        """The prediction for some rows, their windows moved by `shift`."""
        if isinstance(self.data, FeatureData):
            inputs: tuple[Tensor, ...] = self.data.pair(rows)
        else:
            inputs = self.data.pair(rows, shift)
        if shift is not None:
            inputs = (*inputs, shift)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            if self.compiled is not None and self.predictor.training:
                prediction: Tensor = self.compiled(*inputs)
            else:
                prediction = self.predictor.compare(*inputs) if self.data.encoded else self.predictor(*inputs)
        return prediction.float()

    def batch_loss(self, rows: Int[Tensor, " batch"], shifts: Int[Tensor, " n"] | None = None) -> Float[Tensor, ""]:
        weights = None if self.weights is None else self.weights[rows]
        labels, shift = self.labels[rows], None
        if shifts is not None:
            shift = shifts[rows]
            labels = self.predictor.head.moved(labels, shift)
        prediction = self.predict(rows, shift)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            return self.predictor.loss(prediction, labels, self.config, weights)

    def train_epoch(self, batches: IndexBatches, callback: Callback | None = None) -> tuple[float, float]:
        """One pass over the training rows: mean training loss, and variants trained on per second."""
        set_trained(self.predictor, self.config, self.epoch)
        self.predictor.train()
        # Dropout of an epoch depends on the seed and the epoch alone: a resumed run goes on as the unbroken one would.
        seed = epoch_seed(self.config.own_seed, self.epoch)
        torch.manual_seed(seed)
        shifts = None
        if self.config.window_shift:
            shifts = draw_shifts(len(self.labels), self.config.window_shift, seed ^ 2, self.device)
        total, windows = torch.zeros((), device=self.device), 0
        started, reported = time.perf_counter(), 0.0
        for number, rows in enumerate(batches):
            loss = self.batch_loss(rows, shifts)
            # A step in pieces is that of their rows at once, also where an epoch's last pieces are smaller or fewer.
            piece = number % self.config.accumulate
            in_step = min(self.config.rows_a_step, self.train_rows - (number - piece) * self.config.batch_size)
            (loss * (len(rows) / in_step)).backward()
            if piece + 1 == self.config.accumulate or number + 1 == len(batches):
                self.step()
            total += loss.detach() * len(rows)
            windows += len(rows)
            if self.device.type == "cpu" or number % FINITE_CHECK_STEPS == 0:
                self.check_finite(loss.detach())
            now = time.perf_counter()
            if callback is not None and now - reported >= SECONDS_BETWEEN_REPORTS:
                reported = now
                done, speed = (number + 1) / len(batches), windows / (now - started)
                self._report(callback, self.epoch + 1, self.epoch + done, float(loss.detach()), speed)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.check_finite(total)
        return float(total) / windows, windows / (time.perf_counter() - started)

    def step(self) -> None:
        """One step of the optimiser with the gradients gathered so far."""
        if self.config.gradient_clip:
            torch.nn.utils.clip_grad_norm_(self.predictor.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steps_done += 1
        self.set_rate()

    def check_finite(self, loss: Tensor) -> None:
        if not math.isfinite(float(loss)):
            clip = self.config.gradient_clip
            raise RunError(
                f"the training loss became {float(loss)} in epoch {self.epoch + 1}; lower learning_rate "
                f"({self.config.highest_rate:g}) or "
                + (f"gradient_clip ({clip:g})" if clip else "clip the gradient (gradient_clip=1; it is 0, not clipped)")
            )

    @torch.inference_mode()
    def validate(self, batches: IndexBatches) -> tuple[float, float]:
        """Loss over all validation rows, and Pearson's r of predictions and labels (NaN where it is not defined).

        One loss over all rows at once: the mean of batch means would depend on the batch size. Classes keep their
        natural weight, whatever the balance in training.
        """
        self.predictor.eval()
        predictions = torch.cat([self.predict(rows) for rows in batches])
        labels = self.labels[batches.rows]
        loss = float(self.predictor.loss(predictions, labels, self.config))
        if not math.isfinite(loss):
            raise RunError(f"the validation loss became {loss} in epoch {self.epoch + 1}; lower learning_rate")
        pair = self.predictor.head.comparable(predictions, labels)
        return loss, math.nan if pair is None else pearson(*pair)

    def run(
        self, train: IndexBatches, validation: IndexBatches, save: Callable[[bool], None], callback: Callback | None
    ) -> None:
        """Epochs until training has ended; after each, `save` is called with whether it was the best one."""
        self.set_rate()
        while not self.history.finished:
            started = time.perf_counter()
            train_loss, speed = self.train_epoch(train, callback)
            val_loss, val_r = self.validate(validation)
            line = {
                "epoch": self.epoch + 1,
                "train_loss": train_loss,
                "val_loss": val_loss,
                "val_r": val_r,
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                "seconds": time.perf_counter() - started,
                "windows_per_second": speed,
            }
            save(self.history.add(line, self.config))
            if callback is not None:
                self._report(callback, self.epoch, self.epoch, train_loss, speed, line)

    def _report(
        self,
        callback: Callback,
        epoch: int,
        done: float,
        loss: float,
        speed: float,
        ended: dict[str, float] | None = None,
    ) -> None:
        epochs = self.config.epochs
        callback(TrainingState(epoch, epochs, done / epochs, loss, speed, peak_memory(self.device), ended))

    def state(self) -> dict[str, Any]:
        """Everything that resuming needs, as tensors and plain values."""
        model, optimizer = trained_state(self.predictor, self.trained), self.optimizer.state_dict()
        return {"history": vars(self.history), "steps_done": self.steps_done, "model": model, "optimizer": optimizer}

    def resume(self, path: Path, identity: str) -> int | None:
        """Go on from the checkpoint of the last whole epoch: its number, None where there is none.

        Raises:
            RunError: it is of another run.
            IntegrityError: it is damaged.
        """
        if not path.exists():
            return None
        state = read_checkpoint(path)
        _refuse_other_run(str(state.get("identity")), identity, path)
        self.history = _History(**state["history"])
        self.steps_done = state["steps_done"]
        self.predictor.load_state_dict(state["model"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        return self.epoch


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed for one epoch (from 0), unrelated to those of other epochs and seeds."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}".encode()).digest()[:7], "little")


def class_weights(
    predictor: Predictor, labels: Float[Tensor, "n labels"], rows: Int[Tensor, " t"]
) -> Float[Tensor, " n"] | None:
    """A weight for each row, so that every class has the same share of the training loss and the mean weight is 1.
    A row whose class is not known weighs 1; None for a task without classes."""
    classes = predictor.head.classes(labels)
    if classes is None:
        return None
    seen = classes[rows]
    counts = torch.bincount(seen[seen >= 0], minlength=max(1, int(classes.max()) + 1)).float()
    present = (counts > 0).sum()
    shares = torch.where(counts > 0, counts.sum() / (present * counts.clamp_min(1)), counts)
    return torch.where(classes >= 0, shares[classes.clamp_min(0)], torch.ones_like(shares[:1]))


def _count_classes(predictor: Predictor, targets: Targets, rows: TrainRows) -> dict[str, int]:
    """Training rows of each of the task's classes, by name; empty for a task without classes."""
    classes = predictor.head.classes(torch.from_numpy(np.asarray(targets.values[rows], np.float32)))
    if classes is None:
        return {}
    names = predictor.head.class_names
    counts = torch.bincount(classes[classes >= 0], minlength=len(names)).tolist()
    return dict(zip(names, counts, strict=True))


def pearson(predictions: Float[Tensor, "*shape"], labels: Float[Tensor, "*shape"]) -> float:
    """Pearson's r over all numbers; NaN if there are fewer than two or either side is constant."""
    if predictions.numel() < 2:
        return math.nan
    a, b = predictions.double().flatten(), labels.double().flatten()
    a, b = a - a.mean(), b - b.mean()
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale > 0 else math.nan


def _checked_rows(
    targets: Targets, train_idx: TrainRows, val_idx: Int[np.ndarray, " v"], n: int
) -> tuple[TrainRows, Int[np.ndarray, " v"]]:
    if len(targets.values) != n:
        raise InputError(f"{len(targets.values)} labels for {n} windows; both must follow the same table")
    parts = {"training": np.asarray(train_idx, np.int64), "validation": np.asarray(val_idx, np.int64)}
    for name, rows in parts.items():
        if not len(rows):
            raise InputError(f"the {name} part is empty; choose a split with rows in it")
        if rows.min() < 0 or rows.max() >= n:
            raise InputError(f"the {name} part names row {rows.max()} of a table of {n} rows")
        without = int((~targets.used[rows]).sum())
        if without:
            raise InputError(f"{without} of {len(rows)} rows of the {name} part have no label; leave them out before")
    shared = np.intersect1d(parts["training"], parts["validation"])
    if len(shared):
        raise InputError(f"row {shared[0]} stands in the training and in the validation part ({len(shared)} shared)")
    return parts["training"], parts["validation"]


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


def _refuse_other_run(found: str, expected: str, path: Path) -> None:
    if found == expected:
        return
    try:
        before, now = json.loads(found), json.loads(expected)
    except ValueError:
        raise RunError(f"checkpoint {path} is no checkpoint of this version; start over in an empty folder") from None
    different = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    words = "; ".join(f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in different)
    raise RunError(f"checkpoint {path} is of another run ({words}); start over in an empty folder")


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
    windows: WindowPair,
    targets: Targets,
    train_idx: TrainRows,
    config: TrainingConfig,
    device: str,
    batch_size: int,
    cache: Path | None = None,
) -> None:
    """One training step of `batch_size` rows, forward, backward and optimiser, to see whether it fits; it spoils the
    predictor. The other arguments are those of `fit`.

    Raises:
        OutOfMemory: it does not fit.
    """
    place = choose_device(device)
    plain = config.model_copy(update={"compile": "none", "batch_size": batch_size})
    with _out_of_memory_explained(place, plain, predictor.window):
        kept = cache or cache_dir() / EMBEDDINGS
        data = model_inputs(predictor, windows, place, kept, write=False, progress=False, margin=config.window_shift)
        labels = torch.from_numpy(np.asarray(targets.values, np.float32)).to(place)
        rows = np.asarray(train_idx[:batch_size], np.int64)
        trainer = Trainer(predictor, data, labels, rows, plain, steps=1)
        trainer.train_epoch(IndexBatches(rows, batch_size, place))


def precision_of(config: TrainingConfig, device: torch.device) -> Literal["bfloat16", "float32"]:
    """What training multiplies in on a device."""
    half = config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")
    return "bfloat16" if half else "float32"


class FitOptions(TypedDict, total=False):
    """How `fit` runs, without a part in what comes out.

    Attributes:
        resume: go on after the last whole epoch found in `directory`; without one, start from the beginning.
        progress: draw a bar if standard output is a terminal (the default); or a callback.
        cache: folder for the features of a frozen encoder, which are computed once (default: in the user's cache).
    """

    resume: bool
    progress: bool | Callback
    cache: Path | None


def fit(
    predictor: Predictor,
    windows: WindowPair,
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
        targets: labels of the same n rows.
        train_idx: rows to train on; each must have a label.
        val_idx: rows that decide on early stopping and the best epoch. Groups shared with the training rows would
            make the stop too late, so the caller's split keeps them apart.
        directory: the checkpoints' folder (`last.ckpt`, `best.safetensors`).
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: rows that do not fit (see the message).
        RunError: the loss is no longer a number; out of memory; a checkpoint of another run; no CUDA device.
        IntegrityError: a damaged checkpoint.
        KeyboardInterrupt: the user stopped it; the last whole epoch can be resumed.
    """
    place, progress = choose_device(device), options.get("progress", True)
    _check_compiler(config.compile, place)
    train_rows, val_rows = _checked_rows(targets, train_idx, val_idx, len(windows.ref))
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    reset_peak(place)
    check_shift(predictor, windows, config)
    started, cache = time.perf_counter(), options.get("cache") or cache_dir() / EMBEDDINGS
    drawn = progress is True
    data = model_inputs(predictor, windows, place, cache, write=True, progress=drawn, margin=config.window_shift)
    features = None
    if isinstance(data, FeatureData) and not isinstance(data, TrunkData):  # which was computed with the base scores
        features = FeatureWork(len(data.store), data.computed, time.perf_counter() - started)
    labels = torch.from_numpy(np.asarray(targets.values, np.float32)).to(place)
    identity = _identity(predictor, data, targets, [train_rows, val_rows], config)
    with (
        ExitStack() as stack,
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
        callback = progress if callable(progress) else None
        if drawn:
            callback = stack.enter_context(training_bar(type(predictor).__name__))
        rows_at_once = validation_rows(config.batch_size, predictor.window)

        def save(best: bool) -> None:
            # In this order: a process killed between the two repeats the epoch and writes the same best weights again.
            if best:
                write_best(predictor, trainer.trained, folder)
            write_last({"identity": identity, **trainer.state()}, folder / LAST)

        trainer.run(batches, IndexBatches(val_rows, rows_at_once, place), save, callback)
    set_trained(predictor, config, None)
    load_best(predictor, trainer.trained, folder)
    predictor.eval()
    classes = _count_classes(predictor, targets, train_rows)
    return _report(trainer, resumed_from=resumed_from, val_rows=len(val_rows), classes=classes, features=features)


def _report(trainer: Trainer, **others: Any) -> FitReport:
    """What a trainer that is done says of its own work."""
    curves = pd.DataFrame(trainer.history.curves)
    curves["epoch"] = curves["epoch"].astype("int64")
    trained = (trainer.train_rows / curves["windows_per_second"]).sum()
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
        precision=precision_of(trainer.config, trainer.device),
        balance=trainer.config.balance,
        rate=_scaled_rate(trainer.config),
        **others,
    )


def write_last(state: dict[str, Any], path: Path) -> None:
    """Replace the checkpoint of the last whole epoch."""
    with atomic_write(path, "wb") as handle:
        torch.save(state, handle)


def _scaled_rate(config: TrainingConfig) -> str:
    meant = config.learning_rate_for_batch
    if meant is None:
        return ""
    ratio = f"{config.rows_a_step}/{meant}"
    scale = f"√({ratio})" if config.rate_rule == "sqrt" else ratio
    return (
        f"learning rate {config.highest_rate:.3g}: {config.learning_rate:g}, meant for {meant} variants a step, times "
        f"{scale}"
    )
