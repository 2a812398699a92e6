"""Runs as one table for other programs: a line a run, with what was asked for and what came out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from meta_spliceai.errors import InputError
from meta_spliceai.experiments.board.compare_runs import WORDS, learned_metrics
from meta_spliceai.experiments.store.workspace import RunDirectory
from meta_spliceai.experiments.tracking.tracked import flat
from meta_spliceai.files import atomic_write

FORMATS = (".csv", ".json", ".parquet")

FACTS = (
    "title",
    "smoke",
    "seed",
    "started",
    "finished",
    "seconds",
    "price_per_hour",
    "dollars",
    "device",
    "peak_memory_bytes",
    "peak_gpu_memory_bytes",
    "parameters",
    "weights_origin",
    "code",
)
"""What of run.json stands in the table."""


def runs_as_table(runs: Sequence[RunDirectory]) -> pd.DataFrame:
    """One row a run.

    Columns: run, row, state, reason, stale; those of `FACTS`; data.rows and data.digest; `spec.<field>` for every field
    of the specification (lists as JSON); `<metric>`, `<metric>_low` and `<metric>_high` of the learned model. What a
    run does not have is missing.
    """
    lines = []
    for run in runs:
        record = run.record()
        line: dict[str, Any] = {
            "run": run.name,
            "row": run.row_id,
            "state": run.state(),
            "reason": run.reason(),
            "stale": run.stale(),
            **{name: record.get(name) for name in FACTS},
        }
        if (run.path / "data.json").exists():
            data = run.data()
            line |= {"data.rows": data.get("n_variants"), "data.digest": data.get("digest")}
        if (run.path / "spec.yaml").exists():
            spec = run.spec().model_dump(mode="json")
            fields = flat({name: value for name, value in spec.items() if name not in WORDS})
            line |= {f"spec.{name}": _cell(value) for name, value in fields.items()}
        for metric, found in learned_metrics(run).items():
            line |= {metric: found["estimate"], f"{metric}_low": found["low"], f"{metric}_high": found["high"]}
        lines.append(line)
    return pd.DataFrame(lines)


def write_table(frame: pd.DataFrame, out: Path) -> Path:
    """Write the table in the format that the file's name says; written whole or not at all.

    Raises:
        InputError: another ending than `FORMATS`.
    """
    if out.suffix not in FORMATS:
        raise InputError(f"{out}: a table of runs is written as {', '.join(FORMATS)}")
    if out.suffix == ".parquet":
        # One column may hold numbers for one row and words for another (a setting of two encoders).
        mixed = {name: "string" for name in frame.columns if frame[name].map(type).isin([str]).any()}
        with atomic_write(out, "wb") as handle:
            frame.astype(mixed).to_parquet(handle, index=False)
        return out
    with atomic_write(out) as handle:
        if out.suffix == ".csv":
            frame.to_csv(handle, index=False)
        else:
            records = json.loads(frame.to_json(orient="records", double_precision=15))
            json.dump(records, handle, indent=2, ensure_ascii=False)
            handle.write("\n")
    return out


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
