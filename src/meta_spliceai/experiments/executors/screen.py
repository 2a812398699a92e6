"""What shows the rows of a queue; the command line has the ones for people and machines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from meta_spliceai.experiments.watcher import Watcher


class Screen(Protocol):
    """Shows one or several rows at a time."""

    def say(self, line: str) -> None:
        """A line about the queue as a whole; one that begins with "error" says what went wrong."""

    def row(self, label: str) -> Watcher:
        """The watcher of one row."""


class OneWatcher:
    """A screen that hands everything to one watcher."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.say: Callable[[str], None] = watcher.say

    def row(self, label: str) -> Watcher:
        """The one watcher."""
        return self.watcher
