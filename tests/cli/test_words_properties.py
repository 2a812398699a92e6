"""What a user writes and reads on the command line: amounts read back, messages of one line whatever comes into them,
and no input overwritten, under whatever name it is given."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_spliceai.cli.console import PlainConsole, as_json, styled, table
from meta_spliceai.cli.options import LONGEST, parse_duration, size_in_bytes
from meta_spliceai.errors import (
    LONGEST_MESSAGE,
    LONGEST_VALUE,
    InputError,
    brief,
    one_line,
    printable,
    shown,
    unknown_value,
)
from tests.conftest import RunCli
from tests.properties import quick

QUICK = quick(60)
ANY = st.text(st.characters(blacklist_categories=("Cs",)), max_size=40) | st.text("\x1b[]\r\n\t\x00:/ab", max_size=30)
NUMBER = st.integers(0, 400).map(str) | st.floats(0, 400).map(lambda value: f"{value:.3f}")


@QUICK
@given(st.none() | NUMBER, st.none() | NUMBER, st.none() | NUMBER, st.booleans())
def test_a_duration_is_the_sum_of_its_parts(
    hours: str | None, minutes: str | None, seconds: str | None, upper: bool
) -> None:
    parts = [(hours, "h", 3600), (minutes, "m", 60), (seconds, "s", 1)]
    text = "".join(f"{amount}{unit}" for amount, unit, _ in parts if amount is not None)
    total = sum(float(amount) * size for amount, _, size in parts if amount is not None)
    written = f" {text.upper() if upper else text} "
    if 0 < total <= LONGEST:
        assert parse_duration(written, "--time-limit") == pytest.approx(total)
    else:
        with pytest.raises(InputError, match="--time-limit"):
            parse_duration(written, "--time-limit")


@QUICK
@given(
    ANY
    | st.sampled_from(["5", "h", "m5", "5s5m", "1h1h", "1.h", ".5h", "1e3s", "-5m", "5 m", "∞h", "5d", "nanh", "٥m"])
)
def test_what_is_no_duration_is_refused_with_its_option_and_value(text: str) -> None:
    if re.fullmatch(r"\s*(\d+(\.\d+)?h)?(\d+(\.\d+)?m)?(\d+(\.\d+)?s)?\s*", text, re.IGNORECASE) and text.strip():
        return
    with pytest.raises(InputError) as refused:
        parse_duration(text, "--deadline")
    assert str(refused.value).startswith(f"--deadline {one_line(shown(text))}"[:200])


@QUICK
@given(st.integers(0, 10**7), st.integers(0, 999), st.sampled_from(["B", "kB", "MB", "GB", "gb"]))
def test_a_size_is_read_in_powers_of_ten(whole: int, thousandths: int, unit: str) -> None:
    exact = (whole * 1000 + thousandths) * 10 ** (3 * "bkmg".index(unit[0].lower()))
    text = f"{whole}.{thousandths:03d} {unit}"
    if 1000 <= exact <= 10**18:
        assert size_in_bytes(text) == pytest.approx(exact / 1000, abs=1)
    else:
        with pytest.raises(InputError, match="--max-size"):
            size_in_bytes(text)


@quick(150)
@given(ANY, st.integers(1, 60))
def test_any_text_is_one_printable_line_of_bounded_length(text: str, times: int) -> None:
    for made in (one_line(text * times), brief(text * times), shown(text * times)):
        assert made.isprintable()
        assert len(made) <= LONGEST_MESSAGE
    assert len(brief(text * times)) <= LONGEST_VALUE
    assert one_line(one_line(text)) == one_line(text)
    assert re.sub(r"[\n\t]", "", printable(text)).isprintable()
    assert printable(text) == text or not text.isprintable()
    short = " ".join(re.findall(r"[a-z]+", text))
    assert one_line(short) == short


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY,
    lambda one: st.lists(one, max_size=4) | st.dictionaries(ANY, one, max_size=4),
    max_leaves=8,
)


@QUICK
@given(VALUES)
def test_any_value_is_shown_and_written_as_json(value: object) -> None:
    assert len(shown(value)) <= LONGEST_VALUE + 60
    assert "\n" not in shown(value)

    def meant(one: object) -> object:
        if isinstance(one, dict):
            return {key: meant(inner) for key, inner in one.items()}
        if isinstance(one, list):
            return [meant(inner) for inner in one]
        return None if isinstance(one, float) and not math.isfinite(one) else one

    assert json.loads(as_json({"value": value}))["value"] == meant(value)


@QUICK
@given(ANY.filter(bool), st.lists(st.text("abcde-", min_size=1, max_size=6), min_size=1, max_size=5))
def test_an_unknown_word_is_told_with_every_choice(word: str, choices: list[str]) -> None:
    message = str(unknown_value("row id", word, choices, "--id"))
    assert message.isprintable()
    assert message.startswith("unknown row id '")
    assert message.endswith(f"Choices: {', '.join(choices)}")


@quick(25)
@given(ANY, st.integers(20, 90))
def test_text_from_outside_moves_no_cursor_and_opens_no_markup(text: str, width: int) -> None:
    console = PlainConsole(width=width, force_terminal=False, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    shown_table = table("a", "b")
    shown_table.add_row(text, f"[red]{text}[/]")
    console.print(shown_table)
    console.print(text, styled((text, "bold")), soft_wrap=True)
    found = console.export_text()
    assert not set(found) & set("\x1b\x00\x07\x08\r\x0b\x0c\x7f\x9b")


@pytest.mark.parametrize("kind", ["same", "dots", "link", "hard link", "upper folder"])
@pytest.mark.parametrize("beside", ["", ".partial.json"])
def test_an_input_is_never_overwritten_whatever_it_is_called(
    tmp_path: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, kind: str, beside: str
) -> None:
    """Nor what a run writes beside its output."""
    monkeypatch.chdir(tmp_path)
    genes = tmp_path / f"out.vcf{beside}"
    genes.write_text("#NAME\n")
    source = tmp_path / "in.vcf"
    source.write_text("##fileformat=VCFv4.2\n")
    (tmp_path / "sub").mkdir()
    named = {
        "same": genes,
        "dots": Path("sub") / ".." / genes.name,
        "link": tmp_path / "link.txt",
        "hard link": tmp_path / "hard.txt",
        "upper folder": Path(f"./{genes.name}"),
    }[kind]
    if kind == "link":
        named.symlink_to(genes)
    if kind == "hard link":
        os.link(genes, named)
    code, out, err = run_cli(["score", str(source), "-o", "out.vcf", "-A", str(named), "-R", str(source)])
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert f"out.vcf{beside}" in line
    assert "name another output" in line
    assert genes.read_text() == "#NAME\n"
