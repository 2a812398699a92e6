"""All rows within a limit of time: durations, the order, who may begin, and what became of each."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest

from meta_spliceai.cli.options import parse_duration
from meta_spliceai.errors import InputError, RunError
from meta_spliceai.experiments.execute.all_rows import Admission, Expected, Fate, fates, longer_last, order_rows
from meta_spliceai.experiments.execute.queue import InProcess, Request, run_queue
from meta_spliceai.experiments.run.runner import Outcome, run_experiment
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, parse_spec
from meta_spliceai.experiments.spec.rows import as_smoke
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.resources.resolve import OFFLINE_VARIABLE

Rows = dict[str, ExperimentSpec]


@pytest.mark.parametrize(
    ("text", "seconds"), [("9m", 540), ("1h30m", 5400), ("540s", 540), ("0.5h", 1800), (" 2M30S ", 150)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text, "--time-limit") == seconds


@pytest.mark.parametrize("text", ["9", "", "m", "9x", "-3m", "30m1h", "0s", "1h 30m", "nan"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(InputError, match=r"--time-limit .*9m, 1h30m, 540s"):
        parse_duration(text, "--time-limit")


def test_smoke_runs_go_by_priority_and_ensembles_come_last(with_ensemble: Rows, workspace: Workspace) -> None:
    urgent = with_ensemble["toy-45"]
    assert urgent.wish is not None
    urgent = urgent.model_copy(update={"wish": urgent.wish.model_copy(update={"priority": "high"})})
    both = with_ensemble["both"].model_copy(update={"wish": urgent.wish})
    specs = [as_smoke(spec) for spec in (both, with_ensemble["toy-row"], urgent)]
    expected = order_rows(specs, workspace, with_ensemble, "cpu")
    assert [one.spec.id for one in expected] == ["toy-45", "toy-row", "both"]
    assert {one.seconds for one in expected} == {None}


def test_the_planner_s_order_has_members_first_and_seconds(with_ensemble: Rows, workspace: Workspace) -> None:
    specs = [with_ensemble[name] for name in ("both", "toy-43", "toy-row")]
    expected = order_rows(specs, workspace, with_ensemble, "cpu")
    assert [one.spec.id for one in expected][-1] == "both"
    assert len(expected) == 3
    assert all(one.seconds is not None and math.isfinite(one.seconds) and one.seconds >= 0 for one in expected)


def test_a_row_whose_weights_are_not_here_comes_last(
    toy_row: ExperimentSpec, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ((OFFLINE_VARIABLE, "1"), ("HF_HOME", str(tmp_path)), ("META_SPLICEAI_MIRROR", "")):
        monkeypatch.setenv(name, value)
    urgent = {"wish": {"priority": "high"}, "encoder": {"name": "hyenadna-tiny-1k"}}
    lacks = parse_spec({**toy_row.model_dump(exclude={"encoder", "wish"}), "id": "toy-lacks", **urgent}, "test")
    rows = {spec.id: spec for spec in (lacks, toy_row)}
    expected = order_rows(list(rows.values()), workspace, rows, "cpu")
    assert [one.spec.id for one in expected] == ["toy-row", "toy-lacks"]


def request_of(spec: ExperimentSpec, workspace: Workspace) -> Request:
    return Request(spec, {spec.id: spec}, workspace.root, "cpu", resume=True)


def test_a_row_begins_only_where_it_should_end_in_time_or_was_begun_before(
    three_rows: Rows, workspace: Workspace
) -> None:
    quick, slow, unknown = (three_rows[name] for name in ("toy-row", "toy-43", "toy-45"))
    admission = Admission([Expected(quick, 10.0), Expected(slow, 100.0), Expected(unknown, None)], workspace)
    assert admission(request_of(quick, workspace), 60) == ""
    assert admission(request_of(unknown, workspace), 1) == ""
    assert admission(request_of(slow, workspace), 60) == "not begun: it should take 1 min 40 s, and 1 min 00 s are left"
    assert admission.refused == {"toy-43": "not begun: it should take 1 min 40 s, and 1 min 00 s are left"}
    run_experiment(slow, workspace, "cpu", rows=three_rows)
    assert admission(request_of(slow, workspace), 60) == ""
    other = slow.model_copy(update={"bootstrap": 60})
    assert admission(request_of(other, workspace), 60) != ""


def test_a_row_longer_than_the_whole_limit_takes_the_time_that_is_left(
    with_ensemble: Rows, workspace: Workspace
) -> None:
    seconds = {"toy-row": 1000.0, "both": 1.0, "toy-43": 50.0, "toy-45": 500.0}
    expected = [Expected(with_ensemble[name], wanted) for name, wanted in seconds.items()]
    assert [one.spec.id for one in longer_last(expected, None)] == list(seconds)
    # `both` is an ensemble of toy-row and toy-43.
    assert [one.spec.id for one in longer_last(expected, 600)] == ["toy-43", "toy-45", "toy-row", "both"]
    admission = Admission(expected, workspace, 600)
    assert admission(request_of(with_ensemble["toy-row"], workspace), 30) == ""
    assert admission(request_of(with_ensemble["toy-45"], workspace), 30) != ""


def test_the_queue_leaves_out_what_may_not_begin(three_rows: Rows, workspace: Workspace, heard: Any) -> None:
    names = ["toy-row", "toy-43"]
    expected = [Expected(three_rows["toy-row"], 1e6), Expected(three_rows["toy-43"], 1.0)]
    admission = Admission(expected, workspace)
    requests = [request_of(three_rows[name], workspace) for name in names]
    outcomes = run_queue(requests, InProcess(), heard, deadline=time.monotonic() + 900, admit=admission)
    assert [outcome.spec.id for outcome in outcomes] == ["toy-43"]
    assert any(line.startswith("toy-row: not begun") for line in heard.lines)
    found = fates(expected, outcomes, admission.refused)
    assert [(fate.row_id, fate.state) for fate in found] == [("toy-row", "left"), ("toy-43", "done")]


def test_fates(three_rows: Rows) -> None:
    expected = [Expected(spec, None) for spec in three_rows.values()]
    first, second, third = three_rows.values()
    outcomes = [
        Outcome(first, None, reused=True),
        Outcome(second, None, error=RunError("stopped at the time limit"), stopped=True),
        Outcome(third, None, error=RunError("no data")),
    ]
    assert fates(expected, outcomes, {}) == [
        Fate("toy-row", "done", "finished before"),
        Fate("toy-43", "left", "stopped at the time limit"),
        Fate("toy-45", "failed", "no data"),
    ]
    assert fates(expected, [], {"toy-43": "too long"})[1:] == [
        Fate("toy-43", "left", "too long"),
        Fate("toy-45", "left", "not begun: the time was over"),
    ]
