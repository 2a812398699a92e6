"""Two runs beside each other: what was asked for, on which machine, and what came out."""

from __future__ import annotations

from typing import Any

import pandas as pd

from meta_spliceai.experiments.compare_runs import differing_fields
from meta_spliceai.experiments.workspace import RunDirectory

ENVIRONMENT = "environment.json"


def diff_runs(first: RunDirectory, second: RunDirectory) -> dict[str, pd.DataFrame]:
    """What differs between two runs, in three tables.

    Returns:
        `fields` (specification, data, code, run) and `environment` (machine and package versions): one row a field
        that differs, columns field and the two runs' names. `metrics`: every metric of the learned models, columns
        metric, the two runs' names, difference (second minus first); empty unless both runs are finished.
    """
    return {
        "fields": differing_fields([first, second]),
        "environment": _differing(first, second, _environment(first), _environment(second)),
        "metrics": _metrics(first, second),
    }


def _differing(first: RunDirectory, second: RunDirectory, one: dict[str, Any], other: dict[str, Any]) -> pd.DataFrame:
    names = list(dict.fromkeys([*one, *other]))
    rows = [[name, one.get(name), other.get(name)] for name in names if one.get(name) != other.get(name)]
    return pd.DataFrame(rows, columns=["field", first.name, second.name], dtype=object)


def _environment(run: RunDirectory) -> dict[str, Any]:
    """The content of environment.json by dotted name; empty for a run that failed before it was written."""
    if not (run.path / ENVIRONMENT).exists():
        return {}
    found: dict[str, Any] = {}
    for name, value in run.environment().items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": content for inner, content in value.items()}
        else:
            found[name] = value
    return found


def learned_metrics(run: RunDirectory) -> dict[str, dict[str, Any]]:
    """The records of the learned model by metric; empty for a run without a result."""
    if run.record().get("state") != "finished":
        return {}
    return {record["metric"]: record for record in run.metrics()["metrics"] if record["kind"] == "learned"}


def _metrics(first: RunDirectory, second: RunDirectory) -> pd.DataFrame:
    one, other = learned_metrics(first), learned_metrics(second)
    rows = []
    for name in one:
        if name in other:
            values = [
                float("nan") if side[name]["estimate"] is None else side[name]["estimate"] for side in (one, other)
            ]
            rows.append([name, *values, values[1] - values[0]])
    return pd.DataFrame(rows, columns=["metric", first.name, second.name, "difference"])
