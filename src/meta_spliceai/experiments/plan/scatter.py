"""How far off the planner was: what it predicted for every finished run beside what was measured.

Each run is predicted from data sheets and assumptions alone ("estimate"), and calibrated on all other runs, itself left
out ("calibrated"). The bar is for the calibrated ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from meta_spliceai.experiments.plan.calibrate import Calibrated, Calibration, Point
from meta_spliceai.experiments.plan.demand import Batch, Demand, demand_of
from meta_spliceai.experiments.plan.planner import Planner
from meta_spliceai.experiments.plan.records import Measured
from meta_spliceai.experiments.spec.rows import load_rows
from meta_spliceai.experiments.store.workspace import Workspace

MEMORY_BAR, TIME_BAR = 0.15, 0.25
"""Relative errors within which a calibrated prediction counts as good."""

COLUMNS = (
    *("run", "row", "family", "device", "memory_measured", "memory_estimate", "memory_calibrated"),
    *("seconds_measured", "seconds_estimate", "seconds_calibrated", "seconds_given_epochs"),
    *("memory_error", "seconds_error", "given_epochs_error"),
    *("memory_error_by_other_rows", "seconds_error_by_other_rows"),
    *("calibrated_on", "memory_rests_on", "seconds_rest_on"),
)


def scatter(workspace: Workspace, ledgers: Sequence[Path] = (), planner: Planner | None = None) -> pd.DataFrame:
    """Predicted and measured, one row a finished run.

    Args:
        workspace: the folder of runs.
        ledgers: further folders of runs.
        planner: one that has traced already; a new one by default.

    Returns:
        memory_* in bytes of peak memory; seconds_* of all steps that can be compared (reading data is not: a process
        does it once for all its rows); seconds_given_epochs is the calibrated prediction had the number of epochs been
        known; *_error relative to the measured value, NaN where no other run was there to calibrate from;
        *_error_by_other_rows: as if the row had never been run with any seed; calibrated_on: other runs on the device;
        memory_rests_on, seconds_rest_on: the nearest of them (for time, of the step that is to take longest).
    """
    planner = planner or Planner(workspace, load_rows(), ledgers=ledgers)
    return pd.DataFrame([_line(planner, run) for run in planner.runs], columns=list(COLUMNS))


def _line(planner: Planner, run: Measured) -> dict[str, Any]:
    point = planner.point(run)
    kind = point.kind
    line: dict[str, Any] = {"run": run.run, "row": run.spec.id, "family": kind.family, "device": kind.device}
    everything = planner.calibration(run.cuda)
    others, strangers = everything.without(run.run), everything.without_row(kind)
    line["calibrated_on"] = sum(other.kind.device == kind.device for other in others.points)
    if not point.steps and point.memory is None:
        return line  # a card that nobody described
    demand = demand_of(run.spec, run.parts, planner.machine_of(run), Batch.of(run.spec), run.computed)
    if point.memory is not None:
        estimate, measured = point.memory
        memory = others.memory(kind, estimate, run.cuda)
        line |= {"memory_measured": measured, "memory_estimate": estimate, "memory_calibrated": memory.value}
        line |= {"memory_rests_on": memory.rests_on, "memory_error": _error(memory, measured)}
        line["memory_error_by_other_rows"] = _error(strangers.memory(kind, estimate, run.cuda), measured)
    line |= _seconds(run, point, demand, others)
    line["seconds_error_by_other_rows"] = _seconds(run, point, demand, strangers)["seconds_error"]
    return line


def _error(calibrated: Calibrated, measured: float) -> float:
    return calibrated.value / measured - 1 if calibrated.sources else math.nan


def _seconds(run: Measured, point: Point, demand: Demand, others: Calibration) -> dict[str, Any]:
    """The columns about seconds, of all steps that can be compared."""
    share = others.epochs(point.kind).value if run.spec.training.patience else 1.0
    expected, blind = demand.at_share(share), demand.at_share(1.0)
    given = {step: others.step(point.kind, step, estimated) for step, (estimated, _) in point.steps.items()}
    measured = sum(seconds for _, seconds in point.steps.values())
    total = sum(others.step(point.kind, step, expected[step]).value for step in given)
    knowing = sum(one.value for one in given.values())
    longest = max(given, key=lambda step: given[step].value, default="")
    # A step of less than 1 % may go without anything to calibrate it from.
    known = all(given[step].sources or one[1] < 0.01 * run.total_seconds for step, one in point.steps.items())
    return {
        "seconds_measured": measured,
        "seconds_estimate": sum(blind[step] for step in given),
        "seconds_calibrated": total,
        "seconds_given_epochs": knowing,
        "seconds_rest_on": f"{longest}: {given[longest].rests_on}" if longest else "",
        "seconds_error": total / measured - 1 if known and measured else math.nan,
        "given_epochs_error": knowing / measured - 1 if known and measured else math.nan,
    }


def verdicts(frame: pd.DataFrame) -> list[str]:
    """Whether the bar is met, in words: memory, time, time had the number of epochs been known; then how far off the
    same are where a row is predicted from other rows alone, which no bar is set for."""
    said = []
    for column, bar, what in (
        ("memory_error", MEMORY_BAR, "peak memory"),
        ("seconds_error", TIME_BAR, "time"),
        ("given_epochs_error", TIME_BAR, "time had the number of epochs been known"),
        ("memory_error_by_other_rows", MEMORY_BAR, "peak memory predicted from other rows alone"),
        ("seconds_error_by_other_rows", TIME_BAR, "time predicted from other rows alone"),
    ):
        errors = frame[column].astype(float).dropna().abs()
        has_bar = not column.endswith("other_rows")
        if not len(errors):
            if has_bar:
                said.append(f"{what}: not checked; it takes two finished runs on one device")
            continue
        outside = errors[errors > bar].sort_values(ascending=False)
        verdict = f"bar of {bar:.0%} {'not passed' if len(outside) else 'passed'}: " if has_bar else ""
        line = f"{what}: {verdict}{len(errors) - len(outside)} of {len(errors)} runs within {bar:.0%}, median error "
        line += f"{np.median(errors):.0%}, largest {errors.max():.0%}"
        if has_bar and len(outside):
            line += f"; outside: {', '.join(frame['run'][number] for number in outside.index)}"
        shared = int(frame["memory_measured"].isna().sum()) if column == "memory_error" else 0
        if shared:
            line += f"; {shared} not compared, their process had run other rows before"
        if has_bar and len(frame) > len(errors) + shared:
            line += f"; {len(frame) - len(errors) - shared} without anything to calibrate from"
        said.append(line)
    return said
