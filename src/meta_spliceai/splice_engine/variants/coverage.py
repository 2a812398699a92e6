"""What became of every row: read, used, and each reason for leaving a row out, with counts and examples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

EXAMPLES_KEPT = 5


@dataclass
class Coverage:
    """The account of a table's rows. `read == used + left out` holds at every moment.

    Attributes:
        read: rows the source held.
        left_out: rows left out, by reason.
        examples: up to five rows in words for each reason, so that a user can find them in the source.
    """

    read: int
    left_out: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def used(self) -> int:
        """Rows that remain."""
        return self.read - sum(self.left_out.values())

    def leave_out(self, reason: str, rows: Iterable[str]) -> None:
        """Count rows under a reason; each row is one line that names it and says what is wrong with it."""
        lines = list(rows)
        if not lines:
            return
        if len(lines) > self.used:
            raise ValueError(f"{len(lines)} rows left out as '{reason}', but only {self.used} remain")
        self.left_out[reason] = self.left_out.get(reason, 0) + len(lines)
        kept = self.examples.setdefault(reason, [])
        kept.extend(lines[: EXAMPLES_KEPT - len(kept)])

    def then(self, later: Coverage) -> Coverage:
        """This account followed by that of a later step, which must have read what this one used."""
        if later.read != self.used:
            raise ValueError(f"the later step read {later.read} rows, but {self.used} were handed on")
        joined = Coverage(self.read, dict(self.left_out), {k: list(v) for k, v in self.examples.items()})
        for reason, count in later.left_out.items():
            joined.left_out[reason] = joined.left_out.get(reason, 0) + count
            kept = joined.examples.setdefault(reason, [])
            kept.extend(later.examples.get(reason, [])[: EXAMPLES_KEPT - len(kept)])
        return joined

    def to_frame(self) -> pd.DataFrame:
        """The account as a table: one line for rows read, one for each reason, one for rows used."""
        lines = [("read", self.read), *self.left_out.items(), ("used", self.used)]
        return pd.DataFrame(lines, columns=["rows", "count"])

    @classmethod
    def from_json(cls, account: Mapping[str, Any]) -> Coverage:
        """What `to_json` gave."""
        return cls(account["read"], dict(account["left_out"]), dict(account["examples"]))

    def to_json(self) -> dict[str, object]:
        """The account as plain values, for a ledger line."""
        return {"read": self.read, "used": self.used, "left_out": self.left_out, "examples": self.examples}
