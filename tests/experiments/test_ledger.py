"""The ledger: appended to, never rewritten; a torn line is noticed and stops nobody."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from meta_spliceai.experiments.store.ledger import Ledger, finished_runs, ledger_damage
from meta_spliceai.experiments.store.workspace import Workspace

FINISHED = {"event": "finished", "row": "a", "test": {"digest": "d"}, "split": {"name": "gene"}}


def test_entries_come_back_in_order_with_their_time(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "runs" / "ledger.jsonl")
    ledger.append({**FINISHED, "run": "a-1"})
    ledger.append({"event": "failed", "run": "b-2", "row": "b", "reason": "Δ"})
    entries, damage = ledger.read()
    assert [entry["run"] for entry in entries] == ["a-1", "b-2"]
    assert entries[1]["reason"] == "Δ"
    assert all(entry["at"].endswith("+00:00") for entry in entries)
    assert damage == []


def test_an_absent_ledger_is_empty(tmp_path: Path) -> None:
    assert Ledger(tmp_path / "ledger.jsonl").read() == ([], [])


def test_a_torn_last_line_is_reported_left_alone_and_does_not_swallow_the_next(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append({**FINISHED, "run": "a-1"})
    whole = ledger.path.read_bytes()
    torn = whole + b'{"event": "finished", "ru'
    ledger.path.write_bytes(torn)
    damage = ledger.damage()
    assert [(d.line, d.torn) for d in damage] == [(2, True)]
    assert "cut off" in damage[0].describe()
    ledger.append({**FINISHED, "run": "b-2"})
    assert ledger.path.read_bytes().startswith(torn)
    assert [entry["run"] for entry in ledger.entries()] == ["a-1", "b-2"]
    assert [(d.line, d.torn) for d in ledger.damage()] == [(2, False)]


def test_only_the_latest_finish_of_a_run_counts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for run, seconds in (("a-1", 1), ("b-2", 2), ("a-1", 3)):
        ledger.append({**FINISHED, "run": run, "seconds": seconds})
    ledger.append({"event": "failed", "run": "c-3"})
    assert [(entry["run"], entry["seconds"]) for entry in ledger.finished()] == [("b-2", 2), ("a-1", 3)]


@pytest.mark.parametrize(
    "change",
    [
        {"run": ["a"]},
        {"run": None},
        {"at": 5},
        {"test": "d"},
        {"test": {"digest": 5}},
        {"test": {"digest": "d", "rows": "many"}},
        {"test": {"digest": "d", "negatives": [3]}},
        {"split": {}},
        {"split": None},
        {"data": ["toys"]},
        {"notes": "x"},
        {"seconds": "fast"},
        {"metrics": {"auprc": 1}},
        {"metrics": ["auprc"]},
    ],
    ids=str,
)
def test_an_event_of_another_shape_is_left_out_and_counted(tmp_path: Path, change: dict[str, Any]) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append({**FINISHED, "run": "a-1"})
    ledger.append({**FINISHED, "run": "b-2", **change})
    assert [entry["run"] for entry in Workspace(tmp_path).finished()] == ["a-1"]
    assert [damage.line for damage in ledger.damage()] == [2]
    assert [run["run"] for run in finished_runs(Workspace(tmp_path))] == ["a-1"]
    assert ledger_damage(tmp_path) == ledger.damage()
    ledger.append({**FINISHED, "run": "c-3"})
    with ledger.path.open("ab") as file:
        file.write(b'\n{"event": "fin')
    for _ in range(2):
        assert [run["run"] for run in finished_runs(Workspace(tmp_path))] == ["a-1", "c-3"]
        assert ledger_damage(tmp_path) == ledger.damage()
    assert [(damage.line, damage.torn) for damage in ledger.damage()] == [(2, False), (5, True)]


def test_a_clock_that_was_set_back_makes_no_later_line_an_earlier_one(tmp_path: Path) -> None:
    here, there = Workspace(tmp_path / "here", (tmp_path / "there",)), Ledger(tmp_path / "there" / "ledger.jsonl")
    for run, at in (("a-1", "2026-03-01"), ("a-2", "2026-01-01"), ("a-3", "2026-01-02"), ("a-1", "2026-01-03")):
        here.ledger.append({**FINISHED, "run": run, "at": at})
    there.append({**FINISHED, "run": "b-1", "at": "2026-02-01"})
    there.append({**FINISHED, "run": "a-3", "at": "2026-02-02"})
    for found in (here.finished(), finished_runs(here)):
        assert [entry["run"] for entry in found] == ["a-2", "a-3", "a-1", "b-1"]


def test_lines_kept_from_another_ledger_are_as_old_as_their_runs(tmp_path: Path) -> None:
    kept = Ledger(tmp_path / "ledger.jsonl")
    for run, at in (("a-2", "2026-03-02"), ("a-1", "2026-03-01"), ("a-3", "2026-03-03")):
        kept.append({**FINISHED, "run": run, "at": at, "kept": "2026-04-01"})
    assert [entry["run"] for entry in Workspace(tmp_path).finished()] == ["a-1", "a-2", "a-3"]


def test_two_processes_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    script = (
        "import sys\nfrom pathlib import Path\nfrom meta_spliceai.experiments.store.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1]))\n"
        "for number in range(40):\n    ledger.append({'who': sys.argv[2], 'number': number, 'padding': 'x' * 5000})\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(path), who]) for who in ("first", "second")]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for who in ("first", "second"):
        assert [line["number"] for line in lines if line["who"] == who] == list(range(40))
