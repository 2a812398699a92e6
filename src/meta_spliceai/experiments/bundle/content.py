"""The folder that becomes a bundle, and which rows need each of its files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from meta_spliceai.experiments.spec.experiment import ExperimentSpec


class Content:
    """Files of a bundle in the making.

    Attributes:
        folder: where they lie.
        rows: the rows that can be packed, members before their ensembles.
        left_out: row: why it is left out, in words.

    Args:
        folder: a new folder.
        rows: all that were asked for.
    """

    def __init__(self, folder: Path, rows: Sequence[ExperimentSpec]) -> None:
        self.folder = folder
        self.rows = list(rows)
        self.left_out: dict[str, str] = {}
        self._needed_by: dict[Path, set[str]] = {}
        self._scores: dict[Path, set[str]] = {}

    def add(self, path: Path, row_ids: Iterable[str], is_scores: bool = False) -> None:
        """Remember which rows need a file of the folder; base scores they can do without."""
        (self._scores if is_scores else self._needed_by).setdefault(path, set()).update(row_ids)

    def leave_out(self, row_ids: Iterable[str], why: str) -> None:
        """Leave rows out, with ensembles of them, and delete the files that no other row needs."""
        asked = set(row_ids)
        gone = self._with_ensembles(asked)
        for spec in self.rows:
            if spec.id in asked:
                self.left_out[spec.id] = why
            elif spec.id in gone and spec.ensemble:
                lost = next(member for member in spec.ensemble.members if member in gone)
                self.left_out[spec.id] = f"its member {lost} is not in the bundle"
        self.rows = [spec for spec in self.rows if spec.id not in gone]
        for files in (self._needed_by, self._scores):
            for path in [path for path, needed_by in files.items() if needed_by <= gone]:
                del files[path]
                path.unlink()
            for needed_by in files.values():
                needed_by -= gone

    def _with_ensembles(self, row_ids: Iterable[str]) -> set[str]:
        gone = set(row_ids)
        gone.update(spec.id for spec in self.rows if spec.ensemble and not gone.isdisjoint(spec.ensemble.members))
        return gone

    def leave_out_largest_scores(self) -> Path | None:
        """Delete the largest file of base scores; its path, None where there is none."""
        if not self._scores:
            return None
        largest = max(self._scores, key=lambda path: path.stat().st_size)
        del self._scores[largest]
        return largest

    def leave_out_dearest_rows(self, why: str) -> bool:
        """Leave out the rows that take most space each which no other row needs; false where no row would be left."""
        best: tuple[float, set[str]] = (0.0, set())
        for needed_by in map(set, self._needed_by.values()):
            gone = self._with_ensembles(needed_by)
            freed = sum(path.stat().st_size for path, rows in self._needed_by.items() if rows <= gone)
            if len(gone) < len(self.rows):
                best = max(best, (freed / len(gone), needed_by), key=lambda one: one[0])
        self.leave_out(best[1], why)
        return bool(best[1])
