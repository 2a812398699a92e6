"""What was run and what came out: one JSON line an event, appended, never rewritten."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

LEDGER = "ledger.jsonl"
LOCK_SECONDS = 60


class _Fields(BaseModel):
    model_config = ConfigDict(strict=True)


class _Data(_Fields):
    name: str = ""


class _Split(_Fields):
    name: str
    folds: int | str | None = None


class _Test(_Fields):
    digest: str
    rows: int = 0
    positives: int = 0
    groups: int = 0
    negatives: list[str] = []


class _Metric(_Fields):
    scorer: str
    kind: Literal["baseline", "base", "external", "learned"]
    metric: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None


class _Event(_Fields):
    """What the fields of an event hold, where they are there; all others are free."""

    run: str = ""
    at: str = ""


class _Finished(_Event):
    """What leaderboards, pages and documents take from the event that a run has finished."""

    run: str
    row: str
    at: str
    smoke: bool = False
    as_wished: bool | None = None
    data: _Data = _Data()
    split: _Split
    test: _Test
    seconds: float | None = None
    dollars: float | None = None
    peak_memory_bytes: float | None = None
    notes: list[str] = []
    verdicts: list[str] = []
    metrics: list[_Metric] = []


def merged(ledgers: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Finished runs of several ledgers, oldest first; a run that is in several is taken from the first of them.

    Between ledgers times decide, and so they do for lines that were kept from another ledger, in whatever order.
    Otherwise it is the order in which lines were written: where the clock was set back, a later line has an earlier
    time.
    """
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for entries in reversed(ledgers):
        latest = ""
        for entry in entries:
            at = str(entry["at"])
            if "kept" not in entry:
                latest = at = max(latest, at)
            found[entry["run"]] = (at, entry)
    return [entry for _, entry in sorted(found.values(), key=lambda pair: pair[0])]


@dataclass(frozen=True)
class Damage:
    """A line of the ledger that cannot be read.

    Attributes:
        line: 1-based number of the line.
        text: the first bytes of it.
        torn: true for a last line without its end, as a killed process or a full disk leaves it.
    """

    line: int
    text: str
    torn: bool

    def describe(self) -> str:
        what = "the last line was cut off while it was written" if self.torn else "this line is no event"
        return f"line {self.line}: {what} ({self.text!r})"


class Ledger:
    """An append-only file of JSON lines that several processes may write to.

    A line is written under a lock and flushed to the disk before the lock is let go. A line that was cut off is
    reported by `damage()`, left where it is, and ended by a line break before the next one is added.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Add one event; `at` (UTC, ISO 8601) is filled in. Returns the entry as written.

        Raises:
            OSError: the disk is full or the folder cannot be written to.
        """
        entry = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **entry}
        line = json.dumps(entry, ensure_ascii=False, allow_nan=False, sort_keys=False).encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock"), timeout=LOCK_SECONDS), self.path.open("ab+") as handle:
            if handle.tell() > 0:
                handle.seek(-1, os.SEEK_END)
                if handle.read(1) != b"\n":
                    line = b"\n" + line
            handle.write(line)
            handle.flush()
            os.fsync(handle.fileno())
        return entry

    def read(self) -> tuple[list[dict[str, Any]], list[Damage]]:
        """All readable entries, oldest first, and the lines that could not be read."""
        return self.parse(self.path.read_bytes()) if self.path.exists() else ([], [])

    @staticmethod
    def parse(content: bytes) -> tuple[list[dict[str, Any]], list[Damage]]:
        """The readable entries of a ledger's bytes, and the lines that could not be read."""
        entries: list[dict[str, Any]] = []
        damage: list[Damage] = []
        lines = content.split(b"\n")
        for number, raw in enumerate(lines, start=1):
            if not raw.strip():
                continue
            last = number == len(lines)
            try:
                entry = json.loads(raw)
            except (ValueError, RecursionError):  # ValueError: also a number of thousands of digits
                entry = None
            try:
                (_Finished if entry["event"] == "finished" else _Event).model_validate(entry)
            except (ValidationError, KeyError, TypeError):
                damage.append(Damage(number, raw[:60].decode("utf-8", "replace"), torn=last))
            else:
                entries.append(entry)
        return entries, damage

    def entries(self) -> list[dict[str, Any]]:
        """All readable entries, oldest first."""
        return self.read()[0]

    def damage(self) -> list[Damage]:
        return self.read()[1]

    def finished(self) -> list[dict[str, Any]]:
        """The latest `finished` entry of every run, oldest first."""
        latest: dict[str, dict[str, Any]] = {}
        for entry in self.entries():
            if entry["event"] == "finished":
                latest.pop(entry["run"], None)
                latest[entry["run"]] = entry
        return list(latest.values())
