"""A row becomes a run directory: prepared, trained, evaluated, written down."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch

from meta_spliceai.datasets import Loaded
from meta_spliceai.errors import MetaSpliceAIError, RunError
from meta_spliceai.experiments.board.leaderboard import HEADLINES
from meta_spliceai.experiments.run.callback import Callback, Silent
from meta_spliceai.experiments.run.describe_data import describe_data, digest_of_splits, write_splits
from meta_spliceai.experiments.run.encoder_weights import require_encoder_weights
from meta_spliceai.experiments.run.ensemble import train_ensemble
from meta_spliceai.experiments.run.evaluate_run import RunEvaluation, evaluate_run
from meta_spliceai.experiments.run.evidence import EVIDENCE
from meta_spliceai.experiments.run.fuse import fuse
from meta_spliceai.experiments.run.prepare import Prepared, load_rows_of, prepare
from meta_spliceai.experiments.run.procedures import (
    CHECKPOINTS,
    Clock,
    Job,
    Trained,
    train_fold,
    train_folds,
    train_single,
    write_all_predictions,
)
from meta_spliceai.experiments.run.utilisation import scoring_utilisation
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.spec.parts import missing_parts, offered_parts
from meta_spliceai.experiments.spec.rows import at_scale, check_members, find_row
from meta_spliceai.experiments.spec.smoke import as_smoke
from meta_spliceai.experiments.store.address import code_version, run_name
from meta_spliceai.experiments.store.disk_errors import disk_error, what_to_do
from meta_spliceai.experiments.store.environment import describe_environment
from meta_spliceai.experiments.store.progress_file import ProgressFile
from meta_spliceai.experiments.store.stale import mark_stale_runs
from meta_spliceai.experiments.store.workspace import RunDirectory, State, Workspace, now
from meta_spliceai.splice_engine.meta_layer.peak_memory import is_out_of_memory, peak_memory, reset_peak
from meta_spliceai.splice_engine.meta_layer.window_data import choose_device

PROCEDURES: dict[str, Callable[[Job], Trained]] = {
    "single": train_single,
    "cross-validation": train_folds,
    "ensemble": train_ensemble,
    "fusion": fuse,
}
"""How a result comes about: one model, one for each fold, finished rows combined, or base networks fused."""


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
        error: why it failed; None for a finished run.
    """

    spec: ExperimentSpec
    run: RunDirectory | None
    reused: bool = False
    error: MetaSpliceAIError | None = None

    @property
    def failed(self) -> bool:
        """Whether the row has no result."""
        return self.error is not None


def run_experiment(
    spec: ExperimentSpec,
    workspace: Workspace,
    device: str = "auto",
    resume: bool = False,
    *,
    fresh: bool = False,
    rows: dict[str, ExperimentSpec] | None = None,
    callback: Callback | None = None,
    price_per_hour: float | None = None,
) -> Outcome:
    """Run one row, or return its result where it has been run before.

    Args:
        spec: the row, its seed included.
        workspace: where its folder and the ledger are.
        device: "auto", "cpu" or "cuda".
        resume: go on with an interrupted or failed run from its last whole epoch.
        fresh: throw an unfinished run away and start over.
        rows: the catalogue (members of ensembles; whether the row is run as it stands there).
        callback: told what happens.
        price_per_hour: dollars an hour of a rented machine; the record then says what the run cost.

    Raises:
        RunError: a part is missing; another process works on the run; the run is unfinished and neither `resume` nor
            `fresh` was asked for; training went wrong.
        InputError, MissingResourceError, IntegrityError: data or weights that cannot be used.
        KeyboardInterrupt: the user stopped it; what is done is kept and the run is marked interrupted.
    """
    callback = callback or Silent()
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
        begun, now_at_work = run.record().get("threads"), torch.get_num_threads()
        if target_device == "cpu" and begun not in (None, now_at_work):
            callback.say(
                f"it was made with {begun} threads and here are {now_at_work}: made anew, its numbers would differ by "
                "rounding (weights by about 1e-5)"
            )
        return Outcome(spec, run, reused=True)
    # Only now where the row has run here before: a result is read from a folder that only others may write to.
    workspace.require_writable()
    _require_weights(spec, workspace, rows)
    with run.taken(), ExitStack() as threads:
        _begin(run, spec, resume, fresh, callback)
        threads.enter_context(_threads_of(run, callback))
        callback = file = ProgressFile(callback, run, price_per_hour)
        callback.tell(
            "run", {"run": run.name, "path": str(run.path), "row": spec.id, "seed": spec.seed, "spec": spec.identity()}
        )
        try:
            with _states(run, spec, workspace, file):
                _work(
                    run,
                    spec,
                    loaded,
                    rows,
                    workspace,
                    target_device,
                    resume,
                    callback,
                    clock,
                    price_per_hour=price_per_hour,
                )
        finally:
            file.close()
            callback.say(f"run directory: {run.path}")
    return Outcome(spec, run)


def prepare_for_parts(
    spec: ExperimentSpec,
    workspace: Workspace,
    device: str,
    resume: bool,
    fresh: bool,
    rows: dict[str, ExperimentSpec],
    callback: Callback,
) -> int:
    """Fill the caches that all parts of a run read (base scores), so that parts in parallel do not compute them twice.

    Args:
        spec: the row.
        workspace: where its run is or will be.
        device: "auto", "cpu" or "cuda".
        resume, fresh: see `run_experiment`.
        rows: the catalogue.
        callback: told what happens.

    Returns:
        the number of folds to train by `train_part`; 0 where there are none, the run is finished, or it may not go on
        as it is (the run itself then says why, or throws away what is there).

    Raises:
        as `run_experiment`.
    """
    _check_parts(spec, rows)
    loaded = load_rows_of(spec.data)
    run = workspace.run(run_name(spec, loaded.digest, code_version()))
    state = run.state()
    may_go_on = state == "new" or (state in ("interrupted", "failed") and resume) or (state == "failed" and not fresh)
    if spec.procedure != "cross-validation" or not may_go_on:
        return 0
    require_encoder_weights(spec)
    prepared = prepare(spec, loaded, str(choose_device(device)), callback, Clock())
    return len(prepared.splits)


def train_part(
    spec: ExperimentSpec,
    workspace: Workspace,
    number: int,
    device: str,
    rows: dict[str, ExperimentSpec],
    callback: Callback,
) -> None:
    """Train one fold into its own folder; the run that is begun afterwards finds it finished.

    Args:
        spec: a row with folds.
        workspace: where its run is or will be.
        number: the fold, from 1.
        device: "auto", "cpu" or "cuda".
        rows: the catalogue.
        callback: told what happens.

    Raises:
        RunError: another process trains this fold; training went wrong.
    """
    _check_parts(spec, rows)
    loaded = load_rows_of(spec.data)
    run = workspace.run(run_name(spec, loaded.digest, code_version()))
    target_device, clock = str(choose_device(device)), Clock()
    prepared = prepare(spec, loaded, target_device, callback, clock)

    def no_member(row_id: str) -> RunDirectory:
        raise RunError(f"a fold of '{spec.id}' has no members, and '{row_id}' was asked for")

    train_fold(Job(run, spec, prepared, target_device, True, callback, clock, no_member), number)


def _check_parts(spec: ExperimentSpec, rows: dict[str, ExperimentSpec]) -> None:
    offered = offered_parts()
    missing = missing_parts(spec, rows, offered)
    if missing:
        kinds = [kind for kind in offered if any(part.startswith(f"{kind} '") for part in missing)]
        there = "; ".join(f"{kind}: {', '.join(offered[kind])}" for kind in kinds)
        raise RunError(f"row '{spec.id}' cannot run: missing {', '.join(missing)} (at hand: {there})")


def _require_weights(spec: ExperimentSpec, workspace: Workspace, rows: dict[str, ExperimentSpec]) -> None:
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
    if state in ("running", "interrupted", "failed", "damaged") and fresh:
        for entry in run.path.iterdir():
            if entry.name == "lock":
                continue
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        record = {}
    elif state in ("running", "interrupted") and not resume:
        why = record.get("reason") or "the process ended without a word"
        raise RunError(f"run {run.name} was interrupted ({why}): go on with --resume, or start over with --fresh")
    elif state in ("running", "interrupted", "failed"):
        callback.say(f"going on with {run.name}")
    run.write_yaml("spec.yaml", spec.model_dump(mode="json"))
    threads = record.get("threads") or torch.get_num_threads()
    run.write_json("environment.json", {**describe_environment(), "torch_threads": threads})
    run.mark(
        "running",
        row=spec.id,
        title=spec.title,
        smoke=spec.smoke,
        seed=spec.seed,
        pid=os.getpid(),
        threads=threads,
        started=record.get("started") or now(),
    )


@contextmanager
def _threads_of(run: RunDirectory, callback: Callback) -> Iterator[None]:
    """The block on as many threads as the run was begun with: another number sums in another order, and a run that was
    interrupted would end with other numbers than one that was not."""
    begun, at_work = run.record()["threads"], torch.get_num_threads()
    if begun == at_work:
        yield
        return
    callback.say(f"going on with {begun} threads, as the run was begun, and not {at_work}")
    torch.set_num_threads(begun)
    try:
        yield
    finally:
        torch.set_num_threads(at_work)


@contextmanager
def _states(run: RunDirectory, spec: ExperimentSpec, workspace: Workspace, callback: ProgressFile) -> Iterator[None]:
    """Whatever ends the work leaves a state with its reason, in the folder and in the ledger."""

    def end(state: State, reason: str) -> None:
        callback.close()
        # On a disk that is full or gone, the error itself goes on its way; a run whose process is gone counts as
        # interrupted.
        with suppress(OSError, RunError):
            run.require_there()
            run.mark(state, reason)
            facts = {"run": run.name, "row": spec.id, "smoke": spec.smoke, "seed": spec.seed}
            workspace.ledger.append({"event": state, **facts, "reason": reason})
        callback.tell("end", {"state": state, "reason": reason})

    try:
        yield
    except KeyboardInterrupt as stopped:
        # Who stops a run for another reason (a time limit, a signal) says so in the exception.
        end("interrupted", str(stopped) or "stopped by the user")
        raise
    except Exception as error:
        try:
            run.require_there()
        except RunError as gone:
            end("failed", str(gone))
            raise gone from error
        disk = error if isinstance(error, OSError) else disk_error(error)
        if disk is not None:
            own_words = isinstance(error, MetaSpliceAIError)
            what = str(error) if own_words else f"{disk.strerror or disk}: {disk.filename or run.path}"
            end("failed", what)
            raise RunError(f"run {run.name}: {what}; {what_to_do(disk)}") from error
        if isinstance(error, MetaSpliceAIError):
            end("failed", str(error))
            raise
        if is_out_of_memory(error):
            end("failed", "out of memory")
            hint = "use fewer variants (--limit) or a smaller window"
            raise RunError(f"run {run.name}: out of memory; {hint}") from error
        end("failed", f"{type(error).__name__}: {error}")
        raise


def _work(
    run: RunDirectory,
    spec: ExperimentSpec,
    loaded: Loaded,
    rows: dict[str, ExperimentSpec],
    workspace: Workspace,
    device: str,
    resume: bool,
    callback: Callback,
    clock: Clock,
    price_per_hour: float | None,
) -> None:
    torch_device = choose_device(device)
    rows_before = len(_begun)
    _begun.append(run.name)
    reset_peak(choose_device("cpu"))
    prepared = prepare(spec, loaded, device, callback, clock)
    run.write_json("data.json", describe_data(spec, prepared))
    write_splits(run, spec, prepared)
    # The process's peak is reset by training, so it is read before and after.
    peak = peak_memory(choose_device("cpu"))
    job = Job(
        run, spec, prepared, device, resume, callback, clock, _member_runner(spec, workspace, rows, device, callback)
    )
    trained = PROCEDURES[spec.procedure](job)
    run.write_frame("curves.parquet", trained.curves)
    write_all_predictions(run, trained)
    with callback.stage("evaluation"):
        evaluated = evaluate_run(spec, prepared, trained, clock)
    run.write_frame("predictions.parquet", evaluated.predictions)
    run.write_json("metrics.json", evaluated.evaluation.to_json())
    run.write_json(EVIDENCE, evaluated.evidence)
    peak = max(peak, peak_memory(choose_device("cpu")))
    gpu_peak = None
    if torch_device.type == "cuda":
        gpu_peak = max(trained.peak_memory_bytes, peak_memory(torch_device))
    else:
        peak = max(peak, trained.peak_memory_bytes)
    facts = _conclude(
        run,
        spec,
        rows,
        workspace,
        prepared,
        trained,
        evaluated,
        clock,
        device,
        peak,
        gpu_peak,
        price_per_hour,
        rows_before,
    )
    callback.tell(
        "end",
        {
            "state": "finished",
            "reason": "",
            **{key: facts[key] for key in TOLD},
            "metrics": evaluated.evaluation.to_json(),
        },
    )


def _member_runner(
    spec: ExperimentSpec, workspace: Workspace, rows: dict[str, ExperimentSpec], device: str, callback: Callback
) -> Callable[[str], RunDirectory]:
    """What runs a member of an ensemble: the member's row as it stands, with the ensemble's seed and smallness.

    Where the ensemble's own data, base network or split were changed from the catalogue, the member follows.
    """

    def run_member(row_id: str) -> RunDirectory:
        callback.say(f"member {row_id}")
        member = member_of(spec, row_id, rows)
        outcome = run_experiment(member, workspace, device, resume=True, rows=rows, callback=_Inner(callback))
        if outcome.run is None:
            raise RunError(f"member {row_id} of '{spec.id}' has no result")
        return outcome.run

    return run_member


def member_of(spec: ExperimentSpec, row_id: str, rows: dict[str, ExperimentSpec]) -> ExperimentSpec:
    """A member of an ensemble as it is run for it: with the ensemble's seed and smallness, and with the ensemble's
    data, base network, split or training settings where those were changed from the catalogue.

    Args:
        spec: the ensemble.
        row_id: the member.
        rows: the catalogue.

    Raises:
        InputError: no such row.
    """
    member = find_row(rows, row_id)
    own = rows.get(spec.id)
    member, own = at_scale(member, spec.scale), at_scale(own, spec.scale) if own else None
    if spec.smoke:
        member, own = as_smoke(member), as_smoke(own) if own else None
    changed = {
        block: getattr(spec, block)
        for block in ("data", "base", "split")
        if own is not None and getattr(spec, block) != getattr(own, block)
    }
    trained = {
        field: getattr(spec.training, field)
        for field in type(spec.training).model_fields
        if own is not None and getattr(spec.training, field) != getattr(own.training, field)
    }
    training = member.training.model_copy(update={**trained, "seed": spec.seed})
    return member.model_copy(update={**changed, "training": training})


class _Inner:
    """A callback for a run within a run: lines and steps are shown, the outer run's facts stay the outer run's."""

    def __init__(self, callback: Callback) -> None:
        self.say = callback.say
        self.stage = callback.stage
        self.callback = callback

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        if kind == "training":
            self.callback.tell(kind, facts)


def _conclude(
    run: RunDirectory,
    spec: ExperimentSpec,
    rows: dict[str, ExperimentSpec],
    workspace: Workspace,
    prepared: Prepared,
    trained: Trained,
    evaluated: RunEvaluation,
    clock: Clock,
    device: str,
    peak: int,
    gpu_peak: int | None,
    price_per_hour: float | None,
    rows_before: int,
) -> dict[str, Any]:
    environment = run.environment()
    # Here all peaks have been taken and all steps timed: the device's rate may be measured.
    work = {"training": trained.work, "base scores": scoring_utilisation(prepared.all_scores, device)}
    # A resumed run adds the time of its earlier parts, as far as they were written down.
    facts: dict[str, Any] = {
        "seconds": round(sum(clock.seconds.values()), 3),
        "seconds_by_step": {step: round(seconds, 3) for step, seconds in clock.seconds.items()},
        "cpu_seconds_by_step": {step: round(seconds, 3) for step, seconds in clock.cpu_seconds.items()},
        "baselines_computed": list(evaluated.baselines_computed),
        "price_per_hour": price_per_hour,
        "dollars": None if price_per_hour is None else round(sum(clock.seconds.values()) / 3600 * price_per_hour, 4),
        "device": device if environment["gpu"] is None or device == "cpu" else environment["gpu"]["name"],
        "peak_memory_bytes": peak,
        "peak_gpu_memory_bytes": gpu_peak,
        "rows_before": rows_before,
        "versions": {"python": environment["python"], **environment["packages"]},
        "code": environment["code"],
        "weights_origin": trained.model["weights"],
        "parameters": trained.model["parameters"],
        "model": trained.model,
        "training": trained.training,
        "work": work,
        "licences": [
            *(
                {"name": f"{base.name} weights", "licence": base.licence, "citation": base.citation}
                for base in prepared.networks_used
            ),
            {
                "name": prepared.loaded.dataset.title,
                "licence": prepared.loaded.dataset.licence,
                "citation": prepared.loaded.dataset.citation,
            },
        ],
        "verdicts": evaluated.verdicts,
        "folds": evaluated.folds,
        "task_metrics": evaluated.task,
        "notes": [*prepared.notes, *trained.notes, *evaluated.notes],
        "subset_note": next((note for note in prepared.notes if note.startswith("a subset")), ""),
        "finished": now(),
    }
    metrics = evaluated.evaluation.to_json()["metrics"]
    workspace.ledger.append(
        {
            "event": "finished",
            "run": run.name,
            "row": spec.id,
            "title": spec.title,
            "smoke": spec.smoke,
            "as_wished": spec.id in rows and _same_wish(spec, at_scale(rows[spec.id], spec.scale)),
            "scale": spec.scale,
            "seed": spec.seed,
            "code": facts["code"],
            "commit": environment["commit"],
            "data": {
                "name": prepared.loaded.dataset.name,
                "digest": prepared.loaded.digest,
                "rows": len(prepared.table),
            },
            "split": {"name": spec.split.name, "folds": spec.split.folds, "digest": digest_of_splits(prepared)},
            "test": evaluated.test,
            "device": facts["device"],
            "seconds": facts["seconds"],
            "dollars": facts["dollars"],
            "work": work,
            "peak_memory_bytes": peak,
            "peak_gpu_memory_bytes": gpu_peak,
            "weights_origin": facts["weights_origin"],
            "parameters": facts["parameters"],
            "notes": facts["notes"],
            "verdicts": evaluated.verdicts,
            "folds": evaluated.folds,
            "task_metrics": evaluated.task,
            "metrics": [record for record in metrics if record["metric"] in HEADLINES],
        }
    )
    # The state comes last: a run that says "finished" has everything, its line in the ledger included.
    run.mark("finished", "", **facts)
    # Only now: a process that dies while it concludes finds its training again.
    shutil.rmtree(run.path / CHECKPOINTS, ignore_errors=True)
    return facts


def _same_wish(spec: ExperimentSpec, wished: ExperimentSpec) -> bool:
    """Whether a row was run as it stands in the catalogue, whatever its seed."""

    def settings(row: ExperimentSpec) -> dict[str, Any]:
        identity = row.identity()
        identity["training"].pop("seed")
        # Where a user's own file lies does not make it another row; nor does SpliceVarDB itself, or the open sources
        # in its form, in place of the variants that travel with the package.
        identity["data"].pop("options")
        if identity["data"]["name"] in ("splicevardb", "splicevardb-open"):
            identity["data"]["name"] = "packaged-human"
        return identity

    return settings(spec) == settings(wished)
