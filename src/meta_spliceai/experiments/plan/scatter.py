"""How far off the planner was: what it predicted for every finished run beside what was measured.

Each run is predicted from data sheets and assumptions alone ("estimate"), and calibrated on all other runs, itself left
out ("calibrated"). The bar is for the calibrated ones.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from meta_spliceai.experiments.plan.calibrate import Calibrated, Calibration, Point
from meta_spliceai.experiments.plan.demand import Demand
from meta_spliceai.experiments.plan.planner import Planner
from meta_spliceai.experiments.plan.records import Measured

MEMORY_BAR, TIME_BAR = 0.15, 0.25  # relative errors within which a calibrated prediction counts as good

COLUMNS = (
    *("run", "row", "family", "device", "memory_measured", "memory_estimate", "memory_calibrated"),
    *("seconds_measured", "seconds_estimate", "seconds_calibrated", "memory_error", "seconds_error"),
    *("memory_error_by_other_rows", "seconds_error_by_other_rows"),
    *("calibrated_on", "memory_rests_on", "seconds_rest_on"),
)


def scatter(planner: Planner) -> pd.DataFrame:
    """Predicted and measured, one row a finished run that the planner looks at.

    Returns:
        memory_* in bytes of peak memory; seconds_* of all steps that can be compared (reading data is not: a process
        does it once for all its rows); *_error relative to the measured value, NaN where no other run was there to
        calibrate from; *_error_by_other_rows: as if the row had never been run with any seed; calibrated_on: other
        runs on the device; memory_rests_on, seconds_rest_on: the nearest of them (for time, of the step that is to
        take longest).
    """
    return pd.DataFrame([_line(planner, run) for run in planner.runs], columns=list(COLUMNS))


def _line(planner: Planner, run: Measured) -> dict[str, Any]:
    point = planner.point(run)
    kind = point.kind
    everything = planner.calibration(run.cuda)
    others, strangers = everything.without(run.run), everything.without_row(kind)
    line: dict[str, Any] = {"run": run.run, "row": run.spec.id, "family": kind.family, "device": kind.device}
    line["calibrated_on"] = sum(other.kind.device == kind.device for other in others.points)
    if not point.steps and point.memory is None:
        return line  # a card that nobody described
    if point.memory is not None:
        estimate, measured = point.memory
        memory = others.memory(kind, estimate, run.cuda)
        line |= {"memory_measured": measured, "memory_estimate": estimate, "memory_calibrated": memory.value}
        line |= {"memory_rests_on": memory.rests_on, "memory_error": _error(memory, measured)}
        line["memory_error_by_other_rows"] = _error(strangers.memory(kind, estimate, run.cuda), measured)
    demand = planner.demand_of(run)
    by_other_rows = _seconds(run, point, demand, strangers)["seconds_error"]
    return line | _seconds(run, point, demand, others) | {"seconds_error_by_other_rows": by_other_rows}


def _error(calibrated: Calibrated, measured: float) -> float:
    return calibrated.value / measured - 1 if calibrated.sources else math.nan


def _seconds(run: Measured, point: Point, demand: Demand, others: Calibration) -> dict[str, Any]:
    """The columns about seconds, of all steps that can be compared."""
    expected = demand.at_share(others.epochs(point.kind).value if run.spec.training.patience else 1.0)
    found = {step: others.step(point.kind, step, expected[step]) for step in point.steps}
    measured, total = sum(took for _, took in point.steps.values()), sum(one.value for one in found.values())
    longest = max(found, key=lambda step: found[step].value, default="")
    # A step of less than 1 % may go without anything to calibrate it from.
    known = all(found[step].sources or took[1] < 0.01 * run.total_seconds for step, took in point.steps.items())
    return {
        "seconds_measured": measured,
        "seconds_estimate": sum(demand.steps[step] for step in found),
        "seconds_calibrated": total,
        "seconds_rest_on": f"{longest}: {found[longest].rests_on}" if longest else "",
        "seconds_error": total / measured - 1 if known and measured else math.nan,
    }


def verdicts(frame: pd.DataFrame) -> list[str]:
    """Whether the bar is met, in words, for memory and for time; then how far off they are where a row is predicted
    from other rows alone, which no bar is set for."""
    said = []
    for column, bar, what in (("memory_error", MEMORY_BAR, "peak memory"), ("seconds_error", TIME_BAR, "time")):
        errors = frame[column].astype(float).dropna().abs()
        if not len(errors):
            said.append(f"{what}: not checked; it takes two finished runs on one device")
            continue
        outside = list(frame["run"][errors[errors > bar].sort_values(ascending=False).index])
        line = f"{what}: bar of {bar:.0%} {'not passed' if outside else 'passed'}: {_within(errors, bar)}"
        line += f"; outside: {', '.join(outside)}" if outside else ""
        shared = int(frame["memory_measured"].isna().sum()) if column == "memory_error" else 0
        line += f"; {shared} not compared, their process had run other rows before" if shared else ""
        alone = len(frame) - len(errors) - shared
        said.append(line + (f"; {alone} without anything to calibrate from" if alone else ""))
    for column, bar, what in (("memory_error", MEMORY_BAR, "peak memory"), ("seconds_error", TIME_BAR, "time")):
        errors = frame[f"{column}_by_other_rows"].astype(float).dropna().abs()
        if len(errors):
            said.append(f"{what} predicted from other rows alone: {_within(errors, bar)}")
    return said


def _within(errors: pd.Series, bar: float) -> str:
    inside = int((errors <= bar).sum())
    return (
        f"{inside} of {len(errors)} runs within {bar:.0%}, median error {errors.median():.0%}, "
        f"largest {errors.max():.0%}"
    )
