"""The tidy tables: current, read once, and the only place of what a ledger keeps without its rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from meta_spliceai.cli import leaderboard as cli_leaderboard
from meta_spliceai.errors import IntegrityError
from meta_spliceai.experiments.board.leaderboard import boards
from meta_spliceai.experiments.board.shown import (
    Table,
    as_markdown,
    dollars,
    duration,
    estimate,
    memory,
    number,
)
from meta_spliceai.experiments.store import ledger
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace
from tests.conftest import RunCli


def metric(scorer: str, kind: str, value: float | None, name: str = "auprc") -> dict[str, Any]:
    return {"scorer": scorer, "kind": kind, "metric": name, "estimate": value, "low": None, "high": None, "n": 9,
            "n_positive": 2, "n_groups": 3, "prevalence": 0.2, "undefined_resamples": 0, "n_seeds": 1, "seed_sd": None,
            "reason": ""}  # fmt: skip


def finish(workspace: Workspace, name: str, value: float, **more: Any) -> RunDirectory:
    """A finished run with its line in the ledger."""
    run = workspace.run(name)
    metrics = [metric("position alone", "baseline", 0.3), metric(name, "learned", value)]
    run.write_json("metrics.json", {"scorers": [], "metrics": metrics, "differences": []})
    run.write_json("data.json", {"base": {"name": "spliceai"}, "coverage": {"read": 12, "left_out": {"N": 3}}})
    run.mark("finished")
    workspace.ledger.append(
        {"event": "finished", "run": name, "row": name, "smoke": False, "data": {"name": "toys"}, "metrics": metrics,
         "test": {"digest": "d", "rows": 9, "positives": 2, "groups": 3}, "split": {"name": "gene", "folds": None},
         "seconds": 1.0, "peak_memory_bytes": 1, "verdicts": [], **more}
    )  # fmt: skip
    return run


def learned(workspace: Workspace) -> dict[str, float | None]:
    [board] = boards(workspace)
    return {line.scorer: line.values["auprc"].estimate for line in board.lines if line.kind == "learned"}


def test_a_board_follows_new_changed_and_removed_runs_and_reads_the_others_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    finish(workspace, "one", 0.4)
    assert learned(workspace) == {"one": 0.4}
    read: list[str] = []
    real = ledger._rows_of
    monkeypatch.setattr(ledger, "_rows_of", lambda file, name: read.append(file.parent.name) or real(file, name))
    two = finish(workspace, "two", 0.6)
    assert learned(workspace) == {"one": 0.4, "two": 0.6}
    assert read == ["two"]
    two.write_json("metrics.json", {"metrics": [metric("two", "learned", 0.75)]})
    assert learned(workspace)["two"] == 0.75
    two.write_json("run.json", {**two.record(), "stale": "the data changed"})
    [board] = boards(workspace)
    assert board.notes == ["two is stale: the data changed"]
    assert board.coverage == {"read": 12, "left_out": {"N": 3}}
    for file in two.path.iterdir():
        file.unlink()
    assert learned(workspace)["two"] == 0.6  # of a folder that is gone the ledger still knows the numbers


def test_a_board_shows_every_base_network_that_its_runs_were_compared_with(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for name, base, value in (("one", "spliceai", 0.5), ("two", "cispliceai", 0.6), ("three", "spliceai", 0.5)):
        verdicts = [f"beats base max_window: AUPRC difference +{0.7 - value:.3f}"]
        run = finish(workspace, name, 0.7, verdicts=verdicts)
        metrics = [metric("base max_window", "base", value), metric(name, "learned", 0.7)]
        run.write_json("metrics.json", {"scorers": [], "metrics": metrics, "differences": []})
        run.write_json("data.json", {"base": {"name": base}})
    [board] = boards(workspace)
    assert board.base == "spliceai"
    assert [(line.scorer, line.values["auprc"].estimate) for line in board.lines if line.kind == "base"] == [
        ("cispliceai max_window", 0.6),
        ("base max_window", 0.5),
    ]
    assert [line.verdicts[0].split(":")[0] for line in board.lines if line.scorer == "two"] == [
        "beats cispliceai max_window"
    ]


def test_a_baseline_that_only_later_runs_have_stands_on_the_board(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for name, others in (("one", ["a"]), ("two", ["a", "b"]), ("three", ["b", "a"]), ("four", ["c"])):
        run = finish(workspace, name, 0.7)
        scorers = [metric(other, "baseline", len(name) / 10) for other in others]
        run.write_json("metrics.json", {"metrics": [*scorers, metric(name, "learned", 0.7)]})
    for _ in range(2):  # read from the runs, then from the table
        [board] = boards(workspace)
        found = {line.scorer: (line.run, line.values["auprc"].estimate) for line in board.lines}
        learned = {name: (name, 0.7) for name in ("one", "two", "three", "four")}
        assert found == {"a": ("one", 0.3), "b": ("two", 0.3), "c": ("four", 0.4), **learned}


def test_the_terminal_shows_the_best_of_many_models_and_says_how_many_are_left_out(
    tmp_path: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_leaderboard, "MOST_LEARNED", 2)
    workspace = Workspace(tmp_path)
    for place, name in enumerate(("worst", "best", "middle", "low")):
        finish(workspace, name, (0.1, 0.9, 0.5, 0.2)[place], verdicts=[f"verdict on {name}"])
    code, out, _ = run_cli(["leaderboard", "--runs-dir", str(tmp_path)])
    assert code == 0
    assert [name in out for name in ("best", "middle", "low ", "worst", "position alone")] == [True] * 2 + [
        False
    ] * 2 + [True]
    assert "  2 more learned models, of lower AUPRC, are not shown; --json has them all" in out
    code, out, _ = run_cli(["leaderboard", "--json", "--runs-dir", str(tmp_path)])
    assert len(json.loads(out)[0]["lines"]) == 5


def test_a_leaderboard_loads_no_pandas(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    finish(workspace, "one", 0.4)
    boards(workspace)
    code = f"""
import sys
from meta_spliceai.cli import main
try:
    main(["leaderboard", "--json", "--runs-dir", {str(tmp_path)!r}])
except SystemExit:
    print("pandas" in sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert '"scorer": "one"' in said
    assert said.splitlines()[-1] == "False"


def test_a_ledger_that_was_rewritten_is_read_from_its_start(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    finish(workspace, "one", 0.4)
    finish(workspace, "two", 0.6)
    assert set(learned(workspace)) == {"one", "two"}
    lines = workspace.ledger.path.read_text().splitlines(keepends=True)
    workspace.ledger.path.write_text(lines[1])
    assert set(learned(workspace)) == {"two"}


def test_a_damaged_cache_and_a_damaged_run_stop_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    run = finish(workspace, "one", 0.4)
    learned(workspace)
    for file in (tmp_path / "tables").iterdir():
        file.write_bytes(b"PAR1 and no more")
    (run.path / "metrics.json").write_text(json.dumps({"metrics": [{"scorer": 3, "estimate": "x"}]}))
    assert learned(workspace) == {"one": 0.4}


def test_rows_that_were_kept_stand_in_the_table_alone(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    run = finish(workspace, "one", 0.4)
    run.write_json("metrics.json", {"scorers": [], "differences": []})
    with pytest.raises(IntegrityError, match="has no rows of run one"):
        run.metrics()
    rows = [metric("one", "learned", 0.9), metric("one", "learned", None, "auroc")]
    ledger.add_kept_rows(tmp_path, "metrics", "one", rows)
    assert run.metrics()["metrics"] == rows
    assert learned(workspace) == {"one": 0.9}
    finish(workspace, "two", 0.5)
    assert learned(workspace) == {"one": 0.9, "two": 0.5}


def test_a_folder_that_is_only_read_gets_no_tables(tmp_path: Path) -> None:
    finish(Workspace(tmp_path / "ledger"), "one", 0.4)
    assert learned(Workspace(tmp_path / "runs", (tmp_path / "ledger",))) == {"one": 0.4}
    assert not (tmp_path / "ledger" / "tables").exists()


def test_numbers_and_amounts_for_people() -> None:
    assert [number(value) for value in (0.12345, -0.5, -0.0001, None, float("nan"), True)] == [
        "0.123", "−0.500", "0.000", "–", "–", "–",
    ]  # fmt: skip
    assert estimate({"estimate": 0.5, "low": -0.1, "high": 0.9}, 2, sign=True) == "+0.50 [−0.10, +0.90]"
    assert [duration(value) for value in (3.14, 59.4, 83.4, 7265, None, "x")] == [
        "3.1 s", "59 s", "1 min 23 s", "2 h 01 min", "–", "–",
    ]  # fmt: skip
    assert [memory(value) for value in (5 * 2**20, 3 * 2**30, None)] == ["5 MiB", "3.00 GiB", "–"]
    assert [dollars(value) for value in (0, 0.001, 1234.5, None)] == ["$0.00", "< $0.01", "$1,234.50", "–"]


def test_a_table_in_markdown() -> None:
    table = Table(("scorer", "AUPRC"), [("a|b", "0.1"), ("<m>", "0.2")], kinds=("base", "learned"), remarks=[["so"]])
    assert as_markdown(table).splitlines() == [
        "| scorer | AUPRC |", "| --- | ---: |", "| a\\|b | 0.1 |", "| **<m>** | 0.2 |", "", "- so",
    ]  # fmt: skip
