"""`meta-spliceai report`: where it writes and what it refuses."""

from __future__ import annotations

import typer
from typer.testing import CliRunner

from meta_spliceai.cli import report
from meta_spliceai.errors import InputError


def invoke(*arguments: str):
    app = typer.Typer()
    report.register(app)
    return CliRunner().invoke(app, list(arguments))


def test_an_empty_folder_gives_a_page_beside_the_runs(tmp_path):
    result = invoke("--runs-dir", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert str(tmp_path / "report.html") in result.output.replace("\n", "")


def test_the_page_goes_where_it_is_asked_to(tmp_path):
    assert invoke("--runs-dir", str(tmp_path), "--out", str(tmp_path / "deep" / "page.html")).exit_code == 0
    assert "Wishlist" in (tmp_path / "deep" / "page.html").read_text()


def test_a_picture_needs_a_run(tmp_path):
    result = invoke("--runs-dir", str(tmp_path), "--figure", str(tmp_path / "f.svg"))
    assert isinstance(result.exception, InputError)
    assert "meta-spliceai quickstart" in str(result.exception)
    assert not (tmp_path / "f.svg").exists()
