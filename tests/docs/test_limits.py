"""The page of limits says what the code does."""

from __future__ import annotations

from pathlib import Path

from meta_spliceai import read_hostile
from meta_spliceai.datasets import brca1_sge
from meta_spliceai.errors import LONGEST_MESSAGE
from meta_spliceai.experiments.bundle import archive
from meta_spliceai.experiments.report import serve
from meta_spliceai.experiments.spec.rows import MOST_VALUES
from meta_spliceai.splice_engine.base_layer.vcf import info_field, text
from meta_spliceai.splice_engine.genome import packed
from meta_spliceai.splice_engine.meta_layer.targets import SMALLEST_PEAK

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "limits.md"


def _size(size: int) -> str:
    return f"{size / 2**30:.0f} GiB" if size >= 2**30 - 1 else f"{size / 2**20:.0f} MiB"


def test_the_page_of_limits_says_what_the_code_does() -> None:
    variables = (text.LONGEST_RECORD, read_hostile.LARGEST_TEXT, read_hostile.LARGEST_TABLE, packed.LARGEST_ARRAY)
    rows = [f"| {_size(size)} | `{variable}` |" for variable, size in variables]
    rows += [
        f"| {_size(text.LARGEST_HEADER)}, {text.MOST_HEADER_LINES:,} lines |",
        f"| {text.MOST_ALTERNATIVES:,}, as many",
        f"| {info_field.LONGEST_ALTERNATIVE:,} bases;",
        f"| {_size(read_hostile.LONGEST_LINE)} |",
        f"| {brca1_sge.MOST_ROWS:,} rows, {brca1_sge.MOST_COLUMNS} columns |",
        f"| {packed.MOST_BASES:,} |",
        f"| {MOST_VALUES:,} |",
        f"| {_size(archive.LARGEST_UNPACKED)}, {archive.MOST_MEMBERS:,} files; its index",
        f"its index {_size(archive.LARGEST_INDEX)} |",
        f"| {serve.MOST_CONNECTIONS} at a time, each closed after {serve.SECONDS_OF_SILENCE} s",
        f"| {LONGEST_MESSAGE:,} characters",
    ]
    page = PAGE.read_text(encoding="utf-8")
    assert [row for row in rows if row not in page] == []


def test_the_page_on_prediction_says_which_change_has_no_type() -> None:
    page = (PAGE.parents[1] / "how-to" / "predict-a-vcf.md").read_text(encoding="utf-8")
    assert f"`TYPE` is `.` if that change is below {SMALLEST_PEAK}," in page
