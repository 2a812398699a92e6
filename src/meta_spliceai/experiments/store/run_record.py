"""One run as stored on disk: every part that can be read, and what is wrong with the others; runs as tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from meta_spliceai.errors import InputError, IntegrityError, RunError
from meta_spliceai.experiments.spec.rows import read_text, read_yaml
from meta_spliceai.experiments.store.workspace import PROGRESS, RunDirectory, Workspace, flat
from meta_spliceai.files import atomic_write
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Evaluation

WANTED = ("spec.yaml", "data.json", "metrics.json")
"""Files that a finished run has."""

T = TypeVar("T")


def _plain_spec(run: RunDirectory) -> dict[str, Any]:
    """spec.yaml as plain values, also where it is of a version that cannot be run any more."""
    _, values = read_yaml("spec.yaml", read_text(run.path / "spec.yaml"))
    if not isinstance(values, dict):
        raise IntegrityError("spec.yaml holds no fields")
    return values


class RunRecord:
    """A run that is read part by part when it is asked for, and never stops who asks.

    A part that is absent or damaged is empty; `problems` says why, once it was asked for.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self.directory, self.path = directory, directory.path
        self.name, self.row = directory.name, directory.row_id
        self.problems: list[str] = []

    @staticmethod
    def _part(file: str, read: Callable[[RunDirectory], dict[str, Any]]) -> cached_property[dict[str, Any]]:
        return cached_property(lambda record: record._read(file, read, {}))

    def _read(self, file: str, read: Callable[[RunDirectory], T], empty: T) -> T:
        if not (self.path / file).exists():
            return empty
        try:
            return read(self.directory)
        except (InputError, IntegrityError, RunError) as error:
            self.problems.append(f"{file}: {error}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.problems.append(f"{file} is not what a run writes ({str(error)[:160]})")
        return empty

    spec = _part("spec.yaml", _plain_spec)
    environment = _part("environment.json", RunDirectory.environment)
    data = _part("data.json", RunDirectory.data)
    evidence = _part("evidence.json", RunDirectory.evidence)

    @cached_property
    def curves(self) -> pd.DataFrame | None:
        return self._read("curves.parquet", RunDirectory.read_curves, None)

    @cached_property
    def evaluation(self) -> Evaluation | None:
        return self._read("metrics.json", lambda run: Evaluation.from_json(run.metrics()), None)

    @cached_property
    def info(self) -> dict[str, Any]:
        found = self.directory.record()
        if found.get("state") == "damaged":
            self.problems.append(f"run.json: {found.get('reason', '')}")
            return {}
        return found

    @cached_property
    def progress(self) -> dict[str, Any]:
        return self._read(PROGRESS, RunDirectory.progress, {}) if self.state == "running" else {}

    def predictions(self) -> pd.DataFrame | None:
        """One row per variant; read anew each time, as it is large."""
        return self._read("predictions.parquet", RunDirectory.read_predictions, None)

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


# ------------------------------------------------------------------------------------------------------- runs as tables

WORDS = ("title", "section", "purpose", "wish")
"""Fields of a row that say what it is called and wished for, and change nothing of a run."""

RECORDED = ("code", "device", "seconds", "peak_memory_bytes", "parameters", "weights_origin")
"""What of run.json two runs are compared in."""

IN_TABLE = (
    *("title", "smoke", "seed", "started", "finished", "seconds", "price_per_hour", "dollars", "device"),
    *("peak_memory_bytes", "peak_gpu_memory_bytes", "parameters", "weights_origin", "code"),
)
"""What of run.json stands in a table of runs."""

FORMATS = (".csv", ".json", ".parquet")


def diff_runs(first: RunDirectory, second: RunDirectory) -> dict[str, pd.DataFrame]:
    """What differs between two runs, in three tables.

    Returns:
        `fields` (specification, data, code, run) and `environment` (machine and package versions; empty for a run that
        failed before it was written): one row per field that differs, columns field and the two runs' names. `metrics`:
        every metric of the learned models, columns metric, the two runs' names, difference (second minus first); empty
        unless both runs are finished.
    """
    runs = (first, second)
    one, other = map(_learned_metrics, runs)
    rows = []
    for name in [name for name in one if name in other]:
        pair = [np.nan if side[name]["estimate"] is None else side[name]["estimate"] for side in (one, other)]
        rows.append([name, *pair, pair[1] - pair[0]])
    facts, machines = {}, {}
    for run in runs:
        data = run.data() if (run.path / "data.json").exists() else {}
        facts[run.name] = facts_of(run.spec().model_dump(mode="json"), data, run.record())
        machines[run.name] = run.environment() if (run.path / "environment.json").exists() else {}
    return {
        "fields": _differing(facts),
        "environment": _differing({name: flat(machine) for name, machine in machines.items()}),
        "metrics": pd.DataFrame(rows, columns=["metric", first.name, second.name, "difference"]),
    }


def _differing(columns: dict[str, dict[str, Any]]) -> pd.DataFrame:
    rows = []
    for name in dict.fromkeys(name for values in columns.values() for name in values):
        values = [mine.get(name) for mine in columns.values()]
        if any(value != values[0] for value in values):
            rows.append([name, *values])
    return pd.DataFrame(rows, columns=["field", *columns], dtype=object)


def facts_of(spec: dict[str, Any], data: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """What two runs can differ in, by dotted name.

    Args:
        spec: spec.yaml; its words (title, section, purpose, wish) are left aside.
        data: data.json; empty where it is not written yet.
        record: run.json.
    """
    facts: dict[str, Any] = {name: value for name, value in spec.items() if name not in WORDS}
    split = data.get("split")
    if data:
        facts["data.digest"] = data.get("digest")
        facts["split.digest"] = split.get("digest") if isinstance(split, dict) else None
    return flat(facts) | {f"run.{name}": record.get(name) for name in RECORDED}


def _learned_metrics(run: RunDirectory) -> dict[str, dict[str, Any]]:
    if run.record().get("state") != "finished":
        return {}
    return {record["metric"]: record for record in run.metrics()["metrics"] if record["kind"] == "learned"}


def runs_as_table(runs: Sequence[RunDirectory]) -> pd.DataFrame:
    """One row per run.

    Columns: run, row, state, reason, stale; those of `IN_TABLE`; data.rows and data.digest; `spec.<field>` for every
    field of the specification (lists as JSON); `<metric>`, `<metric>_low` and `<metric>_high` of the learned model.
    What a run does not have is missing.
    """
    lines = []
    for run in runs:
        record = run.record()
        line: dict[str, Any] = {"run": run.name, "row": run.row_id, "state": run.state(), "reason": run.reason()}
        line |= {"stale": run.stale(), **{name: record.get(name) for name in IN_TABLE}}
        if (run.path / "data.json").exists():
            data = run.data()
            line |= {"data.rows": data.get("n_variants"), "data.digest": data.get("digest")}
        if (run.path / "spec.yaml").exists():
            for name, value in flat(run.spec().model_dump(mode="json", exclude=set(WORDS))).items():
                line[f"spec.{name}"] = json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
        for metric, found in _learned_metrics(run).items():
            line |= {metric: found["estimate"], f"{metric}_low": found["low"], f"{metric}_high": found["high"]}
        lines.append(line)
    return pd.DataFrame(lines)


def write_table(frame: pd.DataFrame, out: Path) -> Path:
    """Write the table in the format that the file's name says, one of `FORMATS`; written atomically."""
    with atomic_write(out, "wb") as handle:
        if out.suffix == ".parquet":
            # One column may hold numbers for one row and words for another (a setting of two encoders).
            mixed = {name: "string" for name in frame.columns if frame[name].map(type).isin([str]).any()}
            frame.astype(mixed).to_parquet(handle, index=False)
        elif out.suffix == ".csv":
            handle.write(frame.to_csv(index=False).encode())
        else:
            handle.write(frame.to_json(orient="records", double_precision=15, indent=2, force_ascii=False).encode())
    return out
