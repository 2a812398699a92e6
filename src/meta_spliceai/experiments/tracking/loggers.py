"""The loggers a run can write to, by name. Each is one of Lightning's, so that all of them are told the same."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from meta_spliceai.errors import MissingExtraError, MissingPackageError, unknown_value

FOLDER = "tracking"
"""Folder beside the runs for what is written to files."""

USERS_MLFLOW = os.environ.get("MLFLOW_TRACKING_URI")
"""The server that the user has set for all programs; read here, because MLflow sets the variable itself later."""


def _mlflow(folder: Path, run: str, row: str, uri: str | None, known: str | None) -> Any:
    # MLflow reports its use to its makers unless told not to.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from lightning.pytorch.loggers import MLFlowLogger

    for chatty in ("mlflow", "alembic", "lightning.pytorch.loggers.mlflow"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    uri = uri or USERS_MLFLOW
    folder.mkdir(parents=True, exist_ok=True)
    return MLFlowLogger(
        experiment_name="meta-spliceai",
        run_name=run,
        tracking_uri=uri or f"sqlite:///{folder.absolute()}/mlflow.db",
        tags={"row": row},
        artifact_location=None if uri else (folder.absolute() / "mlflow-artifacts").as_uri(),
        run_id=known,
    )


def _csv(folder: Path, run: str, row: str, uri: str | None, known: str | None) -> Any:
    from lightning.pytorch.loggers import CSVLogger

    return CSVLogger(uri or folder, name="csv", version=run)


def _tensorboard(folder: Path, run: str, row: str, uri: str | None, known: str | None) -> Any:
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(uri or folder, name="tensorboard", version=run, default_hp_metric=False)


def _wandb(folder: Path, run: str, row: str, uri: str | None, known: str | None) -> Any:
    from lightning.pytorch.loggers import WandbLogger

    return WandbLogger(name=run, save_dir=folder, version=run, project="meta-spliceai", group=row)


def _comet(folder: Path, run: str, row: str, uri: str | None, known: str | None) -> Any:
    from lightning.pytorch.loggers import CometLogger

    return CometLogger(project="meta-spliceai", name=run)


LOGGERS: dict[str, Callable[[Path, str, str, str | None, str | None], Any]] = {
    "mlflow": _mlflow,
    "csv": _csv,
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "comet": _comet,
}
"""Makers by name: (folder, run, row, where to write or None, the logger's own id of an earlier part of the run)."""

NEEDS = {"mlflow": ("mlflow", "sqlalchemy", "alembic"), "wandb": ("wandb",), "comet": ("comet_ml",)}
"""Modules that a logger needs beside Lightning; TensorBoard's file writer has two."""

IMPORT_PATHS = {
    "lightning.pytorch.loggers.MLFlowLogger": "mlflow",
    "lightning.pytorch.loggers.CSVLogger": "csv",
    "lightning.pytorch.loggers.TensorBoardLogger": "tensorboard",
    "lightning.pytorch.loggers.WandbLogger": "wandb",
    "lightning.pytorch.loggers.CometLogger": "comet",
}
"""The same by the names they have in Lightning."""


def check_loggers(names: Sequence[str]) -> tuple[str, ...]:
    """The loggers asked for, by their short names, once it is sure that each can be made.

    Args:
        names: short names, or names of Lightning's classes.

    Raises:
        InputError: no such logger.
        MissingExtraError, MissingPackageError: it is not installed.
    """
    found = []
    for given in names:
        name = IMPORT_PATHS.get(given, given)
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
