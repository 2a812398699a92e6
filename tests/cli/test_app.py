"""What a user sees of the command line: help, version, errors and their exit codes."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest
import typer

from meta_spliceai.cli import app as cli_app
from meta_spliceai.cli import main
from meta_spliceai.errors import InputError
from tests.conftest import RunCli


def test_help_names_every_command_and_is_quick() -> None:
    """`--help` must not import PyTorch."""
    script = (
        "import sys\n"
        "from meta_spliceai.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as ended:\n    assert not ended.code\n"
        "heavy = {'torch', 'pandas', 'lightning', 'sklearn', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("quickstart", "wishlist", "run", "leaderboard"):
        assert command in done.stdout


def test_version(run_cli: RunCli) -> None:
    code, out, _ = run_cli(["--version"])
    assert code == 0
    assert out.startswith("meta-spliceai 0.")


def test_unknown_row_names_the_nearest_and_ends_with_2(run_cli: RunCli) -> None:
    code, _, err = run_cli(["run", "validated-delta-10kk"])
    assert code == 2
    assert err.startswith("error: unknown row id 'validated-delta-10kk'; did you mean validated-delta-10k")
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("training.epochs=-3", "'training.epochs' = -3"),
        ("training.epoch=3", "did you mean training.epochs"),
        ("base.method=quick", "'incremental' or 'full'"),
        ("window=100", "odd number of bases"),
        ("nonsense", "write field=value"),
        ("title=x", "unknown field 'title'"),
    ],
)
def test_bad_set_names_what_is_allowed(assignment: str, words: str, run_cli: RunCli) -> None:
    code, _, err = run_cli(["run", "validated-delta-10k", "--set", assignment])
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_unknown_device_is_refused_before_anything_runs(run_cli: RunCli) -> None:
    code, _, err = run_cli(["run", "wt1-simple-cnn", "--device", "tpu"])
    assert code == 2
    assert "unknown device 'tpu'" in err


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """A command line whose `run` command raises what the test puts into the list."""
    to_raise: list[BaseException] = []

    def command(ids: list[str]) -> None:
        raise to_raise[0]

    toy = typer.Typer(cls=cli_app.Commands)
    toy.command("run")(command)
    toy.command("other")(command)
    monkeypatch.setattr(cli_app, "app", toy)
    monkeypatch.setattr(sys, "argv", ["meta-spliceai", "run", "a row"])
    return to_raise


def test_interrupt_ends_with_130_and_says_how_to_go_on(raising: list[BaseException], run_cli: RunCli) -> None:
    raising.append(KeyboardInterrupt())
    code, _, err = run_cli(["run", "a row"])
    assert code == 130
    assert "meta-spliceai run 'a row' --resume" in err


def test_full_disk_is_one_line(raising: list[BaseException], run_cli: RunCli) -> None:
    raising.append(OSError(errno.ENOSPC, "No space left on device", "/runs/x"))
    code, _, err = run_cli(["run", "a"])
    assert code == 2
    assert err.strip() == (
        "error: no space left on the disk that holds /runs/x; free some and run the same command again"
    )


def test_user_error_is_one_line_with_exit_code_2(raising: list[BaseException], run_cli: RunCli) -> None:
    raising.append(InputError("row 3: what and where"))
    code, _, err = run_cli(["run", "a"])
    assert (code, err) == (2, "error: row 3: what and where\n")


def test_a_defect_keeps_its_traceback(raising: list[BaseException]) -> None:
    raising.append(ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError):
        main(["run", "a"])
