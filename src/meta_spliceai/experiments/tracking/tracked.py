"""A callback that also writes what it is told to loggers: parameters, metrics of every epoch, final metrics, places."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from meta_spliceai.errors import RunError
from meta_spliceai.experiments.run.callback import Callback
from meta_spliceai.experiments.store.ledger import LOCK_SECONDS
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.experiments.tracking.loggers import FOLDER, check_loggers, make_logger
from meta_spliceai.files import atomic_write

RECORD = "tracking.json"
"""File of a run that holds each logger's own id of it, so that a resumed run goes on where it was logged before."""

ARTEFACTS = ("spec.yaml", "metrics.json", "predictions.parquet", "curves.parquet", "model")
"""What of a run directory is named to the loggers."""

ENDS = {"finished": "success", "failed": "failed", "interrupted": "failed"}  # a run's state in Lightning's words


def tracked(callback: Callback, names: Sequence[str], workspace: Workspace, uri: str | None = None) -> Callback:
    """The callback, or one around it that writes to the loggers asked for.

    Args:
        callback: hears everything as before.
        names: loggers, see `LOGGERS`.
        workspace: files of loggers lie in its folder `tracking`.
        uri: where loggers that can write elsewhere write to.

    Raises:
        InputError: no such logger.
        MissingExtraError, MissingPackageError: a logger is not installed.
    """
    known = check_loggers(names)
    return Tracked(callback, known, workspace.root / FOLDER, uri) if known else callback


class Tracked:
    """See `tracked`. A logger that cannot begin stops the run before any work; one that fails later is left, and said
    to be, because the ledger has everything and the work is not to be lost over it."""

    def __init__(self, callback: Callback, names: Sequence[str], folder: Path, uri: str | None) -> None:
        self.callback, self.names, self.folder, self.uri = callback, names, folder, uri
        self.loggers: dict[str, Any] = {}
        self.path = Path()

    def say(self, line: str) -> None:
        self.callback.say(line)

    def stage(self, name: str, total: int | None = None) -> Any:
        return self.callback.stage(name, total)

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        """Hand the facts on, and write them."""
        self.callback.tell(kind, facts)
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
                    logger = make_logger(name, self.folder, facts["run"], facts["row"], self.uri, known.get(name))
                    logger.log_hyperparams(parameters)
                    known[name] = str(logger.version)
            except failures() as error:
                raise RunError(f"--track {name}: {_first_line(error)}; put it right, or run without it") from error
            self.loggers[name] = logger
        with atomic_write(record) as handle:
            json.dump(known, handle, indent=2)

    def _end(self, facts: dict[str, Any]) -> None:
        if facts["state"] == "finished":
            # Names of their own: "seconds" is each epoch's.
            values = {f"run/{name}": value for name, value in facts.items()} | final_metrics(facts["metrics"])
            places = {f"artefact.{name}": str(self.path / name) for name in ARTEFACTS if (self.path / name).exists()}
            self._each(lambda logger: logger.log_metrics(_numbers(values)))
            self._each(lambda logger: logger.log_hyperparams(places))
        self._each(lambda logger: logger.finalize(ENDS[facts["state"]]))
        self.loggers = {}

    def _each(self, write: Callable[[Any], None]) -> None:
        for name, logger in list(self.loggers.items()):
            try:
                write(logger)
            except failures() as error:
                del self.loggers[name]
                self.callback.say(f"tracking with {name} has stopped ({_first_line(error)}); the ledger goes on")


def final_metrics(metrics: dict[str, Any]) -> dict[str, float]:
    """Every metric of the learned model, as `test/<metric>` with `_low` and `_high` where it has an interval."""
    found: dict[str, float] = {}
    for record in metrics["metrics"]:
        if record["kind"] == "learned":
            name = f"test/{record['metric']}"
            found |= {name: record["estimate"], f"{name}_low": record["low"], f"{name}_high": record["high"]}
    return found


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def failures() -> tuple[type[Exception], ...]:
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
