"""The repository's ledger: small, readable as a folder of runs, and only of what is a result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.experiments.report.site import build_report
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.spec.rows import as_smoke
from meta_spliceai.experiments.store.keep_runs import keep_runs
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace
from tests.conftest import RunCli


@pytest.fixture
def finished(toy_runs: Workspace, workspace: Workspace) -> RunDirectory:
    """A copy of the toy row's run in this test's folder of runs."""
    shutil.copytree(toy_runs.root, workspace.root)
    (run,) = workspace.runs()
    return run


def test_a_run_is_kept_without_what_is_heavy_and_read_as_any_run(
    finished: RunDirectory, workspace: Workspace, tmp_path: Path
) -> None:
    (kept,) = keep_runs(workspace, [], tmp_path / "results", predictions=True)
    there = Workspace(tmp_path / "results")
    (run,) = there.runs()
    assert run.name == finished.name
    assert run.state() == "finished"
    assert run.metrics() == finished.metrics()
    assert run.spec() == finished.spec()
    pd.testing.assert_frame_equal(run.read_predictions(), finished.read_predictions())
    assert not (run.path / "model").exists()
    assert {"all_predictions.npy", "model/config.json"} <= kept.left_out.keys()
    assert run.record()["left_out"] == kept.left_out
    assert run.evidence() == finished.evidence()
    assert "metrics" not in json.loads((run.path / "metrics.json").read_text())
    keep_runs(there, [], tmp_path / "merged", predictions=True)
    assert Workspace(tmp_path / "merged").runs()[0].metrics() == finished.metrics()
    assert Workspace(tmp_path / "merged").runs()[0].record()["left_out"] == kept.left_out
    (line,) = there.ledger.finished()
    assert line["metrics"] == workspace.ledger.finished()[0]["metrics"]
    seen = Workspace(tmp_path / "elsewhere", ledgers=(tmp_path / "results",))
    assert [entry["run"] for entry in seen.finished()] == [finished.name]


def test_keeping_twice_changes_nothing(finished: RunDirectory, workspace: Workspace, tmp_path: Path) -> None:
    keep_runs(workspace, [finished.name], tmp_path / "results")
    before = (tmp_path / "results" / "ledger.jsonl").read_text()
    keep_runs(workspace, [finished.name[:-4]], tmp_path / "results")
    assert (tmp_path / "results" / "ledger.jsonl").read_text() == before
    assert len(Workspace(tmp_path / "results").runs()) == 1


def test_without_labels_only_the_scores_and_who_they_are_of_are_kept(
    finished: RunDirectory, workspace: Workspace, tmp_path: Path
) -> None:
    keep_runs(workspace, [], tmp_path / "results", predictions=True, labels=False)
    (run,) = Workspace(tmp_path / "results").runs()
    whole, kept = finished.read_predictions(), run.read_predictions()
    scores = [column for column in whole if "." in column]
    assert scores
    assert set(kept) == {"variant_id", "group", "part", *scores}
    pd.testing.assert_frame_equal(kept, whole[list(kept)])
    assert run.metrics() == finished.metrics()
    build_report(Workspace(tmp_path / "empty", ledgers=(tmp_path / "results",)), tmp_path / "site")
    assert finished.name in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")


def test_weights_only_when_asked_for_and_small(
    finished: RunDirectory, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_runs(workspace, [], tmp_path / "results", weights=True)
    assert (tmp_path / "results" / finished.name / "model" / "config.json").is_file()
    monkeypatch.setattr("meta_spliceai.experiments.store.keep_runs.LARGEST_WEIGHTS", 100)
    with pytest.raises(RunError, match="a ledger keeps at most"):
        keep_runs(workspace, [], tmp_path / "other", weights=True)
    assert not Workspace(tmp_path / "other").runs()


def test_what_is_no_result_is_refused(
    finished: RunDirectory, toy_row: ExperimentSpec, workspace: Workspace, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="the folder of the runs itself"):
        keep_runs(workspace, [], workspace.root)
    finished.write_json("run.json", {**finished.record(), "stale": "the code changed"})
    with pytest.raises(RunError, match="is stale"):
        keep_runs(workspace, [finished.name], tmp_path / "results")
    with pytest.raises(RunError, match="there is no finished run"):
        keep_runs(workspace, [], tmp_path / "results")
    finished.write_json("run.json", {**finished.record(), "stale": "", "smoke": True})
    with pytest.raises(InputError, match="never a result"):
        keep_runs(workspace, [finished.name], tmp_path / "results")
    finished.mark("failed", "out of memory")
    with pytest.raises(RunError, match="is failed"):
        keep_runs(workspace, [finished.name], tmp_path / "results")
    assert as_smoke(toy_row).smoke
    assert not (tmp_path / "results").exists()


def test_on_the_command_line(finished: RunDirectory, workspace: Workspace, tmp_path: Path, run_cli: RunCli) -> None:
    command = ["runs", "export", "--runs-dir", str(workspace.root), "--into", str(tmp_path / "results")]
    code, said, _ = run_cli(command)
    assert code == 0
    assert finished.name in said
    assert run_cli([*command, "-o", "x.csv"])[0] == 2
