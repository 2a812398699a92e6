"""Finished runs beside what would have been planned for them, and what planning learns from them."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from meta_spliceai.experiments.plan.calibrate import Calibration, Kind, Point, measured_runs
from meta_spliceai.experiments.plan.planner import COLUMNS, Planner, scatter, verdicts
from meta_spliceai.experiments.plan.run_work import FEATURES, FEATURES_FOUND
from meta_spliceai.experiments.run import runner
from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, parse_spec
from meta_spliceai.experiments.store.workspace import Workspace


def point(run: str, *like: str, **more: object) -> Point:
    """A measurement, of the kind CNN unless other words of it are given: device, family, data, row."""
    values = {"memory": (100.0, 120.0), "steps": {"training": (10.0, 20.0)}, "epoch_share": None, **more}
    return Point(run, Kind(*like, *CNN[len(like) :]), **values)  # type: ignore[arg-type]


CNN = Kind("card", "cnn", "mfass", "wanted")


def trained(measured: float) -> dict[str, tuple[float, float]]:
    return {"training": (10.0, measured)}


def test_nothing_known_leaves_the_estimate() -> None:
    assert Calibration().step(CNN, "training", 10).basis == "estimate"
    assert Calibration((point("a", "other"),)).memory(CNN, 50, cuda=True).value == 50
    assert Calibration().epochs(CNN).value == 1


def test_runs_of_the_same_row_settle_it() -> None:
    known = Calibration(
        (
            point("a"),
            point("b", steps=trained(40)),
            point("c"),
            point("d", "card", "cnn", "mfass", "another", steps=trained(900)),
        )
    )
    calibrated = known.step(CNN, "training", 3)
    assert calibrated.value == pytest.approx(6)
    assert (calibrated.basis, calibrated.sources, calibrated.rests_on) == ("measured", 3, "3 runs of this row")
    assert known.memory(CNN, 50, cuda=True).value == pytest.approx(60)


def test_memory_of_a_process_is_calibrated_by_a_sum() -> None:
    assert Calibration((point("a"),)).memory(CNN, 1000, cuda=False).value == 1020


def test_what_is_nearer_counts_more_and_is_drawn_towards_what_is_wider() -> None:
    far = [point(f"far{number}", "card", "hyena", "mapsy", "x", steps=trained(10)) for number in range(3)]
    same_model = point("m", "card", "cnn", "mapsy", "y", steps=trained(20))
    near = point("n", "card", "cnn", "mfass", "z", steps=trained(40))
    wide = Calibration(tuple(far)).step(CNN, "training", 1)
    assert (wide.value, wide.basis) == (pytest.approx(1), "calibrated")
    model = Calibration((*far, same_model)).step(CNN, "training", 1)
    assert model.value == pytest.approx(2**0.5)
    assert model.rests_on == "1 run of cnn"
    # Two of the model (2 and 4, middle 2.8), drawn towards 1.4 of all; the nearest one, 4, halfway to that.
    nearest = Calibration((*far, same_model, near)).step(CNN, "training", 1)
    assert 2 < nearest.value < 4
    assert nearest.rests_on == "1 run of cnn on mfass"


def test_the_speed_of_judging_does_not_depend_on_the_model() -> None:
    near = point("n", "card", "hyena", "mfass", "z", steps={"evaluation": (10.0, 40.0)})
    calibrated = Calibration((near,)).step(CNN, "evaluation", 1)
    assert calibrated.value == pytest.approx(4)
    assert calibrated.rests_on == "1 run on mfass"


def test_how_soon_training_stops_is_learned_from_the_row_on_any_device() -> None:
    known = Calibration(
        (point("a", "other", epoch_share=0.4), point("b", "card", "hyena", "mfass", "x", epoch_share=1.0))
    )
    assert known.epochs(CNN).value == pytest.approx(0.4)


def test_a_run_left_out_teaches_nothing() -> None:
    assert Calibration((point("a"),)).without("a").step(CNN, "training", 1).sources == 0


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
            patch.setattr(runner, "_begun", [])  # as if each had a process of its own
            run_experiment(row, workspace, "cpu", rows={row.id: row})
    for number, run in enumerate(workspace.runs()):
        record = run.record()
        record["seconds_by_step"]["evaluation"] = 100 + number  # the longest step, however busy the machine is
        run.write_json("run.json", record)
    return workspace


@pytest.fixture
def planner(planner: Planner, two_runs: Workspace) -> Planner:
    """A planner that looks at the two runs."""
    planner.workspace = two_runs
    return planner


def test_the_scatter_has_a_line_a_run_and_each_is_foreseen_from_the_other(planner: Planner) -> None:
    frame = scatter(planner)
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == 2
    assert (frame["calibrated_on"] == 1).all()
    assert set(frame["memory_rests_on"]) == {"1 run of this row"}
    assert frame["seconds_rest_on"].str.endswith(": 1 run of this row").all()
    # A process that does the same twice needs about the same memory; the other run is the offset.
    assert frame["memory_error"].abs().max() < 0.15
    assert (frame["seconds_measured"] > 0).all()
    assert len(verdicts(frame)) == 2
    assert verdicts(frame)[0].startswith("peak memory: bar of 15% passed: 2 of 2")


def test_a_run_teaches_the_plan(two_runs: Workspace, planner: Planner, toy_row: ExperimentSpec) -> None:
    third = toy_row.model_copy(update={"training": toy_row.training.model_copy(update={"seed": 3})})
    offer = planner.row(third, gpu="cpu").offers[0]
    assert offer.memory_basis == "measured"
    assert "measured on 2 runs of this row" in offer.why
    evaluation = [run.record()["seconds_by_step"]["evaluation"] for run in two_runs.runs()]
    assert min(evaluation) * 0.99 <= offer.steps["evaluation"] <= max(evaluation) * 1.01
    measured = scatter(planner)["memory_measured"]
    assert measured.min() * 0.85 < offer.peak_bytes < measured.max() * 1.15
    # A card learns nothing from a processor's runs about its speed.
    assert planner.row(third, gpu="Slow").offers[0].time_basis == "estimate"


def test_a_finished_row_is_measured_and_not_counted_again(
    two_runs: Workspace, planner: Planner, toy_row: ExperimentSpec
) -> None:
    done = toy_row.model_copy(update={"training": toy_row.training.model_copy(update={"seed": 1})})
    made = planner.rows([done], gpu="cpu")
    assert made.rows[0].state == "completed"
    assert made.rows[0].offers[0].time_basis == "measured"
    assert made.left_out == {"toy-row": "completed: its result is there"}
    assert made.hours == 0


@pytest.mark.slow
def test_memory_of_a_run_whose_process_had_run_others_is_neither_compared_nor_learned_from(
    two_runs: Workspace, planner: Planner, toy_row: ExperimentSpec, tmp_path: Path
) -> None:
    elsewhere = Workspace(tmp_path / "later", (two_runs.root,))
    for seed, before in ((3, [])), (4, ["another"]):
        training = toy_row.training.model_copy(update={"seed": seed})
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("META_SPLICEAI_CACHE", str(tmp_path / "empty cache"))
            patch.setattr(runner, "_begun", before)
            run_experiment(toy_row.model_copy(update={"training": training}), elsewhere, "cpu")
    frame = scatter(Planner(elsewhere, planner.rows_by_id, planner.prices))
    assert sorted(run.record()["rows_before"] for run in elsewhere.own_runs()) == [0, 1]
    assert frame["memory_measured"].isna().sum() == 1
    assert frame["seconds_error"].notna().all()
    assert set(frame["memory_rests_on"].dropna()) == {"2 runs of this row"}
    assert verdicts(frame)[0].endswith("; 1 not compared, their process had run other rows before")


FROZEN = {"name": "hyenadna-tiny-1k", "settings": {"weights": "scratch", "hidden_dim": 8, "read_radius": 4}}
"""A frozen encoder with random weights, which the seed decides."""


@pytest.fixture(scope="module")
def two_frozen_runs(tmp_path_factory: pytest.TempPathFactory, toy_values: dict[str, Any]) -> Workspace:
    """Two rows with the same frozen encoder: the second finds the features that the first computed."""
    folder = tmp_path_factory.mktemp("frozen")
    workspace = Workspace(folder / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("META_SPLICEAI_CACHE", str(folder / "cache"))
        for row_id, epochs in (("toy-frozen", 2), ("toy-frozen-longer", 3)):
            training = {**toy_values["training"], "epochs": epochs}
            row = parse_spec({**toy_values, "id": row_id, "encoder": FROZEN, "training": training}, "test")
            run_experiment(row, workspace, "cpu", rows={row.id: row})
    return workspace


def test_features_that_were_found_are_other_work_than_features_that_were_computed(two_frozen_runs: Workspace) -> None:
    computed, found = sorted(measured_runs(two_frozen_runs), key=lambda run: run.at)
    assert (computed.computed.features, found.computed.features) == (1.0, 0.0)
    assert FEATURES in computed.seconds
    assert FEATURES_FOUND in found.seconds
    assert FEATURES not in found.seconds
    # Each step is in the sum once.
    record = two_frozen_runs.find(computed.run).record()
    assert computed.total_seconds == pytest.approx(record["seconds"], abs=0.01)
    planner = Planner(two_frozen_runs, {})
    assert set(planner.point(computed).steps) >= {FEATURES, "training"}
    assert set(planner.point(found).steps) >= {FEATURES_FOUND, "training"}


def test_a_frozen_encoders_features_are_computed_once_on_this_machine(
    two_frozen_runs: Workspace, tmp_path: Path
) -> None:
    done = {run.row_id: run.spec() for run in two_frozen_runs.runs()}["toy-frozen"]
    longer = done.model_copy(update={"id": "third", "training": done.training.model_copy(update={"epochs": 4})})
    other = done.model_copy(update={"training": done.training.model_copy(update={"seed": 9})})
    elsewhere = Workspace(tmp_path / "runs", (two_frozen_runs.root,))
    for row, workspace, kept in (
        (longer, two_frozen_runs, True),
        (other, two_frozen_runs, False),
        (longer, elsewhere, False),
    ):
        plan = Planner(workspace, {}).row(row, gpu="cpu")
        assert (FEATURES_FOUND in plan.offers[0].steps) is kept
        assert (FEATURES in plan.offers[0].steps) is not kept
        assert any("features of the frozen encoder" in note for note in plan.notes) is kept
    first, later = Planner(elsewhere, {}).rows([other, other.model_copy(update={"id": "again"})], gpu="cpu").rows
    assert FEATURES in first.offers[0].steps
    assert FEATURES_FOUND in later.offers[0].steps


def test_a_run_that_does_not_say_whether_it_found_its_features_teaches_nothing_about_training(
    two_frozen_runs: Workspace, tmp_path: Path
) -> None:
    shutil.copytree(two_frozen_runs.root, tmp_path / "runs")
    for file in (tmp_path / "runs").glob("*/run.json"):
        record = json.loads(file.read_text())
        record["training"].pop("features")
        file.write_text(json.dumps(record))
    planner = Planner(Workspace(tmp_path / "runs"), {})
    for run in planner.runs:
        assert not {"training", FEATURES, FEATURES_FOUND} & set(planner.point(run).steps)
        assert "evaluation" in planner.point(run).steps


def test_runs_of_a_further_folder_count(two_runs: Workspace, planner: Planner, tmp_path: Path) -> None:
    elsewhere = Workspace(tmp_path / "other", (two_runs.root,))
    assert len(scatter(Planner(elsewhere, planner.rows_by_id, planner.prices))) == 2


def test_verdicts_say_what_was_not_checked() -> None:
    line = dict.fromkeys(COLUMNS, math.nan) | {"run": "a", "memory_measured": 1.0, "memory_error": 0.3}
    said = verdicts(pd.DataFrame([line]))
    assert said[0].startswith("peak memory: bar of 15% not passed: 0 of 1")
    assert "largest 30%; outside: a" in said[0]
    assert said[1].startswith("time: not checked")
