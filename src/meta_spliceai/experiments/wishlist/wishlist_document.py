"""The wishlist as its owner writes it: one Markdown document with a table a section.

Shared by the two directions, reading and rendering: headings of the tables, and the cells in which a guess is written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from meta_spliceai.errors import shown
from meta_spliceai.experiments.spec.experiment import Wish

STAR = "⭐"
EXPERIMENT, VRAM, TIME, PRIORITY, COMMAND, STATE = "Experiment", "VRAM", "Time Est.", "Priority", "Command", "State"
COMPLETED = ("Experiment", "Date", "Result", "Notes")
RECOMMENDED = ("GPU", "VRAM", "Suitable Experiments")
PRICED = ("GPU", "$/hr", "Recommended For")
NEWEST_PRICES = ("GPU", "VRAM", "$/hr", "As of", "Provider")
NOTHING = "-"
MIDDLE: str = Wish.model_fields["column"].get_default()
"""Heading of a section's middle column where the section does not name one."""

Priority = Literal["high", "medium", "low"]
_PRIORITIES: dict[str, Priority] = {"high": "high", "medium": "medium", "low": "low"}
_VRAM = re.compile(r"~?(\d{1,9}(?:\.\d+)?)\s*(\+?)\s*Gi?B\s*(\+?)", re.IGNORECASE)
_HOURS = re.compile(
    r"~?(\d{1,9}(?:\.\d+)?)(?:\s*(?:-|–|—|to)\s*(\d{1,9}(?:\.\d+)?))?\s*(h|hours?|hrs?|min|minutes?)", re.IGNORECASE
)


class CellError(ValueError):
    """A cell that is not written as such cells are; the message says what is expected."""


@dataclass(frozen=True)
class Guess:
    """A row's guessed cost, as the cells of a table."""

    vram: str
    time: str
    priority: str


def write_guess(wish: Wish) -> Guess:
    """The cells of a guess: `48GB+`, `2-4h`, `⭐ HIGH`; a dash where nothing was guessed."""
    vram = f"{wish.vram_gb:g}GB{'+' if wish.vram_or_more else ''}" if wish.vram_gb else NOTHING
    time = NOTHING
    if wish.hours:
        minutes = _from_to([f"{hours * 60:.0f}" for hours in wish.hours]) + "min"
        # Minutes only where they say the same when they are read back.
        same = wish.hours[1] < 1 and round(wish.hours[0] * 60) > 0 and read_hours(minutes) == wish.hours
        time = minutes if same else _from_to([f"{hours:g}" for hours in wish.hours]) + "h"
    priority = wish.priority.upper() if wish.priority else NOTHING
    return Guess(vram, time, f"{STAR} {priority}" if wish.starred else priority)


def _from_to(ends: list[str]) -> str:
    return ends[0] if ends[0] == ends[1] else "-".join(ends)


def read_vram(cell: str) -> tuple[float | None, bool]:
    """Gigabytes, and whether the guess was written with a plus; None for an empty cell."""
    if _is_empty(cell):
        return None, False
    found = _VRAM.fullmatch(cell.strip())
    if found is None or float(found[1]) <= 0:
        raise CellError(f"{VRAM} {shown(cell)} is not written as '12GB' or '48GB+'")
    return float(found[1]), bool(found[2] or found[3])


def read_hours(cell: str) -> tuple[float, float] | None:
    """Hours from and to; None for an empty cell. Minutes are turned into hours with three decimals."""
    if _is_empty(cell):
        return None
    found = _HOURS.fullmatch(cell.strip())
    if found is None:
        raise CellError(f"{TIME} {shown(cell)} is not written as '2-4h'")
    unit = 60 if found[3].lower().startswith("m") else 1
    low, high = (round(float(end) / unit, 3) for end in (found[1], found[2] or found[1]))
    if not 0 < low <= high:
        raise CellError(f"{TIME} '{cell}' does not go from a smaller number to a larger one")
    return low, high


def read_priority(cell: str) -> tuple[Priority | None, bool]:
    """The priority, and whether it carries a star; None for an empty cell."""
    starred = STAR in cell
    word = cell.replace(STAR, "").replace("\ufe0f", "").strip()
    if _is_empty(word):
        return None, starred
    if word.lower() not in _PRIORITIES:
        raise CellError(f"{PRIORITY} '{cell}' is none of HIGH, MEDIUM, LOW")
    return _PRIORITIES[word.lower()], starred


def split_row(line: str) -> list[str]:
    r"""The cells of a table's line; `\|` is a bar within a cell."""
    inner = line.strip().removeprefix("|")
    if inner.endswith("|") and not inner.endswith("\\|"):
        inner = inner[:-1]
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", inner)]


def join_row(cells: list[str] | tuple[str, ...]) -> str:
    """One line of a table; a bar within a cell is escaped, a line break becomes a space."""
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def plain(text: str) -> str:
    """A title without case, spaces and signs, for comparing."""
    return re.sub(r"[^a-z0-9]+", "", text.casefold())


def _is_empty(cell: str) -> bool:
    return cell.strip().strip("*_") in ("", "-", "–", "—", "?", "n/a", "N/A")
