from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from meta_spliceai.cli import data
from meta_spliceai.datasets import load_dataset
from meta_spliceai.errors import InputError, LeakageError, MissingExtraError
from meta_spliceai.splice_engine.variants.splits import make_split, position_block_split, write_split

pytestmark = pytest.mark.quickstart


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    app = typer.Typer()
    app.command("audit")(data.audit)
    app.callback()(lambda: None)
    return app


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sound split, and one with a split by variant that promises sites."""
    try:
        loaded = load_dataset("wt1-exon5")
    except MissingExtraError as error:
        pytest.skip(str(error))
    table, folder = loaded.variants, tmp_path_factory.mktemp("run")
    data = {"name": "wt1-exon5", "options": {}, "digest": loaded.digest}
    sound = position_block_split(table, {"train": 0.6, "validation": 0.2, "test": 0.2}, 0)
    write_split(folder / "split.parquet", sound, table, data)
    parts = np.random.default_rng(0).choice(["train", "test"], len(table)).astype(object)
    leaky = make_split(table, parts, "by-variant", "every variant by itself", sound.coverage, unit="site")
    write_split(folder / "leaky.parquet", leaky, table, data)
    write_split(folder / "stale.parquet", sound, table, {**data, "digest": "0" * 64})
    return folder


def test_a_run_folder_with_a_sound_split(app: typer.Typer, run: Path) -> None:
    result = CliRunner().invoke(app, ["audit", str(run)])
    assert result.exit_code == 0
    assert "no leak: the split keeps its promise" in result.output
    assert "note" in result.output
    assert "overlapping windows" in result.output


def test_a_leaky_split_fails_loudly(app: typer.Typer, run: Path) -> None:
    result = CliRunner().invoke(app, ["audit", str(run / "leaky.parquet"), "--no-sequence"])
    assert isinstance(result.exception, LeakageError)
    assert result.exception.exit_code == 2
    assert "shared sites" in str(result.exception)
    assert "not done" in result.output


def test_json(app: typer.Typer, run: Path) -> None:
    result = CliRunner().invoke(app, ["audit", str(run), "--json", "--no-sequence"])
    content = json.loads(result.output)
    assert content["clean"] is True
    assert content["unit"] == "site"


def test_another_state_of_the_data_set_is_refused(app: typer.Typer, run: Path) -> None:
    result = CliRunner().invoke(app, ["audit", str(run / "stale.parquet")])
    assert "another state of data set wt1-exon5" in str(result.exception)


def test_no_such_split(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["audit", str(tmp_path)])
    assert isinstance(result.exception, InputError)
