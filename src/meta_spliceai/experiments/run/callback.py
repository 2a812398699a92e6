"""Callbacks that report a run's progress: messages, steps with counts, structured events; the progress file; and
loggers besides the ledger: MLflow, or another of Lightning's."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock

from meta_spliceai.errors import MissingExtraError, MissingPackageError, RunError, unknown_value
from meta_spliceai.experiments.store.ledger import LOCK_SECONDS
from meta_spliceai.experiments.store.workspace import PROGRESS, RunDirectory, flat, now
from meta_spliceai.files import atomic_write

SECONDS_BETWEEN_ADVANCES = 1.0
SECONDS_BETWEEN_WRITES = 2.0


class Callback:
    """Receives a run's messages and progress; the command line draws bars, tests record, this base class does
    nothing."""

    def say(self, line: str) -> None:
        """A line for the user."""

    def row(self, label: str) -> Callback:
        """What one of several rows talks to."""
        return self

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """A step; what is yielded is called with the number of units done so far."""
        began = told = time.perf_counter()
        seconds = None
        self.tell("step", {"step": name, "done": 0, "total": total})

        def advance(done: int) -> None:
            nonlocal told
            if time.perf_counter() - told >= SECONDS_BETWEEN_ADVANCES:
                told = time.perf_counter()
                self.tell("step", {"step": name, "done": done, "total": total})

        try:
            yield advance
            seconds = round(time.perf_counter() - began, 3)
        finally:
            self.tell("step-end", {"step": name, "seconds": seconds})

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        """A structured event, as plain values.

        `run`: the run's folder is known (run, path, row, seed, parameters of the row).
        `step`: how far a step is (step, done, total); done is 0 at its beginning.
        `step-end`: a step has ended (step, seconds; None where it failed).
        `training`: how far training is (fold or None, epoch, epochs, share, loss, windows_per_second, memory_bytes).
        `epoch`: an epoch has ended (fold or None, epoch, train_loss, val_loss, val_r, learning_rate, seconds, …).
        `end`: the run has ended (state, reason; for a finished run its record and metrics).
        """


class Around(Callback):
    """A callback that hands on to another one what it hears."""

    def __init__(self, callback: Callback) -> None:
        self.callback = callback

    def say(self, line: str) -> None:
        self.callback.say(line)

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        self.callback.tell(kind, facts)


class Inner(Around):
    """A callback for a run within a run: lines and steps are shown, the outer run's facts stay the outer run's."""

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        if kind in ("step", "step-end", "training"):
            super().tell(kind, facts)


class ProgressFile(Around):
    """A callback that hands everything on and keeps progress.json of a run's folder up to date while it is running.

    The file holds at, stage, done, total, fold, epoch, epochs, share, loss, windows_per_second, memory_bytes, seconds
    and dollars (with a price an hour of the machine); what is not known is absent.
    """

    def __init__(self, callback: Callback, run: RunDirectory, price_per_hour: float | None = None) -> None:
        super().__init__(callback)
        self.run, self.price_per_hour = run, price_per_hour
        self.began, self.written = time.perf_counter(), -math.inf

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        """Hand the facts on, and write how far steps and training are."""
        super().tell(kind, facts)
        if kind == "epoch":
            self.run.require_there()
        if kind == "step":
            if not facts["done"]:
                self.written = -math.inf  # a step's beginning is always written
            self._write({"stage": facts["step"], "done": facts["done"], "total": facts["total"]})
        if kind == "training":
            self._write({"stage": "training", **facts})

    def close(self) -> None:
        """Take the file away; one that is out of reach with its disk stays."""
        with suppress(OSError):
            (self.run.path / PROGRESS).unlink(missing_ok=True)

    def _write(self, facts: dict[str, Any]) -> None:
        since = time.perf_counter()
        if since - self.written < SECONDS_BETWEEN_WRITES:
            return
        self.run.require_there()
        self.written = since
        seconds, price = since - self.began, self.price_per_hour
        dollars = None if price is None else round(seconds / 3600 * price, 4)
        content = {"at": now(), **facts, "seconds": round(seconds, 1), "dollars": dollars}
        # NaN (no batch has been looked at yet) is no JSON.
        self.run.write_json(PROGRESS, {name: value for name, value in content.items() if value == value})


# ------------------------------------------------------------------------------------------------------------- loggers

TRACKING = "tracking"  # folder beside the runs for what is written to files

USERS_MLFLOW = os.environ.get("MLFLOW_TRACKING_URI")
"""The server that the user has set for all programs; read here, because MLflow sets the variable itself later."""

LOGGERS = {
    "mlflow": "MLFlowLogger",
    "csv": "CSVLogger",
    "tensorboard": "TensorBoardLogger",
    "wandb": "WandbLogger",
    "comet": "CometLogger",
}
"""Lightning's class by short name."""

NEEDS = {"mlflow": ("mlflow", "sqlalchemy", "alembic"), "wandb": ("wandb",), "comet": ("comet_ml",)}
"""Modules that a logger needs beside Lightning; TensorBoard's file writer has two."""

RECORD = "tracking.json"
"""File of a run that holds each logger's own id of it, so that a resumed run goes on where it was logged before."""

ARTEFACTS = ("spec.yaml", "metrics.json", "predictions.parquet", "curves.parquet", "model")
"""What of a run directory is named to the loggers."""

ENDS = {"finished": "success", "failed": "failed", "interrupted": "failed"}  # a run's state in Lightning's words


def check_loggers(names: Sequence[str]) -> tuple[str, ...]:
    """The loggers asked for, by short names or by names of Lightning's classes, as short names, once it is sure that
    each can be made.

    Raises:
        InputError: no such logger.
        MissingExtraError, MissingPackageError: it is not installed.
    """
    by_class = {f"lightning.pytorch.loggers.{one}": name for name, one in LOGGERS.items()}
    found = []
    for given in names:
        name = by_class.get(given, given)
        if name not in LOGGERS:
            raise unknown_value("logger", given, LOGGERS, where="--track")
        missing = [module for module in NEEDS.get(name, ()) if find_spec(module) is None]
        if name == "tensorboard" and not any(map(find_spec, ("tensorboard", "tensorboardX"))):
            missing = ["tensorboard"]
        if find_spec("lightning") is None or (missing and name == "mlflow"):
            raise MissingExtraError(f"tracking with {name}", "tracking")
        if missing:
            raise MissingPackageError(f"tracking with {name}", missing[0])
        found.append(name)
    return tuple(dict.fromkeys(found))


class Tracked(Around):
    """A callback that also writes to loggers. One that cannot begin stops the run before any work; one that fails later
    is left, and said to be, because the ledger has everything and the work is not to be lost over it.

    Args:
        names: short names, as `check_loggers` gives them.
        folder: for the files of loggers.
        uri: where loggers that can write elsewhere write to.
    """

    def __init__(self, callback: Callback, names: Sequence[str], folder: Path, uri: str | None) -> None:
        super().__init__(callback)
        self.names, self.folder, self.uri = names, folder, uri
        self.loggers: dict[str, Any] = {}
        self.path = Path()

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        super().tell(kind, facts)
        if kind == "run":
            self._begin(facts)
        elif kind == "epoch":
            fold = "" if facts["fold"] is None else f"fold{facts['fold']}/"
            values = {f"{fold}{name}": value for name, value in facts.items() if name not in ("fold", "epoch")}
            self._each(lambda logger: logger.log_metrics(_numbers(values), step=int(facts["epoch"])))
        elif kind == "end":
            self._end(facts)

    def _begin(self, facts: dict[str, Any]) -> None:
        self.path = Path(facts["path"])
        record = self.path / RECORD
        self.folder.mkdir(parents=True, exist_ok=True)
        known = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
        parameters = {**flat(facts["spec"]), "run": facts["run"], "run_directory": str(self.path)}
        for name in self.names:
            try:
                # One at a time: workers that begin together would both make MLflow's tables.
                with FileLock(self.folder / "lock", timeout=LOCK_SECONDS):
                    logger = self._make(name, facts["run"], facts["row"], known.get(name))
                    logger.log_hyperparams(parameters)
                    known[name] = str(logger.version)
            except _failures() as error:
                raise RunError(f"--track {name}: {_first_line(error)}; put it right, or run without it") from error
            self.loggers[name] = logger
        with atomic_write(record) as handle:
            json.dump(known, handle, indent=2)

    def _make(self, name: str, run: str, row: str, known: str | None) -> Any:
        """One of Lightning's loggers for a run; `known`: its own id of an earlier part of the run."""
        # MLflow reports its use to its makers unless told not to.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from lightning.pytorch import loggers

        folder = self.folder.absolute()
        settings: dict[str, Any]
        if name == "mlflow":
            for chatty in ("mlflow", "alembic", "lightning.pytorch.loggers.mlflow"):
                logging.getLogger(chatty).setLevel(logging.ERROR)
            uri = self.uri or USERS_MLFLOW
            settings = {
                "experiment_name": "meta-spliceai",
                "run_name": run,
                "tracking_uri": uri or f"sqlite:///{folder}/mlflow.db",
                "tags": {"row": row},
                "artifact_location": None if uri else (folder / "mlflow-artifacts").as_uri(),
                "run_id": known,
            }
        elif name == "wandb":
            settings = {"name": run, "save_dir": folder, "version": run, "project": "meta-spliceai", "group": row}
        elif name == "comet":
            settings = {"project": "meta-spliceai", "name": run}
        else:
            settings = {"save_dir": self.uri or folder, "name": name, "version": run}
            settings |= {"default_hp_metric": False} if name == "tensorboard" else {}
        return getattr(loggers, LOGGERS[name])(**settings)

    def _end(self, facts: dict[str, Any]) -> None:
        if facts["state"] == "finished":
            # Names of their own: "seconds" is each epoch's.
            values = {f"run/{name}": value for name, value in facts.items()}
            for record in (one for one in facts["metrics"]["metrics"] if one["kind"] == "learned"):
                name = f"test/{record['metric']}"
                values |= {name: record["estimate"], f"{name}_low": record["low"], f"{name}_high": record["high"]}
            places = {f"artefact.{name}": str(self.path / name) for name in ARTEFACTS if (self.path / name).exists()}
            self._each(lambda logger: logger.log_metrics(_numbers(values)))
            self._each(lambda logger: logger.log_hyperparams(places))
        self._each(lambda logger: logger.finalize(ENDS[facts["state"]]))
        self.loggers = {}

    def _each(self, write: Callable[[Any], None]) -> None:
        for name, logger in list(self.loggers.items()):
            try:
                write(logger)
            except _failures() as error:
                del self.loggers[name]
                self.callback.say(f"tracking with {name} has stopped ({_first_line(error)}); the ledger goes on")


def _failures() -> tuple[type[Exception], ...]:
    """What loggers raise when their place cannot be written to or is not there."""
    try:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError
    except ModuleNotFoundError:
        return OSError, RuntimeError
    return OSError, RuntimeError, MlflowException, SQLAlchemyError


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
