"""What Slurm says of jobs that have not answered, from its queue alone: many clusters keep no accounting."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from meta_spliceai.experiments.executors.screen import Screen

AT_WORK = {
    "COMPLETING",
    "CONFIGURING",
    "PENDING",
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "RESIZING",
    "RESV_DEL_HOLD",
    "RUNNING",
    "SIGNALING",
    "SPECIAL_EXIT",
    "STAGE_OUT",
    "STOPPED",
    "SUSPENDED",
}
"""States of squeue in which a job may still answer; in all others it has ended."""

NEVER_STARTS = {
    "AccountNotAllowed": "--slurm account",
    "AssocMaxWallDurationPerJobLimit": "--slurm timeout_min",
    "BadConstraints": "--slurm constraint",
    "InvalidAccount": "--slurm account",
    "InvalidQOS": "--slurm qos",
    "PartitionNodeLimit": "--slurm partition",
    "PartitionTimeLimit": "--slurm timeout_min",
    "QOSMaxWallDurationPerJobLimit": "--slurm timeout_min",
    "QOSNotAllowed": "--slurm qos",
}
"""Reasons for which a job waits for ever, and the setting to change."""

COMMAND = ("squeue", "--noheader", "--states=all", "--format=%A|%T|%r")
SECONDS_BETWEEN_QUESTIONS = 15.0
PATIENCE_SECONDS = 60.0
"""How long an ended job's answer may take to show on a shared disk."""
SQUEUE_SECONDS = 60


class SlurmQueue:
    """Slurm's view of the jobs of this user, asked now and then.

    Args:
        screen: told why a job waits, and that Slurm does not answer, each once.
    """

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self._asked = -SECONDS_BETWEEN_QUESTIONS
        self._ended: dict[str, float] = {}
        self._said: dict[str, str] = {}

    def lost(self, jobs: Sequence[tuple[str, Any]]) -> dict[str, str]:
        """Jobs that ended without an answer or can never start, and how.

        Args:
            jobs: the label of each row with its job of submitit.

        Returns:
            Number of the job to what Slurm says, in words; empty while all may still answer.
        """
        if not jobs or time.monotonic() - self._asked < SECONDS_BETWEEN_QUESTIONS:
            return {}
        states = self._ask()
        self._asked = time.monotonic()
        if states is None:
            return {}
        found = {}
        for label, job in jobs:
            state, why = states.get(job.job_id, ("", ""))
            if job.paths.result_pickle.exists() or state in AT_WORK:
                self._ended.pop(job.job_id, None)
                if state == "PENDING" and why in NEVER_STARTS:
                    job.cancel()
                    found[job.job_id] = f"can never start ({why}): change {NEVER_STARTS[why]}"
                elif state == "PENDING":
                    self._say(job.job_id, f"{label}: waits in Slurm's queue ({why})")
                continue
            since = self._ended.setdefault(job.job_id, time.monotonic())
            if time.monotonic() - since >= PATIENCE_SECONDS:
                words = f"ended as {state} ({why})" if why not in ("", "None") else f"ended as {state}"
                found[job.job_id] = f"{words if state else 'is gone from the queue'} without an answer"
        return found

    def _ask(self) -> dict[str, tuple[str, str]] | None:
        """State and reason of every job that Slurm still knows, by number; None where it does not answer."""
        try:
            done = subprocess.run(
                [*COMMAND, f"--user={os.getuid()}"],
                capture_output=True, text=True, timeout=SQUEUE_SECONDS, check=True,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            self._say("", f"squeue does not answer ({' '.join(str(said).split())}); waiting")
            return None
        self._said.pop("", None)
        lines = [line.split("|", 2) for line in done.stdout.splitlines() if line.count("|") >= 2]
        return {number: (state, why) for number, state, why in lines}

    def _say(self, about: str, line: str) -> None:
        if self._said.get(about) != line:
            self._said[about] = line
            self.screen.say(line)
