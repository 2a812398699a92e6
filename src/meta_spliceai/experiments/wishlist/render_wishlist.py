"""How far each row of the wishlist is, and the wishlist as Markdown, in the shape its owner uses, from catalogue and
ledger. The same runs, the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from meta_spliceai.experiments.board.shown import estimate, number
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, Wish
from meta_spliceai.experiments.spec.parts import lacking, missing_parts
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.experiments.wishlist.read_wishlist import (
    COMMAND,
    EXPERIMENT,
    MIDDLE,
    PRIORITY,
    STAR,
    STATE,
    TIME,
    VRAM,
    read_hours,
)

if TYPE_CHECKING:
    from meta_spliceai.experiments.plan.gpu_prices import Market, PriceTable

STATES = ("wished", "runnable", "completed")

RESULT_METRICS = (("auprc", "AUPRC"), ("spearman_effect", "Spearman r with the measured effect"))

HOW_TO_ADD = """## 📝 How to Add New Experiments

1. `meta-spliceai wishlist add` asks for model, data, VRAM, time estimate and priority, and writes the row to
   `wishlist/*.yaml` of your own repository; or write it there, or read a line of a document like this one
   with `meta-spliceai wishlist import FILE.md`
2. `meta-spliceai plan ID` works out memory, hours and dollars
3. Run it with `meta-spliceai run ID`; a finished run stands under Completed by itself at the next render
"""


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
        wish = self.spec.wish
        return f"{wish.vram_gb:g}{'+' if wish.vram_or_more else ''}" if wish and wish.vram_gb else ""

    @property
    def hours(self) -> str:
        wish = self.spec.wish
        return "–".join(dict.fromkeys(f"{hours:g}" for hours in wish.hours)) if wish and wish.hours else ""

    @property
    def priority(self) -> str:
        return (self.spec.wish and self.spec.wish.priority) or ""

    def to_json(self) -> dict[str, Any]:
        own = {"state": self.state, "missing": list(self.missing), "last_run": self.last_run or None}
        return {**self.spec.listed(), **own}


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


def render_wishlist(
    rows: Sequence[RowState], finished: Sequence[Mapping[str, Any]], prices: PriceTable, market: Market
) -> str:
    """The document.

    Args:
        rows: the wishlist's rows with their states, in the catalogue's order.
        finished: the ledger's `finished` entries, oldest first; those of rows run as wished stand under Completed.
        market: what cards cost since.
    """
    counts = ", ".join(f"{sum(row.state == state for row in rows)} {state}" for state in STATES)
    lines = [
        "# GPU Experiment Wishlist",
        "",
        "**Purpose**: Track expensive experiments that require GPU resources  ",
        f"**Status**: {counts}  ",
        "**Made by**: `meta-spliceai wishlist render`, from the catalogue and the ledger of runs; not edited by hand",
        "",
        "---",
        "",
        "## 🎯 Experiments Requiring GPU",
        "",
    ]
    sections: dict[str, list[RowState]] = {}
    for row in rows:
        sections.setdefault(row.spec.section, []).append(row)
    for place, (section, members) in enumerate(sections.items(), start=1):
        lines += _section(place, section, members)
    return "\n".join([*lines, *_gpus(prices), *_newest_prices(market), *_completed(rows, finished), HOW_TO_ADD])


def _section(place: int, section: str, members: Sequence[RowState]) -> list[str]:
    wished = [(row, row.spec.wish) for row in members if row.spec.wish is not None]
    columns = list(dict.fromkeys(wish.column for _, wish in wished))
    table = []
    for row, wish in wished:
        guess = write_guess(wish)
        state = f"{row.state}: {'; '.join(row.missing)}" if row.missing else row.state
        command = f"`meta-spliceai run {row.spec.id}`"
        table.append((row.spec.title, wish.what or "-", guess.vram, guess.time, guess.priority, state, command))
    heading = columns[0] if len(columns) == 1 else MIDDLE
    purposes = dict.fromkeys(f"**Purpose**: {row.spec.purpose}  " for row in members if row.spec.purpose)
    notes = dict.fromkeys(f"**Note**: {row.spec.title}: {wish.note}  " for row, wish in wished if wish.note)
    head = (EXPERIMENT, heading, VRAM, TIME, PRIORITY, STATE, COMMAND)
    return [f"### {place}. {section}", "", *_table(head, table), "", *purposes, *notes, "", "---", ""]


class Guess(NamedTuple):
    """A row's guessed cost, as the cells of a table."""

    vram: str
    time: str
    priority: str


def write_guess(wish: Wish) -> Guess:
    """The cells of a guess: `48GB+`, `2-4h`, `⭐ HIGH`; a dash where nothing was guessed."""

    def from_to(ends: list[str]) -> str:
        return ends[0] if ends[0] == ends[1] else "-".join(ends)

    vram = f"{wish.vram_gb:g}GB{'+' if wish.vram_or_more else ''}" if wish.vram_gb else "-"
    time = "-"
    if wish.hours:
        minutes = from_to([f"{hours * 60:.0f}" for hours in wish.hours]) + "min"
        # Minutes only where they say the same when they are read back.
        same = wish.hours[1] < 1 and round(wish.hours[0] * 60) > 0 and read_hours(minutes) == wish.hours
        time = minutes if same else from_to([f"{hours:g}" for hours in wish.hours]) + "h"
    priority = wish.priority.upper() if wish.priority else "-"
    return Guess(vram, time, f"{STAR} {priority}" if wish.starred else priority)


def _gpus(prices: PriceTable) -> list[str]:
    suitable = [(card.gpu, f"{card.vram_gb:g}GB", card.suitable) for card in prices.recommendations]
    priced = [
        (card.gpu, f"{'~' if card.approximate else ''}${card.dollars_per_hour:.2f}", card.suitable or "-")
        for card in prices.prices
    ]
    lines = ["## 📊 GPU Recommendations", "", *_table(("GPU", "VRAM", "Suitable Experiments"), suitable)]
    lines += ["", f"### {prices.provider} Pricing Reference (as of {prices.as_of})", ""]
    return [*lines, *_table(("GPU", "$/hr", "Recommended For"), priced), "", f"Source: {prices.source}.", ""]


def _newest_prices(market: Market) -> list[str]:
    """What `plan` counts with: the newest price of each card, the cheapest first."""
    offers = sorted(market.offers.values(), key=lambda offer: (offer.dollars_per_hour, offer.gpu))
    rows = []
    for offer in offers:
        price = f"{'~' if offer.approximate else ''}${offer.dollars_per_hour:.2f}"
        rows.append((offer.gpu, f"{market.gpus[offer.gpu].vram_gb:g}GB", price, offer.as_of, offer.provider))
    sources = sorted({f"{offer.provider}: {offer.source}" for offer in offers})
    table = _table(("GPU", "VRAM", "$/hr", "As of", "Provider"), rows)
    return ["### Newest Known Prices", "", *table, "", f"Sources: {'; '.join(sources)}.", "", "---", ""]


def _completed(rows: Sequence[RowState], finished: Sequence[Mapping[str, Any]]) -> list[str]:
    by_run = {str(entry.get("run")): entry for entry in finished}
    done = [(row.spec.title, by_run[row.last_run]) for row in rows if row.last_run in by_run]
    table = [(title, str(entry.get("at", ""))[:10], _result(entry), _notes(entry)) for title, entry in done]
    lines = _table(("Experiment", "Date", "Result", "Notes"), table or [("*None yet*", "-", "-", "-")])
    return ["## ✅ Completed Experiments", "", *lines, "", "---", ""]


def _result(entry: Mapping[str, Any]) -> str:
    """The learned model's headline numbers with their intervals, against the base network's."""
    parts = []
    for metric, label in RESULT_METRICS:
        values = {
            record["kind"]: record
            for record in reversed(entry.get("metrics", []))
            if record.get("metric") == metric and record.get("estimate") is not None
        }
        if "learned" in values:
            text = f"{label} {estimate(values['learned'])}"
            if base := values.get("base"):
                text += f" (base {base['scorer'].removeprefix('base ')}: {number(base['estimate'])})"
            parts.append(text)
    return "; ".join(parts) or "-"


def _notes(entry: Mapping[str, Any]) -> str:
    verdicts = [str(verdict) for verdict in entry.get("verdicts", ())]
    parts = []
    if verdicts:
        beaten = sum(verdict.startswith("beats ") for verdict in verdicts)
        parts.append(f"beats {beaten} of {len(verdicts)} baselines in AUPRC")
    parts += [str(note) for note in entry.get("notes", ())]
    measured = _measured(entry)
    if measured:
        parts.append(f"measured: {measured}")
    parts.append(f"run {entry.get('run')}, seed {entry.get('seed')}, {entry.get('device')}")
    return "; ".join(parts)


def _measured(entry: Mapping[str, Any]) -> str:
    """Memory and time of the run, and what it cost where that is known: the card's memory, or the process's."""
    parts = []
    on_card, in_all = entry.get("peak_gpu_memory_bytes"), entry.get("peak_memory_bytes")
    if isinstance(on_card, int):
        parts.append(f"{on_card / 1e9:.2f} GB of GPU memory")
    elif isinstance(in_all, int):
        parts.append(f"{in_all / 1e9:.2f} GB of memory")
    seconds, dollars = entry.get("seconds"), entry.get("dollars")
    if isinstance(seconds, int | float):
        parts.append(f"{seconds / 3600:.2f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min")
    if isinstance(dollars, int | float):
        parts.append(f"${dollars:.2f}")
    return ", ".join(parts)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    ruler = "|" + "|".join("-" * (len(heading) + 2) for heading in headings) + "|"
    return [join_row(headings), ruler, *map(join_row, rows)]


def join_row(cells: Sequence[str]) -> str:
    """One line of a table; a bar within a cell is escaped, a line break becomes a space."""
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
