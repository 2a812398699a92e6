"""Slurm through submitit, whose local executor takes the same way."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from meta_spliceai.errors import InputError, MissingExtraError, MissingResourceError
from meta_spliceai.experiments.executors.on_slurm import Resumable, parse_settings, run_on_slurm
from meta_spliceai.experiments.executors.request import Request
from meta_spliceai.experiments.spec import ExperimentSpec
from meta_spliceai.experiments.workspace import Workspace
from tests.experiments.executors import toy_entries

Rows = dict[str, ExperimentSpec]

needs_submitit = pytest.mark.skipif(find_spec("submitit") is None, reason="the extra 'slurm' is not installed")


@needs_submitit
@pytest.mark.slow
def test_jobs_run_rows_and_an_ensemble_waits_for_its_members(
    with_ensemble: Rows, workspace: Workspace, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
    requests = [Request(with_ensemble["both"], with_ensemble, workspace.root, "cpu")]
    outcomes = run_on_slurm(requests, heard, settings=["cluster=local", "timeout_min=10"], entry=toy_entries.on_slurm)
    assert {outcome.spec.id: outcome.error for outcome in outcomes} == {"toy-row": None, "toy-43": None, "both": None}
    assert [entry["row"] for entry in workspace.ledger.finished()][-1] == "both"
    assert heard.lines[-1] == "both: done"
    logs = list((workspace.root / "slurm").glob("*.out"))
    assert len(logs) == 3
    assert any("trained 3 epochs" in log.read_text(encoding="utf-8") for log in logs)


def _dies(request: dict[str, Any]) -> dict[str, Any]:
    raise ValueError("no luck")


@needs_submitit
@pytest.mark.slow
def test_a_job_without_an_answer_is_a_failure_with_its_reason(
    three_rows: Rows, workspace: Workspace, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
    requests = [Request(three_rows["toy-row"], three_rows, workspace.root, "cpu")]
    (outcome,) = run_on_slurm(requests, heard, settings=["cluster=local"], entry=_dies)
    assert "ended without an answer" in str(outcome.error)
    assert "no luck" in str(outcome.error)


@needs_submitit
def test_a_job_that_is_stopped_is_submitted_again_and_resumed(three_rows: Rows, workspace: Workspace) -> None:
    request = Request(three_rows["toy-row"], three_rows, workspace.root, "cpu", fresh=True).to_json()
    again = Resumable(toy_entries.on_slurm).checkpoint(request)
    assert isinstance(again.function, Resumable)
    assert (again.args[0]["resume"], again.args[0]["fresh"]) == (True, False)


@needs_submitit
def test_without_slurm_there_is_a_way_out(
    three_rows: Rows, workspace: Workspace, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    requests = [Request(three_rows["toy-row"], three_rows, workspace.root, "cpu")]
    with pytest.raises(MissingResourceError, match="cluster=local"):
        run_on_slurm(requests, heard)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("partition", "write key=value"),
        ("partitions=gpu", "did you mean partition"),
        ("timeout_min=soon", "timeout_min is a whole number above 0"),
        ("cluster=moon", "unknown cluster 'moon'"),
    ],
)
def test_a_bad_setting_is_named(setting: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_settings([setting])


def test_settings_have_their_kinds() -> None:
    assert parse_settings(["partition=gpu", "timeout_min=60", "gres=gpu:a100:1"]) == {
        "partition": "gpu",
        "timeout_min": 60,
        "gres": "gpu:a100:1",
    }


def test_without_submitit_the_extra_is_named(
    three_rows: Rows, workspace: Workspace, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    requests = [Request(three_rows["toy-row"], three_rows, workspace.root, "cpu")]
    with pytest.raises(MissingExtraError, match=r"needs the optional extra 'slurm'"):
        run_on_slurm(requests, heard)
