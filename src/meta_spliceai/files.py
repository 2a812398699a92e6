"""Files on disk: written atomically, and identified by their content."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from meta_spliceai.errors import RunError

if TYPE_CHECKING:
    import pandas as pd

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


TEMPORARY = ".meta-spliceai.tmp"
"""End of the names of files that are being written."""

_TIDIED: set[Path] = set()
"""Folders that this process has cleared of killed writers' leftovers."""


@contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A file to write that takes the place of `path` only when the block ends without an error; see `whole_file`.

    Args:
        path: where the file will stand; its folder is made if need be.
        mode: "w" for UTF-8 text, "wb" for bytes.

    Raises:
        RunError: the disk is full or the folder cannot be written to.
    """
    with whole_file(path) as temporary, temporary.open(mode, encoding=None if "b" in mode else "utf-8") as handle:
        yield handle


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """The path of an empty file beside `path`, which takes its place only when the block ends without an error.

    The file is flushed to the disk and renamed. A reader therefore sees the old file or the whole new one, and a killed
    process leaves the old one, and beside it a temporary file that the next writer in that folder removes.

    Raises:
        RunError: the disk is full or the folder cannot be written to.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _tidy(path.parent)
        descriptor, temporary = _locked_file(path)
        try:
            yield temporary
            os.fsync(descriptor)
            os.chmod(temporary, _usual_mode(path))
            os.replace(temporary, path)
            temporary = None
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


TABLE_SUFFIXES = (".tsv", ".csv", ".parquet")


def separator_of(name: str) -> str:
    """What stands between the columns of a table of this name that is text."""
    return "\t" if name.lower().endswith(".tsv") else ","


@contextmanager
def whole_table(path: Path, note: Mapping[str, str] | None = None) -> Iterator[Callable[[pd.DataFrame], None]]:
    """A function that adds a frame's rows to a table, which appears when the block ends without an error.

    Args:
        path: one of TABLE_SUFFIXES says the format.
        note: what a Parquet file says of itself beside its columns; the other formats have no place for it.

    Raises:
        RunError: as `whole_file`.
    """
    if path.suffix.lower() != ".parquet":
        separator = separator_of(path.name)
        with atomic_write(path) as handle:

            def add(frame: pd.DataFrame) -> None:
                frame.to_csv(handle, sep=separator, index=False, header=not handle.tell(), float_format="%.6g")

            yield add
        return
    import pyarrow as pa
    from pyarrow import parquet

    with whole_file(path) as temporary, ExitStack() as opened:
        writers: list[parquet.ParquetWriter] = []

        def add_group(frame: pd.DataFrame) -> None:
            table = pa.Table.from_pandas(frame, preserve_index=False)
            if not writers:
                schema = table.schema.with_metadata({**(table.schema.metadata or {}), **(note or {})})
                writers.append(opened.enter_context(parquet.ParquetWriter(temporary, schema)))
            writers[0].write_table(table.cast(writers[0].schema))

        yield add_group


def _locked_file(path: Path) -> tuple[int, Path]:
    """A new file beside the path, locked while its descriptor is open, so that others see that it is in use."""
    while True:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:200]}.", suffix=TEMPORARY)
        _lock(descriptor, wait=True)
        if os.fstat(descriptor).st_nlink:
            return descriptor, Path(name)
        os.close(descriptor)  # somebody tidied up between the file and its lock


def _lock(descriptor: int, wait: bool) -> bool:
    """Whether the file could be locked; never on Windows and on file systems without locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _tidy(folder: Path) -> None:
    """Remove what killed writers left in a folder: temporary files of ours that nobody holds; once a process."""
    if folder in _TIDIED:
        return
    _TIDIED.add(folder)
    for leftover in folder.glob(f".*{TEMPORARY}"):
        with suppress(OSError):  # another process was faster, or it is another user's
            descriptor = os.open(leftover, os.O_RDWR)
            try:
                if _lock(descriptor, wait=False):
                    leftover.unlink()
            finally:
                os.close(descriptor)


def _usual_mode(path: Path) -> int:
    """The mode of the file that is replaced, or what the user's umask gives a new one (temporary files are private)."""
    if path.exists():
        return path.stat().st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def _explained(error: OSError, path: Path) -> Exception:
    if error.errno == errno.ENOSPC:
        return RunError(f"no space left on the disk that holds {path.parent}; nothing was written to {path.name}")
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return RunError(f"{path.parent} cannot be written to ({error.strerror}); choose another folder")
    return error


Place = tuple[int, int] | str
"""Device and inode of a file or folder, links followed; of one that is not there yet its path, links followed."""


def place_of(path: Path | int) -> Place | None:
    """Which file or folder a path or an open descriptor is, so that two names of one are found equal; None for a
    device, pipe or socket, and for a descriptor that is closed."""
    try:
        state = os.stat(path)
    except OSError:
        return None if isinstance(path, int) else os.path.realpath(path)
    on_disk = stat.S_ISREG(state.st_mode) or stat.S_ISDIR(state.st_mode)
    return (state.st_dev, state.st_ino) if on_disk else None


def who_else_may_write(path: Path) -> str:
    """Why a file must not be run as code: it, or its folder, belongs to another user (root apart), or its group or
    everybody may write to it; "" where neither is so, and on systems without owners."""
    if not hasattr(os, "geteuid"):
        return ""
    for place in (path, path.parent):
        state = place.stat()
        if state.st_uid not in (0, os.geteuid()):
            return f"{place} belongs to another user (id {state.st_uid})"
        if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return f"{place} can be written to by others (mode {stat.S_IMODE(state.st_mode):o})"
    return ""


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def cache_dir() -> Path:
    """The folder for downloads and scores: META_SPLICEAI_CACHE, or `meta-spliceai` in the user's cache folder."""
    own = os.environ.get("META_SPLICEAI_CACHE")
    return Path(own) if own else _user_cache() / "meta-spliceai"


def _user_cache() -> Path:
    """Where the operating system keeps caches: LOCALAPPDATA, Library/Caches, or XDG_CACHE_HOME and ~/.cache."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def cached_json(kind: str, made_from: Any, count: Callable[[], Any]) -> Any:
    """What `count` returns (plain values in a dictionary), counted once for everything it is made from and kept in the
    cache. A file that is cut off is counted again; a cache that cannot be written to costs seconds, no more.

    Args:
        kind: folder in the cache.
        made_from: plain values.
        count: counts it.
    """
    address = hashlib.sha256(json.dumps(made_from, sort_keys=True, default=str).encode()).hexdigest()[:24]
    file = cache_dir() / kind / f"{address}.json"
    with suppress(OSError, ValueError):
        kept = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(kept, dict):
            return kept
    numbers = count()
    with suppress(OSError, RunError), atomic_write(file) as handle:
        json.dump(numbers, handle)
    return numbers
