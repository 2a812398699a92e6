"""Text from outside reaches the terminal as it is: brackets, emoji codes and control characters do nothing there."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.table import Table

from meta_spliceai.cli.console import PlainConsole, styled
from meta_spliceai.cli.terminal import Terminal
from tests.conftest import RunCli

HOSTILE = "no [/x] file [red]here[/] :smile: \x1b[2Jgone\x07"
SHOWN = r"no [/x] file [red]here[/] :smile: \x1b[2Jgone\x07"


def console() -> PlainConsole:
    return PlainConsole(file=io.StringIO(), width=200, force_terminal=True, color_system=None)


def written(of: PlainConsole) -> str:
    assert isinstance(of.file, io.StringIO)
    return of.file.getvalue()


def test_printed_and_in_tables() -> None:
    out = console()
    out.print(HOSTILE)
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE)
    table.add_row(styled((HOSTILE, "bold"), ": ", HOSTILE))
    out.print(table)
    assert written(out).count(SHOWN) == 6
    assert "\x1b[2J" not in written(out)


def test_own_style_stays() -> None:
    out = PlainConsole(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
    out.print(styled(("[bold]", "bold"), " x"))
    assert written(out) == "\x1b[1m[bold]\x1b[0m x\n"


def test_bars_and_lines_of_a_running_command() -> None:
    out = console()
    terminal = Terminal(out)
    with terminal.stage("a row [/x]", 3) as advance:
        advance(1)
        terminal.say(HOSTILE)
    assert SHOWN in written(out)
    assert "a row [/x]" in written(out)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs, with brackets in its name, of which one failed for a reason with brackets."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs [/x]"
    run = folder / "row-0123456789ab"
    run.mkdir(parents=True)
    record = {"state": "failed", "reason": HOSTILE, "row": "row", "title": HOSTILE, "smoke": False, "seed": 1}
    (run / "run.json").write_text(json.dumps(record))
    return folder


def test_a_reason_with_brackets_ends_no_command(runs: Path, run_cli: RunCli) -> None:
    code, out, _ = run_cli(["runs", "list", "--runs-dir", str(runs)])
    assert code == 0
    assert "no [/x] file [red]here[/] :smile:" in re.sub(r"\s+", " ", out)
    code, out, _ = run_cli(["runs", "show", "row-0123456789ab", "--runs-dir", str(runs)])
    assert code == 0
    assert "[red]here[/]" in out
    assert "\x1b[2J" not in out
    code, out, _ = run_cli(["leaderboard", "--runs-dir", str(runs)])
    assert code == 0
    assert "runs [/x]" in re.sub(r"\s+", " ", out)


def test_no_command_opens_another_console() -> None:
    folder = Path(__file__).resolve().parents[2] / "src" / "meta_spliceai" / "cli"
    with_console = [path.name for path in folder.glob("*.py") if "rich.console" in path.read_text(encoding="utf-8")]
    assert with_console == ["console.py"]
