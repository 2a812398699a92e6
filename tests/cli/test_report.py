"""`meta-spliceai report`: where it writes and what it refuses."""

from __future__ import annotations

import typer
from typer.testing import CliRunner

from meta_spliceai.cli.leaderboard import report
from meta_spliceai.errors import InputError


def invoke(*arguments: str):
    app = typer.Typer()
    app.command("report")(report)
    return CliRunner().invoke(app, list(arguments))


def test_an_empty_folder_gives_a_site_beside_the_runs(tmp_path):
    result = invoke("--runs-dir", str(tmp_path), "--no-plan")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        ".made_from.json", "assets", "compare.html", "data", "index.html",
    ]  # fmt: skip
    assert "No finished run yet" in (tmp_path / "report" / "index.html").read_text()
    assert str(tmp_path / "report" / "index.html") in result.output.replace("\n", "")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "site").write_text("mine")
    result = invoke("--runs-dir", str(tmp_path), "--no-plan", "--output", str(tmp_path / "site"))
    assert isinstance(result.exception, InputError)
    assert "the site is a folder of pages" in str(result.exception)
    assert (tmp_path / "site").read_text() == "mine"


def test_a_picture_needs_a_run(tmp_path):
    result = invoke("--runs-dir", str(tmp_path), "--figure", str(tmp_path / "f.svg"))
    assert isinstance(result.exception, InputError)
    assert "meta-spliceai quickstart" in str(result.exception)
    assert not (tmp_path / "f.svg").exists()
