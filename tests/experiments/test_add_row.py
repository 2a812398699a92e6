"""A new row: checked before it is written, appended without touching what stands in the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from meta_spliceai.errors import InputError
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.spec.rows import load_rows
from meta_spliceai.experiments.wishlist.add_row import (
    append_row,
    free_id,
    known_section,
    new_row,
    split_of,
    with_middle_column,
)
from meta_spliceai.experiments.wishlist.document import id_of, read_hours, read_vram
from meta_spliceai.splice_engine.meta_layer.models import HEADS

COMMENTED = """# Rows of our lab.
section: Ours
purpose: What helps?
rows:
  # the first one
  - id: one
    title: One   # a remark

  - {id: two, title: Two}
# the end
"""


@pytest.fixture(scope="module")
def catalogue() -> dict[str, ExperimentSpec]:
    return load_rows(own=None)


def row(row_id: str = "new", section: str = "Ours", **more: object) -> ExperimentSpec:
    values = {"id": row_id, "title": "New", "section": section, "wish": {"vram_gb": 2, "hours": [1, 2]}, **more}
    return ExperimentSpec.model_validate(values)


def test_a_row_goes_behind_the_last_one_and_comments_stay(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(COMMENTED, encoding="utf-8")
    spec = row(purpose="What helps?", window=51)
    assert append_row(spec, tmp_path) == (file, 12)
    text = file.read_text(encoding="utf-8")
    assert text.startswith(COMMENTED)
    assert text.splitlines()[11] == "  - id: new"
    assert "purpose" not in text.removeprefix(COMMENTED)
    rows = load_rows(tmp_path)
    assert rows["new"] == spec
    assert [rows["one"].title, rows["two"].title] == ["One", "Two"]


def test_a_row_goes_before_the_key_that_follows(tmp_path: Path) -> None:
    text = "section: Ours\nrows:\n- id: one\n  title: One\n\n# the column\ncolumn: Context\n"
    (tmp_path / "lab.yaml").write_text(text, encoding="utf-8")
    spec = with_middle_column(row(window=51), load_rows(tmp_path))
    append_row(spec, tmp_path)
    written = (tmp_path / "lab.yaml").read_text(encoding="utf-8")
    assert written.endswith("\n\n# the column\ncolumn: Context\n")
    assert load_rows(tmp_path)["new"] == spec


def test_an_ensemble_is_named_by_its_members_and_not_by_an_encoder_it_does_not_use(tmp_path: Path) -> None:
    pair = row(ensemble={"members": ["simple-cnn-501", "simple-cnn-1001"]})
    spec = with_middle_column(pair, load_rows(tmp_path))
    assert spec.wish is not None
    assert spec.wish.what == "2 models"


def test_a_file_without_a_last_line_break_is_added_to(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("section: Ours\nrows:\n  - id: one\n    title: One", encoding="utf-8")
    append_row(row(), tmp_path)
    assert set(load_rows(tmp_path)) >= {"one", "new"}


def test_what_the_file_shares_does_not_leak_into_the_row(tmp_path: Path) -> None:
    text = "section: Ours\ndefaults: {window: 301, split: {name: spliceai-clean}}\nrows:\n  - {id: one, title: One}\n"
    (tmp_path / "lab.yaml").write_text(text, encoding="utf-8")
    append_row(row(), tmp_path)
    found = load_rows(tmp_path)
    assert (found["new"].window, found["new"].split.name) == (501, "gene")
    assert found["one"].window == 301


def test_settings_that_the_file_shares_cannot_be_undone(tmp_path: Path) -> None:
    text = "section: Ours\ndefaults: {encoder: {settings: {hidden_dim: 8}}}\nrows:\n  - {id: one, title: One}\n"
    (tmp_path / "lab.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="'defaults' would change the new row"):
        append_row(row(), tmp_path)
    assert (tmp_path / "lab.yaml").read_text(encoding="utf-8") == text


def test_a_new_section_gets_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(COMMENTED, encoding="utf-8")
    assert append_row(row(section="Shorter windows"), tmp_path) == (tmp_path / "shorter_windows.yaml", 3)
    with pytest.raises(InputError, match="holds section 'Ours', not 'Else'"):
        append_row(row("other", section="Else"), tmp_path, tmp_path / "lab.yaml")


@pytest.mark.parametrize("text", ["section: Ours\nrows: []\n", "section: Ours\nrows: [{id: one, title: One}]\n"])
def test_rows_in_brackets_are_not_added_to(tmp_path: Path, text: str) -> None:
    (tmp_path / "lab.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="written in brackets"):
        append_row(row(), tmp_path)
    assert (tmp_path / "lab.yaml").read_text(encoding="utf-8") == text


def test_an_id_is_new_and_well_formed(catalogue) -> None:
    assert free_id(id_of("WT1: 51 bases!"), catalogue) == "wt1-51-bases"
    with pytest.raises(InputError, match=r"id already \('SimpleCNN 501nt'"):
        free_id("simple-cnn-501", catalogue)
    with pytest.raises(InputError, match="small letters"):
        free_id("My Row", catalogue)


@pytest.mark.parametrize(
    ("text", "value"),
    [("12", (12, False)), ("48GB+", (48, True)), ("1.5", (1.5, False)), ("48+", (48, True)), ("", (None, False))],
)
def test_memory_as_people_write_it(text: str, value: tuple) -> None:
    assert read_vram(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("3", (3, 3)), ("2-4", (2, 4)), ("2–4h", (2, 4)), ("30min", (0.5, 0.5)), ("", None)]
)
def test_time_as_people_write_it(text: str, value: tuple | None) -> None:
    assert read_hours(text) == value


@pytest.mark.parametrize("text", ["-3", "0GB", "lots"])
def test_memory_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="write it as 12GB"):
        read_vram(text)


@pytest.mark.parametrize("text", ["4-2", "0", "soon", "-1"])
def test_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="write it as 3h"):
        read_hours(text)


def test_section_split_and_middle_column_are_those_of_the_catalogue(catalogue) -> None:
    section = known_section("longer context windows", catalogue)
    assert section == "Longer Context Windows"
    assert known_section("  Mine  alone ", catalogue) == "Mine alone"
    spec = with_middle_column(row(section=section, window=2001), catalogue)
    assert spec.wish is not None
    assert (spec.wish.column, spec.wish.what) == ("Context", "2,001nt")
    assert split_of("wt1-exon5", catalogue)["name"] == "position-blocks"
    assert split_of("unheard-of", catalogue) == {}


def test_the_target_is_the_one_the_head_learns(catalogue) -> None:
    values = {"id": "new", "title": "New", "section": "Ours", "head": {"name": "effect-type"}}
    assert new_row(values, [], catalogue, HEADS).target == "effect-type"


@pytest.mark.parametrize(
    ("values", "assignments", "words"),
    [
        ({"encoder": {"name": "simple-cn"}}, [], "no encoder 'simple-cn'"),
        ({"window": 50}, [], "odd number"),
        ({}, ["training.learning_rate=-1"], "greater than 0"),
        ({}, ["training.learning_rat=1"], "did you mean training.learning_rate"),
        ({}, ["ensemble.members=[simple-cnn-501, nobody]"], "unknown ensemble member 'nobody'"),
        ({}, ["ensemble.members=[simple-cnn-501, new]"], "unknown ensemble member 'new'"),
    ],
)
def test_a_row_that_could_not_run_is_refused(catalogue, values: dict, assignments: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        new_row({"id": "new", "title": "New", "section": "Ours", **values}, assignments, catalogue, HEADS)
