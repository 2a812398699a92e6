"""Every number that a user can give has bounds, checked before anything is computed; JSON output is JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import typer

from meta_spliceai.cli.app import app
from meta_spliceai.cli.bundle import size_in_bytes
from meta_spliceai.cli.console import print_json
from meta_spliceai.cli.options import parse_duration
from meta_spliceai.errors import InputError
from meta_spliceai.experiments.spec.rows import as_smoke, change, load_rows
from meta_spliceai.splice_engine.meta_layer.pretraining import PretrainingConfig
from tests.conftest import RunCli

ROW = load_rows(own=None)["wt1-simple-cnn"]


def number_options() -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []

    def walk(command: Any, name: str) -> None:
        for below, inner in getattr(command, "commands", {}).items():
            walk(inner, f"{name} {below}".strip())
        numbers = (option for option in command.params if option.type_descriptor.annotation in (int, float))
        found.extend((f"{name} {option.opts[0]}", option) for option in numbers)

    walk(typer.main.get_command(app), "")
    return found


@pytest.mark.parametrize(
    ("name", "option"), number_options(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_number_on_the_command_line_has_two_bounds(name: str, option: Any) -> None:
    assert option.min is not None
    assert option.max is not None
    if "seed" in name:
        assert (option.min, option.max) == (0, 2**32 - 1)


@pytest.mark.parametrize(
    "arguments",
    [
        "run wt1-simple-cnn --seed 4294967296",
        "run wt1-simple-cnn --seed -1",
        "run wt1-simple-cnn --limit -5",
        "run wt1-simple-cnn --limit 100000000000000000000",
        "run wt1-simple-cnn --price-per-hour nan",
        "run wt1-simple-cnn --price-per-hour inf",
        "plan --budget nan",
        "plan --budget inf",
        "plan --deadline -1",
        "quickstart --seed 99999999999",
        "pretrain -o x --steps 0",
        "pretrain -o x --learning-rate nan",
        "run wt1-simple-cnn --set training.seed=4294967296",
        "run wt1-simple-cnn --set training.seed=2026-11-29",
        "run wt1-simple-cnn --set training.seed=20261129T101500",
        "run wt1-simple-cnn --set training.learning_rate=.inf",
        "run wt1-simple-cnn --set training.huber_delta=.nan",
        "run wt1-simple-cnn --set data.rows=100000000000000000000",
        "run wt1-simple-cnn --set encoder.settings.hidden_dim=100000000000000000000",
        "run wt1-simple-cnn --set data.options.context=.nan",
        "run wt1-simple-cnn --time-limit 99999999h",
    ],
)
def test_refused_at_once(arguments: str, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run_cli(arguments.split())
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_numbers_of_5000_digits_are_named_and_not_written_out() -> None:
    with pytest.raises(InputError, match=r"'training\.seed' = a number of more than 40 digits") as refused:
        change(ROW, [f"training.seed={'9' * 4200}"])
    assert len(str(refused.value)) < 500
    with pytest.raises(InputError, match=r"--set window=9+ … 9+: not valid YAML"):
        change(ROW, [f"window={'9' * 5000}"])
    with pytest.raises(InputError, match="--time-limit"):
        parse_duration(f"{'9' * 5000}h", "--time-limit")
    with pytest.raises(InputError, match="--max-size"):
        size_in_bytes(f"{'9' * 5000}GB")
    with pytest.raises(InputError, match="learning_rate"):
        PretrainingConfig.from_mapping({"learning_rate": math.inf})


def test_bounds_themselves_are_allowed() -> None:
    spec = change(ROW, ["training.seed=4294967295", "data.rows=1", "training.learning_rate=1e-9"])
    assert (spec.seed, spec.data.rows, spec.training.learning_rate) == (2**32 - 1, 1, 1e-9)


def test_a_smoke_run_keeps_what_was_set() -> None:
    spec = change(as_smoke(ROW), ["training.epochs=4", "data.rows=50"])
    assert (spec.training.epochs, spec.data.rows, spec.smoke) == (4, 50, True)
    assert as_smoke(ROW).training.epochs == 1


def test_run_smoke_with_set_runs_what_was_set(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from meta_spliceai.experiments.execute import all_rows

    seen: list[Any] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(all_rows, "run_at", lambda place, requests, *_: seen.extend(requests) or [])
    run_cli(["run", "wt1-simple-cnn", "--smoke", "--set", "training.epochs=4", "--limit", "50", "--seed", "3"])
    (request,) = seen
    assert request.spec.smoke
    assert (request.spec.training.epochs, request.spec.data.rows, request.spec.seed) == (4, 50, 3)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_holds_no_number_that_json_has_not(value: float, capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": value, "b": [1, value, {"c": (value,)}], 3: "Δ"})

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    read = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert read == {"a": None, "b": [1, None, {"c": [None]}], "3": "Δ"}


def test_json_is_printed_in_one_way() -> None:
    folder = Path(__file__).resolve().parents[2] / "src" / "meta_spliceai" / "cli"
    own_way = [path.name for path in folder.glob("*.py") if "json.dumps(" in path.read_text(encoding="utf-8")]
    assert own_way == []


def test_there_are_numbers_to_look_at() -> None:
    assert len(number_options()) > 20
