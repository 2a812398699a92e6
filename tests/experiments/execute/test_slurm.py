"""Slurm through submitit, whose local executor takes the same way."""

from __future__ import annotations

import os
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
from meta_spliceai.experiments.execute import on_slurm
from meta_spliceai.experiments.execute.on_slurm import Resumable, Slurm, parse_settings
from meta_spliceai.experiments.execute.queue import Answer, Request, Task, run_queue
from meta_spliceai.experiments.run.runner import Outcome
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.workspace import Workspace
from tests.experiments.execute import toys
from tests.experiments.silent import Silent

Rows = dict[str, ExperimentSpec]

needs_submitit = pytest.mark.skipif(find_spec("submitit") is None, reason="the extra 'slurm' is not installed")


@pytest.fixture
def tests_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs find the tests' own modules."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]), prepend=os.pathsep)


def slurm(workspace: Workspace, heard: Any, entry: Callable[[Request], Answer], **settings: object) -> Slurm:
    return Slurm(workspace.root, heard, [f"{key}={value}" for key, value in settings.items()], entry)


def _dies(request: Request) -> Answer:
    raise ValueError("no luck")


@needs_submitit
@pytest.mark.slow
@pytest.mark.usefixtures("tests_at_hand")
def test_jobs_run_rows_and_an_ensemble_waits_for_its_members(
    with_ensemble: Rows, workspace: Workspace, heard: Any
) -> None:
    requests = [Request(with_ensemble["both"], with_ensemble, workspace.root, "cpu")]
    executor = slurm(workspace, heard, toys.on_slurm, cluster="local", timeout_min=10)
    outcomes = run_queue(requests, executor, heard)
    assert {outcome.spec.id: outcome.error for outcome in outcomes} == {"toy-row": None, "toy-43": None, "both": None}
    assert [entry["row"] for entry in workspace.ledger.finished()][-1] == "both"
    assert heard.lines[-1] == "both: done"
    logs = list((workspace.root / "slurm").glob("*.out"))
    assert len(logs) == 3
    assert any("trained 3 epochs" in log.read_text(encoding="utf-8") for log in logs)


@needs_submitit
@pytest.mark.slow
@pytest.mark.usefixtures("tests_at_hand")
def test_a_job_without_an_answer_is_a_failure_with_its_reason(
    three_rows: Rows, workspace: Workspace, heard: Any
) -> None:
    requests = [Request(three_rows["toy-row"], three_rows, workspace.root, "cpu")]
    (outcome,) = run_queue(requests, slurm(workspace, heard, _dies, cluster="local"), heard)
    assert "ended without an answer" in str(outcome.error)
    assert "no luck" in str(outcome.error)


@needs_submitit
def test_a_job_that_is_stopped_is_submitted_again_and_resumed(three_rows: Rows, workspace: Workspace) -> None:
    request = Request(three_rows["toy-row"], three_rows, workspace.root, "cpu", fresh=True)
    again = Resumable(toys.on_slurm).checkpoint(request)
    assert isinstance(again.function, Resumable)
    assert (again.args[0].resume, again.args[0].fresh) == (True, False)


@needs_submitit
def test_without_slurm_there_is_a_way_out(workspace: Workspace, heard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingResourceError, match="cluster=local"):
        Slurm(workspace.root, heard)


class Job:
    """A job of submitit's, as far as the executor looks at it."""

    def __init__(self, number: int, folder: Path) -> None:
        self.job_id = str(number)
        self.paths = SimpleNamespace(result_pickle=folder / f"{number}.pkl", stdout="out", stderr="err")
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def exception(self) -> None:
        return None

    def result(self) -> Answer:
        return Answer()


class Cluster:
    """A Slurm whose squeue says what it is told to, and nothing but an error where that is empty."""

    def __init__(self, folder: Path, heard: Any, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said = folder / "said"
        program = folder / "bin" / "squeue"
        program.parent.mkdir()
        say = f"#!/bin/sh\nif [ -s {self.said} ]; then cat {self.said}; else echo no controller >&2; exit 1; fi\n"
        program.write_text(say)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        for name in ("SECONDS_BETWEEN_LOOKS", "SECONDS_BETWEEN_QUESTIONS", "PATIENCE_SECONDS"):
            monkeypatch.setattr(on_slurm, name, 0.0)
        self.jobs = [Job(number, folder) for number in range(1, 6)]
        jobs = iter(self.jobs)
        submitit = SimpleNamespace(submit=lambda *_: next(jobs))
        monkeypatch.setattr(on_slurm, "_submitit_executor", lambda *_: submitit)
        self.slurm = Slurm(folder, heard)
        self.row = rows["toy-row"]

    def submit(self, count: int) -> None:
        for number in range(1, count + 1):
            task = Task(str(number), Request(self.row, {}, Path("runs")))
            self.slurm.begin(task, Silent())

    def collect(self, said: str) -> dict[str, str | None]:
        self.said.write_text(said)
        found = {}
        for key, answer in self.slurm.collect(1):
            assert isinstance(answer, Answer)
            found[key] = answer.error
        return found


@pytest.fixture
def cluster(tmp_path: Path, heard: Any, three_rows: Rows, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A Slurm that waits for nothing."""
    return Cluster(tmp_path, heard, three_rows, monkeypatch)


def test_a_job_that_ends_without_an_answer_is_lost_and_others_are_not(cluster: Cluster) -> None:
    cluster.submit(5)
    cluster.jobs[4].paths.result_pickle.touch()
    said = "1|CANCELLED|None\n2|RUNNING|None\n3|TIMEOUT|TimeLimit\n5|COMPLETED|None\n"
    assert cluster.collect(said) == {
        "1": "job 1 ended as CANCELLED without an answer; its output is in err",
        "3": "job 3 ended as TIMEOUT (TimeLimit) without an answer; its output is in err",
        "4": "job 4 is gone from the queue without an answer; its output is in err",
        "5": None,
    }


def test_an_answer_may_be_late_and_a_job_requeued(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_slurm, "PATIENCE_SECONDS", 60.0)
    cluster.submit(1)
    for state in ("PREEMPTED|None", "PENDING|BeginTime", "RUNNING|None", "COMPLETED|None"):
        assert cluster.collect(f"1|{state}\n") == {}
    monkeypatch.setattr(on_slurm, "PATIENCE_SECONDS", 0.0)
    assert list(cluster.collect("1|COMPLETED|None\n")) == ["1"]


def test_a_job_that_can_never_start_is_cancelled_and_one_that_waits_says_why_once(cluster: Cluster, heard: Any) -> None:
    cluster.submit(2)
    heard.lines.clear()
    lost = cluster.collect("1|PENDING|PartitionTimeLimit\n2|PENDING|Resources\n")
    assert str(lost["1"]).startswith("job 1 can never start (PartitionTimeLimit): change --slurm timeout_min")
    assert [job.cancelled for job in cluster.jobs[:2]] == [True, False]
    assert cluster.collect("2|PENDING|Resources\n") == {}
    assert heard.lines == ["toy-row: waits in Slurm's queue (Resources)"]


def test_a_silent_squeue_is_said_once_and_waited_for(cluster: Cluster, heard: Any) -> None:
    cluster.submit(1)
    heard.lines.clear()
    assert [cluster.collect(""), cluster.collect("")] == [{}, {}]
    assert heard.lines == ["squeue does not answer (no controller); waiting"]


def test_interrupted_jobs_are_cancelled(cluster: Cluster) -> None:
    cluster.submit(2)
    cluster.slurm.interrupt("stopped by the user")
    assert [job.cancelled for job in cluster.jobs[:2]] == [True, True]
    assert cluster.collect("") == {"1": "stopped by the user", "2": "stopped by the user"}


def _no_slurm() -> str:
    """Why Slurm cannot be used here; empty where it can."""
    if shutil.which("sinfo") is None:
        return "no Slurm on this machine"
    answer = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True, check=False)
    return "" if answer.returncode == 0 and answer.stdout else "Slurm does not answer here"


@needs_submitit
@pytest.mark.slow
@pytest.mark.usefixtures("tests_at_hand")
def test_a_row_on_a_real_slurm(three_rows: Rows, workspace: Workspace, heard: Any) -> None:
    if reason := _no_slurm():
        pytest.skip(reason)
    requests = [Request(three_rows["toy-row"], three_rows, workspace.root, "cpu")]

    def run(**settings: object) -> Outcome:
        (outcome,) = run_queue(requests, slurm(workspace, heard, toys.on_slurm, **settings), heard)
        return outcome

    first, again = run(timeout_min=10, cpus_per_task=1), run(timeout_min=10, cpus_per_task=1)
    assert [(one.error, one.reused) for one in (first, again)] == [(None, False), (None, True)]
    assert "Slurm does not take the job" in str(run(partition="no-such-one").error)


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


def test_without_submitit_the_extra_is_named(workspace: Workspace, heard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(MissingExtraError, match=r"needs the optional extra 'slurm'"):
        Slurm(workspace.root, heard)
