from __future__ import annotations

import hashlib
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from meta_spliceai import resources
from meta_spliceai.errors import InputError, IntegrityError, MissingExtraError, MissingResourceError
from meta_spliceai.resources import Resource, ResourceFile, registry

CONTENT = b"bases\n"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry, "_RESOURCES", {})
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("META_SPLICEAI_MIRROR", raising=False)
    monkeypatch.delenv("META_SPLICEAI_OFFLINE", raising=False)


def register(url: str | None = None, content: bytes = CONTENT) -> Resource:
    entry = ResourceFile("toy/file.txt", hashlib.sha256(content).hexdigest(), len(content), url)
    return resources.register(Resource("toy", "A toy", "nowhere", "none stated", "nobody", (entry,), "ask a friend"))


def put(folder: Path, content: bytes = CONTENT) -> Path:
    path = folder / "toy" / "file.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A web server that serves CONTENT under every path, and the list of paths asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}/file.txt", asked
        listening.shutdown()


def test_mirror_comes_first_and_its_folders_are_tried_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: tuple[str, list[str]]
) -> None:
    register(server[0])
    expected = put(tmp_path / "second")
    put(tmp_path / "cache" / "resources" / "toy")
    monkeypatch.setenv("META_SPLICEAI_MIRROR", os.pathsep.join([str(tmp_path / "first"), str(tmp_path / "second")]))
    assert resources.resolve_file("toy", "toy/file.txt") == expected
    assert server[1] == []


def test_downloads_once_then_reads_the_cache(server: tuple[str, list[str]]) -> None:
    register(server[0])
    first = resources.resolve_file("toy", "toy/file.txt")
    assert first.read_bytes() == CONTENT
    assert resources.resolve_file("toy", "toy/file.txt") == first
    assert server[1] == ["/file.txt"]


def test_a_download_with_other_bytes_is_refused_and_not_kept(server: tuple[str, list[str]], tmp_path: Path) -> None:
    register(server[0], content=b"something else")
    with pytest.raises(IntegrityError, match="does not have the expected SHA-256"):
        resources.resolve_file("toy", "toy/file.txt")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_damaged_mirror_is_an_error_and_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register()
    put(tmp_path / "mirror", CONTENT[:-1])
    put(tmp_path / "cache" / "resources" / "toy")
    monkeypatch.setenv("META_SPLICEAI_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(IntegrityError, match=r"toy: toy/file.txt is not the file it should be: .*\(5 bytes\)"):
        resources.resolve_file("toy", "toy/file.txt")


def test_a_file_changed_after_the_first_check_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register()
    path = put(tmp_path / "mirror")
    monkeypatch.setenv("META_SPLICEAI_MIRROR", str(tmp_path / "mirror"))
    resources.resolve_file("toy", "toy/file.txt")
    path.write_bytes(b"damage")
    os.utime(path, ns=(1, 1))
    with pytest.raises(IntegrityError):
        resources.resolve_file("toy", "toy/file.txt")


def test_offline_names_the_ways_out(monkeypatch: pytest.MonkeyPatch, server: tuple[str, list[str]]) -> None:
    register(server[0])
    monkeypatch.setenv("META_SPLICEAI_OFFLINE", "1")
    with pytest.raises(
        MissingResourceError, match=r"META_SPLICEAI_MIRROR=<folder>; or go online once .*; or ask a friend"
    ):
        resources.resolve_file("toy", "toy/file.txt")
    assert server[1] == []


def test_no_connection_is_a_clear_error() -> None:
    register("http://127.0.0.1:9/file.txt")  # the discard port: nobody listens
    with pytest.raises(
        MissingResourceError, match=r"download from http://127.0.0.1:9/file.txt failed \(ConnectionError\)"
    ):
        resources.resolve_file("toy", "toy/file.txt")


def test_no_public_address() -> None:
    register(None)
    with pytest.raises(MissingResourceError, match="no public address"):
        resources.resolve_file("toy", "toy/file.txt")


def test_unknown_names_are_named_with_the_nearest() -> None:
    register()
    with pytest.raises(InputError, match="unknown resource 'toi'; did you mean toy"):
        resources.resolve_file("toi", "toy/file.txt")
    with pytest.raises(InputError, match=r"unknown file 'toy/fil.txt' in resource toy; did you mean toy/file.txt"):
        resources.resolve_file("toy", "toy/fil.txt")


def test_two_resources_cannot_share_a_name() -> None:
    register()
    register()  # the same again is no clash
    with pytest.raises(ValueError, match="two resources are named 'toy'"):
        register("http://elsewhere")


def test_packaged_file() -> None:
    assert resources.packaged_file("pytest", "pytest/__init__.py").read_text()
    with pytest.raises(IntegrityError, match=r"pytest .* has no file pytest/nothing.h5"):
        resources.packaged_file("pytest", "pytest/nothing.h5")
    with pytest.raises(MissingExtraError, match=r"meta-spliceai\[quickstart\]"):
        resources.packaged_file("no-such-package-here", "a/b.h5")
