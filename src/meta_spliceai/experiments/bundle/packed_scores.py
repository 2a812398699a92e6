"""Base scores in little space, bit for bit: what reference and alternative share is written once."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt32

from meta_spliceai.errors import IntegrityError
from meta_spliceai.files import atomic_write
from meta_spliceai.splice_engine.base_layer.cache import ScoreCache

Entries = Mapping[bytes, tuple[np.ndarray, np.ndarray]]
"""Key of the score cache: (reference, alternative), each positions × channels, float32."""


def write_packed_scores(entries: Entries, digest: str, distance: int, path: Path) -> None:
    """Write entries of the score cache into one file of plain arrays (`.npz`, no pickle).

    An alternative mostly equals its reference in the high bits of a number, and neighbouring positions equal each
    other: the two are combined by exclusive or, and bytes of one rank stand side by side for the zip to shorten.

    Args:
        entries: at least one; all of one distance and one model.
        digest: of the base model.
        distance: positions to either side.
        path: the file.
    """
    keys = sorted(entries)
    scores = np.stack([np.stack(entries[key]) for key in keys]).astype("<f4")
    with atomic_write(path, "wb") as handle:
        np.savez_compressed(
            handle,
            keys=np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1),
            planes=_to_planes(scores.view("<u4")),
            digest=np.array(digest),
            distance=np.array(distance, np.int64),
        )


def unpack_scores(path: Path, cache: ScoreCache) -> int:
    """Put a file's entries into a score cache; how many they are.

    Raises:
        IntegrityError: the file is damaged, or its arrays do not fit each other.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            keys, planes = content["keys"], content["planes"]
            digest, distance = str(content["digest"]), int(content["distance"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise IntegrityError(f"{path} holds no base scores ({error}); open its bundle again") from error
    if (
        keys.dtype != np.uint8
        or planes.dtype != np.uint8
        or keys.ndim != 2
        or keys.shape[1] != 32
        or planes.ndim != 5
        or planes.shape[:1] + planes.shape[2:4] != (4, 2, len(keys))
        or planes.shape[4] != 2 * distance + 1
    ):
        raise IntegrityError(f"{path}: its arrays do not fit each other; open its bundle again")
    scores = _from_planes(planes).view("<f4")
    cache.write([key.tobytes() for key in keys], scores[:, 0], scores[:, 1], digest, distance)
    return len(keys)


def _to_planes(
    bits: UInt32[np.ndarray, "entries 2 positions channels"],
) -> UInt8[np.ndarray, "4 channels 2 entries positions"]:
    combined = np.stack([bits[:, 0], bits[:, 0] ^ bits[:, 1]])
    ordered = np.ascontiguousarray(combined.transpose(3, 0, 1, 2))
    return np.ascontiguousarray(np.moveaxis(ordered.view(np.uint8).reshape(*ordered.shape, 4), -1, 0))


def _from_planes(
    planes: UInt8[np.ndarray, "4 channels 2 entries positions"],
) -> UInt32[np.ndarray, "entries 2 positions channels"]:
    ordered = np.ascontiguousarray(np.moveaxis(planes, 0, -1)).view("<u4")[..., 0]
    ref, combined = np.moveaxis(ordered, 1, 0)
    both = np.stack([ref, ref ^ combined])
    return np.ascontiguousarray(both.transpose(2, 0, 3, 1))
