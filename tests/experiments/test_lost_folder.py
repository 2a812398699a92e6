"""The disk goes while a run goes on: the run says what happened, writes nowhere else, and goes on when it is back."""

from __future__ import annotations

import errno
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.experiments import runner
from meta_spliceai.experiments.executors.local import run_queue
from meta_spliceai.experiments.executors.request import Request
from meta_spliceai.experiments.executors.screen import OneWatcher
from meta_spliceai.experiments.lost_folder import FolderWatch, storage_error
from meta_spliceai.experiments.runner import run_experiment
from meta_spliceai.experiments.spec import ExperimentSpec
from meta_spliceai.experiments.watcher import Silent
from meta_spliceai.experiments.workspace import Workspace
from tests.conftest import RunCli

Rows = dict[str, ExperimentSpec]


class AfterOneEpoch(Silent):
    """Does something to the disk when the first epoch has ended."""

    def __init__(self, deed: Any) -> None:
        super().__init__()
        self.deed = deed

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        super().tell(kind, facts)
        if kind == "epoch" and self.deed is not None:
            deed, self.deed = self.deed, None
            deed()


def test_a_run_whose_folder_is_deleted_stops_and_the_ledger_says_why(
    toy_row: ExperimentSpec, workspace: Workspace, catalogue: Rows
) -> None:
    watcher = AfterOneEpoch(lambda: shutil.rmtree(workspace.runs()[0].path))
    with pytest.raises(RunError, match=r"toy-row-\w+ is gone: it was deleted, .* run the row anew"):
        run_experiment(toy_row, workspace, "cpu", rows=catalogue, watcher=watcher)
    assert workspace.runs() == []
    (entry,) = workspace.ledger.entries()
    assert entry["event"] == "failed"
    assert "is gone" in entry["reason"]


@pytest.mark.parametrize("below", ["nothing", "a mount point"])
def test_a_run_whose_mount_goes_writes_nowhere_else_and_goes_on_when_it_is_back(
    toy_row: ExperimentSpec, workspace: Workspace, catalogue: Rows, tmp_path: Path, below: str
) -> None:
    away = tmp_path / "away"

    def unmount() -> None:
        workspace.root.rename(away)
        if below == "a mount point":
            workspace.root.mkdir()

    with pytest.raises(RunError, match=r"put the disk or mount back and go on with --resume"):
        run_experiment(toy_row, workspace, "cpu", rows=catalogue, watcher=AfterOneEpoch(unmount))
    assert not list(workspace.root.rglob("*.json*"))  # nothing on the disk below
    shutil.rmtree(workspace.root, ignore_errors=True)
    away.rename(workspace.root)
    (run,) = workspace.runs()
    assert run.state() == "interrupted"
    outcome = run_experiment(toy_row, workspace, "cpu", resume=True, rows=catalogue)
    assert outcome.run is not None
    assert outcome.run.record()["training"]["resumed_from"] >= 1


def test_a_full_disk_is_known_through_what_a_library_made_of_it(
    toy_row: ExperimentSpec, workspace: Workspace, catalogue: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*_: Any) -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "/runs/x")
        except OSError:
            raise RuntimeError("unexpected pos 109888 vs 109776")  # noqa: B904 (as torch.save does)

    monkeypatch.setattr(runner, "judge", write)
    with pytest.raises(RunError, match=r"No space left on device: /runs/x; free space there .*runs prune.* --resume"):
        run_experiment(toy_row, workspace, "cpu", rows=catalogue)
    assert workspace.runs()[0].reason() == "No space left on device: /runs/x"


def test_the_queue_begins_no_row_in_another_folder(toy_row: ExperimentSpec, workspace: Workspace) -> None:
    worker = (
        "import json, os, sys\n"
        "for line in sys.stdin:\n"
        "    folder = json.loads(line)['runs_dir']\n"
        "    os.rename(folder, folder + '.away')\n"
        "    print(json.dumps({'answer': {'error': 'the disk is gone'}}), flush=True)\n"
    )
    other = toy_row.model_copy(update={"id": "other"})
    rows = {row.id: row for row in (toy_row, other)}
    outcomes = run_queue(
        [Request(row, rows, workspace.root, "cpu") for row in rows.values()],
        OneWatcher(Silent()),
        command=(sys.executable, "-c", worker),
    )
    first, second = (str(outcome.error) for outcome in outcomes)
    assert first == "the disk is gone"
    assert second.startswith(f"not begun: {workspace.root} is gone")
    assert not workspace.root.exists()


def test_a_folder_that_cannot_be_written_to_is_said_before_anything_is_computed(
    toy_row: ExperimentSpec, catalogue: Rows, tmp_path: Path, run_cli: RunCli
) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "runs"):
        watcher = Silent()
        with pytest.raises(InputError, match=r"a file stands in its place.*--runs-dir or META_SPLICEAI_RUNS"):
            run_experiment(toy_row, Workspace(root), "cpu", rows=catalogue, watcher=watcher)
        assert watcher.lines == []


def test_folders_are_known_by_what_they_are_not_by_their_names(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    with FolderWatch(one, two) as folders:
        assert folders.lost() == ""
        two.rmdir()
        assert folders.lost(one) == ""
        assert folders.lost().startswith(f"{two} is gone")
        two.mkdir()
        assert folders.lost(two).startswith(f"{two} is another folder than before")
        with pytest.raises(RunError, match="another folder"):
            folders.check()


def test_only_failures_of_a_disk_count_as_such() -> None:
    assert storage_error(ValueError("x")) is None
    assert storage_error(FileNotFoundError(errno.ENOENT, "No such file")) is None
    stale = OSError(errno.ESTALE, "Stale file handle")
    error = RunError("cannot be read")
    error.__cause__ = stale
    assert storage_error(error) is stale
    first, second = ValueError(), ValueError()
    first.__context__, second.__context__ = second, first
    assert storage_error(first) is None
