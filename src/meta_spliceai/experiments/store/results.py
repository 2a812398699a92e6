"""The repository's ledger: finished runs without what is heavy, in a folder that is kept under version control.

`results/` is laid out as a folder of runs is, so whatever reads runs reads it: a leaderboard, the site, the planner's
calibration, the Completed table. A run made on a rented GPU comes home as its small files. Metrics, differences and
strata of all runs stand together in three tables (`tables/`), a thirtieth of the size of the same numbers as JSON.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.experiments.run.job import MODEL
from meta_spliceai.experiments.store.ledger import Ledger
from meta_spliceai.experiments.store.tables import KEPT, add_kept_rows
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace, now
from meta_spliceai.files import atomic_write

BENCHMARKS = "benchmarks"

KEPT_SUFFIXES = (".json", ".yaml", ".md", ".csv", ".svg")
LARGEST_FILE = 1_000_000
"""Bytes of one file of words or numbers; tables in Parquet are kept whatever their size."""

LARGEST_WEIGHTS = 20_000_000

PREDICTIONS = "predictions.parquet"
BY_VARIANT = (PREDICTIONS, "split.parquet")
"""Tables with a row a variant, which are kept only when they are asked for."""

WITHOUT_LABELS = ("variant_id", "group", "part", "fold")
"""What predictions without labels keep beside the scorers' own columns, whose names have a dot."""


@dataclass(frozen=True)
class Wanted:
    """What is kept of a run beside its small files; see `keep_runs`."""

    weights: bool
    predictions: bool
    labels: bool


@dataclass(frozen=True)
class Kept:
    """A run that was copied.

    Attributes:
        run: its folder in the ledger.
        bytes: of its files there.
        left_out: files that stayed behind, with their bytes.
    """

    run: RunDirectory
    bytes: int
    left_out: dict[str, int]


def keep_runs(
    workspace: Workspace,
    names: Iterable[str],
    into: Path,
    *,
    weights: bool = False,
    predictions: bool = False,
    labels: bool = True,
) -> list[Kept]:
    """Copy finished runs into a ledger; a run that is there already is replaced by the same content.

    Args:
        workspace: where the runs are.
        names: full names of runs, or their beginnings; all finished ones that are no smoke runs where empty.
        into: the ledger's folder, made if need be.
        weights: keep the model too, as far as its weights have at most 20 MB.
        predictions: keep predictions and split too, which `runs compare` and the curves of the site need.
        labels: with predictions, keep the data set's own columns (places, alleles, classes, effects) beside the scores.
            Without them a ledger may be published where the data set may not; who has it joins them by variant_id.

    Raises:
        InputError: a smoke run, which is never a result; `into` is the folder the runs are in.
        RunError: no run at all; a run that is not finished, or whose inputs have changed since; weights that are too
            large.
    """
    if into.resolve() == workspace.root.resolve():
        raise InputError(f"{into} is the folder of the runs itself; give another one, for example results")
    own = Workspace(workspace.root)
    wanted = [own.find(name) for name in names] or [
        run for run in own.runs() if run.state() == "finished" and not run.record().get("smoke") and not run.stale()
    ]
    for run in wanted:
        _refuse(run)
    if not wanted:
        raise RunError(f"there is no finished run in {workspace.root} (smoke runs and stale ones do not count)")
    lines = {str(entry["run"]): entry for entry in workspace.ledger.finished()}
    what = Wanted(weights, predictions, labels)
    return [_keep(run, lines, into, what) for run in wanted]


def _refuse(run: RunDirectory) -> None:
    record = run.record()
    if run.state() != "finished":
        raise RunError(f"run {run.name} is {run.state()}; only a finished run is a result")
    if record.get("smoke"):
        raise InputError(f"run {run.name} is a smoke run, which is never a result")
    if run.stale():
        raise RunError(f"run {run.name} is stale ({run.stale()}); run its row again")


def _keep(run: RunDirectory, lines: Mapping[str, dict[str, Any]], into: Path, what: Wanted) -> Kept:
    if run.name not in lines:
        raise RunError(f"run {run.name} has no line in {run.path.parent / 'ledger.jsonl'}; run its row again")
    into.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{run.name}.", dir=into))
    try:
        left_out = _copy_small_files(run.path, draft, what)
        rows = _without_rows(run, RunDirectory(draft))
        if what.weights:
            left_out = _copy_weights(run, draft, left_out)
        target = RunDirectory(into / run.name)
        record = run.record()
        # A run that was kept before, on another machine, says of its own what stayed behind there.
        record["left_out"] = {**record.get("left_out", {}), **left_out}
        RunDirectory(draft).write_json("run.json", record)
        draft.chmod(0o755)
        if target.path.exists():
            shutil.rmtree(target.path)
        for name, mine in rows.items():
            add_kept_rows(into, name, run.name, mine)
        draft.replace(target.path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    ledger = Ledger(into / "ledger.jsonl")
    known = {str(entry["run"]): entry for entry in ledger.finished()}.get(run.name, {})
    if {**known, "kept": None} != {**lines[run.name], "kept": None}:
        ledger.append({**lines[run.name], "kept": now()})
    size = sum(file.stat().st_size for file in target.path.rglob("*") if file.is_file())
    return Kept(target, size, left_out)


def _without_rows(run: RunDirectory, draft: RunDirectory) -> dict[str, list[dict[str, Any]]]:
    """Write metrics.json and evidence.json without the rows that stand in the ledger's tables; the rows by table."""
    rows: dict[str, list[dict[str, Any]]] = {}
    evaluated = run.metrics()
    for name in ("metrics", "differences"):
        rows[name] = evaluated.pop(name)
    draft.write_json("metrics.json", evaluated)
    evidence = run.evidence()
    if evidence:
        rows["strata"] = evidence.get("strata", [])
        draft.write_json("evidence.json", {**evidence, "strata": KEPT})
    return rows


def _copy_small_files(source: Path, target: Path, what: Wanted) -> dict[str, int]:
    """Copy the run's own small files and its tables; what stays behind, with its bytes."""
    left_out = {}
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        part = file.relative_to(source)
        size = file.stat().st_size
        if part.name in ("lock", "run.json"):
            continue
        if part.name in ("metrics.json", "evidence.json") and len(part.parts) == 1:
            continue
        if len(part.parts) == 1 and file.suffix == ".parquet" and (what.predictions or part.name not in BY_VARIANT):
            table = pq.read_table(file)
            if part.name == PREDICTIONS and not what.labels:
                table = table.select([name for name in table.column_names if "." in name or name in WITHOUT_LABELS])
                table = table.replace_schema_metadata(None)
            with atomic_write(target / part, "wb") as handle:
                pq.write_table(table, handle, compression="zstd", compression_level=15)
        elif len(part.parts) == 1 and file.suffix in KEPT_SUFFIXES and size <= LARGEST_FILE:
            shutil.copyfile(file, target / part)
        else:
            left_out[part.as_posix()] = size
    return left_out


def _copy_weights(run: RunDirectory, target: Path, left_out: dict[str, int]) -> dict[str, int]:
    """Copy the model as well."""
    model = {name: size for name, size in left_out.items() if name.split("/")[0] == MODEL}
    if sum(model.values()) > LARGEST_WEIGHTS:
        raise RunError(
            f"run {run.name}: its weights have {sum(model.values()) / 1e6:.1f} MB, and a ledger keeps at most "
            f"{LARGEST_WEIGHTS / 1e6:.0f} MB; keep the run without them, or put them elsewhere with 'runs export'"
        )
    for name in model:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run.path / name, target / name)
    return {name: size for name, size in left_out.items() if name not in model}


def keep_benchmark(name: str, content: Mapping[str, Any], into: Path) -> Path:
    """Write a benchmark's result into a ledger: its file, and a line that names it.

    Args:
        name: of the benchmark, and of its file.
        content: plain values; "at", "device" and whatever was measured.
        into: the ledger's folder.
    """
    path = into / BENCHMARKS / f"{name}.json"
    with atomic_write(path) as handle:
        json.dump(dict(content), handle, indent=2, ensure_ascii=False, allow_nan=False)
        handle.write("\n")
    Ledger(into / "ledger.jsonl").append(
        {
            "event": "benchmark",
            "name": name,
            "file": path.relative_to(into).as_posix(),
            "device": content.get("device"),
        }
    )
    return path
