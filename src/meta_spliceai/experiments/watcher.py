"""Who is told how a run goes on: lines to say, stages with a count of what is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Watcher(Protocol):
    """What a run talks to; the command line draws bars, tests listen."""

    def say(self, line: str) -> None:
        """A line for the user."""

    def stage(self, name: str, total: int | None = None) -> AbstractContextManager[Callable[[int], None]]:
        """A piece of work with a bar; what is yielded is called with the number of units done since the last call."""

    @property
    def shows_bars(self) -> bool:
        """Whether somebody looks at bars (a terminal)."""


class Silent:
    """Keeps the lines and says nothing."""

    shows_bars = False

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        """Keep the line."""
        self.lines.append(line)

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Keep the stage's name."""
        self.lines.append(name)
        yield lambda _: None
