"""The site on this machine, rebuilt while runs go on.

The server answers from memory and listens on 127.0.0.1 only. The folder of runs is looked at now and then: a new,
ended or changed run makes a new version of the site, which open pages fetch; a run that is only further than before
moves its bar on open pages.
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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from meta_spliceai.errors import InputError, MetaSpliceAIError, RunError
from meta_spliceai.experiments.progress_file import PROGRESS
from meta_spliceai.experiments.progress_of_rows import state_of_rows
from meta_spliceai.experiments.report.collect import collect_runs
from meta_spliceai.experiments.report.left import NOTHING_PLANNED, Left, what_is_left
from meta_spliceai.experiments.report.site import INDEX, STATE, render_site, running
from meta_spliceai.experiments.rows import OWN_FOLDER, load_rows
from meta_spliceai.experiments.workspace import Workspace

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
SECONDS_BETWEEN_LOOKS = 2.0
TYPES = {".html": "text/html; charset=utf-8", ".json": "application/json"}

Signature = tuple[tuple[str, int, int], ...]


class LiveSite:
    """The site's pages in memory, and what they were made from.

    Args:
        workspace: the folder of runs.
        plan: ask the planner what is left; done again only when a run has ended or a row has changed.
    """

    def __init__(self, workspace: Workspace, *, plan: bool = True) -> None:
        self.workspace = workspace
        self.plan = plan
        self.version = 0
        self.error = ""
        self._pages: dict[str, bytes] = {}
        self._built_from: Signature | None = None
        self._planned_from: Signature | None = None
        self._left: Left = NOTHING_PLANNED
        self._lock = threading.Lock()

    def page(self, name: str) -> bytes | None:
        """A page by its file name; None for one that is not there."""
        if name == STATE:
            return json.dumps(self.state()).encode()
        with self._lock:
            return self._pages.get(name)

    def state(self) -> dict[str, Any]:
        """What open pages ask for: version, what is being worked on, why the newest version could not be built."""
        going = [run for run in self.workspace.runs() if run.state() == "running"]
        records = (
            running(collect_runs(Workspace(self.workspace.root), only={run.name for run in going})) if going else []
        )
        return {"version": self.version, "running": records, "error": self.error}

    def refresh(self) -> bool:
        """Build the site anew if anything but the progress of runs has changed; whether it did."""
        found = self._signature()
        if found == self._built_from:
            return False
        try:
            ended = tuple(entry for entry in found if not entry[0].endswith("run.json"))
            if self.plan and ended != self._planned_from:
                rows = load_rows()
                self._left = what_is_left(state_of_rows(rows, self.workspace), self.workspace, rows)
                self._planned_from = ended
            pages = render_site(self.workspace, left=self._left, live=True)
        except MetaSpliceAIError as error:
            # A row that is being typed, say: the last whole version stays, and open pages say that it is not current.
            if not self._pages:
                raise
            self.error = str(error)
            self._built_from = found
            return False
        with self._lock:
            self._pages = {name: text.encode() for name, text in pages.items()}
        self.error = ""
        self._built_from = found
        self.version += 1
        return True

    def _signature(self) -> Signature:
        """Name, time and size of every file that a page is made of, except how far runs are."""
        looked = [folder / "ledger.jsonl" for folder in (self.workspace.root, *self.workspace.ledgers)]
        looked += [run.path / "run.json" for run in self.workspace.runs()]
        looked += sorted(OWN_FOLDER.glob("*.y*ml")) if OWN_FOLDER.is_dir() else []
        found = []
        for path in looked:
            with suppress(FileNotFoundError):
                status = path.stat()
                found.append((str(path), status.st_mtime_ns, status.st_size))
        # A process that was killed leaves its file as it was: the state it is in now counts too.
        found += [
            (f"{run.name} {run.state()}", 0, 0) for run in self.workspace.runs() if (run.path / PROGRESS).exists()
        ]
        return tuple(found)


def make_server(site: LiveSite, port: int) -> ThreadingHTTPServer:
    """A server of the site on this machine; `port` 0 takes any free one.

    Raises:
        InputError: the port is taken, or may not be used.
    """

    class Handler(BaseHTTPRequestHandler):
        server_version = "meta-spliceai"
        sys_version = ""

        def do_GET(self) -> None:
            # Another site's page could be made to resolve to this machine; it would then ask under its own name.
            if self.headers.get("Host", "").rpartition(":")[0].strip() not in NAMES:
                self.send_error(HTTPStatus.FORBIDDEN, "only asked for as localhost")
                return
            name = unquote(urlsplit(self.path).path).lstrip("/") or INDEX
            content = site.page(name)
            if content is None:
                self.send_error(HTTPStatus.NOT_FOUND, "no such page")
                return
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", TYPES.get(Path(name).suffix, "application/octet-stream"))
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: open pages ask every two seconds."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A browser that went away in the middle of an answer is no error; anything else is shown."""
            if not isinstance(sys.exc_info()[1], ConnectionError):
                super().handle_error(request, client_address)  # type: ignore[arg-type]

    try:
        return Server((HOST, port), Handler)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"--port {port}: another program listens there; give another one, or 0 for any") from error
        if error.errno == errno.EACCES:
            raise InputError(f"--port {port}: may not be used by this user; give one above 1023") from error
        raise RunError(f"--port {port}: {error.strerror}") from error


def serve(site: LiveSite, server: ThreadingHTTPServer, told: Callable[[str], None]) -> None:
    """Answer until Ctrl-C, and look for changes meanwhile.

    Args:
        site: built once already.
        server: see `make_server`; closed at the end.
        told: called with a line for each new version, and for each one that could not be built.
    """
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
        server.server_close()
