"""A process that runs one row after the other for a queue: requests come in on standard input, messages go out on
standard output, one JSON object a line. Whatever else is printed goes to standard error.

The process stops at SIGINT, at SIGTERM, and when standard input is closed (its queue is gone): a run in progress keeps
what is done and is marked interrupted.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import signal
import sys
import threading
from typing import Any, NoReturn

import torch

from meta_spliceai.experiments.executors.messages import Sender
from meta_spliceai.experiments.executors.request import Answer, Request, carry_out

EXIT_INTERRUPTED = 130


class _Inbox:
    """Lines of standard input, read in the background so that its end is noticed while a row runs."""

    def __init__(self) -> None:
        self.requests: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.reason = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            message = json.loads(line)
            if "stop" in message:
                self.stop(message["stop"])
            else:
                self.requests.put(message)
        self.stop("the queue that started it is gone")

    def stop(self, reason: str) -> None:
        """Interrupt the main thread."""
        self.reason = self.reason or reason
        self.requests.put(None)
        os.kill(os.getpid(), signal.SIGINT)


def main() -> NoReturn:
    """Serve requests until there are no more."""
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def send(message: dict[str, Any]) -> None:
        try:
            channel.write(json.dumps(message, ensure_ascii=False) + "\n")
            channel.flush()
        except BrokenPipeError:
            return  # The queue is gone; the end of standard input stops the run.

    inbox: _Inbox | None = None

    def interrupt(number: int, _: Any) -> None:
        # Once only: what is done after the first signal is the tidying up, which a second one must not cut short.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        told = inbox.reason if inbox is not None else ""
        raise KeyboardInterrupt(told or ("told to stop (SIGTERM)" if number == signal.SIGTERM else ""))

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        inbox = _Inbox()
        send({"ready": os.getpid()})
        while (message := inbox.requests.get()) is not None:
            answer = carry_out(Request.from_json(message), Sender(send))
            send({"answer": vars(answer)})
            _tidy()
    except KeyboardInterrupt as stopped:
        send({"answer": vars(Answer(error=str(stopped) or "stopped by the user")), "interrupted": True})
        # The reading thread still holds standard input, so the process ends without waiting for it.
        channel.flush()
        os._exit(EXIT_INTERRUPTED)
    os._exit(0)


def _tidy() -> None:
    """Give the device's memory back, so that the next row, or another process, can have it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
