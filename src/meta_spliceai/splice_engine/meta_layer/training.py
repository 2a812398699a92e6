"""Training of a predictor, with Lightning: early stopping, a checkpoint an epoch, resume, and a report of it all."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32, Int
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.files import cache_dir
from meta_spliceai.splice_engine.meta_layer.checkpoints import (
    LAST,
    WholeFileIO,
    load_best,
    read_checkpoint,
    write_best,
)
from meta_spliceai.splice_engine.meta_layer.compilation import check_compiler, compiled, compiling
from meta_spliceai.splice_engine.meta_layer.embedding_cache import FeatureData, frozen_features
from meta_spliceai.splice_engine.meta_layer.fine_tuning import parameter_groups, set_trained
from meta_spliceai.splice_engine.meta_layer.models.encoders.base_trunk import BaseTrunk
from meta_spliceai.splice_engine.meta_layer.models.ensembles import WeightedEnsemble
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.out_of_memory import OutOfMemory
from meta_spliceai.splice_engine.meta_layer.peak_memory import is_out_of_memory, peak_memory, reset_peak
from meta_spliceai.splice_engine.meta_layer.targets import Targets
from meta_spliceai.splice_engine.meta_layer.training_config import TrainingConfig
from meta_spliceai.splice_engine.meta_layer.training_progress import (
    TrainingBar,
    TrainingReporter,
    TrainingState,
    counting_bar,
)
from meta_spliceai.splice_engine.meta_layer.trunk_features import TrunkData, given_features
from meta_spliceai.splice_engine.meta_layer.window_data import (
    ANSWERED_AT_ONCE,
    IndexBatches,
    WindowData,
    WindowPair,
    check_shift,
    choose_device,
    draw_shifts,
    rows_at_a_time,
    validation_rows,
)

EMBEDDINGS = "embeddings"
"""Folder in the cache for the features of frozen encoders."""

FINITE_CHECK_STEPS = 25
"""On CUDA the loss is looked at every so many steps: each look waits for the device."""


@dataclass(frozen=True)
class FeatureWork:
    """What it took to have a frozen encoder's features.

    Attributes:
        sequences: distinct ones.
        computed: those that were not in the cache.
        seconds: for computing, reading and checking them, and for waiting where another process computes them.
    """

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
        curves: one row an epoch: epoch (from 1), train_loss, val_loss, val_r (Pearson r of answers and labels over all
            outputs; NaN where it is not defined), learning_rate, seconds, windows_per_second.
        best_epoch: the epoch (from 1) with the lowest validation loss; the predictor holds its weights.
        epochs_run: epochs in `curves`, those before an interruption included.
        seconds: time spent in the epochs of `curves`.
        windows_per_second: variants (pairs of windows) trained on per second, forward and backward, without validation.
        peak_memory_bytes: most memory held in this process's part of the run (see `peak_memory`).
        resumed_from: the epoch after which this process went on; None if it started from the beginning.
        stopped_because: why training ended, in words.
        train_rows, val_rows: variants trained and validated on.
        classes: training rows of each of the task's classes, by name; empty for a task without classes.
        balance: how an imbalance of these classes was met (see `TrainingConfig.balance`).
        rate: in words, the learning rate where it was scaled to the batch; "" where it was not.
        device, precision: what it ran on.
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
        """Sentences about training that belong on a result."""
        return tuple(words for words in (self.imbalance(), self.rate) if words)

    def imbalance(self) -> str:
        """The classes and what was done about their imbalance, as a sentence for a result; "" without classes."""
        if not self.classes:
            return ""
        counts = ", ".join(f"{count:,} {name}" for name, count in self.classes.items())
        how = {"none": "each row weighs the same in the loss", "classes": "each class weighs the same in the loss"}
        return f"trained on {counts}; {how[self.balance]}"

    def to_json(self) -> dict[str, Any]:
        """The report without the curves, as plain values."""
        plain = {name: value for name, value in vars(self).items() if name != "curves"}
        return {**plain, "features": None if self.features is None else asdict(self.features)}


class _Training(pl.LightningModule):
    """One predictor, its data on the device, and the optimiser."""

    def __init__(
        self,
        predictor: Predictor,
        data: WindowData | FeatureData,
        labels: Tensor,
        train_rows: Int[np.ndarray, " t"],
        config: TrainingConfig,
        steps: int,
    ) -> None:
        super().__init__()
        # Frozen parameters and fixed tables are not in the checkpoints; the predictor has them already.
        self.strict_loading = False
        set_trained(predictor, config, None)
        self.trained = {name for name, p in predictor.named_parameters() if p.requires_grad}
        self.predictor = predictor
        self.data = data
        self.labels = labels
        self.settings = config
        self.steps = steps
        self.train_rows = len(train_rows)
        self.curves: list[dict[str, float]] = []
        rows = torch.from_numpy(train_rows).to(labels.device)
        predictor.head.to(labels.device).learn_scale(labels[rows])
        self.shifts: Tensor | None = None
        self.compiled = None if config.compile == "none" else compiled(predictor, data.encoded, config.compile)
        self.weights = class_weights(predictor, labels, rows) if config.balance == "classes" else None
        self._answers: list[Tensor] = []
        self._rows: list[Tensor] = []

    def configure_optimizers(self) -> Any:
        groups = parameter_groups(self.predictor, self.settings)
        optimizer = torch.optim.AdamW(groups, lr=self.settings.highest_rate, fused=True)
        warmup = max(1, round(self.settings.warmup_fraction * self.steps))

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, self.steps - warmup)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Clip here: Lightning refuses to under mixed precision with a fused optimiser, because a loss scaler might
        still have to unscale the gradients. bfloat16 needs no scaler."""
        if self.settings.gradient_clip:
            torch.nn.utils.clip_grad_norm_(self.predictor.parameters(), self.settings.gradient_clip)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        own = {f"predictor.{name}" for name in self.trained}
        checkpoint["state_dict"] = {name: t for name, t in checkpoint["state_dict"].items() if name in own}

    def answer(self, rows: Int[Tensor, " batch"], shift: Int[Tensor, " batch"] | None = None) -> Tensor:
        """The predictor's answer for some rows, their windows moved by `shift`."""
        if isinstance(self.data, FeatureData):
            inputs: tuple[Tensor, ...] = self.data.pair(rows)
        else:
            inputs = self.data.pair(rows, shift)
        if shift is not None:
            inputs = (*inputs, shift)
        answer: Tensor
        if self.compiled is not None and self.training:
            answer = self.compiled(*inputs)
        else:
            answer = self.predictor.compare(*inputs) if self.data.encoded else self.predictor(*inputs)
        return answer.float()

    def on_train_epoch_start(self) -> None:
        set_trained(self.predictor, self.settings, self.current_epoch)
        # Dropout of an epoch depends on the seed and the epoch alone: a resumed run goes on as the unbroken one would.
        seed = epoch_seed(self.settings.own_seed, self.current_epoch)
        torch.manual_seed(seed)
        if self.settings.window_shift:
            self.shifts = draw_shifts(len(self.labels), self.settings.window_shift, seed ^ 2, self.device)
        self._loss_sum = torch.zeros((), device=self.device)
        self._windows = 0
        self._started = time.perf_counter()

    def windows_per_second(self) -> float:
        """Variants trained on per second in this epoch so far."""
        return self._windows / max(time.perf_counter() - self._started, 1e-9)

    def training_step(self, rows: Int[Tensor, " batch"], batch_idx: int) -> dict[str, Tensor]:
        weights = None if self.weights is None else self.weights[rows]
        labels, shift = self.labels[rows], None
        if self.shifts is not None:
            shift = self.shifts[rows]
            labels = self.predictor.head.moved(labels, shift)
        loss = self.predictor.loss(self.answer(rows, shift), labels, self.settings, weights)
        self._loss_sum += loss.detach() * len(rows)
        self._windows += len(rows)
        if self.device.type == "cpu" or batch_idx % FINITE_CHECK_STEPS == 0:
            self._check_finite(loss.detach())
        return {"loss": loss * self._share_of_step(len(rows), batch_idx)}

    def _share_of_step(self, rows: int, batch_idx: int) -> float:
        """What Lightning, which divides each loss by `accumulate`, has to be given so that a step in pieces is that of
        their rows at once, also where the last pieces of an epoch are smaller or fewer."""
        pieces = self.settings.accumulate
        before = batch_idx // pieces * self.settings.rows_a_step
        return rows * pieces / min(self.settings.rows_a_step, self.train_rows - before)

    def _check_finite(self, loss: Tensor) -> None:
        if not math.isfinite(float(loss)):
            clip = self.settings.gradient_clip
            raise RunError(
                f"the training loss became {float(loss)} in epoch {self.current_epoch + 1}; lower learning_rate "
                f"({self.settings.highest_rate:g}) or "
                + (f"gradient_clip ({clip:g})" if clip else "clip the gradient (gradient_clip=1; it is 0, not clipped)")
            )

    def on_validation_epoch_start(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._training_seconds = time.perf_counter() - self._started
        self._answers.clear()
        self._rows.clear()

    def validation_step(self, rows: Int[Tensor, " batch"], batch_idx: int) -> None:
        self._answers.append(self.answer(rows))
        self._rows.append(rows)

    def on_validation_epoch_end(self) -> None:
        answers, labels = torch.cat(self._answers), self.labels[torch.cat(self._rows)]
        # One loss over all validation rows at once: the mean of batch means would depend on the batch size.
        # Classes keep their natural weight here, whatever the balance in training.
        loss = float(self.predictor.loss(answers, labels, self.settings))
        pair = self.predictor.head.comparable(answers, labels)
        train_loss = float(self._loss_sum) / self._windows
        self._check_finite(self._loss_sum)
        if not math.isfinite(loss):
            raise RunError(f"the validation loss became {loss} in epoch {self.current_epoch + 1}; lower learning_rate")
        self.log("val_loss", loss, batch_size=len(answers))
        self.curves.append(
            {
                "epoch": self.current_epoch + 1,
                "train_loss": train_loss,
                "val_loss": loss,
                "val_r": math.nan if pair is None else pearson(*pair),
                "learning_rate": self.trainer.optimizers[0].param_groups[0]["lr"],
                "seconds": time.perf_counter() - self._started,
                "windows_per_second": self._windows / self._training_seconds,
            }
        )


class _EpochCheckpoint(pl.Callback):
    """After each epoch: the best weights so far, then everything that resuming needs. Written in this order, so that
    a process killed between the two repeats an epoch and writes the same best weights again."""

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder = folder
        self.identity = identity
        self.best = math.inf
        self.finished = ""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module: Any = pl_module
        if module.curves[-1]["val_loss"] < self.best:
            self.best = module.curves[-1]["val_loss"]
            write_best(module.predictor, module.trained, self.folder)
        if trainer.should_stop:
            self.finished = f"validation loss no better for {module.settings.patience} epochs"
        elif trainer.current_epoch + 1 == trainer.max_epochs:
            self.finished = f"all {trainer.max_epochs} epochs done"
        self.curves = module.curves
        trainer.save_checkpoint(self.folder / LAST)

    def state_dict(self) -> dict[str, Any]:
        return {"identity": self.identity, "best": self.best, "finished": self.finished, "curves": self.curves}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.finished, self.curves = state_dict["best"], state_dict["finished"], state_dict["curves"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module: Any = pl_module
        module.curves = list(getattr(self, "curves", []))

    @classmethod
    def state_in(cls, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """This callback's part of a checkpoint."""
        state: dict[str, Any] = checkpoint["callbacks"][cls.__qualname__]
        return state


def class_weights(
    predictor: Predictor, labels: Float[Tensor, "n labels"], rows: Int[Tensor, " t"]
) -> Float[Tensor, " n"] | None:
    """A weight for each row, so that every class has the same share of the training loss and the mean weight is 1.
    A row whose class is not known weighs 1."""
    classes = predictor.head.classes(labels)
    if classes is None:
        return None
    seen = classes[rows]
    counts = torch.bincount(seen[seen >= 0], minlength=max(1, int(classes.max()) + 1)).float()
    present = (counts > 0).sum()
    shares = torch.where(counts > 0, counts.sum() / (present * counts.clamp_min(1)), counts)
    return torch.where(classes >= 0, shares[classes.clamp_min(0)], torch.ones_like(shares[:1]))


def count_classes(predictor: Predictor, targets: Targets, rows: Int[np.ndarray, " t"]) -> dict[str, int]:
    """Training rows of each of the task's classes, by name; empty for a task without classes."""
    classes = predictor.head.classes(torch.from_numpy(np.asarray(targets.values[rows], np.float32)))
    if classes is None:
        return {}
    names = predictor.head.class_names
    counts = torch.bincount(classes[classes >= 0], minlength=len(names)).tolist()
    return dict(zip(names, counts, strict=True))


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed for one epoch (from 0), unrelated to those of other epochs and seeds."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}".encode()).digest()[:7], "little")


def pearson(answers: Float[Tensor, "*shape"], labels: Float[Tensor, "*shape"]) -> float:
    """Pearson's r over all numbers; NaN if there are fewer than two or either side is constant."""
    if answers.numel() < 2:
        return math.nan
    a, b = answers.double().flatten(), labels.double().flatten()
    a, b = a - a.mean(), b - b.mean()
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale > 0 else math.nan


def _checked_rows(
    targets: Targets, train_idx: Int[np.ndarray, " t"], val_idx: Int[np.ndarray, " v"], n: int
) -> tuple[Int[np.ndarray, " t"], Int[np.ndarray, " v"]]:
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
    before, now = json.loads(found), json.loads(expected)
    different = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    words = "; ".join(f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in different)
    raise RunError(f"checkpoint {path} is of another run ({words}); start over in an empty folder")


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Lightning says nothing of its own: what a user needs to know stands in our report and errors."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", message=r".*(dataloader|batch_size|_pytree|LeafSpec).*")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def _explained_failures(device: torch.device, config: TrainingConfig, window: int) -> Iterator[None]:
    """Out-of-memory as an error that says where and what to do; Ctrl-C as KeyboardInterrupt."""
    on_sigint = signal.getsignal(signal.SIGINT)
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise _out_of_memory(device, config, window) from error
    except SystemExit as ended:
        # Lightning turns Ctrl-C into an exit and stops listening to further ones; callers get the interrupt back.
        if isinstance(ended.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, on_sigint)
            raise KeyboardInterrupt(*ended.__context__.args) from ended
        raise


def _out_of_memory(device: torch.device, config: TrainingConfig, window: int) -> OutOfMemory:
    return OutOfMemory(str(device), config.batch_size, config.accumulate, window)


def try_step(
    predictor: Predictor,
    windows: WindowPair,
    targets: Targets,
    train_idx: Int[np.ndarray, " t"],
    config: TrainingConfig,
    device: str,
    batch_size: int,
    cache: Path | None = None,
) -> None:
    """One training step, forward, backward and optimiser, to see whether it fits; it spoils the predictor.

    Args:
        predictor, windows, targets, train_idx, config, device, cache: as for `fit`.
        batch_size: rows of the step.

    Raises:
        OutOfMemory: it does not fit.
    """
    target_device = choose_device(device)
    plain = config.model_copy(update={"compile": "none", "batch_size": batch_size})
    with _explained_failures(target_device, plain, predictor.window):
        data = _data(
            predictor,
            windows,
            target_device,
            cache or cache_dir() / EMBEDDINGS,
            write=False,
            progress=False,
            margin=config.window_shift,
        )
        labels = torch.from_numpy(np.asarray(targets.values, np.float32)).to(target_device)
        module = _Training(predictor, data, labels, np.asarray(train_idx, np.int64), plain, steps=1)
        module.to(target_device).train()
        optimizer = module.configure_optimizers()["optimizer"]
        module.on_train_epoch_start()
        rows = torch.from_numpy(np.asarray(train_idx[:batch_size], np.int64)).to(target_device)
        with torch.autocast(target_device.type, torch.bfloat16, enabled=_in_bfloat16(config, target_device)):
            loss = module.training_step(rows, 0)["loss"]
        loss.backward()
        optimizer.step()


def _in_bfloat16(config: TrainingConfig, device: torch.device) -> bool:
    return precision_of(config, device) == "bfloat16"


def precision_of(config: TrainingConfig, device: torch.device) -> Literal["bfloat16", "float32"]:
    """What training multiplies in on a device."""
    half = config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")
    return "bfloat16" if half else "float32"


def fit(
    predictor: Predictor,
    windows: WindowPair,
    targets: Targets,
    train_idx: Int[np.ndarray, " t"],
    val_idx: Int[np.ndarray, " v"],
    config: TrainingConfig,
    directory: Path | str,
    device: str = "auto",
    resume: bool = False,
    progress: bool | Callable[[TrainingState], None] = True,
    cache: Path | None = None,
) -> FitReport:
    """Train the predictor; it ends with the weights of its best epoch by validation loss.

    The same predictor, data, config and device give the same result, in one go or interrupted and resumed.

    Args:
        predictor: trained in place.
        windows: codes of both alleles, transcript orientation, n rows of the predictor's window length; with
            `config.window_shift` so many bases more on either side.
        targets: labels of the same n rows.
        train_idx: rows to train on; each must have a label.
        val_idx: rows that decide on early stopping and the best epoch. Groups shared with the training rows would
            make the stop too late, so the caller's split keeps them apart.
        config: settings.
        directory: the checkpoints' folder (`last.ckpt`, `best.safetensors`).
        device: "auto", "cpu" or "cuda".
        resume: go on after the last whole epoch found in `directory`; without one, start from the beginning.
        progress: draw a bar if standard output is a terminal; or a function that is told how far training is.
        cache: folder for the features of a frozen encoder, which are computed once (default: in the user's cache).

    Raises:
        InputError: rows that do not fit (see the message).
        RunError: the loss is no longer a number; out of memory; a checkpoint of another run; no CUDA device.
        IntegrityError: a damaged checkpoint.
        KeyboardInterrupt: the user stopped it; the last whole epoch can be resumed.
    """
    target_device = choose_device(device)
    check_compiler(config.compile, target_device)
    train_rows, val_rows = _checked_rows(targets, train_idx, val_idx, len(windows.ref))
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    reset_peak(target_device)
    check_shift(predictor, windows, config)
    started = time.perf_counter()
    data = _data(
        predictor,
        windows,
        target_device,
        cache or cache_dir() / EMBEDDINGS,
        write=True,
        progress=progress is True,
        margin=config.window_shift,
    )
    features = None
    if isinstance(data, FeatureData) and not isinstance(data, TrunkData):  # which was computed with the base scores
        features = FeatureWork(len(data.store), data.computed, time.perf_counter() - started)
    labels = torch.from_numpy(np.asarray(targets.values, np.float32)).to(target_device)
    identity = _identity(predictor, data, targets, [train_rows, val_rows], config)
    classes = count_classes(predictor, targets, train_rows)

    def report(state: dict[str, Any], resumed_from: int | None) -> FitReport:
        set_trained(predictor, config, None)
        rows = len(train_rows), len(val_rows)
        return _report(predictor, folder, state, resumed_from, config, target_device, rows, classes, features)

    resumed_from: int | None = None
    last = folder / LAST
    if resume and last.exists():
        state = _EpochCheckpoint.state_in(read_checkpoint(last))
        _refuse_other_run(state["identity"], identity, last)
        resumed_from = len(state["curves"])
        if state["finished"]:
            predictor.to(target_device)
            return report(state, resumed_from)

    bfloat16 = _in_bfloat16(config, target_device)
    batches = IndexBatches(
        train_rows, config.batch_size, target_device, lambda: epoch_seed(config.own_seed, trainer.current_epoch) ^ 1
    )
    steps = -(-len(batches) // config.accumulate) * config.epochs
    module = _Training(predictor, data, labels, train_rows, config, steps)
    # Lightning keeps the mode it finds, and whoever computed features or loaded the predictor left it in evaluation.
    module.train()
    checkpoint = _EpochCheckpoint(folder, identity)
    callbacks: list[pl.Callback] = [checkpoint]
    if config.patience:
        stopper = EarlyStopping(
            "val_loss", patience=config.patience, min_delta=config.min_improvement, check_on_train_epoch_end=False
        )
        callbacks.insert(0, stopper)
    if callable(progress):
        callbacks.append(TrainingReporter(progress))
    elif progress:
        callbacks.append(TrainingBar(type(predictor).__name__))

    cuda = [target_device] if target_device.type == "cuda" else []
    with (
        _quiet_lightning(),
        _explained_failures(target_device, config, predictor.window),
        torch.random.fork_rng(devices=cuda),
        compiling(config.compile),
        torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False),
    ):
        trainer = pl.Trainer(
            accelerator="gpu" if cuda else "cpu",
            devices=[target_device.index or 0] if cuda else 1,
            max_epochs=config.epochs,
            precision="bf16-mixed" if bfloat16 else "32-true",
            accumulate_grad_batches=config.accumulate,
            callbacks=callbacks,
            plugins=[WholeFileIO()],
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(
            module,
            train_dataloaders=batches,
            val_dataloaders=IndexBatches(val_rows, validation_rows(config.batch_size, predictor.window), target_device),
            ckpt_path=last if resumed_from is not None else None,
        )
    return report(checkpoint.state_dict(), resumed_from)


def _report(
    predictor: Predictor,
    folder: Path,
    state: dict[str, Any],
    resumed_from: int | None,
    config: TrainingConfig,
    device: torch.device,
    rows: tuple[int, int],
    classes: dict[str, int],
    features: FeatureWork | None,
) -> FitReport:
    train_rows, val_rows = rows
    load_best(predictor, {name for name, p in predictor.named_parameters() if p.requires_grad}, folder)
    predictor.eval()
    curves = pd.DataFrame(state["curves"])
    curves["epoch"] = curves["epoch"].astype("int64")
    trained = (train_rows / curves["windows_per_second"]).sum()
    return FitReport(
        curves=curves,
        best_epoch=int(curves["epoch"][curves["val_loss"].idxmin()]),
        epochs_run=len(curves),
        seconds=float(curves["seconds"].sum()),
        windows_per_second=float(train_rows * len(curves) / trained),
        peak_memory_bytes=peak_memory(device),
        resumed_from=resumed_from,
        stopped_because=state["finished"],
        train_rows=train_rows,
        val_rows=val_rows,
        device=str(device),
        precision=precision_of(config, device),
        classes=classes,
        balance=config.balance,
        rate=_scaled_rate(config),
        features=features,
    )


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


def _data(
    predictor: Predictor | WeightedEnsemble,
    windows: WindowPair,
    device: torch.device,
    cache: Path,
    write: bool,
    progress: bool,
    margin: int = 0,
) -> WindowData | FeatureData:
    """The windows on the device, or a frozen encoder's features of them."""
    encoder = getattr(predictor, "encoder", None)  # an ensemble's members have one each
    if isinstance(encoder, BaseTrunk):
        return given_features(encoder, windows, device)
    data = WindowData.on_device(windows, device, margin)
    if not isinstance(predictor, Predictor) or not predictor.encoder_frozen:
        return data
    if not progress or not write:
        return frozen_features(predictor, data, cache, write) or data
    with counting_bar("Features of the frozen encoder", "sequences") as count:
        return frozen_features(predictor, data, cache, write, progress=count) or data


def predict(
    predictor: Predictor | WeightedEnsemble,
    windows: WindowPair,
    device: str = "auto",
    batch_size: int = ANSWERED_AT_ONCE,
    cache: Path | None = None,
) -> Float32[np.ndarray, "n outputs"]:
    """The predictor's answers for all windows, in float32; (n, 3) in the order neither, acceptor, donor for Δ.

    Args:
        predictor: moved to the device and set to evaluation. Members of an ensemble read no kept features.
        windows: codes of both alleles, transcript orientation.
        device: "auto", "cpu" or "cuda".
        batch_size: variants at a time, fewer where windows are long; it does not change the answers.
        cache: where `fit` keeps the features of a frozen encoder; they are read if all of these windows' are there.

    Raises:
        InputError: no windows, or windows of another length.
        RunError: no CUDA device, or an answer that is no number.
    """
    target_device = choose_device(device)
    if not len(windows.ref):
        raise InputError("there are no windows to predict on")
    data = _data(predictor, windows, target_device, cache or cache_dir() / EMBEDDINGS, write=False, progress=False)
    predictor.to(target_device).eval()
    answer = predictor.compare if isinstance(predictor, Predictor) and data.encoded else predictor
    rows = rows_at_a_time(batch_size, predictor.window)
    batches = IndexBatches(np.arange(len(windows.ref)), rows, target_device)
    with torch.inference_mode():
        answers = torch.cat([answer(*data.pair(rows)).float().cpu() for rows in batches])
    if not answers.isfinite().all():
        count = int((~answers.isfinite().all(dim=1)).sum())
        raise RunError(
            f"{count} of {len(answers)} predictions are no numbers; the model's weights are spoiled: train it anew"
        )
    return answers.numpy()
