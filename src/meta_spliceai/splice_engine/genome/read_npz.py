"""Arrays from an `.npz` file that anybody may have made: nothing is unpickled, and no more is read than it may hold."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np

from meta_spliceai.read_hostile import limit, one_error

LARGEST_ARRAY = "META_SPLICEAI_LARGEST_ARRAY", 2**30
"""Bytes. The largest of a bundle, base scores of twelve channels of all MFASS variants, has a quarter of it."""


def read_npz(path: Path, names: Sequence[str], what: str) -> dict[str, np.ndarray]:
    """The arrays of these names.

    Args:
        path: the file.
        names: all of them are needed; others are not read.
        what: the file in words, for messages.

    Raises:
        IntegrityError: cut off, altered, an array too large or of Python objects, or one that is missing.
    """
    with one_error(f"{path} holds no {what}: it"), zipfile.ZipFile(path) as pack:
        return {name: _read(pack, f"{name}.npy") for name in names}


def _read(pack: zipfile.ZipFile, member: str) -> np.ndarray:
    most = limit(LARGEST_ARRAY)
    with pack.open(member) as handle:
        content = handle.read(most + 1)
    stream = io.BytesIO(content)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, by_column, dtype = read_header[np.lib.format.read_magic(stream)](stream)
    left = len(content) - stream.tell()
    # What an array claims to hold is compared before anything of that size is made.
    if len(content) > most:
        raise ValueError(f"{member} holds more than {most:,} bytes; set {LARGEST_ARRAY[0]} to allow more")
    if dtype.hasobject or prod(shape) * dtype.itemsize != left:
        raise ValueError(f"{member} does not hold the {shape} of {dtype} that it says")
    return np.frombuffer(content, dtype, offset=stream.tell()).reshape(shape, order="F" if by_column else "C")
