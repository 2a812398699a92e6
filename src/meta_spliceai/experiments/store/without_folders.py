"""Words of a result without the machine's folders: a result is published, and where its maker keeps files is not."""

from __future__ import annotations

import re
from typing import Any

_ABSOLUTE = re.compile(r"(?<![\w:/.~])(?:~|[A-Za-z]:)?[\\/](?:[^\s\\/'\",;()]+[\\/])+(?=[^\s\\/'\",;()])")
"""Folders of an absolute path, up to the last part; not those of a URL or of a path within a repository."""


def without_folders(value: Any) -> Any:
    """The value with every absolute path in its texts cut to its last part.

    Args:
        value: plain values: dictionaries (their keys stay as they are), lists, texts, numbers.
    """
    if isinstance(value, str):
        return _ABSOLUTE.sub("", value)
    if isinstance(value, dict):
        return {key: without_folders(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(one) for one in value]
    return value
