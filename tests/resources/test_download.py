from __future__ import annotations

import errno
import hashlib
import shutil
import threading
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from meta_spliceai.errors import IntegrityError, MissingResourceError, RunError
from meta_spliceai.resources import ResourceFile
from meta_spliceai.resources.resolve import download
from tests.file_server import FileServer

CONTENT = bytes(range(256)) * 40
ENTRY = ResourceFile("toy/file.bin", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "file.bin"


@pytest.fixture
def address(file_server: FileServer) -> str:
    file_server.files["/file.bin"] = CONTENT
    return f"{file_server.address}/file.bin"


def left(target: Path) -> set[str]:
    """Names of what stands in the target's folder; the lock says nothing."""
    return {path.name for path in target.parent.glob("*") if path.suffix != ".lock"}


def test_the_whole_file_and_nothing_else(address: str, target: Path) -> None:
    assert download(address, target, "toy", [ENTRY]).read_bytes() == CONTENT
    assert left(target) == {"file.bin"}


def test_a_broken_connection_is_taken_up_again_within_a_call(
    file_server: FileServer, address: str, target: Path
) -> None:
    file_server.breaks = [1000, 2000]
    assert download(address, target, "toy", [ENTRY]).read_bytes() == CONTENT
    assert [wanted for _, wanted in file_server.asked] == ["", "bytes=1000-", "bytes=3000-"]


def test_the_next_call_goes_on_where_the_last_one_stopped(file_server: FileServer, address: str, target: Path) -> None:
    file_server.breaks = [1000, 0]
    with pytest.raises(MissingResourceError, match=r"broke off after 1,000 bytes, which are kept; the same command"):
        download(address, target, "toy", [ENTRY])
    assert left(target) == {"file.bin.part"}
    file_server.asked.clear()
    assert download(address, target, "toy", [ENTRY]).read_bytes() == CONTENT
    assert file_server.asked == [("/file.bin", "bytes=1000-")]
    assert left(target) == {"file.bin"}


def test_a_server_without_ranges_starts_over(file_server: FileServer, address: str, target: Path) -> None:
    file_server.ranges = False
    file_server.breaks = [1000, 1000]
    with pytest.raises(MissingResourceError, match="broke off after 1,000 bytes"):
        download(address, target, "toy", [ENTRY])
    assert download(address, target, "toy", [ENTRY]).read_bytes() == CONTENT


def test_a_size_that_is_not_known_is_asked_for(file_server: FileServer, address: str, target: Path) -> None:
    target.parent.mkdir()
    target.with_name("file.bin.part").write_bytes(CONTENT)  # whole, and the call ended before it was renamed
    assert download(address, target, "toy").read_bytes() == CONTENT
    assert file_server.asked == [("/file.bin", f"bytes={len(CONTENT)}-")]


def test_the_beginning_of_another_file_is_thrown_away(file_server: FileServer, address: str, target: Path) -> None:
    target.parent.mkdir()
    target.with_name("file.bin.part").write_bytes(b"x" * 500)
    assert download(address, target, "toy", [ENTRY]).read_bytes() == CONTENT
    assert [wanted for _, wanted in file_server.asked] == ["bytes=500-", ""]


def test_a_web_page_is_not_taken_for_the_file(file_server: FileServer, address: str, target: Path) -> None:
    file_server.page = b"<html>please log in</html>"
    with pytest.raises(MissingResourceError, match="sends a web page and not the file"):
        download(address, target, "toy", [ENTRY])
    assert left(target) == set()


@pytest.mark.parametrize(
    ("content", "message"),
    [(CONTENT[::-1], r"has SHA-256 .*…, expected .*; nothing was kept"), (b"short", "has 5 bytes, expected 10,240")],
)
def test_other_bytes_are_refused_and_not_kept(
    file_server: FileServer, address: str, target: Path, content: bytes, message: str
) -> None:
    file_server.files["/file.bin"] = content
    with pytest.raises(IntegrityError, match=message):
        download(address, target, "toy", [ENTRY])
    assert left(target) == set()


def test_not_found_and_nobody_there(file_server: FileServer, target: Path) -> None:
    with pytest.raises(MissingResourceError, match=r"/nowhere answers 404"):
        download(f"{file_server.address}/nowhere", target, "toy")
    with pytest.raises(MissingResourceError, match=r"failed \(ConnectionError\)"):
        download("http://127.0.0.1:9/file", target, "toy")  # the discard port: nobody listens
    assert left(target) == set()


def test_offline_asks_nobody(
    file_server: FileServer, address: str, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("META_SPLICEAI_OFFLINE", "1")
    with pytest.raises(MissingResourceError, match="META_SPLICEAI_OFFLINE is set"):
        download(address, target, "toy", [ENTRY])
    assert file_server.asked == []


def test_a_full_disk_keeps_what_came(address: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:

        def some(self: requests.Response, size: int) -> Iterator[bytes]:
            yield self.raw.read(3000)
            raise OSError(errno.ENOSPC, "No space left on device")

        patched.setattr(requests.Response, "iter_content", some)
        with pytest.raises(RunError, match=r"no space left on the disk .* is kept, free some and run"):
            download(address, target, "toy", [ENTRY])
        assert target.with_name("file.bin.part").stat().st_size == 3000
    with monkeypatch.context() as patched:
        usage = namedtuple("usage", "total used free")
        patched.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 100))
        with pytest.raises(RunError, match=r"7,240 bytes are missing and .* has 100 free"):
            download(address, target, "toy", [ENTRY])
    assert download(address, target, "toy", [ENTRY]).read_bytes() == CONTENT


def test_several_at_once_download_once(file_server: FileServer, address: str, target: Path) -> None:
    threads = [threading.Thread(target=download, args=(address, target, "toy", [ENTRY])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == CONTENT
    assert len(file_server.asked) == 1
