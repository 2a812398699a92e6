"""Which runs may go, and what of a run may be handed on."""

from __future__ import annotations

import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from meta_spliceai.errors import RunError
from meta_spliceai.experiments.procedures import CHECKPOINTS
from meta_spliceai.experiments.workspace import RunDirectory, Workspace
from meta_spliceai.files import atomic_write


@dataclass(frozen=True)
class Prunable:
    """A run that may go.

    Attributes:
        run: its folder.
        why: smoke, failed, interrupted or stale.
        bytes: what removing it frees.
    """

    run: RunDirectory
    why: str
    bytes: int


def prunable_runs(workspace: Workspace) -> list[Prunable]:
    """Smoke, failed, interrupted and stale runs that no process works on. The ledger keeps their lines."""
    found = []
    for run in workspace.own_runs():
        state = run.state()
        if state == "running":
            continue
        record = run.record()
        why = "smoke" if record.get("smoke") else state if state != "finished" else "stale" if run.stale() else ""
        if why:
            size = sum(file.stat().st_size for file in run.path.rglob("*") if file.is_file())
            found.append(Prunable(run, why, size))
    return found


def remove_run(run: RunDirectory) -> None:
    """Delete a run's folder.

    Raises:
        RunError: a process works on it.
    """
    with run.taken():
        for entry in run.path.iterdir():
            if entry.name != "lock":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    shutil.rmtree(run.path)


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
