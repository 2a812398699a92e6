"""Ray for real, on this machine's cores: members, folds and rows are tasks in processes of their own."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from meta_spliceai.errors import InputError, MissingExtraError, MissingResourceError
from meta_spliceai.experiments.executors.on_ray import run_on_ray
from meta_spliceai.experiments.executors.request import Request
from meta_spliceai.experiments.rows import change
from meta_spliceai.experiments.runner import run_experiment
from meta_spliceai.experiments.spec import ExperimentSpec
from meta_spliceai.experiments.workspace import Workspace
from tests.experiments.executors import toy_entries

Rows = dict[str, ExperimentSpec]

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the extra 'ray' is not installed")


@pytest.fixture
def tests_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's processes find the tests' own modules."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))


@needs_ray
@pytest.mark.slow
@pytest.mark.usefixtures("tests_at_hand")
def test_rows_folds_and_members_fan_out_and_the_results_are_those_of_one_process(
    with_ensemble: Rows, workspace: Workspace, tmp_path: Path, heard: Any
) -> None:
    folded = change(with_ensemble["toy-45"], ["split.folds=3"]).model_copy(update={"id": "folded"})
    rows = {**with_ensemble, "folded": folded}
    alone = run_experiment(folded, Workspace(tmp_path / "alone"), "cpu", rows=rows).run
    requests = [Request(rows[name], rows, workspace.root, "cpu") for name in ("folded", "both")]
    outcomes = run_on_ray(requests, heard, entry=toy_entries.on_ray)
    assert {outcome.spec.id: outcome.error for outcome in outcomes} == {
        "toy-row": None,
        "toy-43": None,
        "folded": None,
        "both": None,
    }
    assert {entry["row"] for entry in workspace.ledger.finished()} == {"toy-row", "toy-43", "both", "folded"}
    run = next(run for run in workspace.runs() if run.row_id == "folded")
    assert alone is not None
    for made, expected in zip(run.metrics()["metrics"], alone.metrics()["metrics"], strict=True):
        assert made == expected
    # Each fold was a task of its own, and the row found all of them finished.
    for fold in (1, 2, 3):
        said = heard.rows[f"folded fold {fold}"]
        assert said.lines[0].startswith(f"part {fold} in process ")
        assert [kind for kind, _ in said.facts].count("epoch") == 3
        assert f"fold {fold} is finished already" in heard.rows["folded"].lines
    processes = {lines.lines[0].rpartition(" ")[2] for lines in heard.rows.values()}
    assert len(processes) > 1
    assert run.record()["seconds_by_step"]["training"] > 0
    # Once more: everything is there.
    again = run_on_ray(requests, heard, entry=toy_entries.on_ray)
    assert all(outcome.reused for outcome in again)


@needs_ray
@pytest.mark.slow
@pytest.mark.usefixtures("tests_at_hand")
def test_a_killed_task_is_an_interrupted_run_and_the_others_go_on(
    three_rows: Rows, workspace: Workspace, tmp_path: Path, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_MISCHIEF", f"41:sigkill:{tmp_path / 'done'}")
    requests = [Request(three_rows[name], three_rows, workspace.root, "cpu") for name in ("toy-row", "toy-43")]
    outcomes = run_on_ray(requests, heard, entry=toy_entries.on_ray)
    assert {outcome.spec.id: outcome.failed for outcome in outcomes} == {"toy-row": True, "toy-43": False}
    lost = next(run for run in workspace.runs() if run.row_id == "toy-row")
    assert lost.state() == "interrupted"
    assert lost.reason().startswith("its process is gone")


@needs_ray
@pytest.mark.slow
def test_a_gpu_that_is_not_there_and_a_cluster_that_is_not_there_are_said(
    three_rows: Rows, workspace: Workspace, heard: Any
) -> None:
    requests = [Request(three_rows["toy-row"], three_rows, workspace.root, "cpu")]
    with pytest.raises(InputError, match="--gpus-per-run 1000: the cluster has"):
        run_on_ray(requests, heard, gpus_per_run=1000)
    with pytest.raises(MissingResourceError, match="no Ray cluster there"):
        run_on_ray(requests, heard, address="127.0.0.1:1")
    with pytest.raises(InputError, match="write auto, HOST:PORT"):
        run_on_ray(requests, heard, address="127.0.0.1")


def test_without_ray_the_extra_is_named(
    three_rows: Rows, workspace: Workspace, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    requests = [Request(three_rows["toy-row"], three_rows, workspace.root, "cpu")]
    with pytest.raises(MissingExtraError, match=r"needs the optional extra 'ray'"):
        run_on_ray(requests, heard)
