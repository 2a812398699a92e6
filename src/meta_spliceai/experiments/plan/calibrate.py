"""What finished runs say about the planner's estimates: what they needed, step by step and where, and by how much to
correct the estimates.

Time is corrected step by step with a factor, memory on a card with a factor, memory of a process with a sum: there most
of the peak is an interpreter and its libraries. Runs of the same row settle the matter; without them runs of the same
kind of model on the same data count, then of the same kind of model, then all of the device, each drawn towards the
next wider circle as if that were one more measurement.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pandas as pd

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.experiments.plan.data_facts import Parts
from meta_spliceai.experiments.plan.demand import Demand, ToCompute, is_frozen
from meta_spliceai.experiments.plan.run_work import CPU, FEATURES, FEATURES_FOUND, FOUND
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.run_record import RunRecord
from meta_spliceai.experiments.store.workspace import Workspace

if TYPE_CHECKING:
    from meta_spliceai.experiments.plan.planner import Planner

Basis = Literal["estimate", "calibrated", "measured"]

TRAINED_STEPS = (FEATURES, "training", "predicting")
"""Steps whose speed depends on the kind of model; that of the others depends on the data."""

OUT_OF_MEMORY = "out of memory"  # how the reason of a run begins that did not fit


class Kind(NamedTuple):
    """What makes measurements alike: device, kind of model, data set, and all that decides a result but the seed."""

    device: str
    family: str
    data: str
    row: str

    @classmethod
    def of(cls, spec: ExperimentSpec, device: str) -> Kind:
        """What a row's measurements on a device are alike in."""
        fields = spec.identity()
        fields["training"].pop("seed")
        tuned = ", fine-tuned" if spec.encoder.settings.get("freeze_encoder") is False else ""
        trained = spec.procedure in ("single", "cross-validation")
        family = spec.encoder.name + tuned if trained else spec.procedure
        return cls(device, family, spec.data.name, json.dumps(fields, sort_keys=True))


@dataclass(frozen=True)
class Point:
    """A finished run beside its estimate.

    Attributes:
        kind: what it is a measurement of.
        memory: bytes, (estimated, measured); None where not measured.
        steps: for each step, seconds (estimated, measured).
        epoch_share: epochs trained of those allowed; None where training does not stop early.
    """

    run: str
    kind: Kind
    memory: tuple[float, float] | None
    steps: dict[str, tuple[float, float]]
    epoch_share: float | None


class Calibrated(NamedTuple):
    """A number (bytes, seconds or a share): "measured" where runs of the same row decided; on what it rests, in words;
    how many runs that are."""

    value: float
    basis: Basis = "estimate"
    rests_on: str = ""
    sources: int = 0


@dataclass(frozen=True)
class Calibration:
    """All measurements."""

    points: tuple[Point, ...] = ()

    def without(self, run: str) -> Calibration:
        """As if one run had not been: for an honest look at the error."""
        return Calibration(tuple(point for point in self.points if point.run != run))

    def without_row(self, kind: Kind) -> Calibration:
        """As if a row had never been run, with any seed."""
        return Calibration(tuple(point for point in self.points if point.kind.row != kind.row))

    def memory(self, kind: Kind, estimate: float, cuda: bool) -> Calibrated:
        """Peak memory: corrected by a factor on a card, by a sum in a process."""
        known = [(p, p.memory) for p in self.points if p.memory is not None and p.kind.device == kind.device]
        if cuda:
            logs = [(p, math.log(measured / planned)) for p, (planned, measured) in known]
            return _nearest(kind, logs, True, lambda log: estimate * math.exp(log))
        sums = [(p, measured - planned) for p, (planned, measured) in known]
        return _nearest(kind, sums, True, lambda more: estimate + more)

    def step(self, kind: Kind, step: str, estimate: float) -> Calibrated:
        """Seconds of one step."""
        near = [p for p in self.points if p.kind.device == kind.device and min(p.steps.get(step, (0, 0))) > 0]
        logs = [(p, math.log(p.steps[step][1] / p.steps[step][0])) for p in near]
        return _nearest(kind, logs, step in TRAINED_STEPS, lambda log: estimate * math.exp(log))

    def epochs(self, kind: Kind) -> Calibrated:
        """Share of the allowed epochs after which training stops by itself, on any device; 1 where nothing is known."""
        known = [(p, p.epoch_share) for p in self.points if p.epoch_share]
        return _nearest(kind, known, True, float) if known else Calibrated(1.0)


def _nearest(kind: Kind, off: list[tuple[Point, float]], by_model: bool, apply: Callable[[float], float]) -> Calibrated:
    """A number corrected by the nearest runs, drawn towards the wider circles.

    Args:
        kind: of the row.
        off: runs, and by how much each says its estimate was off.
        by_model: whether the kind of model matters.
        apply: the number corrected by so much; by 0 where there are no runs.
    """
    model = [one for one in off if not by_model or one[0].kind.family == kind.family]
    of = f" of {kind.family}" if by_model else ""
    circles = (
        (off, " on this device"),
        (model, of or " on this device"),
        ([one for one in model if one[0].kind.data == kind.data], f"{of} on {kind.data}"),
        ([one for one in off if one[0].kind.row == kind.row], " of this row"),
    )
    corrected, found = None, Calibrated(apply(0.0))
    for circle, words in circles:
        if not circle:
            continue
        same, count = words == " of this row", len(circle)
        middle = statistics.median(value for _, value in circle)
        corrected = middle if same or corrected is None else (count * middle + corrected) / (count + 1)
        rests_on = f"{count} run{'' if count == 1 else 's'}{words}"
        found = Calibrated(apply(corrected), "measured" if same else "calibrated", rests_on, count)
    return found


@dataclass(frozen=True)
class Measured:
    """A finished run.

    Attributes:
        device: the card's name as the driver gives it, or the processor with its number of threads.
        memory_total: of the computer; 0 where unknown.
        peak_bytes: of the card, or of the process.
        own_peak: whether the peak is the row's own: on a processor it is not where the process had run others before.
        seconds: by step, as the planner names steps.
        epoch_share: epochs trained of those allowed, over all models; None where nothing was trained by epochs.
        parts: rows trained on and tested, as they were.
        computed: what it did not find in a cache.
        not_compared: steps whose work is not known: reading data, which a process does once for all its rows, and
            training where a frozen encoder's features are in it and nobody wrote down how many were found.
    """

    run: str
    spec: ExperimentSpec
    device: str
    cuda: bool
    threads: int
    memory_total: int
    peak_bytes: int
    own_peak: bool
    seconds: dict[str, float]
    epoch_share: float | None
    parts: Parts
    computed: ToCompute
    not_compared: frozenset[str]
    code: str
    at: str

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values())


def device_key(environment: dict[str, Any], device: str) -> str:
    """A name under which runs of equal speed are put together."""
    if device != CPU:
        return device
    return f"{environment.get('cpu', 'unknown processor')}, {environment.get('torch_threads', 1)} threads"


def measured_runs(workspace: Workspace) -> list[Measured]:
    """Every finished run of a folder and of its ledgers that is no smoke run and measured alone."""
    found = []
    for run in workspace.runs():
        with suppress(InputError, RunError, KeyError):  # damaged or of another version: `runs list` says so
            found.append(_read(RunRecord(run), run.spec()))
    return [run for run in found if run is not None]


def _read(record: RunRecord, spec: ExperimentSpec) -> Measured | None:
    info, data, environment = record.info, record.data, record.environment
    training = info.get("training") or {}
    cuda = info.get("device") != CPU
    peak = info.get("peak_gpu_memory_bytes" if cuda else "peak_memory_bytes")
    if info.get("state") != "finished" or info.get("smoke") or not peak:
        return None
    if training.get("side_by_side"):
        return None  # its folds shared the machine: neither its seconds nor its memory are the row's own
    reports = training.get("folds") or ([training] if "epochs_run" in training else [])
    folds = tuple((int(report["train_rows"]), int(report["val_rows"])) for report in reports)
    if "fusions" in training:
        folds = tuple((int(card["classes"]["rows"]), 0) for card in training["fusions"])
    rows, tested = int(data["n_variants"]), int(data["split"]["parts"].get("test", {}).get("variants", 0))
    scored = max(int(network["scored"]) for network in (data["base"], *data.get("beside", [])))
    seconds = {step: float(value) for step, value in info["seconds_by_step"].items()}
    if not scored and "base scores" in seconds:
        seconds[FOUND] = seconds.pop("base scores")
    frozen, embedded = _frozen_work(reports), 1.0
    if frozen is not None and "training" in seconds:
        embedded, took = frozen
        seconds["training"] -= took
        seconds[FEATURES if embedded else FEATURES_FOUND] = took
    unknown = frozen is None and is_frozen(spec)
    epochs = [int(report["epochs_run"]) for report in reports]
    return Measured(
        run=record.name,
        spec=spec,
        device=device_key(environment, str(info["device"])),
        cuda=cuda,
        threads=int(environment.get("torch_threads") or 1),
        memory_total=int(environment.get("memory_bytes") or 0),
        peak_bytes=int(peak),
        own_peak=cuda or not info.get("rows_before"),
        seconds=seconds,
        epoch_share=sum(epochs) / (spec.training.epochs * len(epochs)) if epochs else None,
        parts=Parts(rows, folds, tested),
        computed=ToCompute(scored, bool(info["baselines_computed"]), embedded if is_frozen(spec) else 1.0),
        not_compared=frozenset({"data", "training"} if unknown else {"data"}),
        code=str(info.get("code", "")),
        at=str(info.get("finished", "")),
    )


def _frozen_work(reports: Sequence[dict[str, Any]]) -> tuple[float, float] | None:
    """The share of a frozen encoder's features that a run computed, and seconds for all of them; folds need the same
    ones, so those that one computes the next ones find. None where nothing was written down, or only for the part of
    a run after an interruption."""
    each = [report["features"] for report in reports if report.get("features") and report.get("resumed_from") is None]
    if not reports or len(each) < len(reports):
        return None
    computed = sum(float(one["computed"]) / max(1, one["sequences"]) for one in each)
    return min(1.0, computed), sum(float(one["seconds"]) for one in each)


def out_of_memory(workspace: Workspace) -> dict[str, str]:
    """For each row whose latest run ran out of memory, and was not finished later, what that run said."""
    latest: dict[str, tuple[str, str]] = {}
    for run in workspace.runs():
        record, reason = run.record(), run.reason()
        failed = record.get("state") == "failed" and OUT_OF_MEMORY in reason
        if not record.get("smoke") and (failed or record.get("state") == "finished"):
            said = (str(record.get("changed_at", "")), f"run {run.name}: {reason}" if failed else "")
            latest[run.row_id] = max(latest.get(run.row_id, ("", "")), said, key=lambda one: one[0])
    return {row: said for row, (_, said) in latest.items() if said}


MEMORY_BAR, TIME_BAR = 0.15, 0.25  # relative errors within which a calibrated prediction counts as good

COLUMNS = (
    *("run", "row", "family", "device", "memory_measured", "memory_estimate", "memory_calibrated"),
    *("seconds_measured", "seconds_estimate", "seconds_calibrated", "memory_error", "seconds_error"),
    *("memory_error_by_other_rows", "seconds_error_by_other_rows"),
    *("calibrated_on", "memory_rests_on", "seconds_rest_on"),
)


def scatter(planner: Planner) -> pd.DataFrame:
    """Predicted and measured, one row a finished run that the planner looks at. Each is predicted from data sheets and
    assumptions alone ("estimate"), and calibrated on all other runs, itself left out ("calibrated").

    Returns:
        memory_* in bytes of peak memory; seconds_* of all steps that can be compared; *_error relative to the measured
        value, NaN where no other run was there to calibrate from; *_error_by_other_rows: as if the row had never been
        run with any seed; calibrated_on: other runs on the device; memory_rests_on, seconds_rest_on: the nearest of
        them (for time, of the step that is to take longest).
    """
    return pd.DataFrame([_line(planner, run) for run in planner.runs], columns=list(COLUMNS))


def _line(planner: Planner, run: Measured) -> dict[str, Any]:
    point, everything = planner.point(run), planner.calibration(run.cuda)
    kind = point.kind
    others, strangers = everything.without(run.run), everything.without_row(kind)
    line: dict[str, Any] = {"run": run.run, "row": run.spec.id, "family": kind.family, "device": kind.device}
    line["calibrated_on"] = sum(other.kind.device == kind.device for other in others.points)
    if not point.steps and point.memory is None:
        return line  # a card that nobody described
    if point.memory is not None:
        estimate, measured = point.memory
        memory, by_strangers = (known.memory(kind, estimate, run.cuda) for known in (others, strangers))
        line |= {"memory_measured": measured, "memory_estimate": estimate, "memory_calibrated": memory.value}
        line |= {"memory_rests_on": memory.rests_on}
        for column, found in (("memory_error", memory), ("memory_error_by_other_rows", by_strangers)):
            line[column] = found.value / measured - 1 if found.sources else math.nan
    demand = planner.demand_of(run)
    by_other_rows = _seconds(run, point, demand, strangers)["seconds_error"]
    return line | _seconds(run, point, demand, others) | {"seconds_error_by_other_rows": by_other_rows}


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
    said, alone = [], []
    for column, bar, what in (("memory_error", MEMORY_BAR, "peak memory"), ("seconds_error", TIME_BAR, "time")):
        errors = frame.set_index("run")[column].astype(float).dropna().abs()
        outside = list(errors[errors > bar].sort_values(ascending=False).index)
        line = f"{what}: not checked; it takes two finished runs on one device"
        if len(errors):
            line = f"{what}: bar of {bar:.0%} {'not passed' if outside else 'passed'}: {_within(errors, bar)}"
            line += f"; outside: {', '.join(outside)}" if outside else ""
            shared = int(frame["memory_measured"].isna().sum()) if column == "memory_error" else 0
            line += f"; {shared} not compared, their process had run other rows before" if shared else ""
            left = len(frame) - len(errors) - shared
            line += f"; {left} without anything to calibrate from" if left else ""
        said.append(line)
        errors = frame[f"{column}_by_other_rows"].astype(float).dropna().abs()
        alone += [f"{what} predicted from other rows alone: {_within(errors, bar)}"] if len(errors) else []
    return said + alone


def _within(errors: pd.Series, bar: float) -> str:
    inside = int((errors <= bar).sum())
    return (
        f"{inside} of {len(errors)} runs within {bar:.0%}, median error {errors.median():.0%}, "
        f"largest {errors.max():.0%}"
    )
