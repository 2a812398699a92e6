"""What to do with finished runs: store them in a ledger under version control, pack them into an archive, or delete
them.

A ledger such as `results/` is laid out as a folder of runs is, so whatever reads runs reads it. Metrics, differences
and strata of all its runs stand together in three tables (`tables/`), a thirtieth of the size of the numbers as JSON.
"""

from __future__ import annotations

import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.experiments.store.ledger import KEPT, LEDGER, Ledger, add_kept_rows
from meta_spliceai.experiments.store.workspace import CHECKPOINTS, MODEL, RunDirectory, Workspace, now
from meta_spliceai.files import atomic_write

KEPT_SUFFIXES = (".json", ".yaml", ".md", ".csv", ".svg")
LARGEST_FILE = 1_000_000
"""Bytes of one file of words or numbers; tables in Parquet are kept whatever their size."""

LARGEST_WEIGHTS = 20_000_000

PREDICTIONS = "predictions.parquet"
BY_VARIANT = (PREDICTIONS, "split.parquet")
"""Tables with a row per variant, which are kept only when they are asked for."""

WITHOUT_LABELS = ("variant_id", "group", "part", "fold")
"""What predictions without labels keep beside the scorers' own columns, whose names have a dot."""

RUN_NAME = re.compile(r".+-[0-9a-f]{12}")
WRITTEN_FIRST = ("lock", "spec.yaml", CHECKPOINTS)
"""What a run writes before its record, or once more where its folder was taken away under it."""


class Kept(NamedTuple):
    """A run that was copied into a ledger: its folder there, its bytes, and the bytes of each file left behind."""

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
    lines = {entry["run"]: entry for entry in workspace.ledger.finished()}
    for run in wanted:
        if run.state() != "finished":
            raise RunError(f"run {run.name} is {run.state()}; only a finished run is a result")
        if run.record().get("smoke"):
            raise InputError(f"run {run.name} is a smoke run, which is never a result")
        if run.stale():
            raise RunError(f"run {run.name} is stale ({run.stale()}); run its row again")
        if run.name not in lines:
            raise RunError(f"run {run.name} has no line in {workspace.ledger.path}; run its row again")
    if not wanted:
        raise RunError(f"there is no finished run in {workspace.root} (smoke runs and stale ones do not count)")
    into.mkdir(parents=True, exist_ok=True)
    return [_keep(run, lines[run.name], into, weights, predictions, labels) for run in wanted]


def _keep(
    run: RunDirectory, line: Mapping[str, Any], into: Path, weights: bool, predictions: bool, labels: bool
) -> Kept:
    draft = RunDirectory(Path(tempfile.mkdtemp(prefix=f".{run.name}.", dir=into)))
    target = RunDirectory(into / run.name)
    try:
        left_out = _copy_what_is_kept(run.path, draft.path, weights, predictions, labels)
        evaluated, evidence = run.metrics(), run.evidence()
        rows = {name: evaluated.pop(name) for name in ("metrics", "differences")}
        draft.write_json("metrics.json", evaluated)
        if evidence:
            rows["strata"] = evidence.get("strata", [])
            draft.write_json("evidence.json", {**evidence, "strata": KEPT})
        record = run.record()
        # A run that was kept before, on another machine, says of its own what stayed behind there.
        draft.write_json("run.json", {**record, "left_out": {**record.get("left_out", {}), **left_out}})
        draft.path.chmod(0o755)
        if target.path.exists():
            shutil.rmtree(target.path)
        for name, mine in rows.items():
            add_kept_rows(into, name, run.name, mine)
        draft.path.replace(target.path)
    finally:
        shutil.rmtree(draft.path, ignore_errors=True)
    ledger = Ledger(into / LEDGER)
    known = next((entry for entry in ledger.finished() if entry["run"] == run.name), {})
    if {**known, "kept": None} != {**line, "kept": None}:
        ledger.append({**line, "kept": now()})
    return Kept(target, target.size(), left_out)


def _copy_what_is_kept(source: Path, target: Path, weights: bool, predictions: bool, labels: bool) -> dict[str, int]:
    """Copy the run's own small files, its tables and perhaps its model; what stays behind, with its bytes."""
    heavy = RunDirectory(source / MODEL).size()
    if weights and heavy > LARGEST_WEIGHTS:
        raise RunError(
            f"run {source.name}: its weights have {heavy / 1e6:.1f} MB, and a ledger keeps at most "
            f"{LARGEST_WEIGHTS / 1e6:.0f} MB; keep the run without them, or put them elsewhere with 'runs export'"
        )
    left_out = {}
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        part, size = file.relative_to(source), file.stat().st_size
        own = len(part.parts) == 1
        if part.name in ("lock", "run.json") or (own and part.name in ("metrics.json", "evidence.json")):
            continue
        if own and file.suffix == ".parquet" and (predictions or part.name not in BY_VARIANT):
            table = pq.read_table(file)
            if part.name == PREDICTIONS and not labels:
                table = table.select([name for name in table.column_names if "." in name or name in WITHOUT_LABELS])
                table = table.replace_schema_metadata(None)
            with atomic_write(target / part, "wb") as handle:
                pq.write_table(table, handle, compression="zstd", compression_level=15)
        elif (own and file.suffix in KEPT_SUFFIXES and size <= LARGEST_FILE) or (weights and part.parts[0] == MODEL):
            (target / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / part)
        else:
            left_out[part.as_posix()] = size
    return left_out


def export_run(run: RunDirectory, out: Path) -> Path:
    """Pack a finished run's folder into one .tar.gz, without its lock and checkpoints; written atomically."""
    if run.state() != "finished":
        raise RunError(f"run {run.name} is {run.state()}; only a finished run can be exported")
    with atomic_write(out, "wb") as handle, tarfile.open(fileobj=handle, mode="w:gz") as archive:
        for file in sorted(run.path.rglob("*")):
            part = file.relative_to(run.path)
            if file.is_file() and part.name != "lock" and CHECKPOINTS not in part.parts:
                archive.add(file, arcname=f"{run.name}/{part.as_posix()}")
    return out


class Sorted(NamedTuple):
    """A run that may go, or one that stays.

    Attributes:
        why: smoke, failed, interrupted, damaged, stale or "never begun"; or, in words, why it stays.
        reason: what a run that may go says of its state; empty where it says nothing.
        bytes: what removing it frees.
    """

    run: RunDirectory
    why: str
    reason: str = ""
    bytes: int = 0


def sort_runs(workspace: Workspace) -> tuple[list[Sorted], list[Sorted]]:
    """Which of the folder's own runs may go, and which stay.

    Smoke, failed, interrupted, damaged and stale runs may go, and folders of runs that ended before they said anything
    of themselves; whatever a process holds stays. The ledger keeps every line.
    """
    found, kept = [], []
    for path in sorted(workspace.root.iterdir()) if workspace.root.is_dir() else ():
        run, begun = RunDirectory(path), any((path / name).exists() for name in WRITTEN_FIRST)
        if not (path / "run.json").is_file() and not (begun and RUN_NAME.fullmatch(path.name)):
            continue
        if _is_held(run):
            kept.append(Sorted(run, "a process works on it"))
            continue
        state = run.state()
        why: str = state if state != "finished" else "stale" if run.stale() else ""
        why = "smoke" if run.record().get("smoke") else "never begun" if why == "new" else why
        if why:
            found.append(Sorted(run, why, run.stale() if why == "stale" else run.reason(), run.size()))
        else:
            kept.append(Sorted(run, "finished and current"))
    return found, kept


def _is_held(run: RunDirectory) -> bool:
    """Whether a process works on the run or on one of its folds, which are held one by one where they train."""
    return any(RunDirectory(lock.parent).is_taken() for lock in run.path.rglob("lock"))


def remove_run(run: RunDirectory) -> None:
    """Delete a run's folder, its lock last; a RunError where a process works on it, or it cannot be deleted."""
    if _is_held(run):
        raise RunError(f"run {run.name} is being worked on by another process")
    with run.taken():
        try:
            run.empty()
            # While the lock is held: who waits for the run finds its folder gone and begins a new one.
            shutil.rmtree(run.path)
        except OSError as error:
            raise RunError(f"run {run.name} cannot be deleted: {error.strerror or error}: {error.filename}") from error
