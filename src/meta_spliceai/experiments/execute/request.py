"""One row to be run, as a value that travels between processes and machines; what it says meanwhile, and what came of
it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meta_spliceai.errors import MetaSpliceAIError, RunError
from meta_spliceai.experiments.run.callback import Callback
from meta_spliceai.experiments.run.runner import Outcome, prepare_for_parts, run_experiment, train_part
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.experiments.tracking import tracked

Message = dict[str, Any]
"""What a run tells its callback, as plain values: a line, a stage's begin, advance and end, or facts."""

SECONDS_BETWEEN_ADVANCES = 0.25


@dataclass(frozen=True)
class Request:
    """A row and everything that its run needs to know.

    Attributes:
        rows: the catalogue, for members of ensembles.
        runs_dir: folder of runs and ledger.
        device: "auto", "cpu" or "cuda".
        resume, fresh: see `run_experiment`.
        track, tracking_uri: loggers beside the ledger, and where they write to (see `tracking`).
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

    A failure that the user can act on is an answer; a defect keeps its traceback.

    Raises:
        KeyboardInterrupt: it was stopped; what is done is kept.
    """
    spec, workspace, device = request.spec, Workspace(request.runs_dir), request.device
    try:
        if request.part == 0:
            folds = prepare_for_parts(spec, workspace, device, request.resume, request.fresh, request.rows, callback)
            return Answer(folds=folds)
        if request.part is not None:
            train_part(spec, workspace, request.part, device, request.rows, callback)
            return Answer()
        outcome = run_experiment(
            spec,
            workspace,
            device,
            request.resume,
            fresh=request.fresh,
            rows=request.rows,
            callback=tracked(callback, request.track, workspace, request.tracking_uri),
            price_per_hour=request.price_per_hour,
        )
    except MetaSpliceAIError as error:
        return Answer(error=str(error))
    return Answer(outcome.run.name if outcome.run is not None else None, outcome.reused)


class Sender:
    """A callback that turns everything it hears into messages; advances are sent a few times a second."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self.send = send

    def say(self, line: str) -> None:
        self.send({"say": line})

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        self.send({"stage": name, "total": total})
        held, sent = 0, time.monotonic()

        def advance(units: int) -> None:
            nonlocal held, sent
            held += units
            if time.monotonic() - sent >= SECONDS_BETWEEN_ADVANCES:
                self.send({"advance": held})
                held, sent = 0, time.monotonic()

        try:
            yield advance
        finally:
            self.send({"advance": held})
            self.send({"stage-end": name})

    def tell(self, kind: str, facts: dict[str, Any]) -> None:
        self.send({"tell": kind, "facts": facts})


class Receiver:
    """Turns messages back into calls of a callback; `run` is the folder that the run has told of."""

    def __init__(self, callback: Callback) -> None:
        self.callback = callback
        self.run: str | None = None
        self._stages: list[tuple[ExitStack, Callable[[int], None]]] = []

    def receive(self, message: Message) -> None:
        if "say" in message:
            self.callback.say(message["say"])
        elif "stage" in message:
            stack = ExitStack()
            self._stages.append((stack, stack.enter_context(self.callback.stage(message["stage"], message["total"]))))
        elif "advance" in message and self._stages:
            self._stages[-1][1](message["advance"])
        elif "stage-end" in message and self._stages:
            self._stages.pop()[0].close()
        elif "tell" in message:
            if message["tell"] == "run":
                self.run = message["facts"]["run"]
            self.callback.tell(message["tell"], message["facts"])

    def close(self) -> None:
        """End whatever the other side has left open, because it is gone."""
        while self._stages:
            self._stages.pop()[0].close()
