"""Scores kept on disk, found again by content.

The key of a variant's scores is a hash of everything they depend on: the bases of both sequences, the weights and the
distance. What is found can therefore not be out of date. Scores are kept in blocks, files written whole and never
changed, so two processes that score at once cannot disturb each other: each adds blocks of its own, and reads those of
both. Every entry carries a checksum; a damaged one is reported, left out and computed again.
"""

from __future__ import annotations

import hashlib
import logging
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from meta_spliceai.files import atomic_write, cache_dir
from meta_spliceai.resources.resolve import mirror_folders

_LOG = logging.getLogger(__name__)

BUNDLED = "bundle/scores"
"""Where an opened bundle keeps its scores, under the folder that it is opened in."""

_MAGIC = b"meta-spliceai scores 3\n"
_HEAD = struct.Struct("<IIIi")  # entries, positions, channels, decimals (-1: not rounded)
_KEY = 32
_CHECK = 16


class Entry(NamedTuple):
    """One variant's probabilities in the cache; `digits`: decimals to which they were rounded (for a bundle), None
    where they are as they were computed."""

    ref: Float32[np.ndarray, "positions channels"]
    alt: Float32[np.ndarray, "positions channels"]
    digits: int | None = None


def content_key(
    ref: UInt8[np.ndarray, " bases"], alt: UInt8[np.ndarray, " other"], strand: str, digest: str, distance: int
) -> bytes:
    """The key of one variant's scores; `ref` and `alt` are all bases they depend on, plus strand, as codes."""
    hashed = hashlib.sha256(f"{digest} {distance} {strand} {len(ref)} {len(alt)}\n".encode())
    hashed.update(ref.tobytes())
    hashed.update(alt.tobytes())
    return hashed.digest()


class ScoreCache:
    """A folder of score blocks, made when the first one is written, and folders `beside` it that are read as well and
    never written to. `damaged` counts entries and blocks found damaged so far; each was left out."""

    def __init__(self, folder: Path, beside: Sequence[Path] = ()) -> None:
        self.folder = folder
        self.beside = tuple(beside)
        self.damaged = 0

    @classmethod
    def default(cls) -> ScoreCache:
        """The user's own cache, and the scores that opened bundles among the mirror folders bring."""
        return cls(cache_dir() / "scores", [folder / BUNDLED for folder in mirror_folders()])

    def read(self, keys: Sequence[bytes], digest: str, distance: int) -> dict[bytes, Entry]:
        wanted = set(keys)
        found: dict[bytes, Entry] = {}
        blocks = f"{self._stem(digest, distance)}-*.scores"
        for path in (path for folder in (self.folder, *self.beside) for path in sorted(folder.glob(blocks))):
            if len(found) == len(wanted):
                break
            found.update(self._read_block(path, wanted - found.keys(), 2 * distance + 1))
        return found

    def write(
        self,
        keys: Sequence[bytes],
        ref: Float32[np.ndarray, "entries positions channels"],
        alt: Float32[np.ndarray, "entries positions channels"],
        digest: str,
        distance: int,
        digits: int | None = None,
    ) -> None:
        """Add one block with these entries, rounded to so many decimals (`digits`; None: not at all); RunError where
        the disk is full or the folder cannot be written to."""
        if not keys:
            return
        entries, positions, channels = ref.shape
        records = np.ascontiguousarray(np.stack([ref, alt], axis=1), dtype="<f4")
        decimals = -1 if digits is None else digits
        checks = b"".join(_check(key, record.tobytes(), decimals) for key, record in zip(keys, records, strict=True))
        name = hashlib.sha256(b"".join(keys)).hexdigest()[:24]
        with atomic_write(self.folder / f"{self._stem(digest, distance)}-{name}.scores", "wb") as handle:
            handle.write(_MAGIC + _HEAD.pack(entries, positions, channels, decimals) + b"".join(keys) + checks)
            handle.write(records.tobytes())

    @staticmethod
    def _stem(digest: str, distance: int) -> str:
        return f"{digest[:16]}-{distance}"

    def _read_block(self, path: Path, wanted: set[bytes], positions: int) -> dict[bytes, Entry]:
        """The wanted entries of one block; a block that is not whole is removed, so that it can be written anew."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # another process found it damaged and removed it meanwhile
            return {}
        start = len(_MAGIC) + _HEAD.size
        entries, wide, channels, decimals = (
            _HEAD.unpack(data[len(_MAGIC) : start]) if len(data) >= start else (0, 0, 0, 0)
        )
        size = 2 * wide * channels * 4
        first_record = start + entries * (_KEY + _CHECK)
        if not data.startswith(_MAGIC) or wide != positions or len(data) != first_record + entries * size:
            self._report(path, "the block is not whole")
            return {}
        found = {}
        whole = True
        for entry in range(entries):
            key = data[start + entry * _KEY : start + (entry + 1) * _KEY]
            check = start + entries * _KEY + entry * _CHECK
            record = data[first_record + entry * size : first_record + (entry + 1) * size]
            if _check(key, record, decimals) != data[check : check + _CHECK]:
                whole = False
            elif key in wanted:
                ref, alt = np.frombuffer(record, dtype="<f4").reshape(2, wide, channels)
                if not (np.isfinite(ref).all() and np.isfinite(alt).all()):
                    whole = False
                    continue
                found[key] = Entry(ref, alt, None if decimals < 0 else decimals)
        if not whole:
            self._report(path, "an entry does not match its checksum or is no number")
        return found

    def _report(self, path: Path, what: str) -> None:
        self.damaged += 1
        if path.parent != self.folder:
            _LOG.warning("score cache: %s in %s; its scores are computed again", what, path)
            return
        _LOG.warning("score cache: %s in %s; it is removed and its scores are computed again", what, path)
        path.unlink(missing_ok=True)


def _check(key: bytes, record: bytes, decimals: int) -> bytes:
    return hashlib.blake2b(key + struct.pack("<i", decimals) + record, digest_size=_CHECK).digest()
