"""What lies in the folder of runs, read so that a damaged or half-written run is shown as such and stops nothing."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import yaml

from meta_spliceai.errors import MetaSpliceAIError
from meta_spliceai.experiments.workspace import RunDirectory, Workspace
from meta_spliceai.splice_engine.meta_layer.evaluation.result import Evaluation

TEST = "test"


@dataclass
class RunRecord:
    """One run as it lies on disk. A part that is absent or unreadable is empty, and `problems` says why.

    Attributes:
        name: the folder's name.
        row: id of the catalogue's row.
        state: new, running, finished, failed, interrupted or damaged.
        reason: why it is in its state.
        problems: one line a file that could not be read.
        info: run.json.
        spec: spec.yaml.
        environment: environment.json.
        data: data.json.
        curves: one row an epoch; None if absent.
        predictions: one row a variant; None if absent.
        evaluation: the judgement on the test part; None if absent.
        evidence: evidence.json: strata, position held fixed, calibration, ceiling, peaks; absent in older runs.
        progress: progress.json, for a run that is being worked on.
        entry: its line in the ledger; empty for a run that has none.
        path: the folder.
    """

    name: str
    row: str
    state: str = "damaged"
    reason: str = ""
    problems: list[str] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    curves: pd.DataFrame | None = None
    predictions: pd.DataFrame | None = None
    evaluation: Evaluation | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    entry: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    @property
    def title(self) -> str:
        """The row's title, or its id where the spec cannot be read."""
        return str(self.spec.get("title") or self.row)

    @property
    def is_result(self) -> bool:
        """Whether the run may stand on a leaderboard: finished, judged, and no smoke run."""
        return self.state == "finished" and self.evaluation is not None and not self.spec.get("smoke")

    def test_rows(self) -> pd.DataFrame | None:
        """Predictions on the test part; all of them where the table does not name parts."""
        if self.predictions is None or "part" not in self.predictions:
            return self.predictions
        return self.predictions[self.predictions["part"] == TEST].reset_index(drop=True)


def collect_runs(workspace: Workspace, only: Collection[str] | None = None) -> list[RunRecord]:
    """Every run of the folder and of its ledgers by name, a folder that holds a spec but no record among them.

    Args:
        workspace: the folder and its ledgers.
        only: names of the runs wanted; None for all.
    """
    found: dict[str, Path] = {}
    for root in (*reversed(workspace.ledgers), workspace.root):
        if root.is_dir():
            found |= {path.name: path for path in root.iterdir() if path.is_dir() and _looks_like_run(path)}
    records = [read_run(RunDirectory(found[name])) for name in sorted(found) if only is None or name in only]
    entries = {str(entry["run"]): entry for entry in workspace.finished()}
    for record in records:
        record.entry = entries.get(record.name, {})
    return records


def _looks_like_run(path: Path) -> bool:
    return any((path / name).exists() for name in ("run.json", "spec.yaml", "metrics.json"))


def read_run(directory: RunDirectory) -> RunRecord:
    """Read one run, noting each file that is damaged, and each one that a finished run ought to have and has not."""
    path = directory.path
    record = RunRecord(directory.name, directory.row_id, path=path)
    record.info = _mapping(record, path / "run.json")
    record.spec = _mapping(record, path / "spec.yaml")
    record.environment = _mapping(record, path / "environment.json")
    record.data = _mapping(record, path / "data.json")
    if record.info:
        record.state, record.reason = str(directory.state()), directory.reason()
    elif not record.problems:
        record.reason = "run.json is missing: the run ended before it was recorded"
    record.evidence = _mapping(record, path / "evidence.json")
    if record.state == "running":
        record.progress = _mapping(record, path / "progress.json")
    record.curves = _table(record, path / "curves.parquet")
    record.predictions = _table(record, path / "predictions.parquet")
    judged = _mapping(record, path / "metrics.json")
    if judged:
        try:
            record.evaluation = Evaluation.from_json(judged)
        except (MetaSpliceAIError, KeyError, TypeError, ValueError, AttributeError) as error:
            record.problems.append(f"metrics.json is not what an evaluation writes ({_first_line(error)})")
    if record.state == "finished":
        wanted = ("spec.yaml", "data.json", "predictions.parquet", "metrics.json")
        record.problems.extend(f"{name} is missing" for name in wanted if not (path / name).exists())
        if record.problems:
            record.state, record.reason = "damaged", "; ".join(record.problems)
    return record


def _mapping(record: RunRecord, path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = path.read_text(encoding="utf-8")
        values = yaml.safe_load(content) if path.suffix == ".yaml" else json.loads(content)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        record.problems.append(f"{path.name} cannot be read ({_first_line(error)})")
        return {}
    if not isinstance(values, dict) or not values:
        record.problems.append(f"{path.name} holds no fields")
        return {}
    return values


def _table(record: RunRecord, path: Path) -> pd.DataFrame | None:
    if not path.exists():
        return None
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException) as error:
        record.problems.append(f"{path.name} cannot be read ({_first_line(error)})")
        return None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
