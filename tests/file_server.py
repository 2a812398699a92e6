"""A web server on 127.0.0.1 that serves bytes from memory, with the faults that real ones have."""

from __future__ import annotations

import http.server
import threading
from types import TracebackType


class FileServer:
    """Serves `files` by path ("/a/b.txt").

    Attributes:
        address: without a slash at the end.
        files: path: bytes.
        ranges: answers Range requests with the part asked for; otherwise always with the whole.
        breaks: for each coming response, after how many bytes of its body the connection ends; empty: it does not.
        page: sent as text/html instead of any file, with status 200, if not empty.
        asked: (path, Range header or "") of every request.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges = True
        self.breaks: list[int] = []
        self.page = b""
        self.asked: list[tuple[str, str]] = []
        self._listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self._listening.server_address[1]}"

    def __enter__(self) -> FileServer:
        threading.Thread(target=self._listening.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._listening.shutdown()
        self._listening.server_close()

    def _handler(server) -> type[http.server.BaseHTTPRequestHandler]:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range", "")
                server.asked.append((self.path, wanted))
                if server.page:
                    self.answer(200, server.page, "text/html; charset=utf-8")
                    return
                content = server.files.get(self.path)
                if content is None:
                    self.answer(404, b"<html>not here</html>", "text/html")
                    return
                if not (wanted and server.ranges):
                    self.answer(200, content)
                    return
                first = int(wanted.removeprefix("bytes=").split("-")[0])
                if first >= len(content):
                    self.answer(416, b"", place=f"bytes */{len(content)}")
                else:
                    self.answer(206, content[first:], place=f"bytes {first}-{len(content) - 1}/{len(content)}")

            def answer(self, status: int, body: bytes, kind: str = "application/octet-stream", place: str = "") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if place:
                    self.send_header("Content-Range", place)
                self.end_headers()
                self.wfile.write(body[: server.breaks.pop(0)] if server.breaks else body)
                self.close_connection = True

            def log_message(self, *arguments: object) -> None:
                pass

        return Handler
