"""What every reader of bundles knows; read before the packages that rows need are there, so nothing is imported that
Python does not bring."""

from __future__ import annotations

import struct
import zipfile
import zlib
from lzma import LZMAError

INDEX = "bundle/index.json"
"""What a bundle says it is and holds, at this place in it and in the mirror that it is opened as."""

MALFORMED = (
    *(OSError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, MemoryError),
    *(NotImplementedError, RecursionError, RuntimeError, zipfile.BadZipFile, zlib.error, LZMAError, struct.error),
)
"""What Python's readers of zip files, JSON and arrays raise for files that are cut off, altered or made to do harm."""
