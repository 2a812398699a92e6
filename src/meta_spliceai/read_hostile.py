"""Reads untrusted files within bounds; anything wrong with one becomes a single error that names it.

Only what Python brings is imported: bundles are read before other packages are there.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import struct
import zipfile
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path

from meta_spliceai.errors import InputError, IntegrityError, MetaSpliceAIError, shown

MALFORMED: tuple[type[Exception], ...] = (
    *(OSError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, MemoryError),
    *(NotImplementedError, RecursionError, RuntimeError, zipfile.BadZipFile, zlib.error, LZMAError, struct.error),
    csv.Error,
)
"""What Python's parsers raise for files that are cut off, altered or made to do harm."""

LARGEST_TEXT = "META_SPLICEAI_LARGEST_TEXT", 4 * 2**30
"""Bytes of a text file, decompressed; the largest annotations of GENCODE have 2 GB."""
LARGEST_TABLE = "META_SPLICEAI_LARGEST_TABLE", 2**28
"""Bytes of a table of variants, decompressed: all of it is held in memory."""
LONGEST_LINE = 2**24
"""Bytes of a line of a text file; the longest of a human annotation, titin's exons, has a few thousand."""


def limit(named: tuple[str, int]) -> int:
    """A bound: its environment variable's value where that is set, else its usual value.

    Raises:
        InputError: the variable holds no whole number.
    """
    variable, usual = named
    text = os.environ.get(variable, "")
    if text and not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InputError(f"{variable} is {shown(text)}; give a number of bytes, for example {usual}")
    return int(text) if text else usual


@contextmanager
def one_error(
    what: object,
    remedy: str = "get it anew",
    also: tuple[type[Exception], ...] = (),
    kind: type[MetaSpliceAIError] = IntegrityError,
) -> Iterator[None]:
    """Whatever a parser says of a malformed file becomes one error.

    Args:
        what: the file, and the place in it where that is known.
        remedy: what to do.
        also: what a parser that Python does not bring raises.
        kind: of the error.
    """
    try:
        yield
    except (*MALFORMED, *also) as error:
        first_line = str(error).strip().partition("\n")[0]
        said = f"{type(error).__name__}: {first_line[:200]}"
        raise kind(f"{what} is truncated or damaged, or of another kind ({said}); {remedy}") from error


def text_lines(path: Path, most: tuple[str, int] = LARGEST_TEXT, encoding: str = "utf-8") -> Iterator[str]:
    """The lines of a text file, gzipped or not, without line ends and without the byte order mark that spreadsheets and
    editors put before the first one.

    Args:
        path: the file.
        most: bytes that it may hold decompressed, and the variable that allows more.
        encoding: of the text.

    Raises:
        InputError: no such file, a line without an end, or more than `most`.
        IntegrityError: truncated, damaged, or no text.
    """
    if not path.is_file():
        raise InputError(f"no file at {path}; check the path")
    allowed, held, number = limit(most), 0, 0
    with path.open("rb") as raw:
        packed = raw.peek(2)[:2] == b"\x1f\x8b"
        stream = io.BufferedReader(gzip.GzipFile(fileobj=raw), 1 << 18) if packed else raw
        while True:
            number += 1
            with one_error(f"{path}, line {number},"):
                line = stream.readline(LONGEST_LINE + 1)
                text = (line if number > 1 else line.removeprefix(BOM_UTF8)).decode(encoding).rstrip("\r\n")
            if not line:
                return
            held += len(line)
            if len(line) > LONGEST_LINE:
                raise InputError(f"{path}, line {number}: longer than {LONGEST_LINE:,} bytes; it is no line of text")
            if held > allowed:
                raise InputError(f"{path} holds more than {allowed:,} bytes of text; set {most[0]} to allow more")
            yield text
