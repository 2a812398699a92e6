"""Worker processes of this machine, each of which runs one task after the other.

A worker that crashes or is killed costs its run a state with a reason; the next task gets a new worker.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import queue
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from meta_spliceai.experiments.execute.queue import Answer, Executor, Message, Request, Sender, Task, carry_out
from meta_spliceai.experiments.run.callback import Callback

LAST_LINES = 20
SECONDS_TO_END = 5.0


class Local(Executor):
    """Worker processes.

    Args:
        jobs: how many.
        folds_apart: see `Executor`.
        prepare: called first in every worker; a function of a module (tests bring their toys with it).
    """

    def __init__(self, jobs: int = 1, folds_apart: bool = False, prepare: Callable[[], None] | None = None) -> None:
        self.folds_apart = folds_apart
        self._prepare = prepare
        gpus = torch.cuda.device_count() if jobs > 1 else 0
        self._environments = worker_environments(jobs, os.environ, gpus)
        self._workers: dict[int, _Worker] = {}

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.end()

    def has_room(self) -> bool:
        return len(self._busy()) < len(self._environments)

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers.values() if worker.key is not None]

    def begin(self, task: Task, callback: Callback) -> None:
        idle = [number for number, worker in self._workers.items() if worker.key is None]
        number = idle[0] if idle else len(self._workers)
        worker = self._workers.get(number)
        if worker is None or not worker.process.is_alive():
            if worker is not None:
                worker.end()
            worker = self._workers[number] = _Worker(self._environments[number], self._prepare)
        worker.key = task.key
        with suppress(OSError):  # it died just now, which `collect` will see
            worker.connection.send(task.request)

    def collect(self, seconds: float) -> list[tuple[str, Message | Answer]]:
        busy = {worker.connection: worker for worker in self._busy()}
        found: list[tuple[str, Message | Answer]] = []
        for ready in wait(list(busy), timeout=seconds):
            worker = busy[ready]  # type: ignore[index]
            key = str(worker.key)
            try:
                message = worker.connection.recv()
            except (EOFError, OSError, pickle.UnpicklingError):  # ended, perhaps within a message
                message = Answer(error=worker.why_gone(), lost=True)
                found += [(key, {"say": f"  {line}"}) for line in worker.last_words()]
            found.append((key, message))
            if isinstance(message, Answer):
                worker.key = None
        return found

    def interrupt(self, reason: str) -> None:
        for worker in self._busy():
            with suppress(OSError):
                worker.connection.send(reason)


class _Worker:
    """A worker process as the executor sees it; `key` names the task it has."""

    def __init__(self, environment: Mapping[str, str], prepare: Callable[[], None] | None) -> None:
        self.key: str | None = None
        handle, name = tempfile.mkstemp(prefix="meta-spliceai-worker-", suffix=".log")
        os.close(handle)
        self.log = Path(name)
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.log, prepare))
        with _environment(environment):
            self.process.start()
        theirs.close()

    def end(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join(SECONDS_TO_END)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.log.unlink(missing_ok=True)

    def why_gone(self) -> str:
        self.process.join()
        code = self.process.exitcode or 0
        if code == -signal.SIGKILL:
            return "its process was killed (SIGKILL, as the system does where memory runs out)"
        return f"its process was killed ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"

    def last_words(self) -> list[str]:
        return self.log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-LAST_LINES:]


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for a process that starts in the block: libraries read some when they are loaded."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _serve(connection: Connection, log: Path, prepare: Callable[[], None] | None) -> None:
    """What a worker process does: one request after the other, until it is interrupted or its queue is gone."""
    with log.open("ab") as handle:
        for stream in (1, 2):
            os.dup2(handle.fileno(), stream)
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C in the terminal reaches the queue, which then tells each worker once.
    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
    reasons: list[str] = []

    def listen() -> None:
        while not reasons:
            try:
                message = connection.recv()
            except (EOFError, OSError):
                message = "the queue that started it is gone"
            (requests.put if isinstance(message, Request) else reasons.append)(message)
        os.kill(os.getpid(), signal.SIGINT)

    def interrupt(number: int, frame: Any) -> None:
        # Once only: a second signal must not cut short what is written down after the first.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt(reasons[0] if reasons else "told to stop (SIGTERM)")

    def send(message: Message | Answer) -> None:
        with suppress(OSError):  # the queue is gone, and `listen` has stopped the run
            connection.send(message)

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        if prepare is not None:
            prepare()
        threading.Thread(target=listen, daemon=True).start()
        while True:
            send(carry_out(requests.get(), Sender(send)))
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()  # for the next row, or another process
    except KeyboardInterrupt as stopped:
        send(Answer(error=str(stopped)))


def worker_environments(jobs: int, environment: Mapping[str, str], gpus: int) -> list[dict[str, str]]:
    """Environment variables of each worker: its share of the cores, and a GPU where there are several. A number of
    threads that is set already is kept."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    names = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    names = names or [str(number) for number in range(gpus)]
    share = {} if jobs == 1 or "OMP_NUM_THREADS" in environment else {"OMP_NUM_THREADS": str(max(1, cores // jobs))}
    own = [{"CUDA_VISIBLE_DEVICES": names[number % len(names)]} if len(names) > 1 else {} for number in range(jobs)]
    return [share | one for one in own]
