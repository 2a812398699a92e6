"""What a run says of its work: operations counted, seconds measured, and the device's limit beside them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from meta_spliceai.experiments.run import prepare, procedures, utilisation
from meta_spliceai.experiments.run.build import build_predictor
from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.run.utilisation import (
    in_words,
    not_counted,
    product_rate,
    put_together,
    rate_here,
    step_work,
    told_of,
    without_numbers,
)
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, parse_spec
from meta_spliceai.experiments.spec.rows import change
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace
from meta_spliceai.splice_engine.meta_layer.training import FitReport
from tests.conftest import RunCli
from tests.experiments.silent import Silent

LIMIT = 2e12
"""What these tests' device is said to do a second."""

TOLD = {"gflop", "seconds", "gflop_per_second", "precision", "limit_gflop_per_second", "share", "why"}


@pytest.fixture
def known_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (procedures, utilisation):
        monkeypatch.setattr(module, "rate_here", lambda product, device: LIMIT)


def ran(row: ExperimentSpec, workspace: Workspace, **more: Any) -> RunDirectory:
    run = run_experiment(row, workspace, "cpu", rows={row.id: row}, **more).run
    assert run is not None
    return run


@pytest.mark.usefixtures("known_limit")
def test_a_run_states_its_share(toy_row: ExperimentSpec, cold_workspace: Workspace) -> None:
    callback = Silent()
    record = ran(toy_row, cold_workspace, callback=callback).record()
    trained, scored = record["work"]["training"], record["work"]["base scores"]
    assert set(trained) == set(scored) == TOLD
    each = step_work(without_numbers(build_predictor(toy_row))).each
    rows, epochs = record["training"]["train_rows"], record["training"]["epochs_run"]
    assert trained["gflop"] == pytest.approx(rows * epochs * each / 1e9)
    assert trained["seconds"] == pytest.approx(rows * epochs / record["training"]["windows_per_second"])
    assert trained["seconds"] < record["seconds_by_step"]["training"]
    assert scored["gflop"] > 0
    assert 0 < scored["seconds"] < record["seconds_by_step"]["base scores"]
    for work in (trained, scored):
        assert work["share"] == pytest.approx(work["gflop"] * 1e9 / work["seconds"] / LIMIT)
        assert (work["precision"], work["why"]) == ("float32", "")
    assert any(line.startswith("training: ") and "% of the device's 2 TFLOP/s" in line for line in callback.lines)
    (entry,) = cold_workspace.ledger.finished()
    assert entry["work"] == record["work"]


@pytest.mark.slow
@pytest.mark.usefixtures("known_limit")
def test_scores_from_the_cache_are_no_work_of_the_run(toy_row: ExperimentSpec, workspace: Workspace) -> None:
    ran(toy_row, workspace)
    again = ran(change(toy_row, ["training.seed=5"]), workspace).record()["work"]
    assert again["training"]["share"] > 0
    assert again["base scores"] == not_counted("all base scores were found in the cache")
    more = ran(change(toy_row, ["training.seed=5", "base.distance=40"]), workspace).record()["work"]
    assert more["base scores"]["gflop"] > 0


@pytest.mark.slow
@pytest.mark.usefixtures("known_limit")
def test_folds_are_put_together(toy_row: ExperimentSpec, workspace: Workspace) -> None:
    record = ran(change(toy_row, ["split.folds=3"]), workspace).record()
    folds = record["training"]["folds"]
    each = step_work(without_numbers(build_predictor(toy_row))).each
    expected = sum(fold["train_rows"] * fold["epochs_run"] for fold in folds) * each
    assert record["work"]["training"]["gflop"] == pytest.approx(expected / 1e9)


@pytest.mark.slow
@pytest.mark.usefixtures("known_limit")
def test_of_folds_side_by_side_no_share_is_stated(
    toy_row: ExperimentSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procedures, "shared_seconds", lambda spans: 0.01)
    record = ran(change(toy_row, ["split.folds=3"]), workspace).record()
    assert record["training"]["side_by_side"] is True
    work = record["work"]["training"]
    assert (work["gflop"] > 0, work["seconds"], work["share"]) == (True, None, None)
    assert in_words(work).endswith("not stated: folds were trained side by side on one device")


@pytest.mark.slow
@pytest.mark.usefixtures("known_limit")
def test_a_clock_set_back_makes_no_folds_side_by_side(
    toy_row: ExperimentSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, now = procedures.fit, time.time()

    def slow_fit(*args: Any, **more: Any) -> FitReport:
        time.sleep(0.4)
        return fit(*args, **more)

    monkeypatch.setattr(procedures, "fit", slow_fit)
    monkeypatch.setattr(time, "time", lambda: now)  # as if it were set back again and again
    record = ran(change(toy_row, ["split.folds=3"]), workspace).record()
    assert record["training"]["side_by_side"] is False
    assert record["work"]["training"]["seconds"] > 0


def test_the_measurement_is_in_no_step_and_moves_no_random_number(
    toy_row: ExperimentSpec, workspace: Workspace, unbroken: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    running: list[str] = []
    inside: list[str] = []
    measured = prepare.Clock.__call__

    @contextmanager
    def watched(self: Any, step: str) -> Iterator[None]:
        with measured(self, step):
            running.append(step)
            yield
            running.pop()

    def noted(name: str, function: Any) -> Any:
        def call(*args: Any) -> Any:
            inside.append(f"{name} in {running}")
            return function(*args)

        return call

    monkeypatch.setattr(prepare.Clock, "__call__", watched)
    monkeypatch.setattr(utilisation, "product_rate", noted("rate", product_rate))
    monkeypatch.setattr(procedures, "training_operations", noted("count", procedures.training_operations))
    rate_here.cache_clear()
    run = ran(toy_row, workspace)
    assert inside == ["rate in []", "count in []"]  # the rate once, for training and for scoring
    assert run.metrics()["metrics"] == unbroken["metrics"]


def test_a_rate_is_measured_without_the_callers_random_numbers() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    before = torch.get_float32_matmul_precision()
    assert product_rate("float32", torch.device("cpu"), 64, 0.0) > 0
    assert torch.get_float32_matmul_precision() == before
    assert torch.equal(torch.rand(3), expected)


def test_where_no_memory_is_left_the_limit_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(utilisation, "product_rate", full)
    rate_here.cache_clear()
    try:
        work = utilisation.utilisation(3e9, 2.0, "float32", "cpu")
    finally:
        rate_here.cache_clear()
    assert (work["gflop_per_second"], work["limit_gflop_per_second"], work["share"]) == (1.5, None, None)
    assert in_words(work).endswith("share of the limit not stated: no memory was left to measure the device's rate")
    assert put_together([work, work])["share"] is None


def piece(gflop: float, seconds: float, limit: float) -> dict[str, Any]:
    return {
        "gflop": gflop,
        "seconds": seconds,
        "gflop_per_second": gflop / seconds,
        "precision": "float32",
        "limit_gflop_per_second": limit,
        "share": gflop / seconds / limit,
        "why": "",
    }


def test_pieces_are_put_together_by_their_time() -> None:
    both = put_together([piece(100, 1, 200), piece(100, 3, 100)])
    assert both["share"] == pytest.approx((0.5 * 1 + 100 / 300 * 3) / 4)
    assert both["gflop_per_second"] == pytest.approx(50)
    assert both["gflop_per_second"] / both["limit_gflop_per_second"] == pytest.approx(both["share"])
    apart = put_together([piece(100, 1, 200), piece(100, 3, 100)], no_share="side by side")
    assert (apart["gflop"], apart["seconds"], apart["share"]) == (200, None, None)
    assert in_words(apart) == "200 GFLOP counted; share of the limit not stated: side by side"
    assert put_together([piece(1, 1, 2), not_counted("nobody did")])["gflop"] is None


@pytest.mark.slow
def test_what_was_not_counted_is_said(toy_values: dict[str, Any], cold_workspace: Workspace) -> None:
    trees = {"most_trees": 5, "leaves": 4, "fewest_in_leaf": 5, "folds": 2, "seeds": 1}
    values = {key: value for key, value in toy_values.items() if key not in ("encoder", "training")}
    row = parse_spec({**values, "id": "toy-fusion", "fusion": {"beside": [], "settings": {"trees": trees}}}, "test")
    work = ran(row, cold_workspace).record()["work"]
    assert work["training"]["gflop"] is None
    assert "scikit-learn" in in_words(work["training"])
    assert work["base scores"]["share"] > 0


@pytest.mark.usefixtures("known_limit")
def test_the_command_line_shows_it_and_older_runs_go_without(
    toy_row: ExperimentSpec, workspace: Workspace, run_cli: RunCli
) -> None:
    run = ran(toy_row, workspace)
    where = ["--runs-dir", str(workspace.root)]
    code, out, _ = run_cli(["runs", "show", run.name, *where])
    assert code == 0
    for line in told_of(run.record()):
        assert line in out
    assert "  base scores: " in out
    code, out, _ = run_cli(["runs", "show", run.name, "--json", *where])
    assert json.loads(out)["work"]["training"]["share"] > 0
    file: Path = run.path / "run.json"
    older = json.loads(file.read_text())
    del older["work"]
    file.write_text(json.dumps(older))
    code, out, _ = run_cli(["runs", "show", run.name, *where])
    assert code == 0
    assert "FLOP" not in out
