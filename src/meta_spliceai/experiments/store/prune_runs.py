"""Which runs may go, and what of a run may be handed on."""

from __future__ import annotations

import re
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from meta_spliceai.errors import RunError
from meta_spliceai.experiments.run.job import CHECKPOINTS
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace
from meta_spliceai.files import atomic_write

RUN_NAME = re.compile(r".+-[0-9a-f]{12}")
WRITTEN_FIRST = ("lock", "spec.yaml", CHECKPOINTS)
"""What a run writes before its record, or once more where its folder was taken away under it."""


@dataclass(frozen=True)
class Prunable:
    """A run that may go.

    Attributes:
        run: its folder.
        why: smoke, failed, interrupted, damaged, stale or "never begun".
        reason: what the run says of its state; empty where it says nothing.
        bytes: what removing it frees.
    """

    run: RunDirectory
    why: str
    reason: str
    bytes: int


@dataclass(frozen=True)
class Kept:
    """A run that stays, and why."""

    run: RunDirectory
    why: str


def sort_runs(workspace: Workspace) -> tuple[list[Prunable], list[Kept]]:
    """Which of the folder's own runs may go, and which stay.

    Smoke, failed, interrupted, damaged and stale runs may go, and folders of runs that ended before they said anything
    of themselves; whatever a process holds stays. The ledger keeps every line.
    """
    found: list[Prunable] = []
    kept: list[Kept] = []
    for run in _folders_of_runs(workspace.root):
        if _is_held(run):
            kept.append(Kept(run, "a process works on it"))
            continue
        state, record = run.state(), run.record()
        why: str = state if state != "finished" else "stale" if run.stale() else ""
        why = "smoke" if record.get("smoke") else "never begun" if why == "new" else why
        if not why:
            kept.append(Kept(run, "finished and current"))
            continue
        size = sum(file.stat().st_size for file in run.path.rglob("*") if file.is_file())
        found.append(Prunable(run, why, run.stale() if why == "stale" else run.reason(), size))
    return found, kept


def _folders_of_runs(root: Path) -> list[RunDirectory]:
    """Folders with a run's name and anything that a run writes: its lock, its specification, its record."""
    if not root.is_dir():
        return []
    return [
        RunDirectory(path)
        for path in sorted(root.iterdir())
        if (path / "run.json").is_file()
        or (RUN_NAME.fullmatch(path.name) and any((path / name).exists() for name in WRITTEN_FIRST))
    ]


def _is_held(run: RunDirectory) -> bool:
    """Whether a process works on the run or on one of its folds, which are held one by one where they train."""
    return any(RunDirectory(lock.parent).is_taken() for lock in run.path.rglob("lock"))


def remove_run(run: RunDirectory) -> None:
    """Delete a run's folder, its lock last.

    Raises:
        RunError: a process works on it; or the folder cannot be deleted.
    """
    if _is_held(run):
        raise RunError(f"run {run.name} is being worked on by another process")
    with run.taken():
        try:
            for entry in run.path.iterdir():
                if entry.name != "lock":
                    shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
            # While the lock is held: who waits for the run finds its folder gone and begins a new one.
            shutil.rmtree(run.path)
        except OSError as error:
            raise RunError(f"run {run.name} cannot be deleted: {error.strerror or error}: {error.filename}") from error


def export_run(run: RunDirectory, out: Path) -> Path:
    """Pack a finished run's folder into one .tar.gz, without its lock and checkpoints; written whole or not at all.

    Raises:
        RunError: the run is not finished.
    """
    if run.state() != "finished":
        raise RunError(f"run {run.name} is {run.state()}; only a finished run can be exported")
    with atomic_write(out, "wb") as handle, tarfile.open(fileobj=handle, mode="w:gz") as archive:
        for file in sorted(run.path.rglob("*")):
            part = file.relative_to(run.path)
            if file.is_file() and part.name != "lock" and CHECKPOINTS not in part.parts:
                archive.add(file, arcname=f"{run.name}/{part.as_posix()}")
    return out
