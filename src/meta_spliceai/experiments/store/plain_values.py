"""Tables and texts as results publish them: plain values, without folders of the machine that made them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows as dictionaries of plain values; None for what is missing or no finite number."""
    return [{str(name): plain(value) for name, value in row.items()} for row in frame.to_dict(orient="records")]


def plain(value: Any) -> Any:
    """A value as JSON has it; None for NaN."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is None or value is pd.NA or (isinstance(value, float) and not np.isfinite(value)) else value


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
