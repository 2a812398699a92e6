"""Rows as Slurm jobs, through submitit. Its local and debug executors take the same way, for tests and for a look."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from meta_spliceai.errors import InputError, MissingExtraError, MissingResourceError, unknown_value
from meta_spliceai.experiments.executors.graph import Task, failed_need, make_tasks, next_task, outcomes_of
from meta_spliceai.experiments.executors.messages import Sender
from meta_spliceai.experiments.executors.request import Answer, Request, carry_out
from meta_spliceai.experiments.executors.screen import Screen
from meta_spliceai.experiments.executors.slurm_queue import SlurmQueue
from meta_spliceai.experiments.runner import Outcome

CLUSTERS = ("slurm", "local", "debug")
"""Values of the setting `cluster`: Slurm, processes of this machine, this very process."""

SETTINGS = {
    "cluster": str,
    "timeout_min": int,
    "mem_gb": int,
    "cpus_per_task": int,
    "gpus_per_node": int,
    "partition": str,
    "account": str,
    "qos": str,
    "constraint": str,
    "gres": str,
    "exclude": str,
    "nodelist": str,
    "comment": str,
}
"""What `--slurm KEY=VALUE` takes; submitit's and Slurm's own names."""

COMMON = ("timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node")
LOGS = "slurm"
"""Folder beside the runs for the jobs' scripts and output."""

TIMEOUT_MINUTES = 240
"""Time limit of a job where none is given; submitit's own is five minutes."""

SECONDS_BETWEEN_LOOKS = 2.0


def run_on_slurm(
    requests: Sequence[Request],
    screen: Screen,
    *,
    settings: Sequence[str] = (),
    entry: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> list[Outcome]:
    """Submit rows as jobs and wait for them; an ensemble is submitted when its members are done.

    A job that Slurm stops at its time limit or takes the machine from is submitted again by submitit and goes on from
    its last epoch. A job that is cancelled, dies with its machine or leaves Slurm's queue without an answer is a
    failure that says so; Slurm's accounting is not needed.

    Args:
        requests: the rows. The folder of runs must be one that the nodes see.
        screen: shows what happens.
        settings: `key=value`, see `SETTINGS`.
        entry: what a job does; `run_request` where absent.

    Raises:
        MissingExtraError: submitit is not installed.
        MissingResourceError: there is no Slurm on this machine.
        InputError: an unknown setting or a value of the wrong kind.
        KeyboardInterrupt: the user stopped waiting; jobs that were submitted are cancelled.
    """
    values = parse_settings(settings)
    tasks = make_tasks(requests)
    submit = _executor(tasks, dict(values))
    jobs: dict[str, Any] = {}
    begun: set[str] = set()
    queue = SlurmQueue(screen) if values.get("cluster", "slurm") == "slurm" else None
    try:
        while True:
            while (key := next_task(tasks, begun)) is not None:
                begun.add(key)
                task = tasks[key]
                reason = failed_need(tasks, key)
                if reason is not None:
                    _failed(task, reason, screen)
                    continue
                try:
                    job = submit.submit(Resumable(entry or run_request), task.request.to_json())
                except RuntimeError as error:  # What submitit makes of a refusal by sbatch.
                    _failed(task, f"Slurm does not take the job: {' '.join(str(error).split())}", screen)
                    continue
                jobs[key] = job
                screen.say(f"{task.label}: job {job.job_id}, output in {job.paths.stdout}")
            if not jobs:
                return outcomes_of(tasks)
            lost = queue.lost([(tasks[key].label, job) for key, job in jobs.items()]) if queue is not None else {}
            for key, job in list(jobs.items()):
                if job.job_id in lost:
                    reason = f"job {job.job_id} {lost[job.job_id]}; its output is in {job.paths.stderr}"
                    _failed(tasks[key], reason, screen)
                elif job.paths.result_pickle.exists() if queue is not None else job.done():
                    _finish(tasks[key], job, screen)
                else:
                    continue
                jobs.pop(key)
            if jobs:
                time.sleep(SECONDS_BETWEEN_LOOKS)
    except KeyboardInterrupt:
        for job in jobs.values():
            job.cancel()
        raise


class Resumable:
    """What a job does, in submitit's form: told to stop, it is submitted again and goes on."""

    def __init__(self, entry: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.entry = entry

    def __call__(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run the row."""
        return self.entry(request)

    def checkpoint(self, request: dict[str, Any]) -> Any:
        """The job that takes this one's place: the same row, resumed. Epochs that are done lie in the run's folder."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, {**request, "resume": True, "fresh": False})


def run_request(request: dict[str, Any]) -> dict[str, Any]:
    """Run one row in this process; lines go to standard output, which the job keeps."""

    def send(message: dict[str, Any]) -> None:
        if "say" in message:
            print(message["say"], flush=True)

    return vars(carry_out(Request.from_json(request), Sender(send)))


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """`key=value` as values of the kind that each key takes.

    Raises:
        InputError: not of that form, an unknown key, a value of the wrong kind.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        key, sign, text = setting.partition("=")
        if not sign:
            raise InputError(f"--slurm {setting}: write key=value, for example --slurm partition=gpu")
        if key not in SETTINGS:
            raise unknown_value("setting", key, SETTINGS, where="--slurm")
        if SETTINGS[key] is int and not (text.isdigit() and int(text) > 0):
            raise InputError(f"--slurm {setting}: {key} is a whole number above 0")
        values[key] = SETTINGS[key](text)
    if values.get("cluster", "slurm") not in CLUSTERS:
        raise unknown_value("cluster", values["cluster"], CLUSTERS, where="--slurm")
    return values


def _executor(tasks: dict[str, Task], values: dict[str, Any]) -> Any:
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise MissingExtraError("--executor slurm", "slurm") from error
    cluster = values.pop("cluster", "slurm")
    folder = Path(next(iter(tasks.values())).request.runs_dir).absolute() / LOGS
    if cluster == "slurm" and submitit.AutoExecutor.which() != "slurm":
        raise MissingResourceError(
            "there is no Slurm on this machine (no srun); start the command on a login node, or try the way with "
            "--slurm cluster=local"
        )
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    common = {"timeout_min": TIMEOUT_MINUTES} | {key: value for key, value in values.items() if key in COMMON}
    own = {f"slurm_{key}": value for key, value in values.items() if key not in COMMON}
    executor.update_parameters(name="meta-spliceai", **common, **own)
    return executor


def _finish(task: Task, job: Any, screen: Screen) -> None:
    error = job.exception()
    if error is not None:
        reason = f"job {job.job_id} ended without an answer ({_gist(error)}); its output is in {job.paths.stderr}"
        _failed(task, reason, screen)
        return
    answer = Answer(**job.result())
    task.outcome = answer.outcome(task.request)
    screen.say(f"error: {task.label}: {answer.error}" if answer.error is not None else f"{task.label}: done")


def _gist(error: Exception) -> str:
    """The line that says what went wrong: submitit puts the job's traceback between two lines of dashes."""
    parts = [part.strip() for part in re.split(r"^-{10,}$", str(error), flags=re.MULTILINE)]
    lines = (parts[1] if len(parts) > 2 else parts[0]).splitlines()
    return lines[-1] if lines else type(error).__name__


def _failed(task: Task, reason: str, screen: Screen) -> None:
    task.outcome = Answer(error=reason).outcome(task.request)
    screen.say(f"error: {task.label}: {reason}")
