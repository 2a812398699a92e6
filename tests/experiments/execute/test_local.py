"""Worker processes: what befalls one run is that run's state, and the queue goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from meta_spliceai.experiments.execute.local import Local, worker_environments
from meta_spliceai.experiments.execute.queue import TIME_LIMIT, InProcess, Request, run_queue
from meta_spliceai.experiments.run.procedures import shared_seconds
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.spec.rows import change
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace
from tests.experiments.execute import toys

Rows = dict[str, ExperimentSpec]


def requests(rows: Rows, names: list[str], workspace: Workspace, **more: Any) -> list[Request]:
    return [Request(rows[name], rows, workspace.root, "cpu", **more) for name in names]


@pytest.mark.slow
def test_a_killed_worker_is_a_failed_row_that_goes_on_later_and_other_rows_run_beside_it(
    three_rows: Rows,
    workspace: Workspace,
    tmp_path: Path,
    unbroken: dict[str, Any],
    heard: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(toys.MISCHIEF, f"41:sigkill:{tmp_path / 'done'}")
    names = ["toy-row", "toy-43"]
    outcomes = run_queue(requests(three_rows, names, workspace), Local(2, prepare=toys.install), heard)
    assert [outcome.failed for outcome in outcomes] == [True, False]
    lost = next(run for run in workspace.runs() if run.row_id == "toy-row")
    assert lost.state() == "interrupted"
    assert lost.reason().startswith("its process was killed (SIGKILL")
    assert any(line.startswith("error: toy-row: its process was killed") for line in heard.lines)
    assert len({outcome.run.record()["pid"] for outcome in outcomes if outcome.run}) > 1
    kinds = [kind for kind, _ in heard.rows["toy-43"].facts]
    assert kinds.count("epoch") == 3
    assert (kinds[0], kinds[-1]) == ("run", "end")
    assert "evaluation" in heard.rows["toy-43"].lines
    # What is left of it is gone on with, and comes out as if nothing had been.
    again = run_queue(requests(three_rows, names, workspace, resume=True), InProcess(), heard)
    assert [(outcome.failed, outcome.reused) for outcome in again] == [(False, False), (False, True)]
    assert lost.record()["training"]["resumed_from"] == 1
    assert lost.metrics() == unbroken


@pytest.mark.slow
def test_a_defect_ends_its_row_with_the_reason_and_the_last_words(
    three_rows: Rows, workspace: Workspace, tmp_path: Path, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(toys.MISCHIEF, f"41:defect:{tmp_path / 'done'}")
    asked = requests(three_rows, ["toy-row", "toy-43"], workspace)
    outcomes = run_queue(asked, Local(prepare=toys.install), heard)
    assert [outcome.failed for outcome in outcomes] == [True, False]
    assert "ZeroDivisionError" in str(outcomes[0].error)
    assert any("deeds[what]()" in line for line in heard.rows["toy-row"].lines)  # the traceback's end
    run = outcomes[0].run
    assert run is not None
    assert run.state() == "failed"


CTRL_C = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.experiments.execute import toys
toys.install()
from meta_spliceai.experiments.execute.local import Local
from meta_spliceai.experiments.execute.queue import run_queue
from meta_spliceai.experiments.execute.queue import Request
from meta_spliceai.experiments.spec.experiment import parse_spec
from tests.experiments.silent import Silent
from toy_bench import TOY_ROW

class Screen(Silent):
    def row(self, label):
        return self

row = parse_spec(TOY_ROW, "test")
run_queue([Request(row, {row.id: row}, Path(sys.argv[2]), "cpu")], Local(prepare=toys.install), Screen())
"""


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["ctrl-c", "sigterm", "killed"])
def test_ctrl_c_or_the_death_of_the_queue_ends_a_run_cleanly(
    workspace: Workspace, tmp_path: Path, by: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CTRL_C, str(Path(__file__).resolve().parents[3]), str(workspace.root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, toys.MISCHIEF: f"41:hang:{tmp_path / 'done'}"},
    )
    while not (tmp_path / "done").exists():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.1)
    process.send_signal(by)
    process.wait(timeout=90)
    (run,) = workspace.runs()
    deadline = time.monotonic() + 60
    while run.state() == "running" and time.monotonic() < deadline:
        time.sleep(0.1)
    reasons = {
        signal.SIGINT: "stopped by the user",
        signal.SIGTERM: "told to stop (SIGTERM)",
        signal.SIGKILL: "the queue that started it is gone",
    }
    assert (run.state(), run.reason()) == ("interrupted", reasons[by])


@pytest.mark.slow
def test_a_worker_is_interrupted_at_the_time_limit(
    three_rows: Rows, workspace: Workspace, tmp_path: Path, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(toys.MISCHIEF, f"41:hang:{tmp_path / 'done'}")
    local = Local(prepare=toys.install)
    collect = local.collect

    def until_it_hangs(seconds: float) -> Any:
        if (tmp_path / "done").exists() and clock[0] == 0:
            clock[0] = 1e9
        return collect(0.2)

    clock = [0.0]
    monkeypatch.setattr(local, "collect", until_it_hangs)
    monkeypatch.setattr(
        "meta_spliceai.experiments.execute.queue.time.monotonic", lambda now=time.monotonic: now() + clock[0]
    )
    asked = requests(three_rows, ["toy-row", "toy-43"], workspace)
    outcomes = run_queue(asked, local, heard, deadline=time.monotonic() + 1e6)
    assert [(outcome.state, str(outcome.error)) for outcome in outcomes] == [("left", TIME_LIMIT)]
    (run,) = workspace.runs()
    assert (run.state(), run.reason()) == ("interrupted", TIME_LIMIT)


@pytest.mark.slow
def test_with_workers_to_spare_folds_are_trained_side_by_side(
    toy_row: ExperimentSpec,
    folded: RunDirectory,
    workspace: Workspace,
    tmp_path: Path,
    heard: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = change(toy_row, ["split.folds=3"])
    # A fold whose process dies is tried again by its row.
    monkeypatch.setenv(toys.MISCHIEF, f"41:sigkill:{tmp_path / 'done'}")
    local = Local(2, folds_apart=True, prepare=toys.install)
    outcomes = run_queue(requests({row.id: row}, [row.id], workspace), local, heard)
    assert [(outcome.spec.id, outcome.failed) for outcome in outcomes] == [(row.id, False)]
    run = outcomes[0].run
    assert run is not None
    assert run.metrics()["metrics"] == folded.metrics()["metrics"]
    assert folded.record()["training"]["side_by_side"] is False
    finished = [fold for fold in (1, 2, 3) if f"fold {fold} is finished already" in heard.rows[row.id].lines]
    assert len(finished) == 2
    assert all(f"{row.id} fold {fold}" in heard.rows for fold in (1, 2, 3))


def test_workers_share_cores_and_gpus() -> None:
    cores = len(os.sched_getaffinity(0))
    two = worker_environments(2, {}, gpus=2)
    assert [own["OMP_NUM_THREADS"] for own in two] == [str(max(1, cores // 2))] * 2
    assert [own["CUDA_VISIBLE_DEVICES"] for own in two] == ["0", "1"]
    own = worker_environments(3, {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "5,7"}, gpus=2)
    assert [worker["CUDA_VISIBLE_DEVICES"] for worker in own] == ["5", "7", "5"]
    assert all("OMP_NUM_THREADS" not in worker for worker in own)
    assert worker_environments(1, {}, gpus=1) == [{}]
    # One GPU is everybody's; its memory is nobody's share.
    assert all(set(worker) == {"OMP_NUM_THREADS"} for worker in worker_environments(4, {}, gpus=1))


def test_seconds_of_folds_side_by_side_are_not_counted_twice() -> None:
    def shared(*spans: tuple[float, float], boot: str = "one") -> float:
        return shared_seconds([(boot, *span) for span in spans])

    assert shared((0, 10), (10, 20), (20.1, 30)) == 0
    assert shared((5, 15), (0, 10), (20, 30)) == 5
    assert shared((0, 30), (5, 10), (7, 12)) == 10
    # A monotonic clock begins anew when a machine is started, and another machine's says nothing here.
    assert shared_seconds([("one", 0, 10), ("two", 5, 15), ("two", 14, 20)]) == 1
