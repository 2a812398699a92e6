"""The training loop of a predictor: which parameters are trained in which epoch, their learning rates, and resuming."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.splice_engine.base_layer.families import read_torch
from meta_spliceai.splice_engine.meta_layer.features import (
    FeatureData,
    IndexBatches,
    WindowData,
    draw_shifts,
    peak_memory,
)
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig, TrainingPrecision

LAST, BEST = "last.ckpt", "best.safetensors"
"""Checkpoints of a training run: one file of the last whole epoch, one of the best weights; each whole or not there."""

FINITE_CHECK_STEPS = 25
"""On CUDA the loss is looked at every so many steps: each look waits for the device."""

SECONDS_BETWEEN_REPORTS = 1.0
"""A running loss is reported this often at most, for the same reason."""


@dataclass(frozen=True)
class TrainingState:
    """How far training is.

    Attributes:
        epoch: the epoch that is running or has just ended, from 1.
        share: share of all steps of all epochs that is done, 0 to 1.
        ended: for an epoch that has ended, its line of the curves (train_loss, val_loss, val_r, learning_rate, …).
    """

    epoch: int
    epochs: int
    share: float
    loss: float
    windows_per_second: float
    memory_bytes: int
    ended: Mapping[str, float] | None = None


Callback = Callable[[TrainingState], None]
TrainRows = Int[np.ndarray, " t"]


@dataclass
class _History:
    """What has happened so far; with weights and optimiser, all that resuming needs.

    Attributes:
        curves: a line per epoch, see `FitReport`.
        best_to_stop: the one that patience counts from, which only a fall of more than `min_improvement` replaces.
        finished: why training ended, in words; empty while it goes on.
    """

    curves: list[dict[str, float]] = field(default_factory=list)
    best: float = math.inf
    best_to_stop: float = math.inf
    waited: int = 0
    finished: str = ""

    def add(self, line: dict[str, float], config: TrainingConfig) -> bool:
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
        self.bfloat16 = precision_of(config.precision, self.device) == "bfloat16"

    @property
    def epoch(self) -> int:
        return len(self.history.curves)

    def set_rate(self) -> None:
        """The learning rate of the next step."""
        factor = share_of_rate(self.steps_done, self.steps, self.config.warmup_fraction)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    def predict(self, rows: Int[Tensor, " batch"], shift: Int[Tensor, " batch"] | None = None) -> Tensor:
        inputs = self.data.pair(rows) if isinstance(self.data, FeatureData) else self.data.pair(rows, shift)
        given: tuple[Tensor, ...] = inputs if shift is None else (*inputs, shift)
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
                callback(self._now(self.epoch + 1, self.epoch + done, float(loss.detach()), speed))
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.check_finite(total)
        return float(total) / windows, windows / (time.perf_counter() - started)

    def step(self) -> None:
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
        loss = float(self.predictor.head.loss(predictions, labels, self.config))
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
                callback(self._now(self.epoch, self.epoch, train_loss, speed, line))

    def _now(
        self, epoch: int, done: float, loss: float, speed: float, ended: dict[str, float] | None = None
    ) -> TrainingState:
        epochs = self.config.epochs
        return TrainingState(epoch, epochs, done / epochs, loss, speed, peak_memory(self.device), ended)

    def state(self) -> dict[str, Any]:
        model, optimizer = trained_state(self.predictor, self.trained), self.optimizer.state_dict()
        return {"history": vars(self.history), "steps_done": self.steps_done, "model": model, "optimizer": optimizer}

    def resume(self, path: Path, identity: str) -> int | None:
        """Resume from the checkpoint of the last complete epoch: its number, None if there is none; RunError if it is
        of another run, IntegrityError if it is damaged."""
        if not path.exists():
            return None
        state = read_torch(path, "checkpoint", "delete it to start over")
        _refuse_other_run(str(state.get("identity")), identity, path)
        self.history = _History(**state["history"])
        self.steps_done = state["steps_done"]
        self.predictor.load_state_dict(state["model"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        return self.epoch


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
    trained = _layers_to_train(predictor, config)
    open_layers = len(trained)
    if epoch is not None and config.unfreeze_every:
        open_layers = min(len(trained), 1 + epoch // config.unfreeze_every)
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


def trained_state(model: nn.Module, names: set[str]) -> dict[str, Tensor]:
    """The named parameters, on the CPU: what training changes; frozen parameters and fixed tables are left out."""
    return {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if name in names}


def precision_of(asked: TrainingPrecision, device: torch.device) -> Literal["bfloat16", "float32"]:
    """What training multiplies in on a device."""
    half = asked == "bfloat16" or (asked == "auto" and device.type == "cuda")
    return "bfloat16" if half else "float32"
