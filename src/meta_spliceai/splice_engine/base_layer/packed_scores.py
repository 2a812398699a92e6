"""Base scores in little space: bit for bit, or rounded to some decimals, which is then said in the file."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from meta_spliceai.errors import IntegrityError
from meta_spliceai.files import atomic_write
from meta_spliceai.splice_engine.base_layer.scores import Entry, ScoreCache
from meta_spliceai.splice_engine.genome.packed import read_npz

DIGITS = range(3, 8)
"""Decimals to which scores may be rounded: below, a Δ is no longer what it was; above, float32 has no more."""

_AT_ONCE = 1024  # entries turned into planes at a time: bounds the memory


def write_packed_scores(
    entries: Mapping[bytes, Entry], digest: str, distance: int, path: Path, digits: int | None = None
) -> None:
    """Write entries of the score cache into one file of plain arrays (`.npz`, no pickle).

    An alternative mostly equals its reference, and neighbouring variants have the same reference, shifted. What is
    written is therefore the reference and what the alternative differs from it by (exclusive or of the bits, or a
    difference of whole numbers where scores are rounded); bytes of one rank stand side by side for the zip to shorten.
    Rounded scores repeat so much that the slower LZMA pays; exact ones are half noise.

    Args:
        entries: at least one, none of them rounded; all of one distance and one model, neighbours side by side.
        digest: of the base model.
        distance: positions to either side.
        path: the file.
        digits: decimals to round to; a score changes by at most half a step, a Δ by at most one. None: bit for bit.
    """
    keys = list(entries)
    blocks = [keys[at : at + _AT_ONCE] for at in range(0, len(keys), _AT_ONCE)]
    arrays = {
        "keys": np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1),
        "planes": np.concatenate([_pack([entries[key] for key in block], digits) for block in blocks], axis=3),
        "digest": np.array(digest),
        "distance": np.array(distance, np.int64),
        "digits": np.array(-1 if digits is None else digits, np.int64),
    }
    with atomic_write(path, "wb") as handle, zipfile.ZipFile(handle, "w") as pack:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # its fixed date makes the same content the same file
            entry.compress_type = zipfile.ZIP_DEFLATED if digits is None else zipfile.ZIP_LZMA
            with pack.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


class PackedScores(NamedTuple):
    """The entries of a file, and what they are of."""

    entries: dict[bytes, Entry]
    digest: str
    distance: int
    digits: int | None


def unpack_scores(path: Path, cache: ScoreCache) -> int:
    """Put a file's entries into a score cache; how many they are."""
    found = read_packed_scores(path)
    entries = list(found.entries.items())
    for at in range(0, len(entries), _AT_ONCE):
        some = entries[at : at + _AT_ONCE]
        ref, alt = np.stack([entry.ref for _, entry in some]), np.stack([entry.alt for _, entry in some])
        cache.write([key for key, _ in some], ref, alt, found.digest, found.distance, found.digits)
    return len(entries)


def read_packed_scores(path: Path) -> PackedScores:
    """What `write_packed_scores` wrote; IntegrityError: the file is damaged, or its arrays do not fit each other."""
    arrays = read_npz(path, ("keys", "planes", "digest", "distance", "digits"), "base scores")
    keys, planes = arrays["keys"], arrays["planes"]
    if any(arrays[name].shape or arrays[name].dtype != np.int64 for name in ("distance", "digits")):
        raise IntegrityError(f"{path}: its distance and digits are no whole numbers; open its bundle again")
    digest, distance = str(arrays["digest"]), int(arrays["distance"])
    digits = None if int(arrays["digits"]) < 0 else int(arrays["digits"])
    if (
        {keys.dtype, planes.dtype} != {np.dtype(np.uint8)}
        or keys.shape[1:] != (32,)
        or planes.ndim != 5
        or planes.shape[:1] + planes.shape[2:] != (4, 2, len(keys), 2 * distance + 1)
        or (digits is not None and digits not in DIGITS)
        or not re.fullmatch("[0-9a-f]{64}", digest)  # it becomes part of a file's name
    ):
        raise IntegrityError(f"{path}: its arrays do not fit each other; open its bundle again")
    entries: dict[bytes, Entry] = {}
    for at in range(0, len(keys), _AT_ONCE):
        scores = _unpack(planes[:, :, :, at : at + _AT_ONCE], digits)
        for key, (ref, alt) in zip(keys[at : at + _AT_ONCE], scores, strict=True):
            entries[key.tobytes()] = Entry(ref, alt, digits)
    return PackedScores(entries, digest, distance, digits)


def _pack(entries: list[Entry], digits: int | None) -> UInt8[np.ndarray, "4 channels 2 entries positions"]:
    """References, and what alternatives differ from them by, as numbers with few high bits, byte by byte."""
    scores = np.stack([np.stack([entry.ref, entry.alt]) for entry in entries]).astype("<f4")
    if digits is None:
        bits = scores.view("<u4")
        words = np.stack([bits[:, 0], bits[:, 0] ^ bits[:, 1]], axis=1)
    else:
        whole = np.rint(scores.astype(np.float64) * 10**digits).astype("<i4")
        change = np.stack([whole[:, 0], whole[:, 1] - whole[:, 0]], axis=1)
        # 0, -1, 1, -2 … as 0, 1, 2, 3 …: small numbers of either sign have no high bits.
        words = ((change << 1) ^ (change >> 31)).view("<u4")
    ordered = np.ascontiguousarray(words.transpose(3, 1, 0, 2))
    return np.ascontiguousarray(np.moveaxis(ordered.view(np.uint8).reshape(*ordered.shape, 4), -1, 0))


def _unpack(
    planes: UInt8[np.ndarray, "4 channels 2 entries positions"], digits: int | None
) -> Float32[np.ndarray, "entries 2 positions channels"]:
    ordered = np.ascontiguousarray(np.moveaxis(planes, 0, -1)).view("<u4")[..., 0]
    words = np.ascontiguousarray(ordered.transpose(2, 1, 3, 0))
    if digits is None:
        return np.stack([words[:, 0], words[:, 0] ^ words[:, 1]], axis=1).view("<f4")
    whole = (words >> 1).view("<i4") ^ -(words & 1).view("<i4")
    both = np.stack([whole[:, 0], whole[:, 0] + whole[:, 1]], axis=1)
    return (both / 10.0**digits).astype(np.float32)
