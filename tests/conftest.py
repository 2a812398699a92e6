"""Fixtures that every room's tests may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from meta_spliceai.cli import main
from tests.file_server import FileServer

RunCli = Callable[[Sequence[str]], tuple[int, str, str]]

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Real data, networks and reference outputs of peers, beside the project where they are at hand; never part of it."""

if "META_SPLICEAI_MIRROR" not in os.environ and SHARED.is_dir():
    os.environ["META_SPLICEAI_MIRROR"] = os.pathsep.join(str(SHARED / part) for part in ("data", "weights"))


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs the tests in the background makes them deaf to Ctrl-C, and every process that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests go first, every other file of them to each of two workers, which begin with the two halves of the
    list: one that is begun last leaves the other worker without work."""
    slow = [item for item in items if item.get_closest_marker("slow") is not None]
    quick = [item for item in items if item.get_closest_marker("slow") is None]
    files = list(dict.fromkeys(item.path for item in slow))
    here = [item for item in slow if files.index(item.path) % 2 == 0]
    there = [item for item in slow if files.index(item.path) % 2 == 1]
    most = max(0, (len(items) + 1) // 2 - len(here))
    items[:] = [*here, *quick[:most], *there, *quick[most:]]


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder that holds `data/`, `weights/` and `vectors/`; the test is skipped where there is none."""
    if not SHARED.is_dir():
        pytest.skip("no mirror of real data and reference outputs beside the project (../shared)")
    return SHARED


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own cache."""
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def file_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A web server on this machine, whose files and faults the test sets; no mirror, and not offline."""
    monkeypatch.delenv("META_SPLICEAI_MIRROR", raising=False)
    monkeypatch.delenv("META_SPLICEAI_OFFLINE", raising=False)
    with FileServer() as server:
        yield server


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str]) -> RunCli:
    """The command line as a user calls it: arguments in, exit code, standard output and standard error out."""

    def run(arguments: Sequence[str]) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run
