"""How far each row of the wishlist is: wished, runnable or completed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.spec.parts import lacking, missing_parts
from meta_spliceai.experiments.store.workspace import Workspace

STATES = ("wished", "runnable", "completed")


@dataclass(frozen=True)
class RowState:
    """One row and how far it is.

    Attributes:
        state: wished (something is missing), runnable (it would start now, on this machine), or completed (the ledger
            holds a finished run of it as it stands).
        missing: for a wished row, the parts that the code does not have, or else what of its data and weights is not on
            this machine and what brings it, in words.
        last_run: name of the latest finished run, for a completed row.
    """

    spec: ExperimentSpec
    state: Literal["wished", "runnable", "completed"]
    missing: tuple[str, ...] = ()
    last_run: str = ""

    @property
    def vram(self) -> str:
        """The wishlist's guess, GB."""
        wish = self.spec.wish
        return f"{wish.vram_gb:g}{'+' if wish.vram_or_more else ''}" if wish and wish.vram_gb else ""

    @property
    def hours(self) -> str:
        """The wishlist's guess, hours."""
        wish = self.spec.wish
        return "–".join(dict.fromkeys(f"{hours:g}" for hours in wish.hours)) if wish and wish.hours else ""

    @property
    def priority(self) -> str:
        """The wishlist's priority."""
        return (self.spec.wish and self.spec.wish.priority) or ""

    def to_json(self) -> dict[str, Any]:
        """The row as plain values."""
        return {
            "id": self.spec.id,
            "title": self.spec.title,
            "section": self.spec.section,
            "state": self.state,
            "missing": list(self.missing),
            "last_run": self.last_run or None,
            "wish": self.spec.wish.model_dump(mode="json") if self.spec.wish else None,
        }


def state_of_rows(rows: dict[str, ExperimentSpec], workspace: Workspace) -> list[RowState]:
    """The state of every row that is on the wishlist, in the catalogue's order.

    Args:
        rows: the catalogue; rows without a `wish` (the quickstart's own) are left out.
        workspace: whose ledger says what is completed.
    """
    completed: dict[str, str] = {}
    for entry in workspace.finished():
        if entry.get("as_wished") and not entry.get("smoke"):
            completed[str(entry["row"])] = str(entry["run"])
    found = []
    for spec in rows.values():
        if spec.wish is None:
            continue
        missing = tuple(missing_parts(spec, rows) or lacking(spec, rows))
        if spec.id in completed:
            found.append(RowState(spec, "completed", last_run=completed[spec.id]))
        elif missing:
            found.append(RowState(spec, "wished", missing=missing))
        else:
            found.append(RowState(spec, "runnable"))
    return found
