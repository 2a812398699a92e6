"""A folder of runs that may only be read: a disk mounted for reading, a colleague's runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meta_spliceai.errors import InputError
from meta_spliceai.experiments.execute.queue import InProcess, Request, run_queue
from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.keep_runs import sort_runs
from meta_spliceai.experiments.store.workspace import Workspace
from tests.experiments.silent import Silent

Rows = dict[str, ExperimentSpec]


@pytest.fixture
def locked(toy_row: ExperimentSpec, workspace: Workspace, catalogue: Rows, tmp_path: Path) -> Iterator[Workspace]:
    """A folder with one finished run that cannot be written to, not even by root."""
    run_experiment(toy_row, workspace, "cpu", rows=catalogue)
    if os.geteuid() != 0:
        for path in (workspace.root, *workspace.root.rglob("*")):
            path.chmod(path.stat().st_mode & ~0o222)
        yield workspace
        for path in (workspace.root, *workspace.root.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)
        return
    seen = tmp_path / "seen"
    seen.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None or subprocess.run([mount, "--bind", workspace.root, seen]).returncode != 0:
        pytest.skip("root may write anywhere, and may not mount here")
    try:
        subprocess.run([mount, "-o", "remount,bind,ro", seen], check=True)
        yield Workspace(seen)
    finally:
        subprocess.run([umount, seen], check=True)


def test_a_finished_run_is_returned_and_a_new_one_refused_before_it_is_computed(
    toy_row: ExperimentSpec, catalogue: Rows, locked: Workspace, heard: Any
) -> None:
    callback = Silent()
    outcome = run_experiment(toy_row, locked, "cpu", rows=catalogue, callback=callback)
    assert outcome.reused
    assert "is finished already; nothing is computed again" in callback.lines[-1]
    # A queue leaves it to the row to say whether it has to write.
    (queued,) = run_queue([Request(toy_row, catalogue, locked.root, "cpu")], InProcess(), heard)
    assert queued.reused
    # The same row with another seed, and a row that never ran here.
    seed = toy_row.training.model_copy(update={"seed": 7})
    for row in (toy_row.model_copy(update={"training": seed}), toy_row.model_copy(update={"id": "another"})):
        with pytest.raises(InputError, match="cannot be written to"):
            run_experiment(row, locked, "cpu", rows=catalogue)


def test_a_stale_run_is_said_to_be_stale_where_it_cannot_be_marked(
    toy_row: ExperimentSpec, catalogue: Rows, locked: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meta_spliceai.experiments.run.runner.code_version", lambda: "0.2.0+new")
    callback = Silent()
    with pytest.raises(InputError, match="cannot be written to"):
        run_experiment(toy_row, locked, "cpu", rows=catalogue, callback=callback)
    assert any("is stale: the code changed from" in line for line in callback.lines)


def test_whether_a_process_works_on_a_run_is_known_without_writing(locked: Workspace, workspace: Workspace) -> None:
    (seen,), (run,) = locked.own_runs(), workspace.own_runs()
    assert not seen.is_taken()
    assert [kept.why for kept in sort_runs(locked)[1]] == ["finished and current"]
    with pytest.raises(OSError, match=r"Read-only|denied"), seen.taken():
        pass
    if seen.path == run.path:  # The lock cannot be taken by anyone.
        return
    with run.taken():
        assert seen.is_taken()
        assert [kept.why for kept in sort_runs(locked)[1]] == ["a process works on it"]
