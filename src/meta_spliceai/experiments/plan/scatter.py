"""How far off the planner was: what it foresaw for every finished run beside what was measured.

Each run is foreseen twice: from data sheets and assumptions alone ("estimate"), and calibrated on all other runs and
probes, itself left out ("calibrated"). The bar is for the calibrated ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from meta_spliceai.experiments.plan.calibrate import Calibration, Mended, Point
from meta_spliceai.experiments.plan.demand import Batch, Demand
from meta_spliceai.experiments.plan.planner import Planner
from meta_spliceai.experiments.plan.records import Measured
from meta_spliceai.experiments.rows import load_rows
from meta_spliceai.experiments.workspace import Workspace

MEMORY_BAR, TIME_BAR = 0.15, 0.25
"""Relative errors within which a calibrated prediction counts as good."""

COLUMNS = (
    "run",
    "row",
    "family",
    "device",
    "memory_measured",
    "memory_estimate",
    "memory_calibrated",
    "seconds_measured",
    "seconds_estimate",
    "seconds_calibrated",
    "seconds_given_epochs",
    "memory_error",
    "seconds_error",
    "given_epochs_error",
    "memory_error_by_other_rows",
    "seconds_error_by_other_rows",
    "calibrated_on",
    "memory_rests_on",
    "seconds_rest_on",
)


def scatter(workspace: Workspace, ledgers: Sequence[Path] = (), planner: Planner | None = None) -> pd.DataFrame:
    """Foreseen and measured, one row a finished run.

    Args:
        workspace: the folder of runs.
        ledgers: further folders of runs.
        planner: one that has traced already; a new one by default.

    Returns:
        run, row, family (kind of model), device; memory_* in bytes of peak memory (of the card, or of the process on a
        processor); seconds_* of all steps that can be compared (reading data is not: a process does it once for all its
        rows); seconds_given_epochs is the calibrated prediction had it been known how many epochs the run would train;
        *_error relative to the measured value, NaN where no other run or probe was there to calibrate from;
        *_error_by_other_rows: the same foreseen from other rows alone, as if the row had never been run with any seed;
        calibrated_on: other runs and probes on the same device; memory_rests_on, seconds_rest_on: the nearest of them,
        on which the prediction rests (for time, that of the step that is to take longest).
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
    machine = planner.machine_of(run)
    demand = planner.demand(run.spec, run.parts, machine, Batch.of(run.spec), run.computed)
    if point.memory is not None:
        estimate, measured = point.memory
        memory = others.memory(kind, estimate, run.cuda)
        line |= {"memory_measured": measured, "memory_estimate": estimate, "memory_calibrated": memory.value}
        line |= {"memory_rests_on": memory.rests_on, "memory_error": _error(memory, measured)}
        line["memory_error_by_other_rows"] = _error(strangers.memory(kind, estimate, run.cuda), measured)
    seconds = _seconds(run, point, demand, others)
    line |= {f"seconds_{name}": value for name, value in seconds.totals.items()}
    line |= {"seconds_rest_on": seconds.rest_on, "seconds_error": seconds.error("calibrated")}
    line["given_epochs_error"] = seconds.error("given_epochs")
    line["seconds_error_by_other_rows"] = _seconds(run, point, demand, strangers).error("calibrated")
    return line


def _error(mended: Mended, measured: float) -> float:
    return mended.value / measured - 1 if mended.sources else math.nan


@dataclass(frozen=True)
class _Seconds:
    """A run's seconds, measured and foreseen, of all steps that can be compared; on what the longest one rests; whether
    there was something to calibrate every step from that counts."""

    totals: dict[str, float]
    rest_on: str
    calibrated: bool

    def error(self, name: str) -> float:
        """Relative error of one of the totals; NaN where nothing can be said."""
        measured = self.totals["measured"]
        return self.totals[name] / measured - 1 if self.calibrated and measured else math.nan


def _seconds(run: Measured, point: Point, demand: Demand, others: Calibration) -> _Seconds:
    share = others.epochs(point.kind) if run.spec.training.patience else None
    foreseen, blind = demand.at_share(share.value if share else 1.0), demand.at_share(1.0)
    totals = dict.fromkeys(("measured", "estimate", "calibrated", "given_epochs"), 0.0)
    calibrated, longest, rest_on = True, 0.0, ""
    for step, (given, seconds) in point.steps.items():
        mended = others.step(point.kind, step, given)
        if mended.value > longest:
            longest, rest_on = mended.value, f"{step}: {mended.rests_on}"
        calibrated &= mended.sources > 0 or seconds < 0.01 * run.total_seconds
        totals["measured"] += seconds
        totals["estimate"] += blind[step]
        totals["given_epochs"] += mended.value
        totals["calibrated"] += others.step(point.kind, step, foreseen[step]).value
    return _Seconds(totals, rest_on, calibrated)


def verdicts(frame: pd.DataFrame) -> list[str]:
    """Whether the bar is met, in words: memory, time, time had the number of epochs been known; then how far off the
    same are where a row is foreseen from other rows alone, which no bar is set for."""
    said = []
    for column, bar, what in (
        ("memory_error", MEMORY_BAR, "peak memory"),
        ("seconds_error", TIME_BAR, "time"),
        ("given_epochs_error", TIME_BAR, "time had the number of epochs been known"),
    ):
        errors = frame[column].astype(float).dropna().abs()
        if not len(errors):
            said.append(f"{what}: not checked; it takes two finished runs on one device, or a run and a probe")
            continue
        outside = errors[errors > bar].sort_values(ascending=False)
        verdict = "not passed" if len(outside) else "passed"
        said.append(
            f"{what}: bar of {bar:.0%} {verdict}: {len(errors) - len(outside)} of {len(errors)} runs within it, median "
            f"error {np.median(errors):.0%}, largest {errors.max():.0%}"
        )
        if len(outside):
            said[-1] += f"; outside: {', '.join(frame['run'][line] for line in outside.index)}"
        shared = int(frame["memory_measured"].isna().sum()) if column == "memory_error" else 0
        if shared:
            said[-1] += f"; {shared} not compared, their process had run other rows before"
        unknown = len(frame) - len(errors) - shared
        if unknown:
            said[-1] += f"; {unknown} without anything to calibrate from"
    for column, bar, what in (
        ("memory_error_by_other_rows", MEMORY_BAR, "peak memory"),
        ("seconds_error_by_other_rows", TIME_BAR, "time"),
    ):
        errors = frame[column].astype(float).dropna().abs()
        if len(errors):
            said.append(
                f"{what} foreseen from other rows alone: {int((errors <= bar).sum())} of {len(errors)} runs within "
                f"{bar:.0%}, median error {np.median(errors):.0%}, largest {errors.max():.0%}"
            )
    return said
