"""Disks that fail under a run: full, read-only, gone; known through whatever a library made of it."""

from __future__ import annotations

import errno

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
NOT_WRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_GONE = frozenset({errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.ENXIO})


def disk_error(error: BaseException | None) -> OSError | None:
    """The failure of a disk that an exception is, or was raised from; None where there is none."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in FULL | NOT_WRITABLE | _GONE:
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def what_to_do(error: OSError) -> str:
    """What a user does about a disk that failed."""
    if error.errno in FULL:
        return "free space there ('meta-spliceai runs prune' says which runs may go) and go on with --resume"
    return "put it right and go on with --resume"
