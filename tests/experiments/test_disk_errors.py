"""The disk goes while a run goes on: the run says what happened, writes nowhere else, and goes on when it is back."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.experiments.run import runner
from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.workspace import Workspace, disk_error
from tests.conftest import RunCli
from tests.experiments.silent import Silent

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


def test_a_run_whose_folder_is_deleted_stops_and_does_not_make_it_anew(
    toy_row: ExperimentSpec, workspace: Workspace, catalogue: Rows
) -> None:
    callback = AfterOneEpoch(lambda: shutil.rmtree(workspace.runs()[0].path))
    with pytest.raises(RunError, match=r"toy-row-\w+ is gone; .* run the row anew"):
        run_experiment(toy_row, workspace, "cpu", rows=catalogue, callback=callback)
    assert workspace.runs() == []


@pytest.mark.parametrize("below", ["nothing", "a mount point"])
def test_a_run_whose_mount_goes_writes_nowhere_else_and_goes_on_when_it_is_back(
    toy_row: ExperimentSpec, workspace: Workspace, catalogue: Rows, tmp_path: Path, below: str
) -> None:
    away = tmp_path / "away"

    def unmount() -> None:
        workspace.root.rename(away)
        if below == "a mount point":
            workspace.root.mkdir()

    with pytest.raises(RunError, match=r"put the disk back and go on with --resume"):
        run_experiment(toy_row, workspace, "cpu", rows=catalogue, callback=AfterOneEpoch(unmount))
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

    monkeypatch.setattr(runner, "evaluate_run", write)
    with pytest.raises(RunError, match=r"No space left on device: /runs/x; free space there .*runs prune.* --resume"):
        run_experiment(toy_row, workspace, "cpu", rows=catalogue)
    assert workspace.runs()[0].reason() == "No space left on device: /runs/x"


def test_a_folder_that_cannot_be_written_to_is_said_before_anything_is_computed(
    toy_row: ExperimentSpec, catalogue: Rows, tmp_path: Path, run_cli: RunCli
) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "runs"):
        callback = Silent()
        with pytest.raises(InputError, match=r"a file stands in its place.*--runs-dir or META_SPLICEAI_RUNS"):
            run_experiment(toy_row, Workspace(root), "cpu", rows=catalogue, callback=callback)
        assert callback.lines == []


def test_only_failures_of_a_disk_count_as_such() -> None:
    assert disk_error(ValueError("x")) is None
    assert disk_error(FileNotFoundError(errno.ENOENT, "No such file")) is None
    stale = OSError(errno.ESTALE, "Stale file handle")
    error = RunError("cannot be read")
    error.__cause__ = stale
    assert disk_error(error) is stale
    first, second = ValueError(), ValueError()
    first.__context__, second.__context__ = second, first
    assert disk_error(first) is None
