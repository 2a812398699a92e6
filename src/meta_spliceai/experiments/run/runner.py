"""Turns a row into a run directory: prepare, train, evaluate, record."""

from __future__ import annotations

import os
import pkgutil
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import torch

from meta_spliceai.datasets import Loaded
from meta_spliceai.errors import MetaSpliceAIError, RunError
from meta_spliceai.experiments.run.build import require_encoder_weights
from meta_spliceai.experiments.run.callback import Callback, ProgressFile
from meta_spliceai.experiments.run.evaluate_run import evaluate_run
from meta_spliceai.experiments.run.evidence import EVIDENCE
from meta_spliceai.experiments.run.prepare import Clock, Prepared, Trained, Work, load_rows_of, prepare
from meta_spliceai.experiments.run.record import describe_data, record_result, write_all_predictions, write_splits
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, Procedure
from meta_spliceai.experiments.spec.parts import missing_parts, offered_parts
from meta_spliceai.experiments.spec.rows import check_members, member_of
from meta_spliceai.experiments.store.address import code_version, describe_environment, mark_stale_runs, run_name
from meta_spliceai.experiments.store.workspace import (
    CHECKPOINTS,
    RunDirectory,
    State,
    Workspace,
    disk_error,
    now,
    what_to_do,
)
from meta_spliceai.splice_engine.meta_layer.features import choose_device, is_out_of_memory, peak_memory, reset_peak

Rows = dict[str, ExperimentSpec]

_HERE = "meta_spliceai.experiments.run"
PROCEDURES: dict[Procedure, str] = {
    "single": f"{_HERE}.procedures:train_single",
    "cross-validation": f"{_HERE}.procedures:train_folds",
    "ensemble": f"{_HERE}.procedures:train_ensemble",
    "fusion": f"{_HERE}.fuse:fuse",
}
"""How a result comes about: one model, one for each fold, finished rows combined, or base networks fused. Each is
loaded when a row needs it, with what it alone uses; an ensemble runs its members in turn, as the runner does."""

_begun: list[str] = []
"""Runs that this process has begun to compute: on a processor the peak of a later one is that of all of them."""

TOLD = ("seconds", "dollars", "device", "peak_memory_bytes", "peak_gpu_memory_bytes", "parameters", "weights_origin")
"""What a callback is told of a finished run's record."""


@dataclass(frozen=True)
class Outcome:
    """What became of a row.

    Attributes:
        spec: the row as it was run.
        run: its folder; None where the row failed before its folder was known (no data, a missing part).
        reused: the run was finished before and nothing was computed.
        error: why it failed or was stopped; None for a finished run.
        stopped: it was stopped at the time limit, and its run goes on with --resume.
    """

    spec: ExperimentSpec
    run: RunDirectory | None
    reused: bool = False
    error: MetaSpliceAIError | None = None
    stopped: bool = False

    @property
    def failed(self) -> bool:
        return self.error is not None

    @property
    def state(self) -> Literal["finished", "left", "failed"]:
        """`left` was stopped at the time limit: the same command goes on with it."""
        if self.error is None:
            return "finished"
        return "left" if self.stopped else "failed"


def run_experiment(
    spec: ExperimentSpec,
    workspace: Workspace,
    device: str = "auto",
    resume: bool = False,
    *,
    fresh: bool = False,
    rows: Rows | None = None,
    callback: Callback | None = None,
    price_per_hour: float | None = None,
) -> Outcome:
    """Run one row, or return its result where it has been run before.

    Args:
        resume: go on with an interrupted or failed run from its last whole epoch.
        fresh: throw an unfinished run away and start over.
        rows: the catalogue (members of ensembles; whether the row is run as it stands there).
        price_per_hour: dollars an hour of a rented machine; the record then says what the run cost.

    Raises:
        RunError: a part is missing; another process works on the run; the run is unfinished and neither `resume` nor
            `fresh` was asked for; training went wrong.
        InputError, MissingResourceError, IntegrityError: data or weights that cannot be used.
        KeyboardInterrupt: the user stopped it; what is done is kept and the run is marked interrupted.
    """
    callback = callback or Callback()
    rows = rows or {}
    check_members(spec, rows, f"row '{spec.id}'")
    _check_parts(spec, rows)
    if not any(run.row_id == spec.id for run in workspace.own_runs()):
        workspace.require_writable()
    target_device = str(choose_device(device))
    clock = Clock()
    with clock("data"), callback.stage(f"data set {spec.data.name}"):
        loaded = load_rows_of(spec.data)
    run = workspace.run(run_name(spec, loaded.digest, code_version()))
    for old, reason in mark_stale_runs(workspace, spec, loaded.digest, code_version()):
        callback.say(f"{old.name} is stale: {reason}")
    if run.state() == "finished":
        callback.say(f"{run.name} is finished already; nothing is computed again")
        begun, here = run.record().get("threads"), torch.get_num_threads()
        if target_device == "cpu" and begun not in (None, here):
            rounded = "made anew, its numbers would differ by rounding (weights by about 1e-5)"
            callback.say(f"it was made with {begun} threads and here are {here}: {rounded}")
        return Outcome(spec, run, reused=True)
    # Only now where the row has run here before: a result is read from a folder that only others may write to.
    workspace.require_writable()
    _require_weights(spec, workspace, rows)
    with run.taken():
        _begin(run, spec, resume, fresh, callback)
        file = ProgressFile(callback, run, price_per_hour)
        work = Work(run, spec, rows, workspace, target_device, resume, file, clock, price_per_hour)
        with _threads_of(run, callback):
            facts = {"run": run.name, "path": str(run.path), "row": spec.id, "seed": spec.seed}
            file.tell("run", {**facts, "spec": spec.identity()})
            try:
                with _states(work, file):
                    _compute(work, loaded)
            finally:
                file.close()
                callback.say(f"run directory: {run.path}")
    return Outcome(spec, run)


def place_of(spec: ExperimentSpec, workspace: Workspace, rows: Rows) -> tuple[RunDirectory, Loaded]:
    """Where a row's run is, or would be, and its data set; a RunError where the row misses a part."""
    _check_parts(spec, rows)
    loaded = load_rows_of(spec.data)
    return workspace.run(run_name(spec, loaded.digest, code_version())), loaded


def _check_parts(spec: ExperimentSpec, rows: Rows) -> None:
    offered = offered_parts()
    missing = missing_parts(spec, rows, offered)
    if missing:
        kinds = [kind for kind in offered if any(part.startswith(f"{kind} '") for part in missing)]
        there = "; ".join(f"{kind}: {', '.join(offered[kind])}" for kind in kinds)
        raise RunError(f"row '{spec.id}' cannot run: missing {', '.join(missing)} (at hand: {there})")


def _require_weights(spec: ExperimentSpec, workspace: Workspace, rows: Rows) -> None:
    """Encoder weights of a row, or of those members of an ensemble that were never finished here."""
    if spec.ensemble is None:
        require_encoder_weights(spec)
        return
    finished = {run.row_id for run in workspace.runs() if run.state() == "finished"}
    for row_id in spec.ensemble.members:
        if row_id not in finished:
            _require_weights(member_of(spec, row_id, rows), workspace, rows)


def _begin(run: RunDirectory, spec: ExperimentSpec, resume: bool, fresh: bool, callback: Callback) -> None:
    """Make the folder ready; an unfinished run is neither overwritten nor continued unasked."""
    record = run.record()
    state = record.get("state", "new")  # The lock is ours, so "running" means that its process is gone.
    if state == "damaged" and not fresh:
        raise RunError(f"run {run.name}: {record['reason']}")
    if fresh and state != "new":
        run.empty()
        record = {}
    elif state in ("running", "interrupted") and not resume:
        why = record.get("reason") or "the process ended without a word"
        raise RunError(f"run {run.name} was interrupted ({why}): go on with --resume, or start over with --fresh")
    elif state in ("running", "interrupted", "failed"):
        callback.say(f"going on with {run.name}")
    run.write_yaml("spec.yaml", spec.model_dump(mode="json"))
    threads = record.get("threads") or torch.get_num_threads()
    run.write_json("environment.json", {**describe_environment(), "torch_threads": threads})
    row: dict[str, Any] = {"row": spec.id, "title": spec.title, "smoke": spec.smoke, "seed": spec.seed}
    run.mark("running", **row, pid=os.getpid(), threads=threads, started=record.get("started") or now())


@contextmanager
def _threads_of(run: RunDirectory, callback: Callback) -> Iterator[None]:
    """The block on as many threads as the run was begun with: another number sums in another order, and a run that was
    interrupted would end with other numbers than one that was not."""
    begun, at_work = run.record()["threads"], torch.get_num_threads()
    if begun != at_work:
        callback.say(f"going on with {begun} threads, as the run was begun, and not {at_work}")
        torch.set_num_threads(begun)
    try:
        yield
    finally:
        if begun != at_work:
            torch.set_num_threads(at_work)


@contextmanager
def _states(work: Work, progress: ProgressFile) -> Iterator[None]:
    """Whatever ends the work leaves a state with its reason, in the folder and in the ledger."""
    run, spec = work.run, work.spec

    def end(state: State, reason: str) -> None:
        progress.close()
        # On a disk that is full or gone, the error itself goes on its way; a run whose process is gone counts as
        # interrupted.
        with suppress(OSError, RunError):
            run.require_there()
            run.mark(state, reason)
            facts = {"run": run.name, "row": spec.id, "smoke": spec.smoke, "seed": spec.seed}
            work.workspace.ledger.append({"event": state, **facts, "reason": reason})
        progress.tell("end", {"state": state, "reason": reason})

    try:
        yield
    except KeyboardInterrupt as stopped:
        # Who stops a run for another reason (a time limit, a signal) says so in the exception.
        end("interrupted", str(stopped) or "stopped by the user")
        raise
    except Exception as error:
        reason, raised = _failure(run, error)
        end("failed", reason)
        if raised is error:
            raise
        raise raised from error


def _failure(run: RunDirectory, error: Exception) -> tuple[str, Exception]:
    try:
        run.require_there()
    except RunError as gone:
        return str(gone), gone
    disk = error if isinstance(error, OSError) else disk_error(error)
    if disk is not None:
        what = f"{disk.strerror or disk}: {disk.filename or run.path}"
        what = str(error) if isinstance(error, MetaSpliceAIError) else what
        return what, RunError(f"run {run.name}: {what}; {what_to_do(disk)}")
    if isinstance(error, MetaSpliceAIError):
        return str(error), error
    if is_out_of_memory(error):
        hint = "use fewer variants (--limit) or a smaller window"
        return "out of memory", RunError(f"run {run.name}: out of memory; {hint}")
    return f"{type(error).__name__}: {error}", error


def _compute(work: Work, loaded: Loaded) -> None:
    run, spec, callback = work.run, work.spec, work.callback
    rows_before = len(_begun)
    _begun.append(run.name)
    processor, device = choose_device("cpu"), choose_device(work.device)
    reset_peak(processor)
    prepared = prepare(spec, loaded, work.device, callback, work.clock)
    run.write_json("data.json", describe_data(spec, prepared))
    write_splits(run, spec, prepared)
    peak = peak_memory(processor)  # training resets the process's peak
    train: Callable[[Work, Prepared], Trained] = pkgutil.resolve_name(PROCEDURES[spec.procedure])
    trained = train(work, prepared)
    run.write_frame("curves.parquet", trained.curves)
    write_all_predictions(run, trained)
    with callback.stage("evaluation"):
        evaluated = evaluate_run(spec, prepared, trained, work.clock)
    run.write_frame("predictions.parquet", evaluated.predictions)
    run.write_json("metrics.json", evaluated.evaluation.to_json())
    run.write_json(EVIDENCE, evaluated.evidence)
    peak, on_card = max(peak, peak_memory(processor)), None
    if device.type == "cuda":
        on_card = max(trained.peak_memory_bytes, peak_memory(device))
    else:
        peak = max(peak, trained.peak_memory_bytes)
    peaks = {"peak_memory_bytes": peak, "peak_gpu_memory_bytes": on_card, "rows_before": rows_before}
    facts = record_result(work, prepared, trained, evaluated, peaks)
    # Only now: a process that dies while it records finds its training again.
    shutil.rmtree(run.path / CHECKPOINTS, ignore_errors=True)
    told = {key: facts[key] for key in TOLD}
    callback.tell("end", {"state": "finished", "reason": "", **told, "metrics": evaluated.evaluation.to_json()})
