"""An output file while it is being written: whole blocks on the disk, and an account of them to go on from.

Beside OUT stand `OUT.partial`, the output so far, and `OUT.partial.json`, which says how much of it is whole and how
much input it stands for. A block counts from the moment the account is renamed into place; bytes behind the last
counted block are cut off when a run goes on. Nothing is written twice and nothing is left out.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, Any, TypeVar

import filelock
from pydantic import TypeAdapter

from meta_spliceai.errors import InputError, RunError, shown
from meta_spliceai.files import atomic_write
from meta_spliceai.read_hostile import one_error

_FORMAT = 1
T = TypeVar("T")


@dataclass
class Account:
    """What the partial output stands for.

    Attributes:
        settings: everything that the text of the output depends on, besides the records.
        records: input records written out.
        size: bytes of the partial file that hold them (header included).
        digest: SHA-256 of those input records.
        stats: running totals.
    """

    settings: dict[str, Any]
    records: int = 0
    size: int = 0
    digest: str = ""
    stats: dict[str, Any] = field(default_factory=dict)


def restored(kind: type[T], stored: Mapping[str, Any]) -> T:
    """What was stored of a dataclass: all fields, no others, each of its own type.

    Raises:
        ValueError: something else.
    """
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if stored.keys() != names:
        raise ValueError(f"fields missing or unknown: {shown(sorted(stored.keys() ^ names))}")
    return TypeAdapter(kind).validate_json(json.dumps(stored), strict=True)


class Unfinished:
    """The partial output of one run; use as a context manager, so that no second run writes to it.

    Args:
        out: where the finished file will stand.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.partial = out.with_name(out.name + ".partial")
        self.account_path = out.with_name(out.name + ".partial.json")
        self._lock = filelock.FileLock(out.with_name(out.name + ".partial.lock"))
        self._handle: IO[bytes] | None = None

    def __enter__(self) -> Unfinished:
        if self.out.is_dir():
            raise InputError(f"{self.out} is a folder; name the output file")
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except filelock.Timeout:
            raise RunError(f"another process is writing {self.out}; wait for it or name another output") from None
        except OSError as error:
            raise self._explained(error) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            self._handle.close()
        # Taken away while it is still held: whoever comes next makes a new one.
        Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()

    def read_account(self, settings: dict[str, Any]) -> Account | None:
        """The account of an interrupted run with the same settings, or None where there is none.

        Raises:
            InputError: it was made with other settings; the first difference is named.
            RunError: the partial file is shorter than its account says.
        """
        if not self.account_path.is_file() or not self.partial.is_file():
            return None
        with one_error(self.account_path, f"delete it and {self.partial.name}, and start again", kind=RunError):
            stored = json.loads(self.account_path.read_text(encoding="utf-8"))
            version = stored.pop("format")
            account = restored(Account, stored) if version == _FORMAT else Account({})
        if version != _FORMAT:
            raise RunError(f"{self.partial} was begun by another version of this package; run again without --resume")
        for key in sorted({*account.settings, *settings}):
            if account.settings.get(key) != settings.get(key):
                raise InputError(
                    f"{self.partial} was begun with {key} = {account.settings.get(key)}, and now it is "
                    f"{settings.get(key)}; use the same, or run again without --resume"
                )
        size = self.partial.stat().st_size
        if size < account.size:
            raise RunError(f"{self.partial} has {size} bytes where {account.size} were written; run without --resume")
        return account

    def begin(self, account: Account, header: bytes) -> None:
        """Open the partial file: anew with the header, or behind the last whole block of an interrupted run."""
        try:
            if account.records:
                self._handle = self.partial.open("r+b")
                self._handle.truncate(account.size)
                self._handle.seek(account.size)
            else:
                self._handle = self.partial.open("wb")
                self.append(header, account)
        except OSError as error:
            raise self._explained(error) from error

    def append(self, data: bytes, account: Account) -> None:
        """Write a whole block and count it; `account` already holds the records it stands for."""
        handle = self._handle
        if handle is None:
            raise RuntimeError("the partial file is not open")
        try:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        except OSError as error:
            raise self._explained(error) from error
        account.size += len(data)
        if not self.partial.exists():  # an open file may still be written to; the account would begin a folder anew
            raise self._explained(FileNotFoundError(errno.ENOENT, "gone", str(self.partial)))
        try:
            with atomic_write(self.account_path) as stream:
                json.dump({"format": _FORMAT, **asdict(account)}, stream)
        except RunError as error:  # the disk is full, or the folder is gone
            cause = error.__cause__
            raise self._explained(cause) if isinstance(cause, OSError) else error from error

    def finish(self, end: bytes) -> None:
        """Write what stands behind the last record, so that the partial file is whole."""
        handle = self._handle
        if handle is None:
            raise RuntimeError("the partial file is not open")
        try:
            handle.write(end)
            handle.flush()
            os.fsync(handle.fileno())
        except OSError as error:
            raise self._explained(error) from error

    def put_in_place(self, convert: Callable[[Path, Path], None] | None) -> None:
        """Turn the whole partial file into the output: by renaming it, or by a conversion that is itself atomic."""
        try:
            if convert is None:
                os.replace(self.partial, self.out)
            else:
                convert(self.partial, self.out)
                self.partial.unlink()
        except OSError as error:
            raise self._explained(error) from error
        self.account_path.unlink(missing_ok=True)

    def _explained(self, error: OSError) -> Exception:
        if error.errno == errno.ENOSPC:
            return RunError(
                f"no space left on the disk that holds {self.out.parent}; the blocks written so far are kept in "
                f"{self.partial.name}: free some space and run again with --resume"
            )
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE) or not self.out.parent.is_dir():
            return RunError(
                f"the folder of the output, {self.out.parent}, went away while it was written to; make it or mount it "
                f"again: with {self.partial.name} in it, the same command with --resume goes on"
            )
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            return RunError(f"{self.out.parent} cannot be written to ({error.strerror}); name another output")
        return error
