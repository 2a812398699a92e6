"""From a wishlist in Markdown to entries of the catalogue, with an account of every row that is not understood."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from meta_spliceai.errors import InputError, shown
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, Wish, parse_spec
from meta_spliceai.experiments.wishlist.wishlist_document import (
    COMMAND,
    EXPERIMENT,
    MIDDLE,
    PRIORITY,
    STATE,
    TIME,
    VRAM,
    CellError,
    plain,
    read_hours,
    read_priority,
    read_vram,
    split_row,
)

KNOWN_COLUMNS = (EXPERIMENT, VRAM, TIME, PRIORITY, COMMAND, STATE)
_TIME_HEADINGS = ("time est.", "time est", "time", "hours", "time estimate")
_RULE = re.compile(r"\|?[\s:|-]+\|?")
_HEADING = re.compile(r"(#{2,6})\s+(.*)")
_SECTION_NUMBER = re.compile(r"^\d+[.)]\s*")
_RUN_COMMAND = re.compile(r"meta-spliceai run ([a-z0-9][a-z0-9-]*)")
_REMARK = re.compile(r"\*\*([^*]+)\*\*\s*:?\s*(.+)")

ENCODERS = (
    (re.compile(r"hyenadna-(tiny-1k|small-32k|medium-160k|medium-450k|large-1m)"), None),
    (re.compile(r"hyenadna[- ]small"), "hyenadna-small-32k"),
    (re.compile(r"hyenadna[- ]medium"), "hyenadna-medium-160k"),
    (re.compile(r"hyenadna[- ]large"), "hyenadna-large-1m"),
    (re.compile(r"simple\s?-?cnn"), "simple-cnn"),
    (re.compile(r"validated\s?-?delta|gated\s?-?cnn"), "gated-cnn"),
)
"""What in a row's first two cells names an encoder; the first rule that fits decides. None: the words themselves."""


@dataclass(frozen=True)
class ReadRow:
    """One experiment of the document.

    Attributes:
        line: 1-based line of the document.
        spec: the row as an entry of the catalogue.
        status: "known" (the catalogue says the same), "changed" (the wish differs from the catalogue's) or "new".
    """

    line: int
    spec: ExperimentSpec
    status: str


@dataclass(frozen=True)
class NotUnderstood:
    """A row of a table that could not be turned into an entry.

    Attributes:
        line: 1-based line of the document.
        text: the line.
        reason: what is missing or wrong, in words.
    """

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


@dataclass
class _Table:
    line: int
    headings: list[str]
    rows: list[tuple[int, str]] = field(default_factory=list)


def read_wishlist(text: str, known: Mapping[str, ExperimentSpec]) -> ReadDocument:
    """Read a document.

    A row of a table with the columns Experiment and VRAM, Time Est. or Priority is an experiment. One that the
    catalogue knows, by its command or its title, keeps everything the catalogue says and takes over the document's
    guesses; a new one is put together from what its cells name (see `ENCODERS` and `_details`).

    Args:
        text: the Markdown; mangled letters are mended first.
        known: the catalogue.
    """
    text, mended = mend(text)
    document = ReadDocument(mended=mended)
    by_title = {plain(spec.title): spec for spec in known.values()}
    section, purpose = "", ""
    remarks: dict[str, list[str]] = {}
    tables: list[tuple[str, _Table]] = []
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        heading = _HEADING.match(line)
        if heading:
            section = _SECTION_NUMBER.sub("", heading[2].strip())
        elif _starts_table(lines, number):
            table = _Table(number + 1, split_row(line))
            number += 2
            while number < len(lines) and lines[number].lstrip().startswith("|"):
                table.rows.append((number + 1, lines[number]))
                number += 1
            tables.append((section, table))
            continue
        elif (remark := _REMARK.fullmatch(line.strip())) and section:
            remarks.setdefault(section, []).append(f"{remark[1].strip(': ')}: {remark[2].strip()}")
        number += 1
    for section, table in tables:
        purpose = " ".join(remarks.get(section, []))
        _read_table(table, section, purpose, known, by_title, document)
    return document


def _starts_table(lines: list[str], number: int) -> bool:
    following = lines[number + 1].strip() if number + 1 < len(lines) else ""
    return lines[number].lstrip().startswith("|") and "-" in following and bool(_RULE.fullmatch(following))


def _read_table(
    table: _Table,
    section: str,
    purpose: str,
    known: Mapping[str, ExperimentSpec],
    by_title: Mapping[str, ExperimentSpec],
    document: ReadDocument,
) -> None:
    headings = [_canonical(heading) for heading in table.headings]
    if EXPERIMENT not in headings or not {VRAM, TIME, PRIORITY} & set(headings):
        if plain(table.headings[0]) == "gpu" or {"Date", "Result"} <= set(headings):
            document.other_tables[section] = document.other_tables.get(section, 0) + len(table.rows)
            return
        reason = f"a table with the columns {', '.join(table.headings)} is not one of experiments"
        document.not_understood.extend(NotUnderstood(line, text.strip(), reason) for line, text in table.rows)
        return
    taken = {row.spec.id for row in document.rows}
    for line, text in table.rows:
        cells = split_row(text)
        try:
            if len(cells) != len(headings):
                raise CellError(f"{len(cells)} cells under {len(headings)} headings")
            row = _read_row(dict(zip(headings, cells, strict=True)), line, section, purpose, known, by_title)
            if row.spec.id in taken:
                raise CellError(f"the row id '{row.spec.id}' stands in the document twice")
        except CellError as error:
            document.not_understood.append(NotUnderstood(line, text.strip(), str(error)))
            continue
        taken.add(row.spec.id)
        document.rows.append(row)


def _canonical(heading: str) -> str:
    if heading.strip().casefold() in _TIME_HEADINGS:
        return TIME
    return next((name for name in KNOWN_COLUMNS if name.casefold() == heading.strip().casefold()), heading.strip())


def _read_row(
    cells: Mapping[str, str],
    line: int,
    section: str,
    purpose: str,
    known: Mapping[str, ExperimentSpec],
    by_title: Mapping[str, ExperimentSpec],
) -> ReadRow:
    title = cells[EXPERIMENT].strip()
    if not plain(title):
        raise CellError("the row has no title")
    column = next((heading for heading in cells if heading not in KNOWN_COLUMNS), MIDDLE)
    what = cells.get(column, "")
    vram, or_more = read_vram(cells.get(VRAM, ""))
    priority, starred = read_priority(cells.get(PRIORITY, ""))
    command = _RUN_COMMAND.search(cells.get(COMMAND, ""))
    spec = known.get(command[1]) if command else None
    spec = spec or by_title.get(plain(title))
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
        return ReadRow(line, changed, "known" if changed == spec else "changed")
    values = {
        "id": command[1] if command else re.sub(r"[^a-z0-9]+", "-", title.casefold()).strip("-"),
        "title": title,
        "section": section,
        "purpose": purpose,
        "wish": wish.model_dump(),
        **_details(title, what, column),
    }
    try:
        return ReadRow(line, parse_spec(values, "the row"), "new")
    except InputError as error:
        raise CellError(str(error)) from error


def _details(title: str, what: str, column: str) -> dict[str, Any]:
    """Fields of a new row, from its title and its middle column.

    Raises:
        CellError: no model is named, or the middle column says something that no field holds.
    """
    words = f"{title} {what}".casefold()
    name = next((name or match[0] for rule, name in ENCODERS if (match := rule.search(words))), None)
    if name is None:
        raise CellError("names no model: write SimpleCNN, ValidatedDelta, HyenaDNA-small, -medium or -large")
    details: dict[str, Any] = {"encoder": {"name": name}}
    if "quantile" in words:
        details["head"] = {"name": "quantile"}
    amount = re.search(r"(\d[\d,]*)", what)
    if amount and len(amount[1]) > 20:
        raise CellError(f"{column} {shown(what)} holds no number of fewer than 20 digits")
    size = int(amount[1].replace(",", "")) if amount else 0
    kind = column.casefold()
    if kind in ("samples", "context", "folds") and not size:
        raise CellError(f"{column} '{what}' holds no number")
    if kind == "samples":
        details["data"] = {"rows": size, "labelled_only": True}
    elif kind == "context":
        # A window has its variant in the middle, so an even context gets one more base.
        details["window"] = size if size % 2 else size + 1
    elif kind == "folds":
        details["split"] = {"name": "gene", "folds": size}
    elif kind in ("task", "components"):
        raise CellError(f"a new row with {column} '{what}' needs its head, target or members by name: write it in YAML")
    return details


WRONG_ENCODINGS = ("mac_roman", "cp1252", "latin-1")
_STRANGE = re.compile(r"[^\x00-\x7f]+")


def mend(text: str) -> tuple[str, int]:
    """The text with every mangled run of letters put right, and how many there were.

    A run of non-ASCII letters is mended when its bytes in one of the usual wrong encodings are valid UTF-8; a run that
    is right as it stands (an en dash, an emoji) is no valid UTF-8 in any of them and stays.
    """
    count = 0

    def right(found: re.Match[str]) -> str:
        nonlocal count
        for encoding in WRONG_ENCODINGS:
            try:
                mended = found[0].encode(encoding).decode("utf-8")
            except UnicodeError:
                continue
            count += 1
            return mended
        return found[0]

    return _STRANGE.sub(right, text), count
