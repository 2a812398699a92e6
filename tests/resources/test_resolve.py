from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import pytest

from meta_spliceai import resources
from meta_spliceai.errors import InputError, IntegrityError, MissingExtraError, MissingResourceError
from meta_spliceai.resources import Resource, ResourceFile, registry
from meta_spliceai.resources.registry import DEVELOPMENT, ORIGINAL
from meta_spliceai.resources.resolve import mirror_addresses, mirror_folders
from tests.file_server import FileServer

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
def server(file_server: FileServer) -> tuple[str, list[tuple[str, str]]]:
    """Where CONTENT is served, and the list of what was asked for."""
    file_server.files["/file.txt"] = CONTENT
    return f"{file_server.address}/file.txt", file_server.asked


def test_mirror_comes_first_and_its_folders_are_tried_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: tuple[str, list[tuple[str, str]]]
) -> None:
    register(server[0])
    expected = put(tmp_path / "second")
    put(tmp_path / "cache" / "resources" / "toy")
    monkeypatch.setenv("META_SPLICEAI_MIRROR", os.pathsep.join([str(tmp_path / "first"), str(tmp_path / "second")]))
    assert resources.resolve_file("toy", "toy/file.txt") == expected
    assert server[1] == []


def test_downloads_once_then_reads_the_cache(server: tuple[str, list[tuple[str, str]]]) -> None:
    register(server[0])
    first = resources.resolve_file("toy", "toy/file.txt")
    assert first.read_bytes() == CONTENT
    assert resources.resolve_file("toy", "toy/file.txt") == first
    assert server[1] == [("/file.txt", "")]


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


def test_offline_names_the_ways_out(monkeypatch: pytest.MonkeyPatch, server: tuple[str, list[tuple[str, str]]]) -> None:
    register(server[0])
    monkeypatch.setenv("META_SPLICEAI_OFFLINE", "1")
    with pytest.raises(
        MissingResourceError,
        match=r"META_SPLICEAI_OFFLINE is set.*; bring it with: meta-spliceai data get toy; or ask a friend; or put",
    ):
        resources.resolve_file("toy", "toy/file.txt")
    assert server[1] == []


def test_no_connection_is_a_clear_error() -> None:
    register("http://127.0.0.1:9/file.txt")  # the discard port: nobody listens
    with pytest.raises(
        MissingResourceError,
        match=r"download from http://127.0.0.1:9/file.txt failed \(ConnectionError\); bring it with: meta-spliceai",
    ):
        resources.resolve_file("toy", "toy/file.txt")


def test_no_public_address() -> None:
    register(None)
    with pytest.raises(MissingResourceError, match="no public address"):
        resources.resolve_file("toy", "toy/file.txt")


def two_editions(url: str | None = None, path: str = "toy/file.txt") -> Resource:
    """An original (CONTENT) and a development copy (b"copy") at the same place, or at another."""
    original = ResourceFile("toy/file.txt", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), url, ORIGINAL)
    copy = ResourceFile(path, hashlib.sha256(b"copy").hexdigest(), 4, None, DEVELOPMENT)
    return resources.register(Resource("toy", "A toy", "nowhere", "none stated", "nobody", (original, copy)))


@pytest.mark.parametrize("path", ["toy/file.txt", "toy/copy.txt"])
def test_a_mirror_may_hold_either_edition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    two_editions(path=path)
    monkeypatch.setenv("META_SPLICEAI_MIRROR", str(tmp_path / "mirror"))
    place = tmp_path / "mirror" / path
    place.parent.mkdir(parents=True)
    place.write_bytes(b"copy")
    found = resources.resolve_edition("toy")
    assert (found.path, found.entry.edition) == (place, DEVELOPMENT)
    place.unlink()
    (tmp_path / "mirror" / "toy" / "file.txt").write_bytes(CONTENT)
    assert resources.resolve_edition("toy").entry.edition == ORIGINAL
    (tmp_path / "mirror" / "toy" / "file.txt").write_bytes(b"neither")
    with pytest.raises(IntegrityError, match="is not the file it should be"):
        resources.resolve_edition("toy")


@pytest.mark.parametrize("path", ["toy/file.txt", "toy/copy.txt"])
def test_a_mirror_may_be_a_web_address(
    file_server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    two_editions("http://127.0.0.1:9/public", path)
    monkeypatch.setenv("META_SPLICEAI_MIRROR", f"{tmp_path}{os.pathsep}{file_server.address}/lab/")
    file_server.files[f"/lab/{path}"] = b"copy"
    found = resources.resolve_edition("toy")
    assert (found.path.read_bytes(), found.entry.edition) == (b"copy", DEVELOPMENT)
    assert found.path.is_relative_to(tmp_path / "cache")
    file_server.files.clear()
    assert resources.resolve_edition("toy").path == found.path  # the cache's, without asking again


def test_addresses_and_folders_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = ["/a b/c", "https://x.org:8080/lab/data", "relative", "http://127.0.0.1:80", "http://y.org"]
    monkeypatch.setenv("META_SPLICEAI_MIRROR", os.pathsep.join(parts))
    assert mirror_folders() == [Path("/a b/c"), Path("relative")]
    assert mirror_addresses() == [parts[1], parts[3], parts[4]]


def test_a_gzipped_download_is_unpacked_and_checked(file_server: FileServer, tmp_path: Path) -> None:
    file_server.files["/file.txt.gz"] = gzip.compress(CONTENT)
    register(f"{file_server.address}/file.txt.gz")
    assert resources.resolve_file("toy", "toy/file.txt").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "served",
    [gzip.compress(b"other", mtime=0), gzip.compress(CONTENT, mtime=0)[:-6], b"no gzip"],
    ids=["another file", "cut short", "no gzip"],
)
def test_a_gzipped_download_that_is_wrong_leaves_nothing(
    file_server: FileServer, tmp_path: Path, served: bytes
) -> None:
    file_server.files["/file.txt.gz"] = served
    register(f"{file_server.address}/file.txt.gz")
    with pytest.raises(IntegrityError, match="nothing was kept"):
        resources.resolve_file("toy", "toy/file.txt")
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == ["file.txt.gz.lock"]


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
    with pytest.raises(MissingExtraError, match="pip install 'frame-alignment-checks"):
        resources.packaged_file("no-such-package-here", "a/b.h5")
