"""The wishlist in Markdown: read into entries of the catalogue, reporting every row that is not understood; and written
from catalogue and ledger with the state of each row. The same runs give an identical file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from unicodedata import combining

from meta_spliceai.errors import InputError, shown, unknown_value
from meta_spliceai.experiments.board.shown import Table, as_markdown, estimate, number
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, Wish, parse_spec
from meta_spliceai.experiments.spec.parts import lacking, missing_parts
from meta_spliceai.experiments.store.workspace import Workspace

if TYPE_CHECKING:
    from meta_spliceai.experiments.plan.gpu_prices import Market, PriceTable

STAR = "⭐"
EXPERIMENT, VRAM, TIME, PRIORITY, COMMAND, STATE = "Experiment", "VRAM", "Time Est.", "Priority", "Command", "State"
KNOWN_COLUMNS = (EXPERIMENT, VRAM, TIME, PRIORITY, COMMAND, STATE)
MIDDLE: str = Wish.model_fields["column"].get_default()
"""Heading of a section's middle column where the section does not name one."""

Priority = Literal["high", "medium", "low"]
PRIORITIES: dict[str, Priority] = {"high": "high", "medium": "medium", "low": "low"}

_VRAM = re.compile(r"~?(\d{1,9}(?:\.\d+)?)\s*(\+?)\s*(?:Gi?B)?\s*(\+?)", re.IGNORECASE)
_HOURS = re.compile(
    r"~?(\d{1,9}(?:\.\d+)?)(?:\s*(?:-|–|—|to)\s*(\d{1,9}(?:\.\d+)?))?\s*(h|hours?|hrs?|min|minutes?)?", re.IGNORECASE
)
_TIME_HEADINGS = ("time est.", "time est", "time", "hours", "time estimate")
_RULE = re.compile(r"\|?[\s:|-]+\|?")
_HEADING = re.compile(r"(#{2,6})\s+(.*)")
_SECTION_NUMBER = re.compile(r"^\d+[.)]\s*")
_RUN_COMMAND = re.compile(r"meta-spliceai run ([a-z0-9][a-z0-9-]*)")
_REMARK = re.compile(r"\*\*([^*]+)\*\*\s*:?\s*(.+)")
_STRANGE = re.compile(r"[^\x00-\x7f]+")

ENCODERS = (
    (re.compile(r"hyenadna-(tiny-1k|small-32k|medium-160k|medium-450k|large-1m)"), None),
    (re.compile(r"hyenadna[- ]small"), "hyenadna-small-32k"),
    (re.compile(r"hyenadna[- ]medium"), "hyenadna-medium-160k"),
    (re.compile(r"hyenadna[- ]large"), "hyenadna-large-1m"),
    (re.compile(r"simple\s?-?cnn"), "simple-cnn"),
    (re.compile(r"validated\s?-?delta|gated\s?-?cnn"), "gated-cnn"),
)
"""What in a row's first two cells names an encoder; the first rule that fits decides. None: the words themselves."""


def read_vram(cell: str, where: str = VRAM) -> tuple[float | None, bool]:
    """`12`, `12GB` or `48GB+`: gigabytes, and whether more may be needed; None for an empty cell. InputError, which
    names the column or option `where`: something else."""
    if _is_empty(cell):
        return None, False
    found = _VRAM.fullmatch(cell.strip())
    if found is None or float(found[1]) <= 0:
        raise InputError(f"{where} {shown(cell)}: write it as 12GB or 48GB+")
    return float(found[1]), bool(found[2] or found[3])


def read_hours(cell: str, where: str = TIME) -> tuple[float, float] | None:
    """`3`, `2-4h` or `30min`: hours from and to, minutes turned into hours with three decimals; None for an empty cell.
    InputError, which names the column or option `where`: something else."""
    if _is_empty(cell):
        return None
    found = _HOURS.fullmatch(cell.strip())
    low = high = 0.0
    if found is not None:
        unit = 60 if (found[3] or "h").lower().startswith("m") else 1
        low, high = (round(float(end) / unit, 3) for end in (found[1], found[2] or found[1]))
    if not 0 < low <= high:
        raise InputError(f"{where} {shown(cell)}: write it as 3h, 2-4h or 30min")
    return low, high


def read_priority(cell: str, where: str = PRIORITY) -> tuple[Priority | None, bool]:
    """The priority, and whether it carries a star; None for an empty cell. InputError, which names the column or option
    `where`: another word."""
    starred = STAR in cell
    word = cell.replace(STAR, "").replace("\ufe0f", "").strip()
    if _is_empty(word):
        return None, starred
    if word.lower() not in PRIORITIES:
        raise unknown_value("priority", word, PRIORITIES, where=where)
    return PRIORITIES[word.lower()], starred


def split_row(line: str) -> list[str]:
    r"""The cells of a table's line; `\|` is a bar within a cell."""
    inner = line.strip().removeprefix("|")
    if inner.endswith("|") and not inner.endswith("\\|"):
        inner = inner[:-1]
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", inner)]


def plain(text: str) -> str:
    """A title without case, spaces and signs, for comparing."""
    return re.sub(r"[^a-z0-9]+", "", text.casefold())


def id_of(title: str) -> str:
    """A row id made of a title's letters and digits."""
    return re.sub(r"[^a-z0-9]+", "-", title.casefold()).strip("-")


def _is_empty(cell: str) -> bool:
    return cell.strip().strip("*_") in ("", "-", "–", "—", "?", "n/a", "N/A")


class ReadRow(NamedTuple):
    """One experiment of the document: its 1-based line, and the row as an entry of the catalogue, which is "known"
    there with the same wish, "changed" or "new"."""

    line: int
    spec: ExperimentSpec
    status: str


class NotUnderstood(NamedTuple):
    """A row of a table that could not be turned into an entry: its 1-based line, the line, what is missing or wrong."""

    line: int
    text: str
    reason: str


@dataclass
class ReadDocument:
    """What a wishlist holds.

    Attributes:
        rows: experiments, in the document's order.
        not_understood: rows of experiment tables that are no entries, and rows of tables of another kind.
        other_tables: rows of the tables on GPUs, prices and completed runs, which are not experiments, by heading.
        mended: mangled letters put right.
    """

    rows: list[ReadRow] = field(default_factory=list)
    not_understood: list[NotUnderstood] = field(default_factory=list)
    other_tables: dict[str, int] = field(default_factory=dict)
    mended: int = 0


def read_wishlist(text: str, known: Mapping[str, ExperimentSpec]) -> ReadDocument:
    """Read a document.

    A row of a table with the columns Experiment and VRAM, Time Est. or Priority is an experiment. One that the
    catalogue knows, by its command or its title, keeps everything the catalogue says and takes over the document's
    guesses; a new one is put together from what its cells name (see `ENCODERS` and `_details`).
    """
    text, mended = mend(text)
    document = ReadDocument(mended=mended)
    section = ""
    remarks: dict[str, list[str]] = {}
    tables: list[tuple[str, str, list[tuple[int, str]]]] = []
    lines = list(enumerate(text.splitlines(), start=1))
    while lines:
        _, line = lines.pop(0)
        ruler = lines[0][1].strip() if lines else ""
        if heading := _HEADING.match(line):
            section = _SECTION_NUMBER.sub("", heading[2].strip())
        elif line.lstrip().startswith("|") and "-" in ruler and _RULE.fullmatch(ruler):
            lines.pop(0)
            rows = []
            while lines and lines[0][1].lstrip().startswith("|"):
                rows.append(lines.pop(0))
            tables.append((section, line, rows))
        elif (remark := _REMARK.fullmatch(line.strip())) and section:
            remarks.setdefault(section, []).append(f"{remark[1].strip(': ')}: {remark[2].strip()}")
    for section, head, rows in tables:
        _read_table(document, section, " ".join(remarks.get(section, [])), split_row(head), rows, known)
    return document


def _read_table(
    document: ReadDocument,
    section: str,
    purpose: str,
    named: list[str],
    rows: list[tuple[int, str]],
    known: Mapping[str, ExperimentSpec],
) -> None:
    """Read a table below a section's heading into the document; remarks below the heading are the rows' purpose."""
    headings = [_canonical(heading) for heading in named]
    if EXPERIMENT not in headings or not {VRAM, TIME, PRIORITY} & set(headings):
        if plain(named[0]) == "gpu" or {"Date", "Result"} <= set(headings):
            document.other_tables[section] = document.other_tables.get(section, 0) + len(rows)
            return
        reason = f"a table with the columns {', '.join(named)} is not one of experiments"
        document.not_understood.extend(NotUnderstood(line, text.strip(), reason) for line, text in rows)
        return
    for line, text in rows:
        cells = split_row(text)
        try:
            if len(cells) != len(headings):
                raise InputError(f"{len(cells)} cells under {len(headings)} headings")
            spec, status = _read_row(dict(zip(headings, cells, strict=True)), section, purpose, known)
            if spec.id in [row.spec.id for row in document.rows]:
                raise InputError(f"the row id '{spec.id}' stands in the document twice")
            document.rows.append(ReadRow(line, spec, status))
        except InputError as error:
            document.not_understood.append(NotUnderstood(line, text.strip(), str(error)))


def _canonical(heading: str) -> str:
    if heading.strip().casefold() in _TIME_HEADINGS:
        return TIME
    return next((name for name in KNOWN_COLUMNS if name.casefold() == heading.strip().casefold()), heading.strip())


def _read_row(
    cells: Mapping[str, str], section: str, purpose: str, known: Mapping[str, ExperimentSpec]
) -> tuple[ExperimentSpec, str]:
    title = cells[EXPERIMENT].strip()
    if not plain(title):
        raise InputError("the row has no title")
    column = next((heading for heading in cells if heading not in KNOWN_COLUMNS), MIDDLE)
    what = cells.get(column, "")
    vram, or_more = read_vram(cells.get(VRAM, ""))
    priority, starred = read_priority(cells.get(PRIORITY, ""))
    command = _RUN_COMMAND.search(cells.get(COMMAND, ""))
    spec = known.get(command[1]) if command else None
    # Of several rows with one title the last.
    spec = spec or next((one for one in list(known.values())[::-1] if plain(one.title) == plain(title)), None)
    wish = Wish(
        what=what,
        column=column,
        vram_gb=vram,
        vram_or_more=or_more,
        hours=read_hours(cells.get(TIME, "")),
        priority=priority,
        starred=starred,
        note=spec.wish.note if spec and spec.wish else "",
    )
    if spec is not None:
        changed = spec.model_copy(update={"wish": wish, "title": title})
        return changed, "known" if changed == spec else "changed"
    values = {
        "id": command[1] if command else id_of(title),
        "title": title,
        "section": section,
        "purpose": purpose,
        "wish": wish.model_dump(),
        **_details(title, what, column),
    }
    return parse_spec(values, "the row"), "new"


def _details(title: str, what: str, column: str) -> dict[str, Any]:
    """Fields of a new row, from its title and its middle column; InputError where no model is named, or the middle
    column says something that no field holds."""
    words = f"{title} {what}".casefold()
    name = next((name or match[0] for rule, name in ENCODERS if (match := rule.search(words))), None)
    if name is None:
        raise InputError("names no model: write SimpleCNN, ValidatedDelta, HyenaDNA-small, -medium or -large")
    details: dict[str, Any] = {"encoder": {"name": name}}
    if "quantile" in words:
        details["head"] = {"name": "quantile"}
    amount = re.search(r"(\d[\d,]*)", what)
    if amount and len(amount[1]) > 20:
        raise InputError(f"{column} {shown(what)} holds no number of fewer than 20 digits")
    size = int(amount[1].replace(",", "")) if amount else 0
    kind = column.casefold()
    if kind in ("samples", "context", "folds") and not size:
        raise InputError(f"{column} '{what}' holds no number")
    if kind == "samples":
        details["data"] = {"rows": size, "labelled_only": True}
    elif kind == "context":
        # A window has its variant in the middle, so an even context gets one more base.
        details["window"] = size if size % 2 else size + 1
    elif kind == "folds":
        details["split"] = {"name": "gene", "folds": size}
    elif kind in ("task", "components"):
        needed = "its head, target or members by name: write it in YAML"
        raise InputError(f"a new row with {column} '{what}' needs {needed}")
    return details


def mend(text: str) -> tuple[str, int]:
    """The text with every mangled run of letters put right, and how many there were.

    A run of non-ASCII letters is mended when its bytes in one of the usual wrong encodings are valid UTF-8; a run that
    is right as it stands (an en dash, an emoji) is no valid UTF-8 in any of them and stays.
    """
    count = 0

    def right(found: re.Match[str]) -> str:
        nonlocal count
        for encoding in ("mac_roman", "cp1252", "latin-1"):
            try:
                mended = found[0].encode(encoding).decode("utf-8")
            except UnicodeError:
                continue
            if any(map(combining, mended)):  # an accent of nothing: "Ã©" is an é of another encoding
                continue
            count += 1
            return mended
        return found[0]

    return _STRANGE.sub(right, text), count


# ------------------------------------------------------------------------------------------------------- rendered

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
    completed: dict[str, str] = {
        entry["row"]: entry["run"]
        for entry in workspace.finished()
        if entry.get("as_wished") and not entry.get("smoke")
    }
    found = []
    for spec in (row for row in rows.values() if row.wish is not None):
        if spec.id in completed:
            found.append(RowState(spec, "completed", last_run=completed[spec.id]))
        else:
            missing = tuple(missing_parts(spec, rows) or lacking(spec, rows))
            found.append(RowState(spec, "wished" if missing else "runnable", missing))
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
    return [f"### {place}. {section}", "", _table(head, table), "", *purposes, *notes, "", "---", ""]


class Guess(NamedTuple):
    vram: str
    time: str
    priority: str


def _digits(value: float) -> str:
    """A number with all its digits and no exponent."""
    return f"{Decimal(repr(float(value))):f}".removesuffix(".0")


def write_guess(wish: Wish) -> Guess:
    """The cells of a guess: `48GB+`, `2-4h`, `⭐ HIGH`; a dash where nothing was guessed."""

    def from_to(ends: list[str]) -> str:
        return ends[0] if ends[0] == ends[1] else "-".join(ends)

    vram = f"{_digits(wish.vram_gb)}GB{'+' if wish.vram_or_more else ''}" if wish.vram_gb else "-"
    time = "-"
    if wish.hours:
        minutes = from_to([f"{hours * 60:.0f}" for hours in wish.hours]) + "min"
        # Minutes only where they say the same when they are read back.
        same = wish.hours[1] < 1 and round(wish.hours[0] * 60) > 0 and read_hours(minutes) == wish.hours
        time = minutes if same else from_to([_digits(hours) for hours in wish.hours]) + "h"
    priority = wish.priority.upper() if wish.priority else "-"
    return Guess(vram, time, f"{STAR} {priority}" if wish.starred else priority)


def _gpus(prices: PriceTable) -> list[str]:
    suitable = [(card.gpu, f"{card.vram_gb:g}GB", card.suitable) for card in prices.recommendations]
    priced = [
        (card.gpu, f"{'~' if card.approximate else ''}${card.dollars_per_hour:.2f}", card.suitable or "-")
        for card in prices.prices
    ]
    lines = ["## 📊 GPU Recommendations", "", _table(("GPU", "VRAM", "Suitable Experiments"), suitable)]
    lines += ["", f"### {prices.provider} Pricing Reference (as of {prices.as_of})", ""]
    return [*lines, _table(("GPU", "$/hr", "Recommended For"), priced), "", f"Source: {prices.source}.", ""]


def _newest_prices(market: Market) -> list[str]:
    """What `plan` counts with: the newest price of each card, the cheapest first."""
    offers = sorted(market.offers.values(), key=lambda offer: (offer.dollars_per_hour, offer.gpu))
    rows = []
    for offer in offers:
        price = f"{'~' if offer.approximate else ''}${offer.dollars_per_hour:.2f}"
        rows.append((offer.gpu, f"{market.gpus[offer.gpu].vram_gb:g}GB", price, offer.as_of, offer.provider))
    sources = sorted({f"{offer.provider}: {offer.source}" for offer in offers})
    table = _table(("GPU", "VRAM", "$/hr", "As of", "Provider"), rows)
    return ["### Newest Known Prices", "", table, "", f"Sources: {'; '.join(sources)}.", "", "---", ""]


def _completed(rows: Sequence[RowState], finished: Sequence[Mapping[str, Any]]) -> list[str]:
    by_run = {str(entry.get("run")): entry for entry in finished}
    done = [(row.spec.title, by_run[row.last_run]) for row in rows if row.last_run in by_run]
    table = [(title, str(entry.get("at", ""))[:10], _result(entry), _notes(entry)) for title, entry in done]
    told = _table(("Experiment", "Date", "Result", "Notes"), table or [("*None yet*", "-", "-", "-")])
    return ["## ✅ Completed Experiments", "", told, "", "---", ""]


def _result(entry: Mapping[str, Any]) -> str:
    """The learned model's headline numbers with their intervals, against the base network's."""
    parts = []
    for metric, label in RESULT_METRICS:
        every = reversed(entry.get("metrics", []))
        values = {one["kind"]: one for one in every if one["metric"] == metric and one.get("estimate") is not None}
        if "learned" in values:
            text = f"{label} {estimate(values['learned'])}"
            if base := values.get("base"):
                text += f" (base {base['scorer'].removeprefix('base ')}: {number(base['estimate'])})"
            parts.append(text)
    return "; ".join(parts) or "-"


def _notes(entry: Mapping[str, Any]) -> str:
    """How many baselines it beats, what to mind of it, what it took (the card's memory, or the process's)."""
    verdicts = entry.get("verdicts", [])
    parts = []
    if verdicts:
        beaten = sum(verdict.startswith("beats ") for verdict in verdicts)
        parts.append(f"beats {beaten} of {len(verdicts)} baselines in AUPRC")
    parts += entry.get("notes", [])
    measured = []
    on_card, in_all = entry.get("peak_gpu_memory_bytes"), entry.get("peak_memory_bytes")
    if held := on_card or in_all:
        measured.append(f"{held / 1e9:.2f} GB of {'GPU ' if on_card else ''}memory")
    seconds, dollars = entry.get("seconds"), entry.get("dollars")
    if seconds is not None:
        measured.append(f"{seconds / 3600:.2f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min")
    if dollars is not None:
        measured.append(f"${dollars:.2f}")
    if measured:
        parts.append(f"measured: {', '.join(measured)}")
    return "; ".join([*parts, f"run {entry.get('run')}, seed {entry.get('seed')}, {entry.get('device')}"])


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return as_markdown(Table(headings, rows, left=len(headings)))
