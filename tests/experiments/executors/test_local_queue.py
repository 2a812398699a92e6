"""A queue of worker processes: what befalls one run is that run's state, and the queue goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from meta_spliceai.experiments.executors.graph import add_folds, failed_need, make_tasks, next_task, outcomes_of
from meta_spliceai.experiments.executors.local import note_lost_run, run_queue, worker_environments
from meta_spliceai.experiments.executors.request import Answer, Request
from meta_spliceai.experiments.executors.screen import OneWatcher
from meta_spliceai.experiments.procedures import shared_seconds
from meta_spliceai.experiments.rows import change
from meta_spliceai.experiments.runner import run_experiment
from meta_spliceai.experiments.spec import ExperimentSpec, parse_spec
from meta_spliceai.experiments.watcher import Silent
from meta_spliceai.experiments.workspace import Workspace
from tests.experiments.executors.toy_worker import MISCHIEF

Rows = dict[str, ExperimentSpec]
TOY_WORKER = (sys.executable, str(Path(__file__).with_name("toy_worker.py")))


def requests(rows: Rows, names: list[str], workspace: Workspace, **more: Any) -> list[Request]:
    return [Request(rows[name], rows, workspace.root, "cpu", **more) for name in names]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "state", "reason"),
    [
        ("sigkill", "interrupted", "its process was killed (SIGKILL)"),
        ("defect", "failed", "ZeroDivisionError"),
    ],
)
def test_what_befalls_one_run_is_its_state_and_the_queue_goes_on(
    three_rows: Rows,
    workspace: Workspace,
    tmp_path: Path,
    unbroken: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    state: str,
    reason: str,
) -> None:
    monkeypatch.setenv(MISCHIEF, f"41:{what}:{tmp_path / 'done'}")
    watcher = Silent()
    names = ["toy-row", "toy-43"]
    outcomes = run_queue(requests(three_rows, names, workspace), OneWatcher(watcher), jobs=1, command=TOY_WORKER)
    assert [(outcome.spec.id, outcome.failed) for outcome in outcomes] == [("toy-row", True), ("toy-43", False)]
    lost = next(run for run in workspace.runs() if run.row_id == "toy-row")
    assert lost.state() == state
    assert reason in lost.reason()
    assert any(line.startswith("error: toy-row: ") and reason in line for line in watcher.lines)
    assert [entry["event"] for entry in workspace.ledger.entries()] == [state, "finished"]
    # What is left of it is gone on with, and comes out as if nothing had been.
    again = run_queue(
        requests(three_rows, names, workspace, resume=True), OneWatcher(Silent()), jobs=1, command=TOY_WORKER
    )
    assert [(outcome.failed, outcome.reused) for outcome in again] == [(False, False), (False, True)]
    assert lost.record()["training"]["resumed_from"] == 1
    assert lost.metrics() == unbroken


@pytest.mark.slow
def test_two_workers_run_at_the_same_time_and_say_which_row_it_is(
    three_rows: Rows, workspace: Workspace, unbroken: dict[str, Any], heard: Any
) -> None:
    outcomes = run_queue(
        requests(three_rows, ["toy-row", "toy-43", "toy-45"], workspace), heard, jobs=2, command=TOY_WORKER
    )
    assert [outcome.failed for outcome in outcomes] == [False] * 3
    assert len(workspace.ledger.finished()) == 3
    for name in ("toy-row", "toy-43", "toy-45"):
        kinds = [kind for kind, _ in heard.rows[name].facts]
        assert kinds.count("epoch") == 3
        assert (kinds[0], kinds[-1]) == ("run", "end")
        assert "judging" in heard.rows[name].lines
    run = outcomes[0].run
    assert run is not None
    assert run.metrics() == unbroken
    pids = {outcome.run.record()["pid"] for outcome in outcomes if outcome.run}
    assert len(pids) == 2
    assert os.getpid() not in pids


@pytest.mark.slow
def test_a_time_limit_interrupts_what_runs_and_begins_nothing_new(
    three_rows: Rows, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MISCHIEF, f"41:hang:{tmp_path / 'done'}")
    watcher = Silent()

    class Screen(OneWatcher):
        def __init__(self) -> None:
            super().__init__(watcher)

    # The limit is set when the first row hangs in training, however long the worker took to start.
    def hangs_soon(kind: str, facts: dict[str, Any]) -> None:
        if kind == "epoch":
            queue_holder[0].deadline = time.monotonic() + 0.5

    watcher.tell = hangs_soon  # type: ignore[method-assign]
    from meta_spliceai.experiments.executors import local

    queue_holder: list[Any] = []
    original = local._Queue.__init__

    def remember(self: Any, *arguments: Any) -> None:
        original(self, *arguments)
        self.deadline = time.monotonic() + 600
        queue_holder.append(self)

    monkeypatch.setattr(local._Queue, "__init__", remember)
    outcomes = run_queue(
        requests(three_rows, ["toy-row", "toy-43"], workspace), Screen(), jobs=1, deadline=1.0, command=TOY_WORKER
    )
    assert [outcome.spec.id for outcome in outcomes] == ["toy-row"]
    (run,) = workspace.runs()
    assert (run.state(), run.reason()) == ("interrupted", "stopped at the time limit")


CTRL_C = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.experiments.executors import toy_worker
toy_worker.install()
from meta_spliceai.experiments.executors.local import run_queue
from meta_spliceai.experiments.executors.request import Answer, Request
from meta_spliceai.experiments.executors.screen import OneWatcher
from meta_spliceai.experiments.rows import change
from meta_spliceai.experiments.spec import parse_spec
from toy_bench import TOY_ROW

class Watcher:
    from meta_spliceai.experiments.watcher import Silent
    say = lambda self, line: None
    stage = Silent().stage
    def tell(self, kind, facts):
        if kind == "epoch":
            print("epoch", flush=True)

row = parse_spec(TOY_ROW, "test")
other = change(row, ["window=43"])
todo = [Request(spec, {row.id: row}, Path(sys.argv[2]), "cpu") for spec in (row, other)]
done = run_queue(todo, OneWatcher(Watcher()), jobs=2, command=(sys.executable, sys.argv[3]))
sys.exit(f"nothing hung: {[str(outcome.error) for outcome in done]}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "killed"])
def test_ctrl_c_or_the_death_of_the_queue_ends_every_run_cleanly(
    workspace: Workspace, tmp_path: Path, by: signal.Signals
) -> None:
    root = Path(__file__).resolve().parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", CTRL_C, str(root), str(workspace.root), TOY_WORKER[1]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, MISCHIEF: f"41:hang:{tmp_path / 'done'}"},
    )
    assert process.stdout is not None
    while not (tmp_path / "done").exists():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.1)
    process.send_signal(by)
    process.wait(timeout=90)
    run = next(run for run in workspace.runs() if run.spec().window == 41)
    deadline = time.monotonic() + 60
    while run.state() == "running" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert run.state() == "interrupted"
    assert run.reason() == ("stopped by the user" if by == signal.SIGINT else "the queue that started it is gone")


def ensemble(rows: Rows, name: str, members: list[str]) -> Rows:
    values = {**rows["toy-row"].model_dump(mode="json"), "id": name, "ensemble": {"members": members}}
    return {**rows, name: parse_spec(values, "test")}


def test_ensembles_wait_for_their_members_and_no_run_is_made_twice(three_rows: Rows, workspace: Workspace) -> None:
    rows = ensemble(three_rows, "both", ["toy-row", "toy-43"])
    rows = ensemble(rows, "all", ["toy-45", "both"])
    tasks = make_tasks(requests(rows, ["all", "toy-43"], workspace, fresh=True))
    assert [task.label for task in tasks.values()] == ["toy-45", "toy-row", "toy-43", "both", "all"]
    asked = {task.label: task.asked_for for task in tasks.values()}
    assert asked == {"toy-45": False, "toy-row": False, "toy-43": True, "both": False, "all": True}
    fresh = {task.label: task.request.fresh for task in tasks.values()}
    assert fresh["all"]
    assert not fresh["toy-45"]
    begun: set[str] = set()
    order = []
    while (key := next_task(tasks, begun)) is not None:
        begun.add(key)
        order.append(tasks[key].label)
    assert order == ["toy-45", "toy-row", "toy-43"]


@pytest.mark.slow
def test_an_ensemble_whose_member_failed_is_not_begun(
    three_rows: Rows, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = ensemble(three_rows, "both", ["toy-row", "toy-43"])
    monkeypatch.setenv(MISCHIEF, f"41:memory:{tmp_path / 'done'}")
    outcomes = run_queue(requests(rows, ["both"], workspace), OneWatcher(Silent()), command=TOY_WORKER)
    errors = {outcome.spec.id: str(outcome.error) for outcome in outcomes if outcome.failed}
    assert "out of memory" in errors["toy-row"]
    assert errors["both"].startswith("its member 'toy-row' failed: ")
    assert {run.row_id for run in workspace.runs()} == {"toy-row", "toy-43"}


def test_a_request_is_the_same_on_the_other_side(three_rows: Rows, workspace: Workspace) -> None:
    rows = ensemble(three_rows, "both", ["toy-row", "toy-43"])
    request = Request(rows["both"], rows, workspace.root, "cpu", True, False, ("csv",), None, 0.5)
    other = Request.from_json(request.to_json())
    assert set(other.rows) == {"both", "toy-row", "toy-43"}
    assert other.to_json() == request.to_json()
    assert other.spec == request.spec


def test_a_run_killed_by_the_system_for_want_of_memory_has_failed_and_says_so(
    toy_row: ExperimentSpec, workspace: Workspace
) -> None:
    run = workspace.run("toy-row-0123456789ab")
    run.write_yaml("spec.yaml", toy_row.model_dump(mode="json"))
    run.mark("running", row="toy-row", smoke=False, seed=0)
    reason = note_lost_run(workspace, run.name, "its process was killed (SIGKILL)", out_of_memory=True)
    assert reason.startswith("out of memory at batch 32: the system killed its process")
    assert (run.state(), run.reason()) == ("failed", reason)
    assert workspace.ledger.entries()[0]["reason"] == reason
    # A run that could still write its own state keeps it.
    run.mark("failed", "no luck")
    assert note_lost_run(workspace, run.name, "killed", out_of_memory=False) == "no luck"


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


@pytest.mark.slow
@pytest.mark.parametrize("mischief", [None, "sigkill"])
def test_with_workers_to_spare_folds_are_trained_side_by_side(
    three_rows: Rows,
    workspace: Workspace,
    tmp_path: Path,
    heard: Any,
    monkeypatch: pytest.MonkeyPatch,
    mischief: str | None,
) -> None:
    folded = change(three_rows["toy-45"], ["split.folds=3"]).model_copy(update={"id": "folded"})
    rows = {**three_rows, "folded": folded}
    alone = run_experiment(folded, Workspace(tmp_path / "alone"), "cpu", rows=rows).run
    if mischief is not None:
        monkeypatch.setenv(MISCHIEF, f"45:{mischief}:{tmp_path / 'done'}")
    outcomes = run_queue(requests(rows, ["folded"], workspace), heard, jobs=2, command=TOY_WORKER)
    # One row, one outcome, and a fold whose process died was tried again by its row.
    assert [(outcome.spec.id, outcome.failed) for outcome in outcomes] == [("folded", False)]
    run = outcomes[0].run
    assert run is not None
    assert alone is not None
    assert run.metrics()["metrics"] == alone.metrics()["metrics"]
    assert alone.record()["training"]["side_by_side"] is False
    finished = [fold for fold in (1, 2, 3) if f"fold {fold} is finished already" in heard.rows["folded"].lines]
    assert len(finished) == (3 if mischief is None else 2)
    assert all(f"folded fold {fold}" in heard.rows for fold in (1, 2, 3))
    again = run_queue(requests(rows, ["folded"], workspace), heard, jobs=2, command=TOY_WORKER)
    assert [outcome.reused for outcome in again] == [True]


def test_seconds_of_folds_side_by_side_are_not_counted_twice() -> None:
    assert shared_seconds([(0, 10), (10.1, 20), (20, 30)]) == 0
    assert shared_seconds([(5, 15), (0, 10), (20, 30)]) == pytest.approx(5)
    assert shared_seconds([(0, 30), (5, 10), (7, 12)]) == pytest.approx(10)


def test_folds_are_tasks_only_where_that_is_asked_for(three_rows: Rows, workspace: Workspace) -> None:
    folded = change(three_rows["toy-45"], ["split.folds=3"]).model_copy(update={"id": "folded"})
    asked = requests({**three_rows, "folded": folded}, ["folded", "toy-row"], workspace)
    assert [task.label for task in make_tasks(asked).values()] == ["folded", "toy-row"]
    tasks = make_tasks(asked, folds_apart=True)
    assert [task.label for task in tasks.values()] == ["folded fold 0", "folded", "toy-row"]
    add_folds(tasks, next(iter(tasks.values())), 2)
    assert [task.label for task in tasks.values()] == [
        "folded fold 0",
        "folded fold 1",
        "folded fold 2",
        "folded",
        "toy-row",
    ]
    keys = list(tasks)
    assert tasks[keys[3]].needs == tuple(keys[:3])
    # A fold that failed does not keep its row from being begun.
    tasks[keys[1]].outcome = Answer(error="its process was killed").outcome(tasks[keys[1]].request)
    assert failed_need(tasks, keys[3]) is None
    assert [outcome.spec.id for outcome in outcomes_of(tasks)] == []
