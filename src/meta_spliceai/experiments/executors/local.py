"""A queue of rows on this machine: worker processes, each of which runs one row after the other.

A worker that crashes, runs out of memory or is killed costs its run a state with a reason, and the queue goes on with a
new worker.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from meta_spliceai.errors import RunError
from meta_spliceai.experiments.executors.graph import Task, add_folds, failed_need, make_tasks, next_task, outcomes_of
from meta_spliceai.experiments.executors.messages import Receiver
from meta_spliceai.experiments.executors.request import Answer, Request
from meta_spliceai.experiments.executors.screen import Screen
from meta_spliceai.experiments.lost_folder import MOUNT_AGAIN, FolderWatch
from meta_spliceai.experiments.runner import Outcome
from meta_spliceai.experiments.workspace import Workspace

WORKER = (sys.executable, "-m", "meta_spliceai.experiments.executors.worker")
SECONDS_TO_STOP = 60
"""How long a worker may take to write down what is done after it was told to stop."""

TIME_LIMIT = "stopped at the time limit"


def run_queue(
    requests: Sequence[Request],
    screen: Screen,
    *,
    jobs: int = 1,
    deadline: float | None = None,
    admit: Callable[[Request, float], str] | None = None,
    command: Sequence[str] = WORKER,
) -> list[Outcome]:
    """Run rows, `jobs` at a time, each in a process of its own; ensembles wait for their members. Where there are more
    jobs than rows the folds of a cross-validation are trained side by side, and the row then pools and judges them.

    Args:
        requests: the rows.
        screen: shows what happens.
        jobs: worker processes.
        deadline: a time of `time.monotonic()` at which whatever runs is interrupted and nothing new begins.
        admit: asked with the seconds left before a row begins, where there is a deadline; why it may not begin, or
            nothing. A row that may not has no outcome.
        command: what starts a worker.

    Returns:
        the outcome of every row that was begun, members of ensembles included; rows that the deadline left untouched
        have none.

    Raises:
        KeyboardInterrupt: the user stopped the queue; every run in progress is marked interrupted.
    """
    return _Queue(make_tasks(requests, folds_apart=jobs > len(requests)), screen, jobs, deadline, admit, command).run()


class _Queue:
    def __init__(
        self,
        tasks: dict[str, Task],
        screen: Screen,
        jobs: int,
        deadline: float | None,
        admit: Callable[[Request, float], str] | None,
        command: Sequence[str],
    ) -> None:
        self.admit = admit
        self.tasks = tasks
        self.screen = screen
        self.deadline = deadline
        self.command = command
        self.begun: set[str] = set()
        self.inbox: queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]] = queue.SimpleQueue()
        parts = any(task.request.part is not None for task in tasks.values())
        count = jobs if parts else min(jobs, len(tasks))
        self.environments = worker_environments(count, os.environ, count_gpus() if jobs > 1 else 0)
        self.workers: list[_Worker] = []
        self.folders = FolderWatch()

    def run(self) -> list[Outcome]:
        roots = {task.request.runs_dir for task in self.tasks.values()}
        for root in roots:
            # Of a folder that holds runs some may be finished: each row sees for itself whether it has to write.
            if not Workspace(root).own_runs():
                Workspace(root).require_writable()
        with FolderWatch(*roots) as self.folders:
            return self._run()

    def _run(self) -> list[Outcome]:
        try:
            self.workers = [_Worker(self.command, environment, self.inbox) for environment in self.environments]
            while True:
                self._assign()
                if not any(worker.task for worker in self.workers):
                    return outcomes_of(self.tasks)
                self._listen()
                if self.deadline is not None and time.monotonic() >= self.deadline:
                    self._stop(TIME_LIMIT)
                    return outcomes_of(self.tasks)
        except KeyboardInterrupt:
            self._stop("stopped by the user")
            raise
        finally:
            for worker in self.workers:
                worker.end()

    def _assign(self) -> None:
        for number, worker in enumerate(self.workers):
            while worker.task is None and (key := next_task(self.tasks, self.begun)) is not None:
                if self.deadline is not None and time.monotonic() >= self.deadline:
                    return
                self.begun.add(key)
                task = self.tasks[key]
                if self.deadline is not None and self.admit is not None:
                    refused = self.admit(task.request, self.deadline - time.monotonic())
                    if refused:
                        self.screen.say(f"{task.label}: {refused}")
                        continue
                self.screen.say(f"row {len(self.begun)} of {len(self.tasks)}: {task.label}")
                # Where the folder of runs is lost, the next row would begin a new one on the disk below its mount.
                lost = self.folders.lost(task.request.runs_dir)
                reason = f"not begun: {lost}; {MOUNT_AGAIN}" if lost else failed_need(self.tasks, key)
                if reason is not None:
                    self._failed(task, reason)
                    continue
                if worker.gone():
                    worker = self.workers[number] = _Worker(self.command, self.environments[number], self.inbox)
                worker.begin(task, Receiver(self.screen.row(task.label)))

    def _listen(self) -> None:
        left = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
        try:
            worker, message = self.inbox.get(timeout=left)
        except queue.Empty:
            return
        if message is None:
            self._gone(worker)
        elif "answer" in message:
            self._answered(worker, Answer(**message["answer"]))
        elif worker.receiver is not None:
            worker.receiver.receive(message)

    def _answered(self, worker: _Worker, answer: Answer) -> None:
        task = worker.done()
        if task is None:
            return
        task.outcome = answer.outcome(task.request)
        if answer.error is not None:
            self.screen.say(f"error: {task.label}: {answer.error}")
        elif answer.folds:
            add_folds(self.tasks, task, answer.folds)

    def _gone(self, worker: _Worker) -> None:
        """A worker ended on its own: its run gets a state and a reason, if it could not write one itself."""
        receiver, task = worker.receiver, worker.done()
        if task is None:
            return
        reason = worker.why_gone()
        name = receiver.run if receiver is not None else None
        if name is not None:
            reason = note_lost_run(Workspace(task.request.runs_dir), name, reason, worker.ran_out_of_memory())
        self._failed(task, reason, name)
        for line in worker.last_words():
            self.screen.say(f"  {line}")

    def _failed(self, task: Task, reason: str, run: str | None = None) -> None:
        task.outcome = Answer(run, error=reason).outcome(task.request)
        self.screen.say(f"error: {task.label}: {reason}")

    def _stop(self, reason: str) -> None:
        """Interrupt every run, and wait until it has written down what is done."""
        busy = [worker for worker in self.workers if worker.task is not None]
        for worker in busy:
            worker.stop(reason)
        limit = time.monotonic() + SECONDS_TO_STOP
        while any(worker.task is not None for worker in busy) and time.monotonic() < limit:
            try:
                worker, message = self.inbox.get(timeout=max(0.0, limit - time.monotonic()))
            except queue.Empty:
                break
            if message is None or "answer" in message:
                receiver, task = worker.receiver, worker.done()
                if task is not None:
                    answer = Answer(**message["answer"]) if message is not None else Answer(error=worker.why_gone())
                    task.outcome = Answer(receiver.run if receiver else None, error=answer.error).outcome(task.request)
                    self.screen.say(f"{task.label}: {answer.error}; go on with --resume")
            elif worker.receiver is not None:
                worker.receiver.receive(message)


class _Worker:
    """A worker process as its queue sees it."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        inbox: queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]],
    ) -> None:
        self.inbox = inbox
        self.task: Task | None = None
        self.receiver: Receiver | None = None
        self.kills_before = system_oom_kills()
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the process)
        # A session of its own: Ctrl-C in the terminal reaches the queue, which then tells each worker once.
        self.process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            encoding="utf-8",
            start_new_session=True,
            env={**os.environ, **environment},
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None  # noqa: S101 (asked for above)
        for line in self.process.stdout:
            self.inbox.put((self, json.loads(line)))
        self.process.wait()
        self.inbox.put((self, None))

    def begin(self, task: Task, receiver: Receiver) -> None:
        """Send it a row."""
        self.task, self.receiver = task, receiver
        self._send(task.request.to_json())

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None  # noqa: S101 (asked for above)
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return  # It is gone; the listener says so.

    def done(self) -> Task | None:
        """The task it had; it has none any more."""
        if self.receiver is not None:
            self.receiver.close()
        task, self.task, self.receiver = self.task, None, None
        return task

    def gone(self) -> bool:
        """Whether the process has ended."""
        return self.process.poll() is not None

    def stop(self, reason: str) -> None:
        """Have it interrupt its run."""
        self._send({"stop": reason})

    def end(self) -> None:
        """End the process, whatever it does."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()

    def ran_out_of_memory(self) -> bool:
        """Whether the system has killed processes for want of memory since this one began, and this one is dead by
        SIGKILL, which is how the system does it."""
        return self.process.returncode == -signal.SIGKILL and system_oom_kills() > self.kills_before

    def why_gone(self) -> str:
        """Why the process has ended, in words."""
        code = self.process.returncode
        if code is not None and code < 0:
            return f"its process was killed ({signal.Signals(-code).name})"
        return f"its process ended with exit code {code}"

    def last_words(self) -> list[str]:
        """The last lines that it printed."""
        self.log.seek(0)
        lines = self.log.read().decode("utf-8", "replace").rstrip().splitlines()
        return lines[-20:]


def note_lost_run(workspace: Workspace, name: str, reason: str, out_of_memory: bool) -> str:
    """Give a run whose process is gone the state and the reason that it could not write itself.

    Args:
        workspace: where the run is.
        name: the run.
        reason: why its process ended.
        out_of_memory: the system killed it for want of memory.

    Returns:
        the reason that stands in the run's record now.
    """
    run = workspace.run(name)
    record = run.record()
    if record.get("state") != "running":
        return str(record.get("reason") or reason)
    state = "failed" if out_of_memory else "interrupted"
    if out_of_memory:
        batch = run.spec().training.batch_size
        reason = f"out of memory at batch {batch}: the system killed its process; use a smaller batch or fewer --jobs"
    try:
        with run.taken():
            run.mark("failed" if out_of_memory else "interrupted", reason)
            workspace.ledger.append(
                {
                    "event": state,
                    "run": name,
                    "row": record.get("row"),
                    "smoke": record.get("smoke"),
                    "seed": record.get("seed"),
                    "reason": reason,
                }
            )
    except RunError as error:
        return f"{reason} ({error})"
    return reason


def worker_environments(jobs: int, environment: Mapping[str, str], gpus: int) -> list[dict[str, str]]:
    """Environment variables of each worker: its share of the cores, and a GPU where there are several.

    Args:
        jobs: number of workers.
        environment: the queue's own; a number of threads set there is kept.
        gpus: GPUs of this machine.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    visible = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    names = visible or [str(number) for number in range(gpus)]
    found = []
    for number in range(jobs):
        own: dict[str, str] = {}
        if "OMP_NUM_THREADS" not in environment and jobs > 1:
            own["OMP_NUM_THREADS"] = str(max(1, cores // jobs))
        if len(names) > 1:
            own["CUDA_VISIBLE_DEVICES"] = names[number % len(names)]
        found.append(own)
    return found


def count_gpus() -> int:
    """GPUs that PyTorch sees."""
    import torch

    return torch.cuda.device_count()


def system_oom_kills() -> int:
    """How many processes the system has killed for want of memory since it started; 0 where it does not say."""
    for file in (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat")):
        if file.exists():
            for line in file.read_text(encoding="ascii", errors="replace").splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0
