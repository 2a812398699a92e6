from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from meta_spliceai.cli import data
from meta_spliceai.errors import InputError, MissingExtraError


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    app = typer.Typer()
    app.add_typer(data.group, name="data")
    app.callback()(lambda: None)
    return app


def test_list(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["data", "list"])
    assert result.exit_code == 0
    assert "wt1-exon5" in result.output
    assert "5,560" in result.output


def test_list_as_json(app: typer.Typer) -> None:
    listed = json.loads(CliRunner().invoke(app, ["data", "list", "--json"]).output)
    assert {"name", "licence", "source", "rows"} <= set(listed[0])


def test_show_without_loading_prints_source_and_rule(app: typer.Typer) -> None:
    output = CliRunner().invoke(app, ["data", "show", "wt1-exon5", "--no-load"]).output
    for text in ("none stated", "10.1101/gr.219683.116", "85f8963cc615", "Splice-altering: inclusion at least doubled"):
        assert text in output
    assert "Args:" not in output


@pytest.mark.quickstart
def test_show_prints_coverage_classes_and_noise(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["data", "show", "wt1-exon5"])
    if isinstance(result.exception, MissingExtraError):
        pytest.skip(str(result.exception))
    output = result.output
    for text in ("used   5524", "Splice-altering", "additive model", "digest"):
        assert text in output


def test_unknown_name_is_an_error_for_the_user(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["data", "show", "wt1"])
    assert isinstance(result.exception, InputError)
    assert "wt1-exon5" in str(result.exception)
