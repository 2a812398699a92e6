"""Which rows stay behind when a bundle is too large: those of the part that frees most for each row lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """Files without which some rows cannot run: a data set, a base network, the weights of an encoder.

    Attributes:
        name: what it is, in words.
        files: its files; another part may need some of them too.
        rows: ids of the rows that need it, ensembles of such rows among them.
    """

    name: str
    files: frozenset[Path]
    rows: frozenset[str]


def least_missed(parts: Sequence[Part]) -> tuple[Part, int] | None:
    """The part whose rows take most space each, and the bytes that are free without it; None: no row would be left."""
    every = frozenset[str]().union(*(part.rows for part in parts))
    freed = {part: sum(file.stat().st_size for file in only_for(parts, part.rows)) for part in parts}
    spared = [part for part in parts if part.rows < every and freed[part]]
    if not spared:
        return None
    found = max(spared, key=lambda part: freed[part] / len(part.rows))
    return found, freed[found]


def only_for(parts: Sequence[Part], rows: frozenset[str]) -> frozenset[Path]:
    """The files that nobody needs once these rows are gone."""
    gone = frozenset[Path]().union(*(part.files for part in parts if part.rows <= rows))
    return gone.difference(*(part.files for part in without_rows(parts, rows)))


def without_rows(parts: Sequence[Part], rows: frozenset[str]) -> list[Part]:
    """The parts that are still needed once these rows are gone."""
    return [Part(part.name, part.files, part.rows - rows) for part in parts if part.rows - rows]
