"""Rows over a Ray cluster: rows, the folds of each and the members of ensembles are tasks of their own, which may share
GPUs. The folder of runs and the cache must be ones that all nodes see.

Base scores are computed once, by a task that the folds of a row wait for. Each fold is trained into its own folder; the
row itself then finds its folds finished, pools and judges them.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from meta_spliceai.errors import InputError, MissingExtraError, MissingResourceError
from meta_spliceai.experiments.executors.graph import Task, failed_need, make_tasks, next_task, outcomes_of
from meta_spliceai.experiments.executors.local import SECONDS_TO_STOP, note_lost_run
from meta_spliceai.experiments.executors.messages import Receiver, Sender
from meta_spliceai.experiments.executors.request import Answer, Request, carry_out
from meta_spliceai.experiments.executors.screen import Screen
from meta_spliceai.experiments.runner import Outcome
from meta_spliceai.experiments.workspace import Workspace

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_CONNECT = 10
SECONDS_WITHOUT_A_MACHINE = 120.0
"""How long tasks wait for a machine that could take them, where the cluster has none: one may be on its way."""

GUARDED = (
    "a cluster may want a token: copy ~/.ray/auth_token of its head here, or start it with RAY_AUTH_MODE=disabled in a "
    "network that you trust"
)

SECONDS_WITHOUT_A_HEAD = 15.0
"""How long the cluster's head may not answer. Ray itself ends the whole process, without a word, after a minute."""

Message = dict[str, Any]
Entry = Callable[[dict[str, Any], Callable[[Message], None]], dict[str, Any]]


def run_on_ray(
    requests: Sequence[Request],
    screen: Screen,
    *,
    address: str | None = None,
    gpus_per_run: float | None = None,
    entry: Entry | None = None,
) -> list[Outcome]:
    """Run rows on a cluster; as many at a time as its cores and GPUs allow.

    Args:
        requests: the rows.
        screen: shows what happens.
        address: the cluster's; None to start one on this machine and to end it afterwards.
        gpus_per_run: GPUs, or a share of one, for each task; where absent, one if the cluster has any.
        entry: what a task does; `serve_request` where absent.

    Returns:
        the outcome of every row, members of ensembles included.

    Raises:
        MissingExtraError: Ray is not installed.
        MissingResourceError: there is no cluster at the address.
        InputError: more of a GPU is asked for than the cluster has.
        KeyboardInterrupt: the user stopped it; every run in progress is marked interrupted.
    """
    # Ray reports its use to its makers unless told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is not None and _has_token():
        # `ray start` protects a cluster where there is a token, and joining one does not look for it unasked.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtraError("--executor ray", "ray") from error
    if address is not None:
        _check_address(address)
    try:
        ray.init(
            address=address or "local",
            include_dashboard=False if address is None else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError) as error:
        raise MissingResourceError(f"--ray-address {address}: no Ray cluster there ({error}); {GUARDED}") from error
    try:
        gpus = _gpus_for_each(ray, requests, gpus_per_run)
        head = address if address not in (None, "auto") else ray.get_runtime_context().gcs_address
        outcomes = _OnRay(ray, make_tasks(requests), screen, gpus, entry or serve_request, str(head)).run()
    except _HeadLostError as error:
        return error.outcomes
    finally:
        ray.shutdown()
    return outcomes


def serve_request(request: dict[str, Any], send: Callable[[Message], None]) -> dict[str, Any]:
    """Do what a request asks for, in a process of the cluster."""
    return vars(carry_out(Request.from_json(request), Sender(send)))


def _has_token() -> bool:
    """Whether there is a token for clusters that want one, in any of the places where Ray looks for it."""
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return named or (Path.home() / ".ray" / "auth_token").is_file()


def _check_address(address: str) -> None:
    """See that somebody answers at the address: Ray itself ends the whole process where nobody does.

    Raises:
        InputError: not `auto`, `host:port` or `ray://host:port`.
        MissingResourceError: nobody answers.
    """
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise InputError(f"--ray-address {address}: write auto, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_CONNECT).close()
    except OSError as error:
        raise MissingResourceError(f"--ray-address {address}: no Ray cluster there ({error})") from error


def _gpus_for_each(ray: Any, requests: Sequence[Request], wanted: float | None) -> float:
    there = float(ray.cluster_resources().get("GPU", 0))
    if wanted is None:
        return 1.0 if there and any(request.device != "cpu" for request in requests) else 0.0
    if wanted > there:
        raise InputError(f"--gpus-per-run {wanted:g}: the cluster has {there:g} GPUs")
    if wanted > 1 and wanted != int(wanted):
        raise InputError(f"--gpus-per-run {wanted:g}: a share of one GPU (0.25) or a whole number of them")
    return wanted


class _HeadLostError(Exception):
    """The cluster's head does not answer any more; what became of the rows."""

    def __init__(self, outcomes: list[Outcome]) -> None:
        super().__init__("the head of the Ray cluster is gone")
        self.outcomes = outcomes


@dataclass
class _Progress:
    """How far a task of the queue is.

    Attributes:
        folds_left: parts that the row waits for.
        receivers: what each part says, by part (None for the row as a whole).
    """

    folds_left: int = 0
    receivers: dict[int | None, Receiver] = field(default_factory=dict)


class _OnRay:
    def __init__(self, ray: Any, tasks: dict[str, Task], screen: Screen, gpus: float, entry: Entry, head: str) -> None:
        self.ray = ray
        self.head = head
        self.head_answered = time.monotonic()
        self.tasks = tasks
        self.screen = screen
        self.begun: set[str] = set()
        self.progress: dict[str, _Progress] = {}
        self.pending: dict[Any, tuple[str, int | None]] = {}
        self.gpus = gpus
        self.alone_since: float | None = None

        class Mailbox:
            """Holds what runs say until the queue asks."""

            def __init__(self) -> None:
                self.held: list[tuple[str, int | None, Message]] = []

            def put(self, key: str, part: int | None, message: Message) -> None:
                self.held.append((key, part, message))

            def take(self) -> list[tuple[str, int | None, Message]]:
                held, self.held = self.held, []
                return held

        def work(request: dict[str, Any], mailbox: Any, key: str) -> dict[str, Any]:
            part = request["part"]
            answer = entry(request, lambda message: mailbox.put.remote(key, part, message))
            # Calls of one caller arrive in order: once this one has, the queue can hear everything the run has said.
            ray.get(mailbox.put.remote(key, part, {}))
            return answer

        # The mailbox stands where the queue is: it must not go down with a machine that only runs rows.
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self.mailbox = ray.remote(num_cpus=0, scheduling_strategy=here)(Mailbox).remote()
        # A task whose process dies is not repeated behind our back: its run has to be resumed, not begun.
        self.work = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(work)

    def run(self) -> list[Outcome]:
        try:
            while True:
                self._begin_what_can()
                if not self.pending:
                    self._hear()
                    return outcomes_of(self.tasks)
                done, _ = self.ray.wait(list(self.pending), num_returns=1, timeout=SECONDS_BETWEEN_LOOKS)
                # Without a head whatever asks for it would wait until Ray ends this process.
                if not self._head_answers():
                    continue
                self._hear()
                for reference in done:
                    self._done(*self.pending.pop(reference), reference)
                if not done and self._nowhere_to_run():
                    self._give_up()
        except KeyboardInterrupt:
            self._stop()
            raise

    def _begin_what_can(self) -> None:
        while (key := next_task(self.tasks, self.begun)) is not None:
            self.begun.add(key)
            task = self.tasks[key]
            self.screen.say(f"row {len(self.begun)} of {len(self.tasks)}: {task.label}")
            self.progress[key] = _Progress()
            reason = failed_need(self.tasks, key)
            if reason is not None:
                self._failed(task, reason)
            else:
                self._submit(key, 0 if task.request.spec.procedure == "cross-validation" else None)

    def _submit(self, key: str, part: int | None) -> None:
        task = self.tasks[key]
        label = f"{task.label} fold {part}" if part else task.label
        self.progress[key].receivers[part] = Receiver(self.screen.row(label))
        request = task.request if part is None else task.request.for_part(part)
        self.pending[self.work.remote(request.to_json(), self.mailbox, key)] = (key, part)

    def _hear(self) -> None:
        for key, part, message in self._get(self.mailbox.take.remote()):
            self.progress[key].receivers[part].receive(message)

    def _get(self, reference: Any) -> Any:
        """What a task or the mailbox answers, while there is a head that could bring it."""
        while True:
            try:
                return self.ray.get(reference, timeout=SECONDS_TO_CONNECT)
            except self.ray.exceptions.GetTimeoutError:
                self._head_answers()
            except self.ray.exceptions.RayActorError:
                # The mailbox stands on the machine of the queue; without its daemon there is nothing to go on with.
                self._lose_head()

    def _head_answers(self) -> bool:
        """Whether the cluster's head answers now.

        Raises:
            _HeadLostError: it has not for a while; every row that is not finished has failed, its run interrupted.
        """
        host, _, port = self.head.removeprefix("ray://").rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=SECONDS_BETWEEN_LOOKS).close()
        except OSError:
            if time.monotonic() - self.head_answered >= SECONDS_WITHOUT_A_HEAD:
                self._lose_head()
            time.sleep(SECONDS_BETWEEN_LOOKS)
            return False
        self.head_answered = time.monotonic()
        return True

    def _lose_head(self) -> NoReturn:
        reason = (
            f"the head of the Ray cluster at {self.head} is gone; start a cluster again, and the same command with "
            "--resume goes on"
        )
        for key, part in self.pending.values():
            receiver = self.progress[key].receivers[part]
            receiver.close()
            if receiver.run is not None:
                note_lost_run(Workspace(self.tasks[key].request.runs_dir), receiver.run, reason, False)
        for task in self.tasks.values():
            if task.outcome is None:
                self._failed(task, reason)
        raise _HeadLostError(outcomes_of(self.tasks))

    def _done(self, key: str, part: int | None, reference: Any) -> None:
        task, progress = self.tasks[key], self.progress[key]
        try:
            answer = Answer(**self._get(reference))
        except self.ray.exceptions.RayError as error:
            answer = Answer(error=self._lost(task, progress.receivers[part], error))
        progress.receivers[part].close()
        if part is None:
            task.outcome = answer.outcome(task.request)
            if answer.error is not None:
                self.screen.say(f"error: {task.label}: {answer.error}")
        elif part == 0 and answer.error is not None:
            self._failed(task, answer.error)
        elif part == 0 and answer.folds:
            progress.folds_left = answer.folds
            for fold in range(1, answer.folds + 1):
                self._submit(key, fold)
        elif part == 0:
            self._submit(key, None)
        else:
            if answer.error is not None:
                self.screen.say(f"error: {task.label} fold {part}: {answer.error}")
            progress.folds_left -= 1
            if not progress.folds_left:
                # A fold that failed is tried again by the row itself, which then has a state with the reason.
                self._submit(key, None)

    def _nowhere_to_run(self) -> bool:
        """Whether no machine of the cluster could take a task, and none has come for a while."""
        able = any(
            node["Alive"] and node["Resources"].get("CPU", 0) >= 1 and node["Resources"].get("GPU", 0) >= self.gpus
            for node in self.ray.nodes()
        )
        if able:
            self.alone_since = None
            return False
        if self.alone_since is None:
            self.alone_since = time.monotonic()
            self.screen.say(f"no machine of the cluster has {self._share()}; waiting for one")
        return time.monotonic() - self.alone_since >= SECONDS_WITHOUT_A_MACHINE

    def _give_up(self) -> None:
        """End every task that waits; a run that was begun keeps what is done."""
        for reference, (key, part) in list(self.pending.items()):
            self.ray.cancel(reference, force=True)
            self.progress[key].receivers[part].close()
            if self.tasks[key].outcome is None:
                self._failed(self.tasks[key], f"no machine of the cluster is left that has {self._share()}")
        self.pending.clear()

    def _share(self) -> str:
        return f"a core and {self.gpus:g} GPU" if self.gpus else "a core"

    def _lost(self, task: Task, receiver: Receiver, error: Exception) -> str:
        """The reason of a task that gave no answer: a defect's last line, or what became of its process."""
        if isinstance(error, self.ray.exceptions.RayTaskError):
            return f"{type(error.cause).__name__}: {error.cause}"
        out_of_memory = isinstance(error, self.ray.exceptions.OutOfMemoryError)
        reason = f"its process, or its machine, is gone ({type(error).__name__}); go on with --resume"
        if receiver.run is None:
            return reason
        return note_lost_run(Workspace(task.request.runs_dir), receiver.run, reason, out_of_memory)

    def _failed(self, task: Task, reason: str) -> None:
        task.outcome = Answer(error=reason).outcome(task.request)
        self.screen.say(f"error: {task.label}: {reason}")

    def _stop(self) -> None:
        """Interrupt every task, and wait until each has written down what is done."""
        for reference in self.pending:
            self.ray.cancel(reference, force=False)
        limit = time.monotonic() + SECONDS_TO_STOP
        left = list(self.pending)
        while left and time.monotonic() < limit:
            _, left = self.ray.wait(left, num_returns=len(left), timeout=SECONDS_BETWEEN_LOOKS)
