"""The site served on this machine, updated while runs are in progress.

Only pages whose runs have changed are written again. The server listens on 127.0.0.1 only, gives up on connections that
say nothing, and holds a bounded number of them.
"""

from __future__ import annotations

import errno
import json
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from meta_spliceai.errors import InputError, MetaSpliceAIError
from meta_spliceai.experiments.report.site import STATE, build_report, running
from meta_spliceai.experiments.spec.rows import OWN_FOLDER
from meta_spliceai.experiments.store.ledger import LEDGER
from meta_spliceai.experiments.store.workspace import PROGRESS, Workspace
from meta_spliceai.files import atomic_write

if TYPE_CHECKING:
    from meta_spliceai.experiments.plan.choose import Plan  # brings PyTorch

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
SECONDS_BETWEEN_LOOKS = 2.0
MOST_CONNECTIONS = 32
SECONDS_OF_SILENCE = 10  # after which a connection that has not asked for a whole page is closed

Signature = tuple[tuple[str, int, int], ...]


class LiveSite:
    """The site's pages in a folder, and what they were made from.

    Args:
        plan: plans what is left (see `what_is_left`); asked again only when a run has ended or a row has changed.
    """

    def __init__(self, workspace: Workspace, folder: Path, plan: Callable[[Workspace], Plan] | None = None) -> None:
        self.workspace, self.folder, self.plan = workspace, folder, plan
        self.version, self.error = 0, ""
        self._built_from: Signature | None = None
        self._planned_from: Signature | None = None
        self._planned: Plan | None = None

    def refresh(self) -> bool:
        """Bring the site up to date if anything but the progress of runs has changed; whether it did.

        Open pages ask for the file `STATE`: the version, what is being worked on, why the newest could not be built.
        """
        found = self._signature()
        changed = found != self._built_from and self._build(found)
        own = Workspace(self.workspace.root)
        with atomic_write(self.folder / STATE) as handle:
            json.dump({"version": self.version, "running": list(running(own)), "error": self.error}, handle)
        return changed

    def _build(self, found: Signature) -> bool:
        try:
            ended = tuple(entry for entry in found if not entry[0].endswith("run.json"))
            if self.plan is not None and ended != self._planned_from:
                self._planned, self._planned_from = self.plan(self.workspace), ended
            build_report(self.workspace, self.folder, plan=self._planned, live=True)
            self.error = ""
            self.version += 1
        except MetaSpliceAIError as error:
            # A row that is being typed, say: the last whole version stays, and open pages say that it is not current.
            if not self.version:
                raise
            self.error = str(error)
        self._built_from = found
        return not self.error

    def _signature(self) -> Signature:
        """Name, time and size of every file that a page is made of, except how far runs are."""
        runs = self.workspace.runs()
        looked = [folder / LEDGER for folder in (self.workspace.root, *self.workspace.ledgers)]
        looked += [*(run.path / "run.json" for run in runs), *sorted(OWN_FOLDER.glob("*.y*ml"))]
        found = []
        for path in looked:
            with suppress(FileNotFoundError):
                status = path.stat()
                found.append((str(path), status.st_mtime_ns, status.st_size))
        # A process that was killed leaves its file as it was: the state it is in now counts too.
        found += [(f"{run.name} {run.state()}", 0, 0) for run in runs if (run.path / PROGRESS).exists()]
        return tuple(found)


class _Server(ThreadingHTTPServer):
    """At most `MOST_CONNECTIONS` at a time; one more waits until another ends or has been silent too long."""

    request_queue_size = MOST_CONNECTIONS

    def __init__(self, address: tuple[str, int], handler: Any) -> None:
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._free.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that went away in the middle of an answer is no error; anything else is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def make_server(site: LiveSite, port: int) -> ThreadingHTTPServer:
    """A server of the site on this machine; `port` 0 takes any free one.

    Raises:
        InputError: the port is taken, or may not be used.
    """

    class Handler(SimpleHTTPRequestHandler):
        server_version, sys_version = "meta-spliceai", ""
        timeout = SECONDS_OF_SILENCE

        def __init__(self, *given: Any) -> None:
            super().__init__(*given, directory=str(site.folder))

        def send_head(self) -> Any:
            # Another site's page could be made to resolve to this machine; it would then ask under its own name.
            if self.headers.get("Host", "").rpartition(":")[0].strip() not in NAMES:
                self.send_error(HTTPStatus.FORBIDDEN, "only asked for as localhost")
                return None
            path = unquote(urlsplit(self.path).path)
            if (
                "\0" in path or "/." in path or (path != "/" and path.endswith("/"))
            ):  # no page: a hidden file, or a list of files
                self.send_error(HTTPStatus.NOT_FOUND, "no such page")
                return None
            return super().send_head()

        def end_headers(self) -> None:
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            super().end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: open pages ask every two seconds."""

    try:
        return _Server((HOST, port), Handler)
    except OSError as error:
        why = {
            errno.EADDRINUSE: "another program listens there; give another one, or 0 for any",
            errno.EACCES: "may not be used by this user; give one above 1023",
        }
        raise InputError(f"--port {port}: {why.get(error.errno or 0, error.strerror)}") from error


def serve(site: LiveSite, server: ThreadingHTTPServer, told: Callable[[str], None]) -> None:
    """Answer until KeyboardInterrupt, and look for changes meanwhile; `told` hears a line for each new version, and for
    each one that could not be built."""
    answering = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)
    answering.start()
    said = ""
    try:
        while True:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            if site.refresh():
                told(f"version {site.version}")
            if site.error not in ("", said):
                told(f"not rebuilt: {site.error}")
            said = site.error
    finally:
        server.shutdown()
