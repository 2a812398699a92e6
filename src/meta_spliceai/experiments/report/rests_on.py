"""What a line of a leaderboard rests on: its base networks and their context, and the rows it was judged on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meta_spliceai.experiments.report.leaderboard import Standing
from meta_spliceai.experiments.report.svg import number


@dataclass(frozen=True)
class RestsOn:
    """What the page says of a scorer beside its numbers.

    Attributes:
        networks: base networks with how many members each has; empty for a row zero, which uses none.
        context: how far Δ reaches, the window of a model that reads bases, and what the bases were cut from; empty
            where not recorded.
        rows: test rows that it was judged on in the headline metric; None where not recorded.
        of: test rows there are; None where not recorded.
    """

    networks: str
    context: str
    rows: int | None
    of: int | None

    @property
    def share(self) -> str:
        """Rows judged of the rows there are, in percent; empty where either is not recorded."""
        return "" if self.rows is None or not self.of else f"{number(100 * self.rows / self.of, 1)} % of {self.of:,}"


def rests_on(standing: Standing, headline: str) -> RestsOn:
    """What a standing rests on, as its run recorded it.

    Args:
        standing: a line of a board.
        headline: the metric whose rows are counted.
    """
    data = standing.run.data
    networks = [] if standing.kind == "row zero" else _networks(standing, data)
    context = _context(standing, data, networks)
    rows, of = standing.judged(headline), standing.evaluation.coverage.read
    return RestsOn(", ".join(_named(one) for one in networks), context, rows, of or None)


def _networks(standing: Standing, data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The networks a scorer uses: all of the run for a learned one; for a base one, the one it is called by."""
    own = data.get("base")
    beside = data.get("beside")
    every: list[Mapping[str, Any]] = [
        one for one in (own, *(beside if isinstance(beside, list) else ())) if isinstance(one, dict)
    ]
    if standing.kind == "learned":
        return every
    first = standing.scorer.name.partition(" ")[0]
    return [one for one in every if one.get("name") == first] or every[:1]


def _named(network: Mapping[str, Any]) -> str:
    members = network.get("networks")
    name = str(network.get("name") or "not recorded")
    return f"{name} ×{members}" if isinstance(members, int) and members > 1 else name


def _context(standing: Standing, data: Mapping[str, Any], networks: list[Mapping[str, Any]]) -> str:
    reach = sorted({one["distance"] for one in networks if isinstance(one.get("distance"), int)})
    words = [f"Δ within {', '.join(map(str, reach))} nt"] if reach else []
    window = data.get("window")
    if standing.kind == "learned" and not standing.run.spec.get("fusion") and isinstance(window, dict):
        words += [f"window {window['length']} nt"] if isinstance(window.get("length"), int) else []
    options = data.get("options")
    cut = options.get("context") if isinstance(options, dict) else None
    words += [f"{cut} context"] if cut else [str(data["build"])] if data.get("build") else []
    return ", ".join(words) if networks else ""
