"""One queue for all executors: rows as values that can be sent between processes and machines, scheduling, messages
from running rows, and an outcome for every row."""

from __future__ import annotations

import json
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from meta_spliceai.errors import MetaSpliceAIError, RunError
from meta_spliceai.experiments.run.build import require_encoder_weights
from meta_spliceai.experiments.run.callback import TRACKING, Callback, Tracked
from meta_spliceai.experiments.run.prepare import Clock, Work, prepare
from meta_spliceai.experiments.run.procedures import train_fold
from meta_spliceai.experiments.run.runner import Outcome, place_of, run_experiment
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.spec.rows import member_of
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.splice_engine.meta_layer.features import choose_device

TIME_LIMIT = "stopped at the time limit"
SECONDS_TO_STOP = 60.0  # how long runs may take to write down what is done after they were told to stop
SECONDS_BETWEEN_LOOKS = 600.0

Message = dict[str, Any]
"""What a run tells its callback, as plain values: a line, or facts."""


@dataclass(frozen=True)
class Request:
    """A row and everything that its run needs to know.

    Attributes:
        rows: the catalogue, for members of ensembles.
        runs_dir: folder of runs and ledger.
        device: "auto", "cpu" or "cuda".
        resume, fresh: see `run_experiment`.
        track, tracking_uri: loggers beside the ledger, and where they write to (see `Tracked`).
        price_per_hour: dollars an hour of the machine, where it is rented.
        part: None for the whole run, 0 for what its folds share, n for its nth fold.
    """

    spec: ExperimentSpec
    rows: dict[str, ExperimentSpec]
    runs_dir: Path
    device: str = "auto"
    resume: bool = False
    fresh: bool = False
    track: tuple[str, ...] = ()
    tracking_uri: str | None = None
    price_per_hour: float | None = None
    part: int | None = None


@dataclass(frozen=True)
class Answer:
    """What became of a request.

    Attributes:
        run: name of the run's folder; None where it never began.
        reused: it was finished before.
        error: why it failed, for the user; None for a finished run or part.
        folds: for part 0: folds that can be trained as parts.
        lost: its process is gone and may have left the run without a state.
    """

    run: str | None = None
    reused: bool = False
    error: str | None = None
    folds: int = 0
    lost: bool = False

    def outcome(self, request: Request) -> Outcome:
        """As the runner itself would have returned it."""
        run = Workspace(request.runs_dir).run(self.run) if self.run is not None else None
        return Outcome(request.spec, run, self.reused, RunError(self.error) if self.error is not None else None)


def carry_out(request: Request, callback: Callback) -> Answer:
    """Do what the request asks for in this process; every executor ends up here.

    A failure that the user can act on is an answer; a defect keeps its traceback. KeyboardInterrupt: it was stopped,
    and what is done is kept.
    """
    workspace = Workspace(request.runs_dir)
    try:
        if request.part is not None:
            return _carry_out_part(request, request.part, workspace, callback)
        if request.track:
            callback = Tracked(callback, request.track, workspace.root / TRACKING, request.tracking_uri)
        outcome = run_experiment(
            request.spec,
            workspace,
            request.device,
            request.resume,
            fresh=request.fresh,
            rows=request.rows,
            callback=callback,
            price_per_hour=request.price_per_hour,
        )
    except MetaSpliceAIError as error:
        return Answer(error=str(error))
    return Answer(outcome.run.name if outcome.run is not None else None, outcome.reused)


def _carry_out_part(request: Request, part: int, workspace: Workspace, callback: Callback) -> Answer:
    """What the folds of a cross-validation share: caches are filled (base scores), so that parts in parallel do not
    compute them twice. Or one fold, trained into its own folder; the run that is begun afterwards finds it finished.

    No folds are answered where the run is finished, or may not go on as it is: the run itself then says why, or throws
    away what is there.
    """
    spec, clock = request.spec, Clock()
    run, loaded = place_of(spec, workspace, request.rows)
    device = str(choose_device(request.device))
    if part > 0:
        work = Work(run, spec, request.rows, workspace, device, True, callback, clock)
        train_fold(work, prepare(spec, loaded, device, callback, clock), part)
        return Answer()
    resume, state = request.resume, run.state()
    if state == "new" or (state == "interrupted" and resume) or (state == "failed" and (resume or not request.fresh)):
        require_encoder_weights(spec)
        return Answer(folds=len(prepare(spec, loaded, device, callback, clock).splits))
    return Answer()


class Sender(Callback):
    """A callback that turns everything it hears into messages."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self.send = send

    def say(self, line: str) -> None:
        self.send({"say": line})

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        self.send({"tell": kind, "facts": facts})


class Receiver:
    """Turns messages back into calls of a callback; `run` is the folder that the run has told of."""

    def __init__(self, callback: Callback) -> None:
        self.callback = callback
        self.run: str | None = None
        self._open: set[str] = set()

    def receive(self, message: Message) -> None:
        if "say" in message:
            self.callback.say(message["say"])
        elif "tell" in message:
            kind, facts = message["tell"], message["facts"]
            if kind == "run":
                self.run = facts["run"]
            elif kind == "step":
                self._open.add(facts["step"])
            elif kind == "step-end":
                self._open.discard(facts["step"])
            self.callback.tell(kind, facts)

    def close(self) -> None:
        """End the steps that the other side has left open, because it is gone."""
        for step in self._open:
            self.callback.tell("step-end", {"step": step, "seconds": None})


@dataclass
class Task:
    """One run, or one part of a run.

    Attributes:
        key: its name in the queue; equal for equal runs.
        needs: keys of tasks that come before: members of an ensemble, parts of a cross-validation.
        asked_for: the user named the row; false for a member that only an ensemble needs.
        outcome: what became of it; None until then.
    """

    key: str
    request: Request
    needs: tuple[str, ...] = ()
    asked_for: bool = False
    outcome: Outcome | None = field(default=None, compare=False)

    @property
    def label(self) -> str:
        """What the user sees: the row's id, and which of its folds (0: what they share)."""
        part = self.request.part
        return self.request.spec.id if part is None else f"{self.request.spec.id} fold {part}"

    def fold(self, number: int) -> Task:
        return Task(f"{self.key} part {number}", replace(self.request, part=number))


def make_tasks(requests: Sequence[Request], folds_apart: bool = False) -> dict[str, Task]:
    """Every run once, by key, members before the ensembles that need them; else in the order given. Where folds of a
    cross-validation are tasks, how many there are is known when part 0 is done."""
    tasks: dict[str, Task] = {}

    def add(request: Request) -> Task:
        spec = request.spec
        key = json.dumps(spec.identity(), sort_keys=True)
        if key in tasks:
            return tasks[key]
        needs = []
        for member in spec.ensemble.members if spec.ensemble is not None else ():
            inner = replace(request, spec=member_of(spec, member, request.rows), resume=True, fresh=False)
            needs.append(add(inner).key)
        task = Task(key, request)
        if folds_apart and spec.procedure == "cross-validation":
            shared = task.fold(0)
            tasks[shared.key] = shared
            needs.append(shared.key)
        task.needs = tuple(needs)
        tasks[key] = task
        return task

    for request in requests:
        add(request).asked_for = True
    return tasks


class Executor(ABC):
    """A place where tasks run; a context manager. Whatever still runs when the context ends is killed.

    Attributes:
        folds_apart: the folds of a cross-validation are tasks of their own.
        broken: why nothing can run here any more; empty while it can.
    """

    folds_apart = False
    broken = ""

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def has_room(self) -> bool:
        """Whether another task may be begun now; always where a scheduler lets tasks wait."""
        return True

    @abstractmethod
    def begin(self, task: Task, callback: Callback) -> None:
        """Begin a task; `callback` hears of it where it runs in this process."""

    @abstractmethod
    def collect(self, seconds: float) -> list[tuple[str, Message | Answer]]:
        """What tasks have said and answered, by key, in order; waits for something at most so long."""

    @abstractmethod
    def interrupt(self, reason: str) -> None:
        """Tell every task to write down what is done, and to stop; their answers are still collected."""


class InProcess(Executor):
    """This very process, one task after the other."""

    def __init__(self) -> None:
        self._answers: list[tuple[str, Message | Answer]] = []

    def has_room(self) -> bool:
        return not self._answers

    def begin(self, task: Task, callback: Callback) -> None:
        try:
            self._answers.append((task.key, carry_out(task.request, callback)))
        except KeyboardInterrupt as stopped:
            self._answers.append((task.key, Answer(error=str(stopped) or "stopped by the user")))
            raise

    def collect(self, seconds: float) -> list[tuple[str, Message | Answer]]:
        answers, self._answers = self._answers, []
        return answers

    def interrupt(self, reason: str) -> None:
        return  # nothing runs while somebody asks


Admit = Callable[[Request, float], str]
"""Asked with the seconds left before a row begins, where there is a deadline: why it may not begin, or nothing."""


def run_queue(
    requests: Sequence[Request],
    executor: Executor,
    screen: Callback,
    *,
    deadline: float | None = None,
    admit: Admit | None = None,
) -> list[Outcome]:
    """Run rows; ensembles wait for their members, and a row that fails stops no other.

    Args:
        screen: shows all rows; lines about the queue that begin with "error" say what went wrong.
        deadline: a time of `time.monotonic()` at which whatever runs is interrupted and nothing new begins.
        admit: says which rows may not begin; they have no outcome.

    Returns:
        the outcome of every row that was begun: first members that only ensembles need, then the rows as given.

    Raises:
        InputError: the folder of runs cannot be written to.
        KeyboardInterrupt: the user, or SIGTERM, stopped the queue; every run in progress is marked interrupted.
    """
    queue = _Queue(make_tasks(requests, executor.folds_apart), executor, screen)
    with executor, sigterm_as_ctrl_c():
        for root in {request.runs_dir for request in requests}:
            # Of a folder that holds runs some may be finished: each row sees for itself whether it has to write.
            if not Workspace(root).own_runs():
                Workspace(root).require_writable()
        try:
            queue.run(deadline, admit)
        except KeyboardInterrupt as stopped:
            queue.stop(str(stopped) or "stopped by the user")
            raise
    done = [task for task in queue.tasks.values() if task.request.part is None]
    return [task.outcome for task in sorted(done, key=lambda task: task.asked_for) if task.outcome is not None]


class _Queue:
    def __init__(self, tasks: dict[str, Task], executor: Executor, screen: Callback) -> None:
        self.tasks, self.executor, self.screen = tasks, executor, screen
        self.begun: set[str] = set()
        self.running: dict[str, Receiver] = {}
        self.stopping = False

    def run(self, deadline: float | None, admit: Admit | None) -> None:
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if left is None or left > 0:
                self._begin(left, admit)
            if not self.running:
                return
            self._collect(SECONDS_BETWEEN_LOOKS if left is None else left)
            if deadline is not None and time.monotonic() >= deadline:
                self.stop(TIME_LIMIT)

    def stop(self, reason: str) -> None:
        """Interrupt every run, and wait until it has written down what is done."""
        self.stopping = True
        self.executor.interrupt(reason)
        limit = time.monotonic() + SECONDS_TO_STOP
        while self.running and (left := limit - time.monotonic()) > 0:
            self._collect(left)
        for key in list(self.running):
            self._ended(self.tasks[key], Answer(error=reason, lost=True))

    def _begin(self, left: float | None, admit: Admit | None) -> None:
        while self.executor.has_room() and (task := self._next()) is not None:
            self.begun.add(task.key)
            if left is not None and admit is not None and (refused := admit(task.request, left)):
                self.screen.say(f"{task.label}: {refused}")
                continue
            number = f" {len(self.begun)} of {len(self.tasks)}:" if len(self.tasks) > 1 else ""
            self.screen.say(f"row{number} {task.label}")
            if reason := self._hindrance(task):
                self._ended(task, Answer(error=reason))
                continue
            callback = self.screen.row(task.label)
            self.running[task.key] = Receiver(callback)
            self.executor.begin(task, callback)

    def _next(self) -> Task | None:
        """The first task that has not begun and need not wait."""
        for key, task in self.tasks.items():
            if key not in self.begun and all(self.tasks[need].outcome is not None for need in task.needs):
                return task
        return None

    def _hindrance(self, task: Task) -> str:
        """Why a task cannot begin; empty where it can. A fold that failed is tried again by its row."""
        root = task.request.runs_dir
        if not root.is_dir():
            # Where a mount is gone, the next row would begin a new folder of runs on the disk below it.
            return f"the folder of runs {root} is gone; put it back and go on with --resume"
        for need in (self.tasks[key] for key in task.needs if not self.executor.broken):
            if need.request.part is None and need.outcome is not None and need.outcome.error is not None:
                return f"its member '{need.label}' failed: {need.outcome.error}"
        return self.executor.broken

    def _collect(self, seconds: float) -> None:
        for key, message in self.executor.collect(seconds):
            if key not in self.running:
                continue
            if isinstance(message, Answer):
                self._ended(self.tasks[key], message)
            else:
                self.running[key].receive(message)

    def _ended(self, task: Task, answer: Answer) -> None:
        receiver = self.running.pop(task.key, None)
        if receiver is not None:
            receiver.close()
            answer = replace(answer, run=answer.run or receiver.run)
        if answer.lost and answer.run is not None:
            workspace = Workspace(task.request.runs_dir)
            answer = replace(answer, error=note_lost_run(workspace, answer.run, answer.error or ""))
        outcome = answer.outcome(task.request)
        # Until its folder is known a run has no state, and nothing to fail with but the stop.
        unfinished = outcome.run is None or outcome.run.state() == "interrupted"
        task.outcome = replace(outcome, stopped=self.stopping and outcome.failed and unfinished)
        if answer.error is not None and self.stopping:
            self.screen.say(f"{task.label}: {answer.error}; go on with --resume")
        elif answer.error is not None:
            self.screen.say(f"error: {task.label}: {answer.error}")
        elif answer.folds:
            self._add_folds(task, answer.folds)

    def _add_folds(self, prepared: Task, folds: int) -> None:
        """Put in a task for each fold of the row whose part 0 is done; the row then waits for all of them."""
        row = next(task for task in self.tasks.values() if prepared.key in task.needs)
        parts = [row.fold(number) for number in range(1, folds + 1)]
        row.needs += tuple(part.key for part in parts)
        tasks = list(self.tasks.values())
        at = tasks.index(row)
        self.tasks = {task.key: task for task in (*tasks[:at], *parts, *tasks[at:])}


def note_lost_run(workspace: Workspace, name: str, reason: str) -> str:
    """Record the state and reason of a run whose process is gone and could not do so itself; returns the recorded
    reason."""
    run = workspace.run(name)
    record = run.record()
    if record.get("state") != "running":
        return str(record.get("reason") or reason)
    try:
        with run.taken():
            run.mark("interrupted", reason)
            kept = {key: record.get(key) for key in ("row", "smoke", "seed")}
            workspace.ledger.append({"event": "interrupted", "run": name, **kept, "reason": reason})
    except (OSError, RunError) as error:
        return f"{reason} ({error})"
    return reason


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """SIGTERM, with which a scheduler or a rented machine announces its end, does what Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt("told to stop (SIGTERM)")

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
