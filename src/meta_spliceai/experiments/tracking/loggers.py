"""The loggers a run can write to, by name. Each is one of Lightning's, so that all of them are told the same."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from meta_spliceai.errors import MissingExtraError, MissingPackageError, unknown_value

FOLDER = "tracking"  # folder beside the runs for what is written to files

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


def make_logger(name: str, folder: Path, run: str, row: str, uri: str | None, known: str | None) -> Any:
    """A logger of one run.

    Args:
        name: see `LOGGERS`.
        folder: for what is written to files.
        run: the run's name.
        row: its row.
        uri: where to write; None for the logger's own place, or the folder.
        known: the logger's own id of an earlier part of the run.
    """
    # MLflow reports its use to its makers unless told not to.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from lightning.pytorch import loggers

    settings: dict[str, Any]
    if name == "mlflow":
        for chatty in ("mlflow", "alembic", "lightning.pytorch.loggers.mlflow"):
            logging.getLogger(chatty).setLevel(logging.ERROR)
        uri = uri or USERS_MLFLOW
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "experiment_name": "meta-spliceai",
            "run_name": run,
            "tracking_uri": uri or f"sqlite:///{folder.absolute()}/mlflow.db",
            "tags": {"row": row},
            "artifact_location": None if uri else (folder.absolute() / "mlflow-artifacts").as_uri(),
            "run_id": known,
        }
    elif name == "wandb":
        settings = {"name": run, "save_dir": folder, "version": run, "project": "meta-spliceai", "group": row}
    elif name == "comet":
        settings = {"project": "meta-spliceai", "name": run}
    else:
        settings = {"save_dir": uri or folder, "name": name, "version": run}
        settings |= {"default_hp_metric": False} if name == "tensorboard" else {}
    return getattr(loggers, LOGGERS[name])(**settings)


def check_loggers(names: Sequence[str]) -> tuple[str, ...]:
    """The loggers asked for, by their short names, once it is sure that each can be made.

    Args:
        names: short names, or names of Lightning's classes.

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
        if find_spec("lightning") is None:
            raise MissingExtraError(f"tracking with {name}", "tracking")
        if name == "tensorboard" and find_spec("tensorboard") is None and find_spec("tensorboardX") is None:
            raise MissingPackageError("tracking with TensorBoard", "tensorboard")
        missing = [module for module in NEEDS.get(name, ()) if find_spec(module) is None]
        if missing and name == "mlflow":
            raise MissingExtraError("tracking with MLflow", "tracking")
        if missing:
            raise MissingPackageError(f"tracking with {name}", missing[0])
        found.append(name)
    return tuple(dict.fromkeys(found))
