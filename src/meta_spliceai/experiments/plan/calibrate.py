"""Calibration of the planner from finished runs: what they needed, by step and device, and the resulting corrections.

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
from typing import Any, Literal, NamedTuple

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.experiments.plan.demand import ToCompute, is_frozen
from meta_spliceai.experiments.plan.run_work import CPU, FEATURES, FEATURES_FOUND, FOUND, Parts
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.run_record import RunRecord
from meta_spliceai.experiments.store.workspace import Workspace

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
        """The key by which a row's measurements on a device are comparable."""
        fields = spec.identity()
        fields["training"].pop("seed")
        tuned = ", fine-tuned" if spec.encoder.settings.get("freeze_encoder") is False else ""
        trained = spec.procedure in ("single", "cross-validation")
        family = spec.encoder.name + tuned if trained else spec.procedure
        return cls(device, family, spec.data.name, json.dumps(fields, sort_keys=True))


@dataclass(frozen=True)
class Point:
    """A finished run with its estimate.

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
