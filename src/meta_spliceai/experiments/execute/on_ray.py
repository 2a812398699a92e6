"""Tasks over a Ray cluster, which may share GPUs. The folder of runs and the cache must be ones that all nodes see."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from meta_spliceai.errors import InputError, MissingExtraError, MissingResourceError
from meta_spliceai.experiments.execute.queue import Answer, Executor, Message, Request, Sender, Task, carry_out
from meta_spliceai.experiments.run.callback import Callback

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_CONNECT = 10
SECONDS_WITHOUT_A_MACHINE = 120.0
"""How long tasks wait for a machine that could take them, where the cluster has none: one may be on its way."""

SECONDS_WITHOUT_A_HEAD = 15.0
"""How long the cluster's head may not answer. Ray itself ends the whole process, without a word, after a minute."""

GUARDED = (
    "a cluster may want a token: copy ~/.ray/auth_token of its head here, or start it with RAY_AUTH_MODE=disabled in a "
    "network that you trust"
)

Entry = Callable[[Request, Callable[[Message], None]], Answer]


def serve_request(request: Request, send: Callable[[Message], None]) -> Answer:
    return carry_out(request, Sender(send))


class Ray(Executor):
    """A cluster; it runs as many tasks at a time as its cores and GPUs allow.

    Args:
        requests: the rows, for whether they want a GPU.
        address: the cluster's; None to start one on this machine and to end it afterwards.
        gpus_per_run: GPUs, or a share of one, for each task; where absent, one if the cluster has any.

    Raises:
        MissingExtraError, MissingResourceError: Ray is not installed; there is no cluster at the address.
        InputError: more of a GPU is asked for than the cluster has.
    """

    folds_apart = True

    def __init__(
        self,
        requests: Sequence[Request],
        screen: Callback,
        address: str | None = None,
        gpus_per_run: float | None = None,
        entry: Entry = serve_request,
    ) -> None:
        self._ray = ray = connect(address)
        self._screen = screen
        try:
            self._gpus = _gpus_for_each(ray, requests, gpus_per_run)
        except InputError:
            ray.shutdown()
            raise
        self._share = f"a core and {self._gpus:g} GPU" if self._gpus else "a core"
        known = address is not None and address != "auto"
        self._head = str(address if known else ray.get_runtime_context().gcs_address)
        self._head_answered = time.monotonic()
        self._alone_since: float | None = None
        self._pending: dict[Any, str] = {}
        self._mailbox, self._work = _remotes(ray, self._gpus, entry)

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()

    def begin(self, task: Task, callback: Callback) -> None:
        self._pending[self._work.remote(task.request, self._mailbox, task.key)] = task.key

    def collect(self, seconds: float) -> list[tuple[str, Message | Answer]]:
        """What tasks say, answers, and tasks that are lost with their process, their machine or the whole cluster."""
        wait = min(seconds, SECONDS_BETWEEN_LOOKS)
        done, _ = self._ray.wait(list(self._pending), timeout=wait)
        if not self._head_answers():  # Whatever asks for it now would wait until Ray ends this process.
            time.sleep(wait)
            return self._give_up(self.broken) if self.broken else []
        found: list[tuple[str, Message | Answer]] = []
        try:
            found += self._ray.get(self._mailbox.take.remote(), timeout=SECONDS_TO_CONNECT)
            for reference in done:
                found.append((self._pending[reference], self._answer_of(reference)))
                self._pending.pop(reference)
        except self._ray.exceptions.GetTimeoutError:
            return found  # the rest when the head answers again
        except self._ray.exceptions.RayActorError:  # The mailbox stands on this machine: its daemon is gone.
            self._lose_head()
            return self._give_up(self.broken)
        if not done and self._nowhere_to_run():
            found += self._give_up(f"no machine of the cluster is left that has {self._share}")
        return found

    def interrupt(self, reason: str) -> None:
        for reference in self._pending:
            self._ray.cancel(reference, force=False)

    def _answer_of(self, reference: Any) -> Answer:
        errors = self._ray.exceptions
        try:
            answer: Answer = self._ray.get(reference, timeout=SECONDS_TO_CONNECT)
        except errors.GetTimeoutError:
            raise
        except errors.RayTaskError as error:
            return Answer(error=f"{type(error.cause).__name__}: {error.cause}", lost=True)
        except errors.TaskCancelledError:
            return Answer(error="stopped by the user", lost=True)
        except errors.RayError as error:
            reason = f"its process, or its machine, is gone ({type(error).__name__}); go on with --resume"
            return Answer(error=reason, lost=True)
        return answer

    def _head_answers(self) -> bool:
        host, _, port = self._head.removeprefix("ray://").rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=SECONDS_BETWEEN_LOOKS).close()
        except OSError:
            if time.monotonic() - self._head_answered >= SECONDS_WITHOUT_A_HEAD:
                self._lose_head()
            return False
        self._head_answered = time.monotonic()
        return True

    def _lose_head(self) -> None:
        self.broken = (
            f"the head of the Ray cluster at {self._head} is gone; start a cluster again, and the same command with "
            "--resume goes on"
        )

    def _nowhere_to_run(self) -> bool:
        """Whether no machine of the cluster could take a task, and none has come for a while."""
        for node in self._ray.nodes():
            there = node["Resources"]
            if node["Alive"] and there.get("CPU", 0) >= 1 and there.get("GPU", 0) >= self._gpus:
                self._alone_since = None
                return False
        if self._alone_since is None:
            self._alone_since = time.monotonic()
            self._screen.say(f"no machine of the cluster has {self._share}; waiting for one")
        return time.monotonic() - self._alone_since >= SECONDS_WITHOUT_A_MACHINE

    def _give_up(self, reason: str) -> list[tuple[str, Message | Answer]]:
        if not self.broken:
            for reference in self._pending:
                self._ray.cancel(reference, force=True)
        keys = list(self._pending.values())
        self._pending.clear()
        return [(key, Answer(error=reason, lost=True)) for key in keys]


def connect(address: str | None) -> Any:
    """The module `ray`, connected to a cluster, or to one that is started here; raises as `Ray`."""
    # Ray reports its use to its makers unless told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is not None and has_token():
        # `ray start` protects a cluster where there is a token, and joining one does not look for it unasked.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtraError("--executor ray", "ray") from error
    try:
        if address not in (None, "auto"):
            _knock(str(address))
        dashboard = False if address is None else None
        ray.init(address or "local", include_dashboard=dashboard, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError) as error:
        raise MissingResourceError(f"--ray-address {address}: no Ray cluster there ({error}); {GUARDED}") from error
    return ray


def has_token() -> bool:
    """Whether there is a token for clusters that want one, in any of the places where Ray looks for it."""
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return named or (Path.home() / ".ray" / "auth_token").is_file()


def _knock(address: str) -> None:
    """See that somebody answers at the address: Ray itself ends the whole process where nobody does."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise InputError(f"--ray-address {address}: write auto, HOST:PORT or ray://HOST:PORT")
    socket.create_connection((host, int(port)), timeout=SECONDS_TO_CONNECT).close()


def _gpus_for_each(ray: Any, requests: Sequence[Request], wanted: float | None) -> float:
    there = float(ray.cluster_resources().get("GPU", 0))
    if wanted is None:
        return 1.0 if there and any(request.device != "cpu" for request in requests) else 0.0
    if wanted > there:
        raise InputError(f"--gpus-per-run {wanted:g}: the cluster has {there:g} GPUs")
    if wanted > 1 and wanted != int(wanted):
        raise InputError(f"--gpus-per-run {wanted:g}: a share of one GPU (0.25) or a whole number of them")
    return wanted


def _remotes(ray: Any, gpus: float, entry: Entry) -> tuple[Any, Any]:
    """The mailbox in which tasks leave what they say, and what a task is."""

    class Mailbox:
        def __init__(self) -> None:
            self.held: list[tuple[str, Message]] = []

        def put(self, key: str, message: Message) -> None:
            self.held.append((key, message))

        def take(self) -> list[tuple[str, Message]]:
            held, self.held = self.held, []
            return held

    def work(request: Request, mailbox: Any, key: str) -> Answer:
        answer = entry(request, lambda message: mailbox.put.remote(key, message))
        # Calls of one caller arrive in order: once this one has, the queue can hear everything the run has said.
        ray.get(mailbox.put.remote(key, {}))
        return answer

    # The mailbox stands where the queue is: it must not go down with a machine that only runs rows.
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    # A task whose process dies is not repeated behind our back: its run has to be resumed, not begun.
    return (
        ray.remote(num_cpus=0, scheduling_strategy=here)(Mailbox).remote(),
        ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(work),
    )
