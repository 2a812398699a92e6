"""Finished runs as the planner's measurements: what they needed, step by step, and where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from meta_spliceai.errors import InputError, IntegrityError, RunError
from meta_spliceai.experiments.plan.data_facts import Parts
from meta_spliceai.experiments.plan.demand import ToCompute, is_frozen
from meta_spliceai.experiments.plan.gpu_prices import Market
from meta_spliceai.experiments.plan.machines import CPU
from meta_spliceai.experiments.plan.run_work import FEATURES, FEATURES_FOUND, FOUND
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace

OUT_OF_MEMORY = "out of memory"
"""How the reason of a run begins that did not fit."""


@dataclass(frozen=True)
class Measured:
    """A finished run.

    Attributes:
        device: the card's name as the driver gives it, or the processor with its number of threads.
        memory_total: of the computer; 0 where unknown.
        peak_bytes: of the card, or of the process.
        own_peak: whether the peak is the row's own: on a processor it is not where the process had run others before.
        epochs: epochs trained by each model.
        parts: rows trained on and tested, as they were.
        scored: variants whose base scores were computed in the run; None where that was not written down.
        baselines: whether baselines that learn were computed; None where that was not written down.
        embedded: share of a frozen encoder's features that were computed in the run; 1 where there is none; None where
            that was not written down.
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
    scored: int | None
    baselines: bool | None
    embedded: float | None
    code: str
    at: str

    @property
    def total_seconds(self) -> float:
        """All steps together."""
        return sum(self.seconds.values())

    @property
    def computed(self) -> ToCompute:
        """What it did not find in a cache, as far as that was written down."""
        features = 1.0 if self.embedded is None else self.embedded
        return ToCompute(self.scored, self.baselines is not False, features)

    @property
    def epoch_share(self) -> float | None:
        """Epochs trained of those allowed, over all models; None where nothing was trained by epochs."""
        return sum(self.epochs) / (self.spec.training.epochs * len(self.epochs)) if self.epochs else None

    @property
    def not_compared(self) -> frozenset[str]:
        """Steps whose work is not known: reading data, which a process does once for all its rows, and what may have
        been found in a cache where it was not written down whether it was."""
        left = {"data"}
        if self.scored is None:
            left.add("base scores")
        if self.baselines is None:
            left |= {"baselines", "evaluation"}  # they were measured as one
        if self.embedded is None:
            left.add("training")  # the features are in it
        return frozenset(left)


def device_key(environment: dict[str, Any], device: str) -> str:
    """A name under which runs of equal speed are put together."""
    if device != CPU:
        return device
    return f"{environment.get('cpu', 'unknown processor')}, {environment.get('torch_threads', 1)} threads"


def measured_runs(workspaces: Iterable[Workspace]) -> list[Measured]:
    """Every finished run that is no smoke run, of all folders; one run is counted once."""
    found: dict[str, Measured] = {}
    for workspace in workspaces:
        for run in workspace.runs():
            if run.name in found:
                continue
            measured = _read(run)
            if measured is not None:
                found[run.name] = measured
    return list(found.values())


def _read(run: RunDirectory) -> Measured | None:
    record = run.record()
    if record.get("state") != "finished" or record.get("smoke") or "seconds_by_step" not in record:
        return None
    try:
        spec, environment, data = run.spec(), run.environment(), run.data()
    except (InputError, IntegrityError, RunError):
        return None  # of an earlier version, or damaged: `meta-spliceai runs list` says so
    training = record.get("training") or {}
    if training.get("side_by_side"):
        return None  # its folds shared the machine: neither its seconds nor its memory are the row's own
    reports = training.get("folds") or ([training] if "epochs_run" in training else [])
    folds = tuple((int(report["train_rows"]), int(report["val_rows"])) for report in reports)
    if "fusions" in training:
        folds = tuple((int(card["classes"]["rows"]), 0) for card in training["fusions"])
    cuda = record.get("device") != CPU
    peak = record.get("peak_gpu_memory_bytes") if cuda else record.get("peak_memory_bytes")
    if not peak:
        return None
    tested = int(data.get("split", {}).get("parts", {}).get("test", {}).get("variants", 0))
    networks = [data.get("base", {}), *data.get("beside", [])]
    scored = [network.get("scored") for network in networks]
    zero = record.get("baselines_computed")
    rows = int(data["n_variants"])
    parts = Parts(
        rows=rows,
        folds=folds,
        tested=tested,
        neighbourhoods=0,
        spread=0,
        source=f"{rows:,} variants of run {run.name}",
        exact=True,
    )
    frozen = frozen_work(reports)
    seconds = _steps(record["seconds_by_step"], not any(scored), frozen)
    return Measured(
        run=run.name,
        spec=spec,
        device=device_key(environment, str(record["device"])),
        cuda=cuda,
        threads=int(environment.get("torch_threads") or 1),
        memory_total=int(environment.get("memory_bytes") or 0),
        peak_bytes=int(peak),
        own_peak=cuda or not record.get("rows_before"),  # older runs do not say, and count
        seconds=seconds,
        epochs=tuple(int(report["epochs_run"]) for report in reports),
        parts=parts,
        scored=None if None in scored else max(scored),
        baselines=None if zero is None else bool(zero),
        embedded=1.0 if not is_frozen(spec) else None if frozen is None else frozen.computed,
        code=str(record.get("code", "")),
        at=str(record.get("finished", "")),
    )


class FrozenWork(NamedTuple):
    """A frozen encoder's features in a run: share computed in it, and seconds for all of them."""

    computed: float
    seconds: float


def frozen_work(reports: Sequence[dict[str, Any]]) -> FrozenWork | None:
    """What a run's models say of a frozen encoder's features, all folds together: they need the same ones, so those
    that one fold computes the next ones find. None where nothing was written down, or only for the part of a run after
    an interruption."""
    each = [report["features"] for report in reports if report.get("features") and report.get("resumed_from") is None]
    if not reports or len(each) < len(reports):
        return None
    computed = sum(float(one["computed"]) / max(1, one["sequences"]) for one in each)
    return FrozenWork(min(1.0, computed), sum(float(one["seconds"]) for one in each))


def _steps(seconds: dict[str, float], scores_found: bool, frozen: FrozenWork | None) -> dict[str, float]:
    """Seconds by step as the planner names steps."""
    named = {step: float(value) for step, value in seconds.items()}
    if scores_found and "base scores" in named:
        named[FOUND] = named.pop("base scores")
    if frozen is not None and "training" in named:
        named["training"] -= frozen.seconds
        named[FEATURES if frozen.computed else FEATURES_FOUND] = frozen.seconds
    return named


class OutOfMemory(NamedTuple):
    """A run that did not fit: its row, its name, why in its own words, and the batch it was run with."""

    row: str
    run: str
    reason: str
    batch_size: int


def out_of_memory(workspaces: Sequence[Workspace]) -> dict[str, OutOfMemory]:
    """For each row the latest run that ran out of memory, unless a later one of the same row was finished."""
    latest: dict[str, tuple[str, RunDirectory]] = {}
    for run in (one for workspace in workspaces for one in workspace.runs()):
        record = run.record()
        failed = record.get("state") == "failed" and OUT_OF_MEMORY in str(record.get("reason", ""))
        at = str(record.get("changed_at", ""))
        if record.get("smoke") or not (failed or record.get("state") == "finished"):
            continue
        if at >= latest.get(run.row_id, ("",))[0]:
            latest[run.row_id] = (at, run)
    found = {}
    for row, (_, run) in latest.items():
        if run.record()["state"] == "failed":
            try:
                batch = run.spec().training.batch_size
            except (InputError, RunError):
                continue
            found[row] = OutOfMemory(row, run.name, str(run.record()["reason"]), batch)
    return found


def workspaces_of(workspace: Workspace, ledgers: Sequence[Path]) -> list[Workspace]:
    """The folder of runs, and further ones that are only read."""
    return [workspace, *(Workspace(path) for path in (*workspace.ledgers, *ledgers) if path.is_dir())]


def known_card(market: Market, device: str) -> str:
    """A card's name in plans; the device's own where it is none that is described."""
    gpu = market.known(device)
    return device if gpu is None else gpu.name
