"""One queue for all executors: which tasks there are, who waits for whom, and that every row gets an outcome."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from meta_spliceai.errors import InputError
from meta_spliceai.experiments.execute import queue
from meta_spliceai.experiments.execute.queue import (
    TIME_LIMIT,
    Answer,
    Executor,
    InProcess,
    Message,
    Request,
    Task,
    make_tasks,
    note_lost_run,
    run_queue,
)
from meta_spliceai.experiments.run.callback import Callback
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, parse_spec
from meta_spliceai.experiments.spec.rows import change
from meta_spliceai.experiments.store.workspace import Workspace

Rows = dict[str, ExperimentSpec]


class Scripted(Executor):
    """Answers as it is told, by label; a task that is in no script hangs until it is interrupted."""

    def __init__(self, script: dict[str, list[Message | Answer]], room: int = 99, folds_apart: bool = False) -> None:
        self.script, self.room, self.folds_apart = script, room, folds_apart
        self.begun: list[str] = []
        self.running: dict[str, str] = {}
        self.told: list[str] = []
        self.closed = False

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def has_room(self) -> bool:
        return len(self.running) < self.room

    def begin(self, task: Task, callback: Callback) -> None:
        self.begun.append(task.label)
        self.running[task.key] = task.label

    def collect(self, seconds: float) -> list[tuple[str, Message | Answer]]:
        found = [(key, message) for key, label in self.running.items() for message in self.script.get(label, [])]
        if not found:
            time.sleep(min(seconds, 0.01))
        for key, _ in found:
            self.running.pop(key, None)
        return found

    def interrupt(self, reason: str) -> None:
        self.told.append(reason)
        self.script = {label: [Answer(error=reason)] for label in self.running.values()}


def requests(rows: Rows, names: list[str], workspace: Workspace, **more: Any) -> list[Request]:
    return [Request(rows[name], rows, workspace.root, "cpu", **more) for name in names]


def ensemble(rows: Rows, name: str, members: list[str]) -> Rows:
    values = {**rows["toy-row"].model_dump(mode="json"), "id": name, "ensemble": {"members": members}}
    return {**rows, name: parse_spec(values, "test")}


def test_ensembles_wait_for_their_members_and_no_run_is_made_twice(
    three_rows: Rows, workspace: Workspace, heard: Any
) -> None:
    rows = ensemble(three_rows, "both", ["toy-row", "toy-43"])
    rows = ensemble(rows, "all", ["toy-45", "both"])
    asked = requests(rows, ["all", "toy-43"], workspace, fresh=True)
    fresh = {task.label: task.request.fresh for task in make_tasks(asked).values()}
    assert fresh == {"toy-45": False, "toy-row": False, "toy-43": False, "both": False, "all": True}
    executor = Scripted({name: [Answer("run")] for name in rows})
    outcomes = run_queue(asked, executor, heard)
    assert executor.begun == ["toy-45", "toy-row", "toy-43", "both", "all"]
    assert [outcome.spec.id for outcome in outcomes] == ["toy-45", "toy-row", "both", "toy-43", "all"]
    assert heard.lines[0] == "row 1 of 5: toy-45"
    assert executor.closed


def test_an_ensemble_whose_member_failed_is_not_begun_and_other_rows_are(
    three_rows: Rows, workspace: Workspace, heard: Any
) -> None:
    rows = ensemble(three_rows, "both", ["toy-row", "toy-43"])
    script: dict[str, list[Message | Answer]] = {name: [Answer("run")] for name in rows}
    script["toy-row"] = [Answer(error="no luck")]
    outcomes = run_queue(requests(rows, ["both", "toy-45"], workspace), Scripted(script, room=1), heard)
    errors = {outcome.spec.id: str(outcome.error or "") for outcome in outcomes}
    assert errors == {
        "toy-row": "no luck",
        "toy-43": "",
        "toy-45": "",
        "both": "its member 'toy-row' failed: no luck",
    }
    assert "error: both: its member 'toy-row' failed: no luck" in heard.lines


@pytest.mark.parametrize("fold_fails", [False, True])
def test_folds_are_tasks_where_that_is_asked_for_and_their_row_comes_last(
    three_rows: Rows, workspace: Workspace, heard: Any, fold_fails: bool
) -> None:
    folded = change(three_rows["toy-45"], ["split.folds=3"]).model_copy(update={"id": "folded"})
    asked = requests({**three_rows, "folded": folded}, ["folded", "toy-row"], workspace)
    whole = Scripted({"folded": [Answer("run")], "toy-row": [Answer("run")]})
    run_queue(asked, whole, heard)
    assert whole.begun == ["folded", "toy-row"]
    # A fold that failed does not keep its row from being begun: the row tries it again.
    first: Message | Answer = Answer(error="its process was killed") if fold_fails else Answer()
    script: dict[str, list[Message | Answer]] = {
        "folded fold 0": [Answer(folds=2)],
        "folded fold 1": [first],
        "folded fold 2": [Answer()],
        "folded": [Answer("run")],
        "toy-row": [Answer("run")],
    }
    apart = Scripted(script, room=1, folds_apart=True)
    outcomes = run_queue(asked, apart, heard)
    assert apart.begun == ["folded fold 0", "folded fold 1", "folded fold 2", "folded", "toy-row"]
    assert [(outcome.spec.id, outcome.failed) for outcome in outcomes] == [("folded", False), ("toy-row", False)]


def test_the_time_limit_interrupts_what_runs_and_begins_nothing_new(
    three_rows: Rows, workspace: Workspace, heard: Any
) -> None:
    executor = Scripted({}, room=1)
    asked = requests(three_rows, ["toy-row", "toy-43"], workspace)
    (outcome,) = run_queue(asked, executor, heard, deadline=time.monotonic() + 0.05)
    assert (outcome.spec.id, outcome.state, str(outcome.error)) == ("toy-row", "left", TIME_LIMIT)
    assert executor.told == [TIME_LIMIT]
    assert heard.lines[-1] == f"toy-row: {TIME_LIMIT}; go on with --resume"


def test_a_row_that_fails_is_never_said_to_be_left_whatever_its_error_says(
    three_rows: Rows, workspace: Workspace, heard: Any
) -> None:
    said = Answer(error=f"its member 'other' failed: {TIME_LIMIT}")
    asked = requests(three_rows, ["toy-row"], workspace)
    (outcome,) = run_queue(asked, Scripted({"toy-row": [said]}), heard, deadline=time.monotonic() + 60)
    assert outcome.state == "failed"


def test_a_run_that_does_not_stop_has_an_outcome_nevertheless(
    three_rows: Rows, workspace: Workspace, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deaf(Scripted):
        def interrupt(self, reason: str) -> None:
            return

    monkeypatch.setattr(queue, "SECONDS_TO_STOP", 0.05)
    asked = requests(three_rows, ["toy-row"], workspace)
    (outcome,) = run_queue(asked, Deaf({}), heard, deadline=time.monotonic() + 0.05)
    assert str(outcome.error) == TIME_LIMIT


@pytest.mark.parametrize("words", ["", "told to stop (SIGTERM)"])
def test_ctrl_c_is_told_to_every_run_and_goes_on_its_way(
    three_rows: Rows, workspace: Workspace, heard: Any, words: str
) -> None:
    class Interrupted(Scripted):
        def collect(self, seconds: float) -> list[tuple[str, Message | Answer]]:
            if not self.told:
                raise KeyboardInterrupt(words)
            return super().collect(seconds)

    executor = Interrupted({})
    with pytest.raises(KeyboardInterrupt):
        run_queue(requests(three_rows, ["toy-row", "toy-43"], workspace), executor, heard)
    reason = words or "stopped by the user"
    assert executor.told == [reason]
    assert heard.lines[-2:] == [f"{name}: {reason}; go on with --resume" for name in ("toy-row", "toy-43")]
    assert executor.closed


def test_a_run_whose_process_is_gone_gets_the_state_it_could_not_write(
    three_rows: Rows, workspace: Workspace, heard: Any
) -> None:
    run = workspace.run("toy-row-0123456789ab")
    run.mark("running", row="toy-row", smoke=False, seed=0)
    told: Message = {"tell": "run", "facts": {"run": run.name}}
    executor = Scripted({"toy-row": [told, Answer(error="its process was killed", lost=True)]})
    (outcome,) = run_queue(requests(three_rows, ["toy-row"], workspace), executor, heard)
    assert outcome.run is not None
    assert outcome.run.name == run.name
    assert (run.state(), run.reason()) == ("interrupted", "its process was killed")
    (entry,) = workspace.ledger.entries()
    assert (entry["event"], entry["row"], entry["reason"]) == ("interrupted", "toy-row", "its process was killed")
    # A run that could still write its own state keeps it.
    run.mark("failed", "no luck")
    assert note_lost_run(workspace, run.name, "killed") == "no luck"


def test_an_executor_that_is_broken_gives_every_row_the_reason(
    three_rows: Rows, workspace: Workspace, heard: Any
) -> None:
    class Breaks(Scripted):
        def collect(self, seconds: float) -> list[tuple[str, Message | Answer]]:
            self.broken = "the cluster is gone"
            running, self.running = self.running, {}
            return [(key, Answer(error=self.broken, lost=True)) for key in running]

    outcomes = run_queue(requests(three_rows, list(three_rows), workspace), Breaks({}, room=1), heard)
    assert [str(outcome.error) for outcome in outcomes] == ["the cluster is gone"] * 3


def test_no_row_is_begun_where_the_folder_of_runs_is_gone(
    three_rows: Rows, workspace: Workspace, tmp_path: Path, heard: Any
) -> None:
    class Unmounts(Scripted):
        def begin(self, task: Task, callback: Callback) -> None:
            super().begin(task, callback)
            workspace.root.rename(tmp_path / "away")

    executor = Unmounts({"toy-row": [Answer(error="the disk is gone")]}, room=1)
    outcomes = run_queue(requests(three_rows, ["toy-row", "toy-43"], workspace), executor, heard)
    assert executor.begun == ["toy-row"]
    assert str(outcomes[1].error).startswith(f"the folder of runs {workspace.root} is gone")
    assert not workspace.root.exists()


def test_a_folder_that_cannot_be_written_to_is_said_before_anything_begins(
    three_rows: Rows, tmp_path: Path, heard: Any
) -> None:
    (tmp_path / "file").touch()
    executor = Scripted({})
    with pytest.raises(InputError, match="a file stands in its place"):
        run_queue(requests(three_rows, ["toy-row"], Workspace(tmp_path / "file")), executor, heard)
    assert executor.begun == []


def test_rows_run_in_this_process_and_a_failure_stops_no_other(
    three_rows: Rows, workspace: Workspace, heard: Any
) -> None:
    rows = {**three_rows, "bad": three_rows["toy-row"].model_copy(update={"id": "bad", "window": 4001})}
    bad, good = run_queue(requests(rows, ["bad", "toy-43"], workspace), InProcess(), heard)
    assert bad.failed
    assert good.run is not None
    assert good.run.state() == "finished"
    assert "evaluation" in heard.rows["toy-43"].lines
