"""Leaderboards: finished runs judged on the same test, rows zero first, learned models below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from meta_spliceai.experiments.workspace import Workspace

HEADLINES = (
    "auprc",
    "auroc",
    "spearman_effect",
    "pearson_effect",
    "pearson_validated_delta",
    "detection_rate_at_fpr_5",
)
"""The metrics that a ledger line carries; all others are in the run's metrics.json."""

SHOWN = {
    "auprc": "AUPRC",
    "spearman_effect": "Spearman r, effect",
    "auroc": "AUROC",
    "pearson_effect": "Pearson r, effect",
}
"""The metrics for the terminal with their headings, the most telling first: a narrow one shows fewer."""

ORDER = ("row zero", "base", "learned")


@dataclass(frozen=True)
class Value:
    """One metric of one scorer; None where it is undefined."""

    estimate: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.estimate is None:
            return "–"
        text = _signed(self.estimate)
        return text if self.low is None or self.high is None else f"{text} [{_signed(self.low)}, {_signed(self.high)}]"


@dataclass(frozen=True)
class Line:
    """One scorer of a board.

    Attributes:
        scorer: its name.
        kind: "row zero", "base" or "learned".
        run: the run it comes from; rows zero are computed anew by each run and stand here once.
        row: the row's id, for a learned model.
        values: metric name to value.
        seconds: of the run, training and scoring included; None for rows zero.
        peak_memory_bytes: of the run; None for rows zero.
        verdicts: how it compares with each simple rival, in words.
    """

    scorer: str
    kind: str
    run: str
    row: str
    values: dict[str, Value]
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    verdicts: tuple[str, ...] = ()


@dataclass
class Board:
    """All finished runs that were judged on the same rows.

    Attributes:
        data: name of the data set.
        test_digest: identity of the test: which variants, with which classes and effects.
        rows, positives, groups: size of the test.
        lines: rows zero first, then base networks, then learned models by AUPRC.
        notes: what a reader must know (a subset of the data, a branded result).
    """

    data: str
    test_digest: str
    rows: int
    positives: int
    groups: int
    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def prevalence(self) -> float | None:
        """Share of Splice-altering variants among the rows of binary metrics."""
        for line in self.lines:
            value = line.values.get("prevalence")
            if value is not None and value.estimate is not None:
                return value.estimate
        return None

    def to_json(self) -> dict[str, Any]:
        """The board as plain values."""
        return {
            "data": self.data,
            "test_digest": self.test_digest,
            "rows": self.rows,
            "positives": self.positives,
            "groups": self.groups,
            "prevalence": self.prevalence,
            "notes": self.notes,
            "lines": [
                {
                    "scorer": line.scorer,
                    "kind": line.kind,
                    "run": line.run,
                    "row": line.row,
                    "seconds": line.seconds,
                    "peak_memory_bytes": line.peak_memory_bytes,
                    "verdicts": list(line.verdicts),
                    **{
                        name: {"estimate": value.estimate, "low": value.low, "high": value.high}
                        for name, value in line.values.items()
                    },
                }
                for line in self.lines
            ],
        }


def boards(workspace: Workspace) -> list[Board]:
    """One board for every test that a finished run of the ledger was judged on; smoke runs stand on none."""
    return _boards(workspace, [entry for entry in workspace.ledger.finished() if not entry.get("smoke")])


def boards_of(workspace: Workspace, names: Sequence[str]) -> list[Board]:
    """Boards of some finished runs only, smoke runs included; their notes say what they are."""
    return _boards(workspace, [entry for entry in workspace.ledger.finished() if entry["run"] in names])


def _boards(workspace: Workspace, entries: Sequence[dict[str, Any]]) -> list[Board]:
    found: dict[str, Board] = {}
    for entry in entries:
        test = entry["test"]
        board = found.get(test["digest"])
        if board is None:
            board = Board(entry["data"]["name"], test["digest"], test["rows"], test["positives"], test["groups"])
            found[test["digest"]] = board
        stale = workspace.run(entry["run"]).stale()
        stale_note = [f"{entry['run']} is stale: {stale}"] if stale else []
        for note in [*entry.get("notes", []), *stale_note]:
            if note not in board.notes:
                board.notes.append(note)
        known = {(line.kind, line.scorer) for line in board.lines if line.kind != "learned"}
        for line in _lines(entry):
            if line.kind == "learned" or (line.kind, line.scorer) not in known:
                board.lines.append(line)
    for board in found.values():
        board.lines.sort(key=lambda line: (ORDER.index(line.kind), -_auprc(line)))
    return sorted(found.values(), key=lambda board: (board.data, board.test_digest))


def _lines(entry: dict[str, Any]) -> list[Line]:
    values: dict[str, dict[str, Value]] = {}
    kinds: dict[str, str] = {}
    for record in entry["metrics"]:
        mine = values.setdefault(record["scorer"], {})
        kinds[record["scorer"]] = record["kind"]
        mine[record["metric"]] = Value(record["estimate"], record["low"], record["high"])
        if record["metric"] == "auprc":
            mine["prevalence"] = Value(record["prevalence"], None, None)
    lines = []
    for scorer, mine in values.items():
        learned = kinds[scorer] == "learned"
        lines.append(
            Line(
                scorer,
                kinds[scorer],
                entry["run"],
                entry["row"] if learned else "",
                mine,
                entry["seconds"] if learned else None,
                entry["peak_memory_bytes"] if learned else None,
                tuple(entry.get("verdicts", ())) if learned else (),
            )
        )
    return lines


def _auprc(line: Line) -> float:
    value = line.values.get("auprc")
    return value.estimate if value is not None and value.estimate is not None else -1.0


def _signed(value: float) -> str:
    """Three decimals with a true minus sign; never "−0.000"."""
    text = f"{value:.3f}"
    return "0.000" if float(text) == 0 else text.replace("-", "−")
