"""Finished runs beside what would have been planned for them, and what planning learns from them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from meta_spliceai.experiments.plan.calibrate import Calibration, Point
from meta_spliceai.experiments.plan.planner import Planner
from meta_spliceai.experiments.plan.probe import kept_probes, probe_row
from meta_spliceai.experiments.plan.scatter import COLUMNS, scatter, verdicts
from meta_spliceai.experiments.runner import run_experiment
from meta_spliceai.experiments.spec import ExperimentSpec, parse_spec
from meta_spliceai.experiments.workspace import Workspace


def point(source: str, device: str = "card", family: str = "cnn", probe: bool = False, **more: object) -> Point:
    values = {"memory": (100.0, 120.0), "steps": {"training": (10.0, 20.0)}, "epoch_share": None, **more}
    return Point(source, probe, device, family, **values)  # type: ignore[arg-type]


def test_nothing_known_leaves_the_estimate() -> None:
    assert Calibration().step("card", "cnn", "training", 10).basis == "estimate"
    assert Calibration((point("a", device="other"),)).memory("card", "cnn", 50, cuda=True).value == 50


def test_time_and_memory_on_a_card_are_mended_by_a_factor() -> None:
    known = Calibration((point("a"), point("b", steps={"training": (10.0, 40.0)}), point("c")))
    assert known.step("card", "cnn", "training", 3).value == 6
    assert known.memory("card", "cnn", 50, cuda=True).value == pytest.approx(60)


def test_memory_of_a_process_is_mended_by_a_sum() -> None:
    assert Calibration((point("a"),)).memory("card", "other", 1000, cuda=False).value == 1020


def test_enough_runs_of_a_processor_make_a_line() -> None:
    sizes = (10e6, 20e6, 30e6, 40e6)
    known = Calibration(tuple(point(str(size), memory=(size, 100e6 + 2 * size)) for size in sizes))
    assert known.memory("card", "cnn", 100e6, cuda=False).value == pytest.approx(300e6)
    # Three are not enough: then the median of what came on top counts.
    assert known.without("40000000.0").memory("card", "cnn", 100e6, cuda=False).value == pytest.approx(220e6)


def test_a_kind_of_model_counts_before_its_device_and_a_run_before_a_probe() -> None:
    other = point("b", family="hyena", steps={"training": (10.0, 90.0)})
    known = Calibration((point("a"), other, point("p", probe=True, steps={"training": (10.0, 10.0)})))
    assert known.step("card", "cnn", "training", 1).value == 2
    assert known.step("card", "hyena", "training", 1).value == 9
    assert Calibration((point("p", probe=True),)).step("card", "cnn", "training", 1).value == 2


def test_a_run_left_out_teaches_nothing() -> None:
    assert Calibration((point("a"),)).without("a").step("card", "cnn", "training", 1).sources == 0


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory, toy_values: dict[str, Any]) -> Workspace:
    """The toy row, run with two seeds."""
    folder = tmp_path_factory.mktemp("two")
    workspace = Workspace(folder / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("META_SPLICEAI_CACHE", str(folder / "cache"))
        for seed in (1, 2):
            training = {**toy_values["training"], "seed": seed}
            row = parse_spec({**toy_values, "training": training}, "test")
            run_experiment(row, workspace, "cpu", rows={row.id: row})
    return workspace


@pytest.fixture
def planner(planner: Planner, two_runs: Workspace) -> Planner:
    """A planner that looks at the two runs."""
    planner.workspace = two_runs
    return planner


def test_the_scatter_has_a_line_a_run_and_each_is_foreseen_from_the_other(
    two_runs: Workspace, planner: Planner
) -> None:
    frame = scatter(two_runs, planner=planner)
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == 2
    assert (frame["calibrated_on"] == 1).all()
    assert (frame["memory_measured"] > frame["memory_estimate"]).all()
    # A process that does the same twice needs about the same memory; the other run is the offset.
    assert frame["memory_error"].abs().max() < 0.15
    assert (frame["seconds_measured"] > 0).all()
    assert len(verdicts(frame)) == 3
    assert verdicts(frame)[0].startswith("peak memory: bar of 15% passed: 2 of 2")


def test_a_run_teaches_the_plan(two_runs: Workspace, planner: Planner, toy_row: ExperimentSpec) -> None:
    third = toy_row.model_copy(update={"training": toy_row.training.model_copy(update={"seed": 3})})
    offer = planner.row(third, gpu="cpu").offers[0]
    assert offer.memory_basis == "calibrated"
    judging = [run.record()["seconds_by_step"]["judging"] for run in two_runs.runs()]
    assert min(judging) * 0.99 <= offer.steps["judging"] <= max(judging) * 1.01
    measured = scatter(two_runs, planner=planner)["memory_measured"]
    assert measured.min() * 0.85 < offer.peak_bytes < measured.max() * 1.15
    # A card learns nothing from a processor's runs about its speed.
    assert planner.row(third, gpu="Slow").offers[0].time_basis == "estimate"


def test_a_finished_row_is_measured_and_not_counted_again(
    two_runs: Workspace, planner: Planner, toy_row: ExperimentSpec
) -> None:
    done = toy_row.model_copy(update={"training": toy_row.training.model_copy(update={"seed": 1})})
    made = planner.rows([done], gpu="cpu")
    assert made.rows[0].state == "completed"
    assert made.rows[0].basis_time == "measured"
    assert made.left_out == {"toy-row": "completed: its result is there"}
    assert made.hours == 0


def test_runs_of_a_further_folder_count(two_runs: Workspace, planner: Planner, tmp_path: Path) -> None:
    elsewhere = Workspace(tmp_path / "other", (two_runs.root,))
    assert len(scatter(elsewhere, planner=Planner(elsewhere, planner.rows_by_id, planner.prices))) == 2


def test_a_probe_is_three_real_steps_and_calibrates(planner: Planner, toy_row: ExperimentSpec, tmp_path: Path) -> None:
    planner.workspace = Workspace(tmp_path / "empty")
    probe = probe_row(toy_row, planner.workspace, "cpu")
    assert probe.batch_sizes == [16, 32]
    assert all(0 < seconds < 30 for seconds in probe.seconds)
    assert kept_probes(planner.workspace) == [probe]
    offer = planner.row(toy_row, gpu="cpu").offers[0]
    assert "calibrated on 1 measurement" in offer.why
    probe_row(toy_row, planner.workspace, "cpu")
    assert len(kept_probes(planner.workspace)) == 1


def test_a_damaged_probe_is_left_out(planner: Planner, toy_row: ExperimentSpec, tmp_path: Path) -> None:
    planner.workspace = Workspace(tmp_path / "empty")
    probe_row(toy_row, planner.workspace, "cpu")
    (planner.workspace.root / "probes" / "broken.json").write_text("{")
    assert len(kept_probes(planner.workspace)) == 1


def test_verdicts_say_what_was_not_checked() -> None:
    line = dict.fromkeys(COLUMNS, math.nan) | {"run": "a", "memory_error": 0.3}
    said = verdicts(pd.DataFrame([line]))
    assert said[0].startswith("peak memory: bar of 15% not passed: 0 of 1")
    assert "largest 30% (a)" in said[0]
    assert said[1].startswith("time: not checked")
