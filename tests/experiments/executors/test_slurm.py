"""Slurm through submitit, whose local executor takes the same way."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from meta_spliceai.errors import InputError, MissingExtraError, MissingResourceError
from meta_spliceai.experiments.executors import slurm_queue
from meta_spliceai.experiments.executors.on_slurm import Resumable, parse_settings, run_on_slurm
from meta_spliceai.experiments.executors.request import Request
from meta_spliceai.experiments.executors.slurm_queue import SlurmQueue
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


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A squeue that says what it is told to, and nothing but an error where that is empty; patience of no seconds."""
    said = tmp_path / "said"
    program = tmp_path / "bin" / "squeue"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nif [ -s {said} ]; then cat {said}; else echo no controller >&2; exit 1; fi\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setattr(slurm_queue, "SECONDS_BETWEEN_QUESTIONS", 0.0)
    monkeypatch.setattr(slurm_queue, "PATIENCE_SECONDS", 0.0)
    return said.write_text


class Job:
    """A job of submitit's, as far as the queue looks at it."""

    def __init__(self, number: str, folder: Path) -> None:
        self.job_id = number
        self.paths = SimpleNamespace(result_pickle=folder / f"{number}.pkl")
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


def test_a_job_that_ends_without_an_answer_is_lost_and_others_are_not(
    squeue: Callable[[str], None], heard: Any, tmp_path: Path
) -> None:
    jobs = {number: Job(number, tmp_path) for number in ("1", "2", "3", "4", "5")}
    jobs["5"].paths.result_pickle.touch()
    squeue("1|CANCELLED|None\n2|RUNNING|None\n3|TIMEOUT|TimeLimit\n5|COMPLETED|None\n")
    assert SlurmQueue(heard).lost([(f"row {number}", job) for number, job in jobs.items()]) == {
        "1": "ended as CANCELLED without an answer",
        "3": "ended as TIMEOUT (TimeLimit) without an answer",
        "4": "is gone from the queue without an answer",
    }


def test_an_answer_may_be_late_and_a_job_requeued(
    squeue: Callable[[str], None], heard: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_queue, "PATIENCE_SECONDS", 60.0)
    queue, job = SlurmQueue(heard), Job("1", tmp_path)
    for state in ("PREEMPTED|None", "PENDING|BeginTime", "RUNNING|None", "COMPLETED|None"):
        squeue(f"1|{state}\n")
        assert queue.lost([("row", job)]) == {}
    monkeypatch.setattr(slurm_queue, "PATIENCE_SECONDS", 0.0)
    assert queue.lost([("row", job)]) == {"1": "ended as COMPLETED without an answer"}


def test_a_job_that_can_never_start_is_cancelled_and_one_that_waits_says_why_once(
    squeue: Callable[[str], None], heard: Any, tmp_path: Path
) -> None:
    queue, long, waiting = SlurmQueue(heard), Job("1", tmp_path), Job("2", tmp_path)
    squeue("1|PENDING|PartitionTimeLimit\n2|PENDING|Resources\n")
    lost = queue.lost([("long", long), ("waiting", waiting)])
    assert lost == {"1": "can never start (PartitionTimeLimit): change --slurm timeout_min"}
    assert (long.cancelled, waiting.cancelled) == (True, False)
    assert queue.lost([("waiting", waiting)]) == {}
    assert heard.lines == ["waiting: waits in Slurm's queue (Resources)"]


def test_a_silent_squeue_is_said_once_and_waited_for(squeue: Callable[[str], None], heard: Any, tmp_path: Path) -> None:
    queue = SlurmQueue(heard)
    squeue("")
    for _ in range(2):
        assert queue.lost([("row", Job("1", tmp_path))]) == {}
    assert heard.lines == ["squeue does not answer (no controller); waiting"]


def _no_slurm() -> str:
    """Why Slurm cannot be used here; empty where it can."""
    if shutil.which("sinfo") is None:
        return "no Slurm on this machine"
    answer = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True, check=False)
    return "" if answer.returncode == 0 and answer.stdout else "Slurm does not answer here"


@needs_submitit
@pytest.mark.slow
def test_a_row_on_a_real_slurm(
    three_rows: Rows, workspace: Workspace, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := _no_slurm():
        pytest.skip(reason)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
    requests = [Request(three_rows["toy-row"], three_rows, workspace.root, "cpu")]
    settings = ["timeout_min=10", "cpus_per_task=1"]
    (outcome,) = run_on_slurm(requests, heard, settings=settings, entry=toy_entries.on_slurm)
    assert (outcome.error, outcome.reused) == (None, False)
    (again,) = run_on_slurm(requests, heard, settings=settings, entry=toy_entries.on_slurm)
    assert (again.error, again.reused) == (None, True)
    (refused,) = run_on_slurm(requests, heard, settings=["partition=no-such-one"], entry=toy_entries.on_slurm)
    assert "Slurm does not take the job" in str(refused.error)


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
