"""One file over HTTP: one process at a time, resumed where it broke off, in place only when it is whole and right."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from meta_spliceai.errors import IntegrityError, MissingPackageError, MissingResourceError, RunError
from meta_spliceai.files import sha256_file
from meta_spliceai.resources.registry import ResourceFile

if TYPE_CHECKING:
    import requests

OFFLINE_VARIABLE = "META_SPLICEAI_OFFLINE"

_TIMEOUT = (15, 60)
"""Seconds to connect, and between two blocks of bytes."""
_BLOCK = 1 << 16

Report = Callable[[int, int | None], None]
"""Told (bytes so far, bytes in all if known)."""


class _BrokeOff(Exception):
    """The connection ended before the file did."""


def offline() -> bool:
    return os.environ.get(OFFLINE_VARIABLE, "") not in ("", "0")


def download(address: str, target: Path, what: str, expected: Sequence[ResourceFile] = ()) -> Path:
    """Bring the file at an address to `target`.

    Bytes gather in `target`.part, which a later call goes on with where the server can (HTTP Range); a connection that
    breaks off is taken up again as long as that brings anything. A second process waits for the first. What stands at
    `target` already is left alone.

    Args:
        expected: what may come, by size and SHA-256; anything, if empty (the caller then checks the content).

    Raises:
        MissingResourceError: offline, no connection, no such file there, a web page instead of the file, or a
            connection that broke off.
        IntegrityError: other bytes than expected; none of them is kept.
        RunError: the disk is full; what came is kept.
        MissingPackageError: requests or filelock is not installed.
    """
    if offline():
        raise MissingResourceError(f"{OFFLINE_VARIABLE} is set, so that nothing is downloaded")
    try:
        import filelock
        import requests  # noqa: F401 - named here so that a bare machine gets one line
    except ImportError as error:
        raise MissingPackageError("a download", str(error.name)) from error
    target.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{target}.lock"):
        part = target.with_name(f"{target.name}.part")
        while not target.exists():
            resumed = part.exists()
            with progress_bar(what) as report:
                _gather(address, part, what, expected, report)
            found = sha256_file(part) if expected else ""
            if not expected or found in {entry.sha256 for entry in expected}:
                os.replace(part, target)
                break
            part.unlink()
            if not resumed:  # otherwise its beginning may have been another file's: once more, from the start
                raise IntegrityError(
                    f"{what}: what {address} sends has SHA-256 {found[:12]}…, expected "
                    f"{' or '.join(f'{entry.sha256[:12]}…' for entry in expected)}; nothing was kept"
                )
    return target


def _gather(address: str, part: Path, what: str, expected: Sequence[ResourceFile], report: Report) -> None:
    """Requests until `part` is whole."""
    import requests

    farthest = -1
    while True:
        have = part.stat().st_size if part.exists() else 0
        if expected and have == max(entry.size for entry in expected):
            return
        if have <= farthest:
            raise MissingResourceError(
                f"{what}: the connection to {address} broke off after {have:,} bytes, which are kept; the same command "
                "goes on from there"
            )
        farthest = have
        try:
            headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
            with requests.get(address, headers=headers, stream=True, timeout=_TIMEOUT) as response:
                _take(response, part, have, what, expected, report)
            return
        except _BrokeOff:
            continue
        except requests.exceptions.RequestException as error:
            if part.exists() and part.stat().st_size > farthest:
                continue
            kept = f"; {have:,} bytes are kept, and the same command goes on from there" if have else ""
            raise MissingResourceError(
                f"{what}: the download from {address} failed ({type(error).__name__}){kept}"
            ) from error


def _take(
    response: requests.Response, part: Path, have: int, what: str, expected: Sequence[ResourceFile], report: Report
) -> None:
    """Append (206) or write anew (200) what a response brings."""
    address = response.url
    if response.status_code == 416:  # nothing behind these bytes: they are all, or another file's
        whole = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
        if whole and int(whole[1]) == have:
            return
        part.unlink()
        raise _BrokeOff
    if response.status_code not in (200, 206):
        raise MissingResourceError(f"{what}: {address} answers {response.status_code} {response.reason}")
    if response.headers.get("Content-Type", "").partition(";")[0].strip() == "text/html":
        raise MissingResourceError(
            f"{what}: {address} sends a web page and not the file (a log-in or a proxy in between?), which is not kept"
        )
    if response.status_code == 200:
        have = 0
    elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        part.unlink()
        raise _BrokeOff
    length = response.headers.get("Content-Length", "")
    total = have + int(length) if length.isdigit() else None
    sizes = {entry.size for entry in expected}
    if total is not None and sizes and total not in sizes:
        part.unlink(missing_ok=True)
        raise IntegrityError(
            f"{what}: {address} has {total:,} bytes, expected {' or '.join(f'{size:,}' for size in sorted(sizes))}; "
            "nothing was kept"
        )
    if total is not None and shutil.disk_usage(part.parent).free < total - have:
        raise RunError(
            f"no space for {what}: {total - have:,} bytes are missing and {part.parent} has "
            f"{shutil.disk_usage(part.parent).free:,} free; free some and run the same command again"
        )
    response.raw.enforce_content_length = False  # else the last bytes before a break are lost; they are counted here
    try:
        with part.open("ab" if have else "wb") as handle:
            for block in response.iter_content(_BLOCK):
                handle.write(block)
                have += len(block)
                report(have, total)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RunError(
            f"no space left on the disk that holds {part.parent}; what came of {what} is kept, free some and run the "
            "same command again"
        ) from error
    if total is not None and have < total:
        raise _BrokeOff


@contextmanager
def progress_bar(what: str) -> Iterator[Report]:
    """A progress bar on standard error, where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda have, total: progress.update(task, completed=have, total=total)
