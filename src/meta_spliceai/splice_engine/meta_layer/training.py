"""Training of a predictor: a plain loop with early stopping, a checkpoint after every epoch, and resuming; which
parameters are trained in which epoch, and at which rate."""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.files import atomic_write
from meta_spliceai.splice_engine.base_layer.families import read_torch
from meta_spliceai.splice_engine.meta_layer.features import (
    FeatureData,
    WindowData,
    batches,
    choose_device,
    draw_shifts,
    is_out_of_memory,
    peak_memory,
    reset_peak,
    validation_rows,
)
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.prediction import TrunkData, model_inputs
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig, TrainingPrecision
from meta_spliceai.splice_engine.meta_layer.targets import Targets
from meta_spliceai.splice_engine.variants.table import Windows

LAST = "last.ckpt"
"""The checkpoint of a training or pre-training, whole or not there."""

FINITE_CHECK_STEPS = 25
"""On CUDA the loss is looked at every so many steps: each look waits for the device."""

SECONDS_BETWEEN_REPORTS = 1.0
"""A running loss is reported this often at most, for the same reason."""

MOST_VERSIONS = 64
"""Versions that are compiled of one function before PyTorch gives up: batch sizes times layers that unfreeze."""

Rows = Int[np.ndarray, " rows"]


Progress = Callable[[str, dict[str, float]], None]
"""Told how far training is: now and then and after each epoch "training" (epoch from 1, epochs, share of all steps
done, loss, windows_per_second, memory_bytes), and after each epoch "epoch" (memory_bytes, its line of the curves)."""


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
        notes: what a result must say of the training.
        features: of a frozen encoder: distinct `sequences`, those `computed` because they were not in the cache, and
            the `seconds` for computing and reading them, which are not in the report's own; None where it is trained.
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
    notes: tuple[str, ...]
    features: dict[str, float] | None

    @property
    def step_seconds(self) -> float:
        """Time spent in training steps: the epochs without their validation."""
        return self.train_rows * self.epochs_run / self.windows_per_second

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "curves"}


class Trainer:
    """One predictor (trained in place, on the labels' device), its data, its optimiser, and what has happened so far:
    `curves`, a line per epoch (see `FitReport`), and `best`, the trained parameters of the best one."""

    def __init__(
        self,
        predictor: Predictor,
        data: WindowData | FeatureData,
        labels: Float[Tensor, "n labels"],
        rows: Rows,
        config: TrainingConfig,
    ) -> None:
        self.device = labels.device
        self.predictor = predictor.to(self.device)
        self.data, self.labels, self.rows, self.config = data, labels, rows, config
        set_trained(predictor, config, None)
        self.trained = {name for name, p in predictor.named_parameters() if p.requires_grad}
        own = torch.from_numpy(rows).to(self.device)
        predictor.head.learn_scale(labels[own])
        self.weights = class_weights(predictor, labels, own) if config.balance == "classes" else None
        self.compiled: Callable[..., Tensor] | None = None
        if config.compile != "none":
            work: Callable[..., Any] = predictor.compare if data.encoded else predictor.forward
            mode = None if config.compile == "default" else config.compile
            # The last batch of an epoch may be smaller and gets a version of its own: code for any size is slower.
            self.compiled = torch.compile(work, dynamic=False, mode=mode)
        self.optimizer = torch.optim.AdamW(parameter_groups(predictor, config), lr=config.highest_rate, fused=True)
        self.rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.steps_an_epoch = math.ceil(math.ceil(len(rows) / config.batch_size) / config.accumulate)
        self.bfloat16 = precision_of(config.precision, self.device) == "bfloat16"
        self.curves: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}

    def predict(self, rows: Int[Tensor, " batch"], shift: Int[Tensor, " batch"] | None = None) -> Tensor:
        given: tuple[Tensor, ...] = self.data.pair(rows, shift)
        if shift is not None:
            given = (*given, shift)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            if self.compiled is not None and self.predictor.training:
                prediction: Tensor = self.compiled(*given)
            else:
                prediction = self.predictor.compare(*given) if self.data.encoded else self.predictor(*given)
        return prediction.float()

    def batch_loss(self, rows: Int[Tensor, " batch"], shifts: Int[Tensor, " n"] | None = None) -> Float[Tensor, ""]:
        weights = None if self.weights is None else self.weights[rows]
        labels, shift = self.labels[rows], None
        if shifts is not None:
            shift = shifts[rows]
            labels = self.predictor.head.moved(labels, shift)
        prediction = self.predict(rows, shift)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            return self.predictor.head.loss(prediction, labels, self.config, weights)

    def train_epoch(self, progress: Progress | None = None) -> tuple[float, float]:
        """One pass over the training rows: mean training loss, and variants trained on per second."""
        config, epoch, device = self.config, len(self.curves), self.device
        set_trained(self.predictor, config, epoch)
        self.predictor.train()
        # Order and dropout of an epoch depend on seed and epoch alone: a resumed run goes on as the unbroken one would.
        seed = epoch_seed(config.own_seed, epoch)
        torch.manual_seed(seed)
        shifts = draw_shifts(len(self.labels), config.window_shift, seed ^ 2, device) if config.window_shift else None
        parts = batches(self.rows, config.batch_size, device, seed ^ 1)
        total, steps, done = torch.zeros((), device=device), epoch * self.steps_an_epoch, 0
        started, reported = time.perf_counter(), 0.0
        self.set_rate(steps)
        for number, rows in enumerate(parts):
            loss = self.batch_loss(rows, shifts)
            # A step in pieces is that of their rows at once, also where an epoch's last pieces are smaller or fewer.
            piece = number % config.accumulate
            in_step = min(config.rows_a_step, len(self.rows) - (number - piece) * config.batch_size)
            (loss * (len(rows) / in_step)).backward()
            if piece + 1 == config.accumulate or number + 1 == len(parts):
                if config.gradient_clip:
                    nn.utils.clip_grad_norm_(self.predictor.parameters(), config.gradient_clip)
                self.optimizer.step()
                self.optimizer.zero_grad()
                steps += 1
                self.set_rate(steps)
            total += loss.detach() * len(rows)
            done += len(rows)
            if device.type == "cpu" or number % FINITE_CHECK_STEPS == 0:
                self._check_finite(loss.detach())
            now = time.perf_counter()
            if progress is not None and now - reported >= SECONDS_BETWEEN_REPORTS:
                reported, speed = now, done / (now - started)
                progress("training", self.so_far(epoch + 1, epoch + done / len(self.rows), float(loss.detach()), speed))
        self._check_finite(total)  # on CUDA this waits for the last step
        return float(total) / done, done / (time.perf_counter() - started)

    def set_rate(self, step: int) -> None:
        """The learning rate of a step (from 0)."""
        factor = share_of_rate(step, self.steps_an_epoch * self.config.epochs, self.config.warmup_fraction)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    def _check_finite(self, loss: Tensor) -> None:
        if not math.isfinite(float(loss)):
            raise RunError(
                f"the training loss became {float(loss)} in epoch {len(self.curves) + 1}; lower learning_rate "
                f"({self.config.highest_rate:g}) or clip the gradient (gradient_clip is {self.config.gradient_clip:g}, "
                "and 0 does not clip)"
            )

    @torch.inference_mode()
    def validate(self, rows: Rows) -> tuple[float, float]:
        """Loss over all validation rows, and Pearson's r of predictions and labels (NaN where it is not defined).

        One loss over all rows at once: the mean of batch means would depend on the batch size. Classes keep their
        natural weight, whatever the balance in training.
        """
        self.predictor.eval()
        at_once = validation_rows(self.config.batch_size, self.predictor.window)
        parts = batches(rows, at_once, self.device)
        predictions, labels = torch.cat([self.predict(part) for part in parts]), self.labels[torch.cat(parts)]
        loss = float(self.predictor.head.loss(predictions, labels, self.config))
        if not math.isfinite(loss):
            raise RunError(f"the validation loss became {loss} in epoch {len(self.curves) + 1}; lower learning_rate")
        pair = self.predictor.head.comparable(predictions, labels)
        return loss, math.nan if pair is None else pearson(*pair)

    def next_epoch(self, validation: Rows, progress: Progress | None) -> None:
        """Train and validate once; the line of the curves is added, and the parameters are kept if it is the best."""
        started = time.perf_counter()
        train_loss, speed = self.train_epoch(progress)
        val_loss, val_r = self.validate(validation)
        line = {
            "epoch": len(self.curves) + 1,
            "train_loss": train_loss,
            "val_loss": val_loss,
            "val_r": val_r,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "seconds": time.perf_counter() - started,
            "windows_per_second": speed,
        }
        if val_loss < min((earlier["val_loss"] for earlier in self.curves), default=math.inf):
            self.best = self.parameters()
        self.curves.append(line)

    def so_far(self, epoch: int, done: float, loss: float, speed: float) -> dict[str, float]:
        """How far training is, with so many epochs `done`."""
        epochs, memory = self.config.epochs, peak_memory(self.device)
        share = {"epoch": epoch, "epochs": epochs, "share": done / epochs, "loss": loss}
        return {**share, "windows_per_second": speed, "memory_bytes": memory}

    def finished(self) -> str:
        """Why training has ended, in words; empty while it goes on."""
        lowest, waited = math.inf, 0
        for line in self.curves:
            better = line["val_loss"] < lowest - self.config.min_improvement
            lowest, waited = (line["val_loss"], 0) if better else (lowest, waited + 1)
        if self.config.patience and waited >= self.config.patience:
            return f"validation loss no better for {self.config.patience} epochs"
        return f"all {self.config.epochs} epochs done" if len(self.curves) == self.config.epochs else ""

    def parameters(self) -> dict[str, Tensor]:
        """What training changes, copied to the CPU; frozen parameters and fixed tables are left out."""
        named = self.predictor.named_parameters()
        return {name: p.detach().cpu().clone().contiguous() for name, p in named if name in self.trained}

    def state(self) -> dict[str, Any]:
        """All that resuming needs."""
        optimizer = self.optimizer.state_dict()
        return {"curves": self.curves, "best": self.best, "model": self.parameters(), "optimizer": optimizer}

    def resume(self, state: dict[str, Any]) -> int:
        """Go on from what `state` gave: the number of epochs that are done."""
        self.curves, self.best = state["curves"], state["best"]
        self.predictor.load_state_dict(state["model"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        return len(self.curves)


class FitOptions(TypedDict, total=False):
    """Options of `fit` that do not affect the result.

    Attributes:
        resume: go on after the last whole epoch found in `directory`; without one, start from the beginning.
        progress: see `Progress`.
    """

    resume: bool
    progress: Progress


def fit(
    predictor: Predictor,
    windows: Windows,
    targets: Targets,
    train_idx: Rows,
    val_idx: Rows,
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
        directory: the checkpoint's folder (`last.ckpt`).

    Raises:
        InputError: an empty part, or one that shares rows with the other; a shift that the predictor cannot follow.
        RunError: the loss is no longer a number; out of memory; a checkpoint of another run; no CUDA device.
        KeyboardInterrupt: the user stopped it; the last whole epoch can be resumed.
    """
    place, last, progress = choose_device(device), Path(directory) / LAST, options.get("progress")
    train_rows, val_rows = np.asarray(train_idx, np.int64), np.asarray(val_idx, np.int64)
    _check(predictor, train_rows, val_rows, config, place)
    reset_peak(place)
    started = time.perf_counter()
    data = model_inputs(predictor, windows, place, write=True, margin=config.window_shift)
    features = None
    if isinstance(data, FeatureData) and not isinstance(data, TrunkData):  # which was computed with the base scores
        seconds = time.perf_counter() - started
        features = {"sequences": len(data.store), "computed": data.computed, "seconds": seconds}
    labels = torch.from_numpy(np.asarray(targets.values, np.float32)).to(place)
    content = hashlib.sha256(data.name.encode() if isinstance(data, FeatureData) else b"")
    for part in (windows.ref, windows.alt, targets.values, train_rows, val_rows):
        content.update(str(part.shape).encode() + np.ascontiguousarray(part).tobytes())
    about = {"predictor": type(predictor).__name__, "weights": predictor.weights, "data": content.hexdigest()}
    identity = {**predictor.config, **config.model_dump(), **about}
    with (
        _out_of_memory_explained(place, config, predictor.window),
        torch.random.fork_rng(devices=[place] if place.type == "cuda" else []),
        _compiling(config.compile),
        torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False),
    ):
        trainer = Trainer(predictor, data, labels, train_rows, config)
        stored = read_checkpoint(last, identity) if options.get("resume") else None
        resumed_from = None if stored is None else trainer.resume(stored)
        while not trainer.finished():
            trainer.next_epoch(val_rows, progress)
            write_checkpoint(last, identity, trainer.state())
            if progress is not None:
                line, epoch = trainer.curves[-1], len(trainer.curves)
                state = trainer.so_far(epoch, epoch, line["train_loss"], line["windows_per_second"])
                progress("training", state)
                progress("epoch", {"memory_bytes": state["memory_bytes"], **line})
    set_trained(predictor, config, None)
    predictor.load_state_dict(trainer.best, strict=False)
    predictor.eval()
    return _report(trainer, len(val_rows), resumed_from, features)


def _check(predictor: Predictor, train: Rows, validation: Rows, config: TrainingConfig, device: torch.device) -> None:
    for name, rows in (("training", train), ("validation", validation)):
        if not len(rows):
            raise InputError(f"the {name} part is empty; choose a split with rows in it")
    if len(shared := np.intersect1d(train, validation)):
        raise InputError(f"row {shared[0]} stands in the training and in the validation part ({len(shared)} shared)")
    most = 0 if predictor.encoder_frozen else predictor.positions // 2
    if config.window_shift > most:
        raise InputError(
            f"window_shift = {config.window_shift} is more than this predictor can follow ({most}): it reads "
            f"{predictor.positions} positions, and a frozen encoder's features stay where they are"
        )
    if config.compile != "none":
        on_cuda = device.type == "cuda"
        compilers = map(shutil.which, (os.environ.get("CXX", ""), "g++", "clang++"))
        if not (importlib.util.find_spec("triton") if on_cuda else any(compilers)):
            what = "the package triton" if on_cuda else "a C++ compiler (g++, clang++ or the variable CXX)"
            raise RunError(f"training.compile = {config.compile} needs {what}; install it or set compile to none")


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


def _report(trainer: Trainer, val_rows: int, resumed_from: int | None, features: dict[str, float] | None) -> FitReport:
    config, rows, head = trainer.config, len(trainer.rows), trainer.predictor.head
    curves = pd.DataFrame(trainer.curves)
    curves["epoch"] = curves["epoch"].astype("int64")
    known, classes = head.classes(trainer.labels[torch.from_numpy(trainer.rows)].cpu()), {}
    notes = []
    if known is not None:
        counts = torch.bincount(known[known >= 0], minlength=len(head.class_names)).tolist()
        classes = dict(zip(head.class_names, counts, strict=True))
        listed = ", ".join(f"{count:,} {name}" for name, count in classes.items())
        what = {"none": "row", "classes": "class"}[config.balance]
        notes.append(f"trained on {listed}; each {what} weighs the same in the loss")
    if config.learning_rate_for_batch is not None:
        notes.append(
            f"learning rate {config.highest_rate:.3g}: {config.learning_rate:g}, meant for "
            f"{config.learning_rate_for_batch} variants a step, scaled to {config.rows_a_step} ({config.rate_rule})"
        )
    return FitReport(
        curves=curves,
        best_epoch=int(curves["epoch"][curves["val_loss"].idxmin()]),
        epochs_run=len(curves),
        seconds=float(curves["seconds"].sum()),
        windows_per_second=float(len(curves) / (1 / curves["windows_per_second"]).sum()),
        peak_memory_bytes=peak_memory(trainer.device),
        resumed_from=resumed_from,
        stopped_because=trainer.finished(),
        train_rows=rows,
        val_rows=val_rows,
        device=str(trainer.device),
        precision=precision_of(config.precision, trainer.device),
        classes=classes,
        notes=tuple(notes),
        features=features,
    )


def write_checkpoint(path: Path, identity: dict[str, Any], state: dict[str, Any]) -> None:
    """Keep the state of a training; `identity` (plain values) is what must be equal to go on from it."""
    with atomic_write(path, "wb") as handle:
        torch.save({"identity": identity, **state}, handle)


def read_checkpoint(path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The state that was kept, None if there is none; RunError if it is of another training, IntegrityError if it is
    damaged."""
    if not path.exists():
        return None
    state = read_torch(path, "checkpoint", "delete it to start over")
    before = state.pop("identity", None)
    if before == identity:
        return state
    before = before if isinstance(before, dict) else {}
    different = [key for key in sorted({*before, *identity}) if before.get(key) != identity.get(key)]
    words = "; ".join(f"{key} was {before.get(key)!r}, is {identity.get(key)!r}" for key in different)
    raise RunError(f"checkpoint {path} is of another run ({words}); start over in an empty folder")


class OutOfMemory(RunError):
    """Training needs more memory than the device has."""


@contextmanager
def _out_of_memory_explained(device: torch.device, config: TrainingConfig, window: int) -> Iterator[None]:
    """Out-of-memory as an error that says where and what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"out of memory at batch {config.batch_size} on {device} with windows of {window}; try "
            f"batch_size {max(1, config.batch_size // 2)} with accumulate {config.accumulate * 2} (the same step)"
        ) from error


def try_step(
    predictor: Predictor, windows: Windows, targets: Targets, train_idx: Rows, config: TrainingConfig, device: str
) -> None:
    """One training step, forward, backward and optimiser, to see whether it fits (OutOfMemory where it does not); it
    spoils the predictor. The arguments are those of `fit`."""
    place = choose_device(device)
    plain = config.model_copy(update={"compile": "none"})
    with _out_of_memory_explained(place, plain, predictor.window):
        data = model_inputs(predictor, windows, place, write=False, margin=config.window_shift)
        labels = torch.from_numpy(np.asarray(targets.values, np.float32)).to(place)
        Trainer(predictor, data, labels, np.asarray(train_idx[: config.batch_size], np.int64), plain).train_epoch()


def with_what_fits(
    predictor: Predictor, windows: Windows, targets: Targets, train_idx: Rows, config: TrainingConfig, device: str
) -> OutOfMemory:
    """The error of a training that ran out of memory, with the largest half of half … of its batch that fits. The
    arguments are those of `fit`; the predictor is spoiled."""
    batch = config.batch_size // 2
    while batch:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            smaller = config.model_copy(update={"batch_size": batch})
            try_step(predictor, windows, targets, train_idx, smaller, device)
            break
        except OutOfMemory:
            batch //= 2
    words = f"out of memory at batch {config.batch_size}"
    if not batch:
        return OutOfMemory(
            f"{words}, and at 1 too, on {device} with windows of {predictor.window}; use a larger device"
        )
    return OutOfMemory(
        f"{words}; fits at {batch} (the same step in smaller pieces: --set training.batch_size={batch} "
        f"--set training.accumulate={config.accumulate * config.batch_size // batch})"
    )


def share_of_rate(step: int, steps: int, warmup_fraction: float) -> float:
    """Share of the highest learning rate in a step (from 0): it climbs in proportion, then falls as a cosine."""
    warmup = max(1, round(warmup_fraction * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed for one epoch (from 0), unrelated to those of other epochs and seeds."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}".encode()).digest()[:7], "little")


def _layers_to_train(predictor: Predictor, config: TrainingConfig) -> list[list[nn.Parameter]]:
    layers = predictor.encoder_layers()
    if layers and predictor.encoder_frozen:
        if config.unfreeze_layers:
            raise InputError(f"unfreeze_layers = {config.unfreeze_layers}, but the encoder is frozen (freeze_encoder)")
        return []
    return layers if config.unfreeze_layers is None else layers[: config.unfreeze_layers]


def set_trained(predictor: Predictor, config: TrainingConfig, epoch: int | None) -> None:
    """Let the parameters of this epoch (from 0) take gradients, and no others; None: all that are trained ever.
    InputError where layers are to be unfrozen in an encoder that is kept frozen."""
    open_layers = len(_layers_to_train(predictor, config))
    if epoch is not None and config.unfreeze_every:
        open_layers = min(open_layers, 1 + epoch // config.unfreeze_every)
    for depth, layer in enumerate(predictor.encoder_layers()):
        for parameter in layer:
            parameter.requires_grad_(depth < open_layers)


def parameter_groups(predictor: Predictor, config: TrainingConfig) -> list[dict[str, Any]]:
    """Groups for the optimiser: matrices with weight decay, vectors without, each encoder layer at its own rate."""
    inside = {id(parameter) for layer in predictor.encoder_layers() for parameter in layer}
    rest = [p for p in predictor.parameters() if id(p) not in inside and p.requires_grad]
    parts = [(rest, config.highest_rate)]
    for depth, layer in enumerate(_layers_to_train(predictor, config)):
        parts.append((layer, config.highest_rate * config.encoder_rate * config.layer_decay**depth))
    groups = []
    for parameters, rate in parts:
        matrices = [p for p in parameters if p.ndim >= 2]
        vectors = [p for p in parameters if p.ndim < 2]
        for chosen, decay in ((matrices, config.weight_decay), (vectors, 0.0)):
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
    return groups


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


def pearson(predictions: Float[Tensor, "*shape"], labels: Float[Tensor, "*shape"]) -> float:
    """Pearson's r over all numbers; NaN if there are fewer than two or either side is constant."""
    a, b = predictions.double().flatten(), labels.double().flatten()
    a, b = a - a.mean(), b - b.mean()
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale > 0 else math.nan


def precision_of(asked: TrainingPrecision, device: torch.device) -> Literal["bfloat16", "float32"]:
    """What training multiplies in on a device."""
    half = asked == "bfloat16" or (asked == "auto" and device.type == "cuda")
    return "bfloat16" if half else "float32"
