"""What a run tells its callback, as plain values that travel from its process to the queue's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from meta_spliceai.experiments.run.callback import Callback

Message = dict[str, Any]

SECONDS_BETWEEN_ADVANCES = 0.25


class Sender:
    """A callback that turns everything it hears into messages."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self.send = send

    def say(self, line: str) -> None:
        self.send({"say": line})

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Send a step, its advances a few times a second, and its end."""
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
