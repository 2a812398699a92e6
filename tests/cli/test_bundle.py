"""`meta-spliceai bundle`, and `run` with --all, --time-limit and --bundle, as a user meets them."""

from __future__ import annotations

from pathlib import Path

import pytest

from meta_spliceai.cli import run as run_command
from meta_spliceai.cli.options import size_in_bytes
from meta_spliceai.errors import InputError
from tests.conftest import RunCli


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "name the rows to run, or give --all"),
        (["run", "wt1-simple-cnn", "--all"], "name the rows to run, or give --all"),
        (["run", "--all", "--time-limit", "nine"], "--time-limit 'nine': write a duration"),
        (["run", "--all", "--time-limit", "9m", "--executor", "ray"], "--time-limit is for --executor local"),
        (["run", "--all", "--bundle", "nowhere.zip"], "no bundle at nowhere.zip"),
        (["bundle", "make"], "name the rows to pack, or give --all"),
        (["bundle", "make", "wt1-simple-cnn", "--max-size", "45"], "--max-size '45': write a number and a unit"),
        (["bundle", "make", "no-such-row"], "unknown row id 'no-such-row'"),
        (["bundle", "make", "wt1-simple-cnn", "--without", "wt1-cv5"], "--without wt1-cv5: rows are taken from --all"),
        (["bundle", "make", "--all", "--without", "no-such-row"], "unknown row id 'no-such-row'"),
        (["bundle", "show", "nowhere.zip"], "no bundle at nowhere.zip"),
        (["bundle", "open", "nowhere.zip"], "no bundle at nowhere.zip"),
    ],
)
def test_bad_requests_are_one_line(arguments: list[str], words: str, run_cli: RunCli) -> None:
    code, _, err = run_cli(arguments)
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_a_file_that_is_no_bundle(tmp_path: Path, run_cli: RunCli) -> None:
    (tmp_path / "bundle.zip").write_text("hello")
    code, _, err = run_cli(["bundle", "show", str(tmp_path / "bundle.zip")])
    assert code == 2
    assert "is no whole bundle" in err


@pytest.mark.parametrize(("text", "size"), [("45MB", 45_000_000), ("1.5 kB", 1_500), ("2gb", 2_000_000_000)])
def test_sizes(text: str, size: int) -> None:
    assert size_in_bytes(text) == size


@pytest.mark.parametrize("text", ["45", "MB", "-4MB", "0MB", "4 apples"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InputError, match="for example 45MB"):
        size_in_bytes(text)


def test_rows_that_are_left_have_an_exit_code_of_their_own() -> None:
    assert run_command.EXIT_ROWS_LEFT not in (0, 1, 2, 130)
