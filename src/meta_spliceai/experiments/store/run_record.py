"""One run as it lies on disk: every part that can be read, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, TypeVar

import pandas as pd

from meta_spliceai.errors import InputError, IntegrityError, RunError
from meta_spliceai.experiments.spec.rows import read_text, read_yaml
from meta_spliceai.experiments.store.workspace import PROGRESS, RunDirectory, Workspace
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Evaluation

WANTED = ("spec.yaml", "data.json", "metrics.json")
"""Files that a finished run has."""

T = TypeVar("T")


class RunRecord:
    """A run that is read part by part when it is asked for, and never stops who asks.

    A part that is absent or damaged is empty; `problems` says why, once it was asked for.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self.directory, self.path = directory, directory.path
        self.name, self.row = directory.name, directory.row_id
        self.problems: list[str] = []

    def _part(self, file: str, read: Callable[[], T], empty: T) -> T:
        if not (self.path / file).exists():
            return empty
        try:
            return read()
        except (InputError, IntegrityError, RunError) as error:
            self.problems.append(f"{file}: {error}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.problems.append(f"{file} is not what a run writes ({str(error)[:160]})")
        return empty

    @cached_property
    def info(self) -> dict[str, Any]:
        found = self.directory.record()
        if found.get("state") == "damaged":
            self.problems.append(f"run.json: {found.get('reason', '')}")
            return {}
        return found

    @cached_property
    def spec(self) -> dict[str, Any]:
        """spec.yaml as plain values, also where it is of a version that cannot be run any more."""

        def read() -> dict[str, Any]:
            _, values = read_yaml("spec.yaml", read_text(self.path / "spec.yaml"))
            if not isinstance(values, dict):
                raise IntegrityError("spec.yaml holds no fields")
            return values

        return self._part("spec.yaml", read, {})

    @cached_property
    def environment(self) -> dict[str, Any]:
        return self._part("environment.json", self.directory.environment, {})

    @cached_property
    def data(self) -> dict[str, Any]:
        return self._part("data.json", self.directory.data, {})

    @cached_property
    def evidence(self) -> dict[str, Any]:
        return self._part("evidence.json", self.directory.evidence, {})

    @cached_property
    def progress(self) -> dict[str, Any]:
        """progress.json of a run that is being worked on."""
        return self._part(PROGRESS, self.directory.progress, {}) if self.state == "running" else {}

    @cached_property
    def curves(self) -> pd.DataFrame | None:
        return self._part("curves.parquet", self.directory.read_curves, None)

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """metrics.json: the evaluation of the test part."""
        return self._part("metrics.json", lambda: Evaluation.from_json(self.directory.metrics()), None)

    def predictions(self) -> pd.DataFrame | None:
        """One row a variant; read anew each time, as it is large."""
        return self._part("predictions.parquet", self.directory.read_predictions, None)

    @cached_property
    def state(self) -> str:
        """new, running, finished, failed, interrupted or damaged; damaged too where a file of a finished run is."""
        if not self.info:
            return "damaged"
        state = str(self.directory.state())
        return "damaged" if state == "finished" and self._missing_or_damaged() else state

    @cached_property
    def reason(self) -> str:
        if not self.info:
            return "; ".join(self.problems) or "run.json is missing: the run ended before it was recorded"
        return "; ".join(self._missing_or_damaged()) if self.state == "damaged" else self.directory.reason()

    def _missing_or_damaged(self) -> list[str]:
        missing = [f"{name} is missing" for name in WANTED if not (self.path / name).exists()]
        _ = self.spec, self.data, self.evaluation, self.environment, self.evidence, self.curves
        return [*missing, *dict.fromkeys(self.problems)]

    @property
    def title(self) -> str:
        """The row's title, or its id where the spec cannot be read."""
        return str(self.spec.get("title") or self.row)


def read_runs(workspace: Workspace) -> Iterator[RunRecord]:
    """Every run of the folder and of its ledgers by name, those among them that ended before they were recorded."""
    return map(RunRecord, workspace.runs(("run.json", "spec.yaml", "metrics.json")))


def rows_of_test(predictions: pd.DataFrame | None) -> pd.DataFrame | None:
    """Predictions on the test part; all of them where the table does not name parts."""
    if predictions is None or "part" not in predictions:
        return predictions
    return predictions[predictions["part"] == "test"].reset_index(drop=True)
