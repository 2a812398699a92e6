"""Finished runs as the planner's measurements: what they needed, step by step, and where."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.experiments.plan.data_facts import Parts
from meta_spliceai.experiments.plan.demand import ToCompute, is_frozen
from meta_spliceai.experiments.plan.machines import CPU
from meta_spliceai.experiments.plan.run_work import FEATURES, FEATURES_FOUND, FOUND
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.run_record import RunRecord
from meta_spliceai.experiments.store.workspace import Workspace

OUT_OF_MEMORY = "out of memory"  # how the reason of a run begins that did not fit


@dataclass(frozen=True)
class Measured:
    """A finished run.

    Attributes:
        device: the card's name as the driver gives it, or the processor with its number of threads.
        memory_total: of the computer; 0 where unknown.
        peak_bytes: of the card, or of the process.
        own_peak: whether the peak is the row's own: on a processor it is not where the process had run others before.
        seconds: by step, as the planner names steps.
        epochs: epochs trained by each model.
        parts: rows trained on and tested, as they were.
        computed: what it did not find in a cache.
        embedding_known: whether `computed.features` was written down.
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
    epochs: tuple[int, ...]
    parts: Parts
    computed: ToCompute
    embedding_known: bool
    code: str
    at: str

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values())

    @property
    def epoch_share(self) -> float | None:
        """Epochs trained of those allowed, over all models; None where nothing was trained by epochs."""
        return sum(self.epochs) / (self.spec.training.epochs * len(self.epochs)) if self.epochs else None

    @property
    def not_compared(self) -> set[str]:
        """Steps whose work is not known: reading data, which a process does once for all its rows, and training where
        a frozen encoder's features are in it and nobody wrote down how many were found."""
        return {"data"} if self.embedding_known else {"data", "training"}


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
        epochs=tuple(int(report["epochs_run"]) for report in reports),
        parts=Parts(rows, folds, tested, 0, 0, f"{rows:,} variants of run {record.name}", True),
        computed=ToCompute(scored, bool(info["baselines_computed"]), embedded if is_frozen(spec) else 1.0),
        embedding_known=frozen is not None or not is_frozen(spec),
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
