"""Work that dies of SIGKILL at moments spread evenly over the lines of Python that it runs through.

A fresh process sets up whatever the work needs, and is forked for each moment: imports are paid for once, and the
process of the tests, which may have threads, is never forked.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class Lines:
    """Counts the lines that are run in some files, but not those of a class that only computes, and kills the process
    at one of them; places are kept."""

    def __init__(self, files: set[str], last: int | None, computes: str = "") -> None:
        self.files, self.last, self.computes = files, last, computes
        self.count = 0

    @contextmanager
    def followed(self) -> Iterator[None]:
        sys.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(None)

    def _called(self, frame: FrameType, event: str, _: object) -> Any:
        code = frame.f_code
        computes = code.co_qualname.partition(".")[0] == self.computes
        return self._line if code.co_filename in self.files and not computes else None

    def _line(self, frame: FrameType, event: str, _: object) -> Any:
        self.count += event == "line"
        if self.count == self.last:
            os.write(1, f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
        return self._line


def die_at_moments(work: Callable[[int, Lines], object], files: set[str], moments: int, computes: str = "") -> None:
    """Do `work(n, lines)` in a process of its own for n = 0, undisturbed, and for n = 1 to `moments`, killed at a line.

    Args:
        work: follows the lines that count: `with lines.followed()`.
        files: whose lines count.
        computes: a class whose lines do not: many alike that touch no file.
        moments: how many; the n-th is killed at n / (moments + 1) of the lines that the undisturbed work needed.
    """
    reading, writing = os.pipe()
    if os.fork() == 0:
        lines = Lines(files, None, computes)
        work(0, lines)
        os.write(writing, f"{lines.count}".encode())
        os._exit(0)
    os.wait()
    total = int(os.read(reading, 100))
    for number in range(1, moments + 1):
        if os.fork() == 0:
            work(number, Lines(files, total * number // (moments + 1), computes))
            os._exit(1)
        expect_killed(f"moment {number} of {moments}")


def expect_killed(moment: str) -> None:
    """Wait for the forked process, which must not live beyond its moment."""
    _, status = os.wait()
    assert os.WIFSIGNALED(status), f"{moment}: not killed"
    assert os.WTERMSIG(status) == signal.SIGKILL


def killed_in(module: str, folder: Path) -> list[str]:
    """The lines at which `die(folder)` of a module, which calls `die_at_moments`, was killed."""
    return [line for line in run_apart(module, "die", folder).splitlines() if ".py:" in line]


def run_apart(module: str, function: str, folder: Path) -> str:
    """Call a module's function with a folder in a process of its own; what it printed."""
    command = f"import sys; from pathlib import Path; from {module} import {function} as run; run(Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", command, str(folder)],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "OMP_NUM_THREADS": "1",  # a process that has begun threads must not be forked
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=900,
    )
    return done.stdout
