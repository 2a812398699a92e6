"""What became of the disk under a run: full, read-only, unmounted, a folder deleted; in words, with what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import TracebackType

from meta_spliceai.errors import RunError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
NOT_WRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
NO_ANSWER = frozenset({errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.ENXIO})

GO_ON = "go on with --resume"
MOUNT_AGAIN = f"put the disk or mount back and {GO_ON}; if the folder was deleted, run the row anew"


class FolderWatch:
    """Remembers folders, and says when one is no longer the one it was; a context manager.

    A run writes through paths. Where its folder is deleted or the mount under it goes, the same paths soon stand for
    new folders on another disk, and the run would go on there without what it had. The folders are held open, so that
    their identity cannot pass to others.
    """

    def __init__(self, *folders: Path) -> None:
        self.folders = folders
        self._held: dict[Path, int] = {}

    def __enter__(self) -> FolderWatch:
        if hasattr(os, "O_DIRECTORY"):  # not on Windows, where a folder in use cannot go
            self._held = {folder: os.open(folder, os.O_RDONLY | os.O_DIRECTORY) for folder in self.folders}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for held in self._held.values():
            os.close(held)
        self._held = {}

    def lost(self, *folders: Path) -> str:
        """Which folder is lost and how, in words; empty where all are as they were.

        Args:
            folders: only these; all that are watched where none is named.
        """
        for folder in folders or self.folders:
            if folder in self._held and (words := _lost(folder, self._held[folder])):
                return words
        return ""

    def check(self) -> None:
        """Nothing, while the folders are as they were.

        Raises:
            RunError: one is lost.
        """
        if words := self.lost():
            raise RunError(words)


def _lost(folder: Path, held: int) -> str:
    try:
        same = os.path.samestat(os.fstat(held), os.stat(folder))
    except FileNotFoundError:
        return f"{folder} is gone: it was deleted, or the disk or mount that held it was taken away"
    except OSError as error:
        return f"{folder} cannot be reached any more ({error.strerror})"
    if same:
        return ""
    return f"{folder} is another folder than before: it was deleted, or a disk or mount was taken away or put over it"


def storage_error(error: BaseException) -> OSError | None:
    """The failure of a disk that an exception comes from; None where there is none.

    A library that writes a file may raise an exception of its own from it.
    """
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:
        if isinstance(one, OSError) and one.errno in FULL | NOT_WRITABLE | NO_ANSWER:
            return one
        seen.append(one)
        one = one.__cause__ or one.__context__
    return None


def what_to_do(error: OSError) -> str:
    """What a user does about a disk that failed."""
    if error.errno in FULL:
        return f"free space there ('meta-spliceai runs prune' says which runs may go) and {GO_ON}"
    if error.errno in NOT_WRITABLE:
        return f"make it writable, or mount it again for writing, and {GO_ON}"
    if error.errno in NO_ANSWER:
        return f"put the disk or mount back and {GO_ON}"
    return f"put it right and {GO_ON}"
