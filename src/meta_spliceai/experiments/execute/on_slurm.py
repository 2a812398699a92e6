"""Tasks as Slurm jobs, through submitit, whose local and debug executors use the same code."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from meta_spliceai.errors import InputError, MissingExtraError, MissingResourceError, unknown_value
from meta_spliceai.experiments.execute.queue import Answer, Executor, Message, Request, Task, carry_out
from meta_spliceai.experiments.run.callback import Callback

CLUSTERS = ("slurm", "local", "debug")
"""Values of the setting `cluster`: Slurm, processes of this machine, this very process."""

NUMBERS = ("timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node")
WORDS = ("partition", "account", "qos", "constraint", "gres", "exclude", "nodelist", "comment")
"""What `--slurm KEY=VALUE` takes beside `cluster`, by submitit's and Slurm's own names."""

LOGS = "slurm"  # folder beside the runs for the jobs' scripts and output
TIMEOUT_MINUTES = 240  # time limit of a job where none is given; submitit's own is five minutes

SECONDS_BETWEEN_LOOKS = 2.0
SECONDS_BETWEEN_QUESTIONS = 15.0
PATIENCE_SECONDS = 60.0  # how long an ended job's answer may take to show on a shared disk

ENDED = re.compile(
    "BOOT_FAIL|CANCELLED|COMPLETED|DEADLINE|FAILED|LAUNCH_FAILED|NODE_FAIL|OUT_OF_MEMORY|PREEMPTED|REVOKED|TIMEOUT"
)
"""States of squeue in which a job has ended; in all others it may still answer."""

NEVER_STARTS = {
    "timeout_min": ("AssocMaxWallDurationPerJobLimit", "PartitionTimeLimit", "QOSMaxWallDurationPerJobLimit"),
    "account": ("AccountNotAllowed", "InvalidAccount"),
    "qos": ("InvalidQOS", "QOSNotAllowed"),
    "partition": ("PartitionNodeLimit",),
    "constraint": ("BadConstraints",),
}
"""The setting to change, and reasons for which a job waits for ever without that."""


class Slurm(Executor):
    """Jobs. One that Slurm stops at its time limit, or takes the machine from, is submitted again by submitit and goes
    on from its last epoch; one that is cancelled or leaves the queue without an answer is a failure that says so.

    Args:
        runs_dir: folder of runs, which the nodes must see; the jobs' output goes into its folder `slurm`.
        settings: `key=value`, see `parse_settings`.

    Raises:
        MissingExtraError, MissingResourceError: submitit is not installed; there is no Slurm on this machine.
        InputError: an unknown setting or a value of the wrong kind.
    """

    def __init__(
        self,
        runs_dir: Path,
        screen: Callback,
        settings: Sequence[str] = (),
        entry: Callable[[Request], Answer] | None = None,
    ) -> None:
        values = parse_settings(settings)
        self._real = values.get("cluster", "slurm") == "slurm"
        self._submitit = _submitit_executor(runs_dir, values)
        self._screen, self._entry = screen, entry or run_request
        self._jobs: dict[str, tuple[Task, Any]] = {}
        self._ended: list[tuple[str, Message | Answer]] = []
        self._asked = -SECONDS_BETWEEN_QUESTIONS
        self._silent_since: dict[str, float] = {}
        self._said: dict[str, str] = {}

    def begin(self, task: Task, callback: Callback) -> None:
        try:
            job = self._submitit.submit(Resumable(self._entry), task.request)
        except RuntimeError as error:  # What submitit makes of a refusal by sbatch.
            self._ended.append((task.key, Answer(error=f"Slurm does not take the job: {_one_line(error)}")))
            return
        self._jobs[task.key] = (task, job)
        self._screen.say(f"{task.label}: job {job.job_id}, output in {job.paths.stdout}")

    def collect(self, seconds: float) -> list[tuple[str, Message | Answer]]:
        if not self._ended:
            time.sleep(min(seconds, SECONDS_BETWEEN_LOOKS))
        lost = self._lost()
        for key, (task, job) in list(self._jobs.items()):
            if key in lost:
                answer = Answer(error=f"job {job.job_id} {lost[key]}; its output is in {job.paths.stderr}", lost=True)
            elif job.paths.result_pickle.exists() if self._real else job.done():
                answer = _answer_of(job)
            else:
                continue
            if answer.error is None:
                self._screen.say(f"{task.label}: done")
            self._jobs.pop(key)
            self._ended.append((key, answer))
        ended, self._ended = self._ended, []
        return ended

    def interrupt(self, reason: str) -> None:
        for key, (_, job) in self._jobs.items():
            job.cancel()
            self._ended.append((key, Answer(error=reason)))
        self._jobs.clear()

    def _lost(self) -> dict[str, str]:
        """Jobs that ended without an answer or can never start, by key, and how. Slurm's queue alone is asked: many
        clusters keep no accounting."""
        if not self._real or not self._jobs or time.monotonic() - self._asked < SECONDS_BETWEEN_QUESTIONS:
            return {}
        states, found = self._ask(), {}
        self._asked = time.monotonic()
        for key, (task, job) in self._jobs.items() if states is not None else ():
            state, why = (states or {}).get(job.job_id, ("", ""))
            if job.paths.result_pickle.exists() or (state and not ENDED.fullmatch(state)):
                self._silent_since.pop(key, None)
                if state == "PENDING":
                    change = next((setting for setting, reasons in NEVER_STARTS.items() if why in reasons), "")
                    if change:
                        job.cancel()
                        found[key] = f"can never start ({why}): change --slurm {change}"
                    else:
                        self._say_once(key, f"{task.label}: waits in Slurm's queue ({why})")
            elif self._asked - self._silent_since.setdefault(key, self._asked) >= PATIENCE_SECONDS:
                words = f"ended as {state} ({why})" if why not in ("", "None") else f"ended as {state}"
                found[key] = f"{words if state else 'is gone from the queue'} without an answer"
        return found

    def _ask(self) -> dict[str, tuple[str, str]] | None:
        """State and reason of every job that Slurm still knows, by number; None where it does not answer."""
        command = ["squeue", "--noheader", "--states=all", "--format=%A|%T|%r", f"--user={os.getuid()}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", "") or error
            self._say_once("", f"squeue does not answer ({_one_line(said)}); waiting")
            return None
        self._said.pop("", None)
        lines = [line.split("|", 2) for line in done.stdout.splitlines() if line.count("|") >= 2]
        return {number: (state, why) for number, state, why in lines}

    def _say_once(self, about: str, line: str) -> None:
        if self._said.get(about) != line:
            self._said[about] = line
            self._screen.say(line)


def _one_line(said: object) -> str:
    return " ".join(str(said).split())


class Resumable:
    """A job's task, in submitit's form: if told to stop, it is resubmitted and continues."""

    def __init__(self, entry: Callable[[Request], Answer]) -> None:
        self.entry = entry

    def __call__(self, request: Request) -> Answer:
        return self.entry(request)

    def checkpoint(self, request: Request) -> Any:
        """The job that takes this one's place: the same row, resumed. Epochs that are done lie in the run's folder."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, replace(request, resume=True, fresh=False))


class Printed(Callback):
    """Lines go to standard output, which the job keeps."""

    def say(self, line: str) -> None:
        print(line, flush=True)


def run_request(request: Request) -> Answer:
    """Run one row in this process."""
    return carry_out(request, Printed())


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """`key=value` as values of the kind that each key takes; InputError names what is not of that form, an unknown key,
    or a value of the wrong kind."""
    values: dict[str, Any] = {}
    for setting in settings:
        key, sign, text = setting.partition("=")
        if not sign:
            raise InputError(f"--slurm {setting}: write key=value, for example --slurm partition=gpu")
        if key not in ("cluster", *NUMBERS, *WORDS):
            raise unknown_value("setting", key, ("cluster", *NUMBERS, *WORDS), where="--slurm")
        if key in NUMBERS and not (re.fullmatch("[0-9]{1,7}", text) and int(text) > 0):
            raise InputError(f"--slurm {setting}: {key} is a whole number above 0")
        values[key] = int(text) if key in NUMBERS else text
    if values.get("cluster", "slurm") not in CLUSTERS:
        raise unknown_value("cluster", values["cluster"], CLUSTERS, where="--slurm")
    return values


def _submitit_executor(runs_dir: Path, values: dict[str, Any]) -> Any:
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise MissingExtraError("--executor slurm", "slurm") from error
    cluster = values.pop("cluster", "slurm")
    if cluster == "slurm" and submitit.AutoExecutor.which() != "slurm":
        raise MissingResourceError(
            "there is no Slurm on this machine (no srun); start the command on a login node, or try the way with "
            "--slurm cluster=local"
        )
    executor = submitit.AutoExecutor(folder=runs_dir.absolute() / LOGS, cluster=cluster)
    settings = {key if key in NUMBERS else f"slurm_{key}": value for key, value in values.items()}
    executor.update_parameters(name="meta-spliceai", **{"timeout_min": TIMEOUT_MINUTES} | settings)
    return executor


def _answer_of(job: Any) -> Answer:
    error = job.exception()
    if error is None:
        answer: Answer = job.result()
        return answer
    # submitit puts the job's traceback between two lines of dashes.
    parts = [part.strip() for part in re.split(r"^-{10,}$", str(error), flags=re.MULTILINE)]
    lines = (parts[1] if len(parts) > 2 else parts[0]).splitlines()
    gist = lines[-1] if lines else type(error).__name__
    reason = f"job {job.job_id} ended without an answer ({gist}); its output is in {job.paths.stderr}"
    return Answer(error=reason, lost=True)
