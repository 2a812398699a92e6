"""`meta-spliceai wishlist add`: by options, by questions, and what it refuses."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from meta_spliceai.cli import wishlist
from meta_spliceai.errors import InputError
from meta_spliceai.experiments.spec.rows import load_rows

GIVEN = ("--title", "WT1, 51 bases", "--model", "gated-cnn", "--data", "wt1-exon5")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def invoke(*arguments: str, answers: str | None = None):
    return CliRunner().invoke(wishlist.group, ["add", *arguments], input=answers)


def test_by_options_and_what_to_do_next(tmp_path):
    result = invoke(*GIVEN, "--window", "51", "--vram", "1", "--hours", "5min", "--priority", "HIGH", "--star")
    assert result.exit_code == 0, result.output
    assert "added: wt1-51-bases (wishlist/my_experiments.yaml, line 3)" in result.output
    for command in ("plan wt1-51-bases", "run wt1-51-bases --smoke", "wishlist render", "report --open"):
        assert f"  meta-spliceai {command}\n" in result.output
    row = load_rows()["wt1-51-bases"]
    assert (row.window, row.data.name, row.split.name) == (51, "wt1-exon5", "position-blocks")
    assert (row.wish.vram_gb, row.wish.priority, row.wish.starred, row.wish.what) == (1, "high", True, "gated-cnn")
    again = invoke(*GIVEN)
    assert isinstance(again.exception, InputError)
    assert "has this id already" in str(again.exception)


def test_with_title_model_and_data_nothing_is_asked_in_a_terminal_either(monkeypatch):
    monkeypatch.setattr(wishlist, "_on_terminal", lambda: True)
    result = invoke(*GIVEN)
    assert result.exit_code == 0, result.output
    assert "]:" not in result.output
    assert load_rows()["wt1-51-bases"].section == "My experiments"


def test_in_a_terminal_it_asks_until_it_can_use_the_answer(monkeypatch):
    monkeypatch.setattr(wishlist, "_on_terminal", lambda: True)
    answers = ["My row", "simple-cnn-501", "", "", "simple-cn", "simple-cnn", "", "lots", "2", "2-4", "urgent", "low"]
    result = invoke(answers="\n".join(answers) + "\n")
    assert result.exit_code == 0, result.output
    for complaint in ("has this id already", "unknown encoder 'simple-cn'", "write it as 12GB", "unknown priority"):
        assert complaint in result.output
    row = load_rows()["my-row"]
    assert (row.section, row.encoder.name, row.data.name) == ("My experiments", "simple-cnn", "wt1-exon5")
    assert (row.wish.vram_gb, row.wish.hours, row.wish.priority) == (2, (2, 4), "low")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "gated-cnn"), "--title, --data missing"),
        ((*GIVEN, "--data", "wt2"), "unknown data set 'wt2' in --data"),
        ((*GIVEN, "--split", "random"), "unknown split 'random' in --split"),
        ((*GIVEN, "--head", "tail"), "unknown head 'tail' in --head"),
        ((*GIVEN, "--priority", "urgent"), "unknown priority 'urgent' in --priority"),
        ((*GIVEN, "--section", "--"), "give the section a name"),
        ((*GIVEN, "--title", "!"), "a title with letters"),
        ((*GIVEN, "--file", "elsewhere/mine.yaml"), "rows are found in ./wishlist"),
        ((*GIVEN, "--set", "training.learning_rate=-1"), "greater than 0"),
    ],
)
def test_bad_options_write_nothing(tmp_path, arguments, words):
    result = invoke(*arguments)
    assert isinstance(result.exception, InputError), result.output
    assert words in str(result.exception)
    assert not (tmp_path / "wishlist").exists()
