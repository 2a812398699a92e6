"""Numbers, amounts and tables as people read them: the same in the terminal, in documents and on the site."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

DASH = "–"


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        columns: headings.
        rows: one text a column.
        left: columns from the left that hold words, not numbers.
        kinds: of each row, where rows are scorers: "baseline", "base", "learned" or "labels".
        title: what stands above it.
        remarks: lists of sentences below it.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    kinds: Sequence[str] = ()
    title: str = ""
    remarks: Sequence[Sequence[str]] = ()


def number(value: object, decimals: int = 3, sign: bool = False) -> str:
    """A fixed number of decimals with a true minus sign, never a negative zero; a dash for what is no number."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return DASH
    text = f"{value:{'+' if sign else ''}.{decimals}f}"
    return f"{0:.{decimals}f}" if float(text) == 0 else text.replace("-", "−")


def interval(low: object, high: object, decimals: int = 3, sign: bool = False) -> str:
    """An interval in brackets; empty where an end is unknown."""
    ends = number(low, decimals, sign), number(high, decimals, sign)
    return "" if DASH in ends else f"[{ends[0]}, {ends[1]}]"


def estimate(record: Mapping[str, Any] | None, decimals: int = 3, sign: bool = False) -> str:
    """The fields estimate, low and high of a record: `0.712 [0.650, 0.770]`; a dash without an estimate."""
    if record is None:
        return DASH
    value = number(record.get("estimate"), decimals, sign)
    around = interval(record.get("low"), record.get("high"), decimals, sign)
    return value if value == DASH or not around else f"{value} {around}"


def duration(seconds: object) -> str:
    """A duration in seconds: `7.0 s`, `59 s`, `1 min 23 s`, `2 h 01 min`."""
    if number(seconds) == DASH:
        return DASH
    whole = round(seconds)  # type: ignore[call-overload]
    if whole < 60:
        return f"{seconds:.1f} s" if whole < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def memory(size: object) -> str:
    """Bytes in units of 1024."""
    if number(size) == DASH:
        return DASH
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"  # type: ignore[operator]


def dollars(amount: object) -> str:
    """US dollars; what rounds to nothing and is more is `< $0.01`."""
    if number(amount) == DASH:
        return DASH
    return f"${amount:,.2f}" if amount == 0 or amount >= 0.005 else "< $0.01"  # type: ignore[operator]


def as_markdown(table: Table) -> str:
    """A pipe table and its remarks as lists; learned models in bold."""
    ruler = [" --- "] * table.left + [" ---: "] * (len(table.columns) - table.left)
    rows = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in (table.columns, *table.rows)]
    for row, kind in zip(rows[1:], table.kinds, strict=False):
        row[0] = f"**{row[0]}**" if kind == "learned" else row[0]
    head, *lines = [f"| {' | '.join(row)} |" for row in rows]
    lines = [head, f"|{'|'.join(ruler)}|", *lines]
    for remark in filter(None, table.remarks):
        lines += ["", *(f"- {line}" for line in remark)]
    return "\n".join(lines)


def as_html(table: Table) -> str:
    """A `<table>` and its remarks as lists; all texts escaped, with classes and no style."""
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    body = []
    for i, row in enumerate(table.rows):
        kind = f' class="{escape(table.kinds[i].replace(" ", "-"))}"' if table.kinds else ""
        body.append(f"<tr{kind}>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>")
    lists = "".join(
        "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in remark) + "</ul>\n"
        for remark in filter(None, table.remarks)
    )
    rows = "\n".join(body)
    return f'<table class="leaderboard">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>\n{lists}'
