"""Ledger lines, wishlist rows, amounts and boards in words: what is written is read back, whatever it holds."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from meta_spliceai.errors import InputError
from meta_spliceai.experiments.board.leaderboard import Line, Value, by_kind_and_auprc, coverage_in_words
from meta_spliceai.experiments.board.shown import DASH, Table, as_markdown, dollars, duration, estimate, memory, number
from meta_spliceai.experiments.plan.gpu_prices import load_market, load_prices
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, Wish
from meta_spliceai.experiments.spec.rows import change
from meta_spliceai.experiments.store.ledger import KINDS, Ledger, latest_finished, merged
from meta_spliceai.experiments.wishlist.document import (
    RowState,
    mend,
    read_hours,
    read_priority,
    read_vram,
    read_wishlist,
    render_wishlist,
    split_row,
    write_guess,
)
from tests.properties import quick

QUICK = quick(40)
ANY = st.text(st.characters(blacklist_categories=("Cs",)), max_size=12)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | ANY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY, inner, max_size=3),
    max_leaves=6,
)


# ------------------------------------------------------------------------------------------------------------- ledger


def finished(run: str, at: str, **more: Any) -> dict[str, Any]:
    test, split = {"digest": "d"}, {"name": "gene"}
    return {"event": "finished", "row": "a", "run": run, "at": at, "test": test, "split": split, **more}


@quick(20)
@given(st.lists(st.tuples(ANY, PLAIN), max_size=4), st.data())
def test_any_event_comes_back_and_a_cut_takes_the_last_line_alone(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, Any]], data: st.DataObject
) -> None:
    """Line breaks of every kind within a text are no end of a line."""
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.jsonl")
    entries = [{"event": "note", "run": run, "at": "2026", "content": content} for run, content in events]
    for entry in entries:
        ledger.append(entry)
    assert ledger.read() == (entries, [])
    if not entries:
        return
    whole = ledger.path.read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    ledger.path.write_bytes(whole[:cut])
    before = whole[:cut].count(b"\n")
    complete = whole[cut - 1 : cut + 1] == b"}\n" if cut else False
    assert [entry["run"] for entry in ledger.entries()][:before] == [entry["run"] for entry in entries[:before]]
    torn = cut > 0 and whole[cut - 1 : cut] != b"\n" and not complete
    assert [damage.torn for damage in ledger.damage()] == [True] * torn
    last = {"event": "note", "run": "last", "at": "2027"}
    ledger.append(last)
    assert ledger.entries() == [*entries[: before + complete], last]
    assert len(ledger.damage()) == torn


STAMPS = st.sampled_from([f"2026-01-0{day}T00:00:00+00:00" for day in range(1, 9)])
RUNS = st.lists(st.tuples(st.sampled_from("abcde"), STAMPS), max_size=6, unique_by=lambda pair: pair[0])


@QUICK
@given(st.lists(RUNS, min_size=1, max_size=3))
def test_each_run_stands_once_by_the_first_ledger_that_has_it(ledgers: list[list[tuple[str, str]]]) -> None:
    entries = [
        [finished(run, at, ledger=number) for run, at in sorted(one, key=lambda pair: pair[1])]
        for number, one in enumerate(ledgers)
    ]
    found = merged(entries)
    assert [entry["at"] for entry in found] == sorted(entry["at"] for entry in found)
    expected = {}
    for one in entries[::-1]:
        expected |= {entry["run"]: entry for entry in one}
    assert {entry["run"]: entry for entry in found} == expected
    assert len(found) == len(expected)


@QUICK
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["finished", "failed"])), max_size=10))
def test_the_latest_finish_of_a_run_counts_in_the_order_of_the_lines(events: list[tuple[str, str]]) -> None:
    entries = [{"event": event, "run": run, "number": number} for number, (run, event) in enumerate(events)]
    last = {entry["run"]: entry["number"] for entry in entries if entry["event"] == "finished"}
    assert [entry["number"] for entry in latest_finished(entries)] == sorted(last.values())


# ----------------------------------------------------------------------------------------------------------- wishlist

HOURS = st.integers(1, 99_999_999).map(lambda thousandths: thousandths / 1000)
WISHES = st.builds(
    Wish,
    vram_gb=st.none() | st.integers(1, 99_999_999).map(lambda hundredths: hundredths / 100),
    hours=st.none() | st.tuples(HOURS, HOURS).map(lambda ends: (min(ends), max(ends))),
    priority=st.sampled_from([None, "high", "medium", "low"]),
    starred=st.booleans(),
)


@quick(200)
@given(WISHES)
def test_any_guess_is_read_back_as_it_was(wish: Wish) -> None:
    guess = write_guess(wish)
    assert read_vram(guess.vram)[0] == wish.vram_gb
    assert read_hours(guess.time) == wish.hours
    assert read_priority(guess.priority) == (wish.priority, wish.starred)


WORDS = (
    st.text(st.sampled_from("abXY09 |\\*_`<>#-é–Δ&[](),.:"), min_size=1, max_size=14)
    .map(lambda text: " ".join(text.split()))
    .filter(lambda text: re.search("[a-zA-Z0-9]", text) is not None and mend(text)[1] == 0)
)


@quick(15)
@given(titles=st.lists(st.tuples(WORDS, WORDS, WISHES), min_size=1, max_size=4))
def test_rows_of_any_title_survive_render_and_import(
    packaged_rows: dict[str, ExperimentSpec], titles: list[tuple[str, str, Wish]]
) -> None:
    rows = {}
    for (title, what, wish), spec in zip(titles, packaged_rows.values(), strict=False):
        own = wish.model_copy(update={"what": what, "vram_or_more": False})
        rows[spec.id] = spec.model_copy(update={"title": title, "wish": own, "section": "Toys"})
    states = [RowState(spec, "runnable") for spec in rows.values()]
    document = render_wishlist(states, [], load_prices(), load_market(refreshed=False))
    read = read_wishlist(document, rows)
    assert read.not_understood == []
    assert [row.spec.id for row in read.rows] == list(rows)
    for row in read.rows:
        assert row.spec.title == rows[row.spec.id].title
        assert row.spec.wish == rows[row.spec.id].wish
        assert row.status == "known"


@QUICK
@given(st.lists(st.lists(ANY, min_size=3, max_size=3), min_size=1, max_size=4))
def test_cells_of_a_markdown_table_come_back(cells: list[list[str]]) -> None:
    head, ruler, *lines = as_markdown(Table(cells[0], cells[1:], left=2)).split("\n")
    assert re.fullmatch(r"\|( --- \|){2} ---: \|", ruler)
    assert [split_row(line) for line in (head, *lines)] == [[" ".join(one.split()) for one in row] for row in cells]


@pytest.mark.parametrize("encoding", ["mac_roman", "cp1252", "latin-1"])
@QUICK
@given(st.lists(st.sampled_from(["⭐", "–", "Δ", "é", "→", "µ", "2-4h", " ", "|"]), min_size=1, max_size=8))
def test_letters_mangled_once_are_mended_and_right_ones_stay(encoding: str, parts: list[str]) -> None:
    right = " ".join(parts)  # side by side, two of them may be the bytes of a third
    assert mend(right) == (right, 0)
    try:
        wrong = right.encode().decode(encoding)
    except UnicodeDecodeError:
        assume(False)
    assert mend(wrong)[0] == right


@pytest.mark.parametrize("cell", ["1e9GB", "12 apples", "-3GB", "0GB", "0.0", "12GB48GB", "+", "99999999999GB"])
def test_memory_that_is_no_amount_is_refused_with_its_cell(cell: str) -> None:
    with pytest.raises(InputError, match=re.escape(cell)):
        read_vram(cell)


# -------------------------------------------------------------------------------------------------------------- board

NUMBERS = st.floats(allow_nan=True, allow_infinity=True, width=32)


@quick(150)
@given(NUMBERS, st.integers(0, 4), st.booleans())
def test_a_number_is_read_back_to_its_decimals_and_has_no_negative_zero(
    value: float, decimals: int, sign: bool
) -> None:
    text = number(value, decimals, sign)
    if not math.isfinite(value):
        assert text == DASH
        return
    assert "-" not in text
    assert float(text.replace("−", "-")) == pytest.approx(value, abs=0.5000001 * 10**-decimals, rel=1e-9)
    assert "−" not in text or float(text.replace("−", "-")) < 0
    assert estimate({"estimate": value, "low": value, "high": value}, decimals, sign) == f"{text} [{text}, {text}]"
    assert estimate({"estimate": value, "low": None, "high": value}, decimals, sign) == text


def seconds_of(text: str) -> float:
    units = {"s": 1, "min": 60, "h": 3600}
    return sum(
        float(amount.replace(",", "")) * units[unit] for amount, unit in re.findall(r"([\d.,]+) (s|min|h)", text)
    )


@quick(200)
@given(st.floats(0, 1e7) | st.sampled_from([9.94, 9.95, 9.5, 59.5, 59.49, 3599.4, 3599.5, 3600, 7199.9]))
def test_a_duration_says_the_time_to_its_own_precision(seconds: float) -> None:
    text = duration(seconds)
    exact = 0.0500001 if " s" in text and "." in text else 0.500001 if seconds < 3600 else 60
    assert abs(seconds_of(text) - seconds) <= exact
    assert not re.search(r"\b60 (s|min)", text)
    assert seconds_of(text) <= seconds_of(duration(seconds + 61)) or seconds < 10


@quick(200)
@given(st.integers(0, 2**45) | st.sampled_from([2**30 - 1, 2**30 - 2**19, 2**30 - 2**20, 2**20 - 1]))
def test_memory_is_told_in_the_unit_that_keeps_it_below_1024(size: int) -> None:
    amount, unit = memory(size).split()
    in_bytes = float(amount) * {"MiB": 2**20, "GiB": 2**30}[unit]
    assert abs(in_bytes - size) <= (0.5 * 2**20 if unit == "MiB" else 0.0050001 * 2**30)
    assert unit == "GiB" or float(amount) < 1024


@QUICK
@given(st.floats(0, 1e8))
def test_a_price_is_read_back_to_the_cent(amount: float) -> None:
    text = dollars(amount)
    if text.startswith("<"):
        assert 0 < amount < 0.01
    else:
        assert float(text.removeprefix("$").replace(",", "")) == pytest.approx(amount, abs=0.0050001)
        assert (text == "$0.00") == (amount == 0)


LINES = st.builds(
    lambda kind, value, name: Line(name, kind, "run", "", {"auprc": Value(value, None, None)} if value else {}),
    st.sampled_from(KINDS),
    st.none() | st.floats(0.001, 1),
    st.text("abc", max_size=3),
)


@QUICK
@given(st.lists(LINES, max_size=9))
def test_a_board_has_baselines_first_and_the_best_of_each_kind_above(lines: list[Line]) -> None:
    found = by_kind_and_auprc(lines)
    assert sorted(map(repr, found)) == sorted(map(repr, lines))
    worth = [(KINDS.index(one.kind), -(one.values["auprc"].estimate or 0) if one.values else 1) for one in found]
    assert worth == sorted(worth)
    assert by_kind_and_auprc(found) == found


@QUICK
@given(
    st.dictionaries(st.text("abc xyz", min_size=1, max_size=6), st.integers(1, 10**6), max_size=8), st.integers(0, 99)
)
def test_an_account_in_words_names_the_largest_reasons_and_adds_up(left_out: dict[str, int], used: int) -> None:
    told = coverage_in_words({"read": used + sum(left_out.values()), "left_out": left_out})
    counts = [int(count.replace(",", "")) for count in re.findall(r"(?<![\w,])([\d,]*\d)(?= )", told)]
    assert counts[:2] == [used + sum(left_out.values()), used]
    if len(left_out) <= 4:
        assert counts[2:] == sorted(left_out.values(), reverse=True)
    else:
        assert counts[2:6] == sorted(left_out.values(), reverse=True)[:4]
        assert sum(counts[2:7]) == sum(left_out.values())


def test_setting_a_field_to_what_it_is_changes_no_row(packaged_rows: dict[str, ExperimentSpec]) -> None:
    for spec in list(packaged_rows.values())[::4]:
        values = spec.model_dump(mode="json")
        same = [
            f"{block}.{name}={json.dumps(value)}"
            for block in ("training", "data")
            for name, value in values[block].items()
        ]
        assert change(spec, same) == spec
        assert change(spec, same).identity() == spec.identity()


def test_a_ledger_of_odd_line_ends_is_read(tmp_path: Path) -> None:
    """A file that went through an editor or a mail."""
    lines = [json.dumps(finished(run, "2026")) for run in "ab"]
    for text in ("\r\n".join([*lines, ""]), "\n\n".join(lines), f"  {lines[0]}  \n\t{lines[1]}\n"):
        path = tmp_path / "ledger.jsonl"
        path.write_bytes(text.encode())
        assert [entry["run"] for entry in Ledger(path).entries()] == ["a", "b"]
        assert Ledger(path).damage() == []
