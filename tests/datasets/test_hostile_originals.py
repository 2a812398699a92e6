"""Excel files and R objects that anybody may have made: refused in one line, in seconds and in bounded memory."""

from __future__ import annotations

import gzip
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest

from meta_spliceai.datasets import brca1_sge
from meta_spliceai.datasets.human import read_r_object
from meta_spliceai.errors import InputError, IntegrityError

SHEET = "xl/worksheets/sheet1.xml"
CELL = '<c r="{place}" t="inlineStr"><is><t>{text}</t></is></c>'


@pytest.fixture
def workbook(tmp_path: Path) -> Path:
    """A sheet with the names of the columns in its third row, and one variant."""
    path = tmp_path / "brca1.xlsx"
    book = openpyxl.Workbook()
    book.active.append([])
    for _ in range(2):
        book.active.append(["words above the table"])
    book.active.append([*brca1_sge.COLUMNS])
    book.active.append(["BRCA1", 17, 41_197_000, "A", "C", "c.1", "Missense", "FUNC", "X2", -2.5, -2.25, -2.375])
    book.active.delete_rows(1)
    book.save(path)
    return path


def changed(workbook: Path, member: str, content: bytes | None) -> Path:
    """The file with one member replaced, or taken out."""
    out = workbook.with_name("changed.xlsx")
    with zipfile.ZipFile(workbook) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name != member:
                new.writestr(name, old.read(name))
            elif content is not None:
                new.writestr(name, content)
    return out


def sheet_of(workbook: Path) -> bytes:
    with zipfile.ZipFile(workbook) as book:
        return book.read(SHEET)


def test_numbers_are_read_as_they_are_shown(workbook: Path) -> None:
    rows = brca1_sge.read_sheet(workbook)
    assert rows.index.tolist() == [4]
    assert rows.loc[4, ["chromosome", "position (hg19)", "rna.score.1"]].tolist() == ["17", "41197000", "-2.5"]


def test_a_sheet_far_wider_and_longer_than_its_cells(workbook: Path) -> None:
    """A cell in the last column of each of many rows, and one in a row that no sheet has."""
    far = "".join(f'<row r="{n}">{CELL.format(place=f"XFD{n}", text="x")}</row>' for n in range(5, 5000))
    content = sheet_of(workbook).replace(b"</sheetData>", far.encode() + b"</sheetData>")
    began = time.process_time()
    rows = brca1_sge.read_sheet(changed(workbook, SHEET, content))
    assert time.process_time() - began < 5
    assert len(rows) == 1
    assert rows.shape[1] == brca1_sge.MOST_COLUMNS
    beyond = f'<row r="99999999">{CELL.format(place="A99999999", text="x")}</row>'.encode()
    with pytest.raises(InputError, match="has more than 100,000 rows"):
        brca1_sge.read_sheet(
            changed(workbook, SHEET, sheet_of(workbook).replace(b"</sheetData>", beyond + b"</sheetData>"))
        )


def test_entities_that_grow(workbook: Path) -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    head = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e0 "lol">{entities}]>'.encode()
    content = head + sheet_of(workbook).partition(b"?>")[2].replace(b"BRCA1", b"&e9;")
    with pytest.raises(IntegrityError, match=r"changed\.xlsx is truncated or damaged"):
        brca1_sge.read_sheet(changed(workbook, SHEET, content))


@pytest.mark.parametrize(
    "member", ["[Content_Types].xml", "xl/workbook.xml", "xl/_rels/workbook.xml.rels", SHEET, "xl/styles.xml"]
)
@pytest.mark.parametrize(
    "content", [None, b"", b"<worksheet><sheetData>", b"\0\xff"], ids=["none", "empty", "cut", "noise"]
)
def test_parts_that_are_none(workbook: Path, member: str, content: bytes | None) -> None:
    with suppress(InputError, IntegrityError):
        assert len(brca1_sge.read_sheet(changed(workbook, member, content))) == 1


def test_files_that_unpack_to_more_than_a_table(
    workbook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("META_SPLICEAI_LARGEST_TABLE", "1000000")
    with zipfile.ZipFile(workbook, "a", zipfile.ZIP_DEFLATED) as book:
        book.writestr("xl/sharedStrings.xml", bytes(2_000_000))
    with pytest.raises(InputError, match="set META_SPLICEAI_LARGEST_TABLE to allow more"):
        brca1_sge.read_sheet(workbook)
    pytest.importorskip("pyreadr")
    bomb = tmp_path / "bomb.RData"
    bomb.write_bytes(gzip.compress(b"RDX2\nX\n" + bytes(2_000_000)))
    with pytest.raises(InputError, match="set META_SPLICEAI_LARGEST_TABLE to allow more"):
        read_r_object(bomb)


def test_damaged_r_objects(tmp_path: Path) -> None:
    """R's reader is a library in C: whatever stands in the file, it gives a table or an error."""
    pyreadr = pytest.importorskip("pyreadr")
    whole, broken = tmp_path / "whole.RData", tmp_path / "broken.RData"
    frame = pd.DataFrame({"id": ["a", "b", "c"], "n": [1, 2, 3], "x": [0.5, np.nan, 2.0], "f": [True, False, True]})
    pyreadr.write_rdata(str(whole), frame, df_name="data")
    content, random, refused = whole.read_bytes(), np.random.default_rng(0), []
    for number in range(400):
        damaged = bytearray(content)
        for place in random.integers(0, len(content), 1 + number % 4):
            damaged[place] = random.integers(0, 256)
        broken.write_bytes(bytes(damaged[: len(content) - number % 50]))
        try:
            read_r_object(broken)
        except (InputError, IntegrityError) as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert all("broken.RData" in said for said in refused)
