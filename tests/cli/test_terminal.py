"""What a running command shows to people and to machines."""

from __future__ import annotations

import io
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from meta_spliceai.cli import terminal as shown
from meta_spliceai.cli.terminal import JsonLines, Quiet, Terminal, counting, make_screen
from meta_spliceai.errors import InputError, RunError
from meta_spliceai.experiments.execute.all_rows import Place
from meta_spliceai.experiments.run.runner import Outcome
from meta_spliceai.experiments.spec.rows import load_rows
from meta_spliceai.experiments.store.workspace import RunDirectory


def training(share: float, loss: float = 0.25, fold: int | None = None) -> dict[str, Any]:
    return {
        "fold": fold,
        "epoch": 2,
        "epochs": 5,
        "share": share,
        "loss": loss,
        "windows_per_second": 1234.5,
        "memory_bytes": 3 * 10**9,
    }


def test_json_lines_are_json_whatever_happens() -> None:
    lines: list[str] = []
    screen = JsonLines(price_per_hour=3600.0, write=lines.append)
    row = screen.row("toy")
    screen.say("row 1 of 2: toy")
    with row.stage("base scores", 10) as advance:
        advance(10)
    row.tell("training", training(0.5, loss=math.nan))
    row.tell("end", {"state": "finished", "reason": "", "metrics": {"metrics": [{"estimate": math.inf}]}})
    events = [json.loads(line) for line in lines]
    assert [event["event"] for event in events] == ["line", "step", "step-end", "training", "end"]
    assert [event["row"] for event in events] == [None, "toy", "toy", "toy", "toy"]
    assert events[3]["loss"] is None
    assert events[3]["windows_per_second"] == 1234.5
    assert 0 <= events[3]["dollars"] < 60
    assert events[4]["metrics"]["metrics"][0]["estimate"] is None
    assert all(event["at"].endswith("+00:00") for event in events)


def test_away_from_a_terminal_there_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "SECONDS_BETWEEN_LINES", 0)
    out = io.StringIO()
    screen = Terminal(Console(file=out, force_terminal=False, width=40), price_per_hour=0.5, several=True)
    row = screen.row("toy")
    row.tell("epoch", {"val_loss": 0.125})
    row.tell("training", training(0.2))
    row.tell("training", training(0.4))
    lines = out.getvalue().splitlines()
    assert lines[0] == "toy: training: epoch 2/5  loss 0.2500  validation 0.1250  1,234 windows/s  3.0 GB  $0.00"
    assert lines[1].startswith(lines[0])
    assert lines[1].endswith(" s left")
    # A fold of its own begins anew: its first look says nothing of the time.
    row.tell("training", training(0.41, fold=2))
    assert "left" not in out.getvalue().splitlines()[2]
    # Not more often than that.
    monkeypatch.setattr(shown, "SECONDS_BETWEEN_LINES", 1000)
    row.tell("training", training(0.5))
    assert len(out.getvalue().splitlines()) == 3


def test_a_terminal_has_a_bar_for_every_row_and_none_when_they_end() -> None:
    out = io.StringIO()
    screen = Terminal(Console(file=out, force_terminal=True, width=160), several=True)
    first, second = screen.row("first"), screen.row("second")
    first.tell("training", training(0.2, fold=1))
    second.tell("training", training(0.3))
    assert [task.description for task in screen.bars.tasks] == ["first: training fold 1", "second: training"]
    assert screen.bars.tasks[1].completed == 0.3
    assert "1,234 windows/s" in screen.bars.tasks[0].fields["text"]
    first.tell("training", training(0.1, fold=2))
    assert [task.description for task in screen.bars.tasks] == ["second: training", "first: training fold 2"]
    first.tell("end", {"state": "interrupted", "reason": ""})
    with second.stage("evaluation"):
        assert [task.description for task in screen.bars.tasks] == ["second: evaluation"]
    assert screen.bars.tasks == []
    assert not screen.bars.live.is_started


def test_quiet_says_errors_only(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Quiet()
    screen.say("row 1 of 1: toy")
    screen.row("toy").say("run directory: somewhere")
    screen.say("error: toy: no luck")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "error: toy: no luck\n")


def test_ways_and_places_have_names_and_settings_of_their_own() -> None:
    with pytest.raises(InputError, match="unknown way 'jsn' in --progress; did you mean json"):
        make_screen("jsn")
    with pytest.raises(InputError, match="unknown executor 'slurmm' in --executor; did you mean slurm"):
        Place("slurmm")
    for place, option in (
        ({"executor": "ray", "jobs": 2}, "--jobs is for --executor local; this is --executor ray"),
        ({"ray_address": "here:1"}, "--ray-address is for --executor ray"),
        ({"gpus_per_run": 0.5}, "--gpus-per-run is for --executor ray"),
        ({"executor": "ray", "slurm": ("partition=gpu",)}, "--slurm is for --executor slurm"),
    ):
        with pytest.raises(InputError, match=option):
            Place(**place)  # type: ignore[arg-type]
    assert not Place().several
    assert Place(jobs=2).several


def test_of_several_rows_those_that_failed_are_named_at_the_end_and_a_smoke_run_claims_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows = load_rows()
    runs = {name: RunDirectory(tmp_path / name) for name in ("real-0", "smoke-0")}
    for name, run in runs.items():
        verdicts = [f"beats position alone ({name})"]
        run.write_json("run.json", {"seconds": 3, "device": "cpu", "verdicts": verdicts, "smoke": name == "smoke-0"})
    failed = Outcome(rows["simple-cnn-501"], None, error=RunError("the loss became nan [in epoch 1]"))
    others = [Outcome(rows["wt1-simple-cnn"], run) for run in runs.values()]
    left = Outcome(rows["simple-cnn-1001"], None, error=RunError("stopped at the time limit"), stopped=True)
    Terminal(Console(file=io.StringIO())).conclude([failed, left, *others])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "beats" in line] == ["  beats position alone (real-0)"]
    assert lines[-2:] == [
        "simple-cnn-501: failed: the loss became nan [in epoch 1]",
        "simple-cnn-1001: left: stopped at the time limit",
    ]
    events: list[str] = []
    JsonLines(write=events.append).conclude([failed, left])
    assert [json.loads(event)["state"] for event in events] == ["failed", "left"]
    Quiet().conclude([failed])  # it has said so
    assert capsys.readouterr().out == ""


def test_what_is_counted_shows_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        out = io.StringIO()
        console = Console(file=out, force_terminal=terminal, width=160)
        monkeypatch.setattr(shown, "PlainConsole", lambda console=console, **_: console)
        stdout = sys.stdout
        with counting("records") as show:
            assert sys.stdout is stdout  # where `score` may write its records
            show(1200)
            show(1500, 3000, "1.900 bits/base")
            time.sleep(0.4)  # drawn ten times a second
        assert ("1,500 of 3,000  1.900 bits/base" in out.getvalue()) is terminal
        assert bool(out.getvalue()) is terminal
