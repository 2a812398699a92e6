"""Features of a frozen encoder, computed once and kept on disk, known by their content."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float16, Int, UInt8
from torch import Tensor

from meta_spliceai.errors import RunError
from meta_spliceai.files import atomic_write
from meta_spliceai.splice_engine.genome.one_hot import one_hot
from meta_spliceai.splice_engine.meta_layer.models.predictor import Features, Predictor
from meta_spliceai.splice_engine.meta_layer.window_data import WindowData, rows_at_a_time

BLOCK = 128
"""Sequences that are computed, written and checked together."""

SHARE_OF_DEVICE = 0.5
"""Features move to a CUDA device if they take at most this share of its free memory."""


@dataclass(frozen=True)
class FeatureData:
    """Features of all windows: like WindowData, but a batch holds what the encoder made of them.

    Attributes:
        store: features of each distinct sequence, float16, [sequences, positions, channels].
        ref_slot, alt_slot: for each variant, the place of its two sequences in the store.
        name: content address of the store.
        computed: sequences that were not in the cache and had to be read by the encoder.
    """

    store: Float16[Tensor, "sequences positions channels"]
    ref_slot: Int[Tensor, " n"]
    alt_slot: Int[Tensor, " n"]
    device: torch.device
    name: str
    computed: int = 0
    encoded = True

    def pair(self, rows: Int[Tensor, " batch"]) -> tuple[Features, Features]:
        """Features of reference and alternative of the chosen rows."""
        at = self.store.device
        ref, alt = (self.store[slot[rows].to(at)] for slot in (self.ref_slot, self.alt_slot))
        return ref.to(self.device).float().mT, alt.to(self.device).float().mT

    def digest(self) -> str:
        """Identity of the features and of which variant they belong to."""
        slots = torch.stack((self.ref_slot, self.alt_slot)).cpu().numpy().tobytes()
        return hashlib.sha256(self.name.encode() + slots).hexdigest()


def frozen_features(
    predictor: Predictor,
    data: WindowData,
    folder: Path,
    write: bool = True,
    batch_size: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> FeatureData | None:
    """The frozen encoder's features of all windows, from the cache as far as they are there.

    The file is named by the encoder's weights, its settings and the distinct sequences. Blocks have checksums: a
    damaged or missing one is computed again. Finished blocks outlive an interruption. Two processes wait for each
    other.

    Args:
        predictor: its encoder is frozen.
        data: windows on the device that the encoder runs on.
        folder: the cache.
        write: compute what is missing; otherwise None is returned unless everything is there.
        batch_size: sequences the encoder reads at a time, fewer where they are long.
        progress: called with sequences done and sequences in all.
    """
    joined = torch.cat((data.ref, data.alt)).cpu().numpy()
    sequences, places = np.unique(joined, axis=0, return_inverse=True)
    slots = torch.from_numpy(places.reshape(-1).astype(np.int64))
    encoder: Any = predictor.encoder
    name = hashlib.sha256(f"{_state_digest(encoder)}/{encoder.window}/{encoder.positions}/float16/".encode())
    name.update(np.ascontiguousarray(sequences).tobytes())
    store = FeatureStore(folder / name.hexdigest(), len(sequences), int(encoder.positions), int(encoder.channels))
    device = data.ref.device
    computed = store.fill(lambda rows: _encode(predictor, sequences[rows], device, batch_size), write, progress)
    if computed is None:
        return None
    kept = near(torch.from_numpy(store.read()), device)
    ref_slot, alt_slot = slots.to(device).chunk(2)
    return FeatureData(kept, ref_slot, alt_slot, device, name.hexdigest(), computed)


def _encode(
    predictor: Predictor, sequences: UInt8[np.ndarray, "n length"], device: torch.device, batch_size: int
) -> Float16[np.ndarray, "n positions channels"]:
    """Features in float32 arithmetic whatever the device, so that a cache serves all of them; kept as float16."""
    predictor.to(device).eval()
    codes = torch.from_numpy(sequences).to(device)
    rows = rows_at_a_time(batch_size, codes.shape[1])
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        parts = [predictor.encoder(one_hot(part)).mT.half().cpu() for part in codes.split(rows)]
    return torch.cat(parts).numpy()


def near(features: Float16[Tensor, ...], device: torch.device) -> Float16[Tensor, ...]:
    """The features, moved to a CUDA device that has room for them."""
    if device.type == "cuda" and features.nbytes < SHARE_OF_DEVICE * torch.cuda.mem_get_info(device)[0]:
        return features.to(device)
    return features


def _state_digest(module: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"features cannot be kept in {folder}: {error.strerror or error}; choose another folder"
        ) from error


class FeatureStore:
    """One file of features in blocks, and a JSON file beside it with the checksum of every finished block."""

    def __init__(self, path: Path, sequences: int, positions: int, channels: int) -> None:
        self.path = path
        self.shape = (sequences, positions, channels)
        self.checksums: dict[int, int] | None = None

    def fill(
        self,
        compute: Callable[[slice], Float16[np.ndarray, "n positions channels"]],
        write: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> int | None:
        """Have every block: how many sequences had to be computed; None where some are missing and `write` is false.

        `compute` gives the features of a stretch of the sequences; `progress` is called with sequences done and
        sequences in all. RunError where the disk is full or the folder cannot be written to.
        """
        sequences, lock = self.shape[0], FileLock(f"{self.path}.lock")
        with _writing_to(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        try:
            if self.checksums is None:
                self.checksums = self._whole_blocks()
            checksums = self.checksums
            blocks = range(-(-sequences // BLOCK))
            missing = [block for block in blocks if block not in checksums]
            if missing and not write:
                return None
            for done, block in enumerate(missing, start=1):
                features = compute(self._rows(block))
                with _writing_to(self.path.parent):
                    self._write(block, features, checksums)
                if progress is not None:
                    progress(min((len(blocks) - len(missing) + done) * BLOCK, sequences), sequences)
        finally:
            lock.release()
        return sum(len(range(*self._rows(block).indices(sequences))) for block in missing)

    def _rows(self, block: int) -> slice:
        return slice(block * BLOCK, min((block + 1) * BLOCK, self.shape[0]))

    def _whole_blocks(self) -> dict[int, int]:
        """Blocks that are there and whose bytes have their checksum."""
        index = self.path.with_suffix(".json")
        if not (index.exists() and self.path.exists()):
            return {}
        try:
            stored = {int(block): int(crc) for block, crc in json.loads(index.read_text()).items()}
        except (json.JSONDecodeError, AttributeError, TypeError, ValueError):
            return {}  # a damaged index: everything is computed again
        row = 2 * self.shape[1] * self.shape[2]
        whole = {}
        with self.path.open("rb") as handle:
            for block in range(-(-self.shape[0] // BLOCK)):
                rows = self._rows(block)
                handle.seek(rows.start * row)
                content = handle.read((rows.stop - rows.start) * row)
                if len(content) == (rows.stop - rows.start) * row and zlib.crc32(content) == stored.get(block):
                    whole[block] = stored[block]
        return whole

    def _write(
        self, block: int, features: Float16[np.ndarray, "n positions channels"], checksums: dict[int, int]
    ) -> None:
        """Put a block into the file; only then its checksum into the index."""
        content = np.ascontiguousarray(features).tobytes()
        with self.path.open("r+b" if self.path.exists() else "w+b") as handle:
            handle.seek(2 * block * BLOCK * self.shape[1] * self.shape[2])
            handle.write(content)
            handle.flush()
        checksums[block] = zlib.crc32(content)
        with atomic_write(self.path.with_suffix(".json")) as index:
            json.dump(checksums, index)

    def read(self) -> Float16[np.ndarray, "sequences positions channels"]:
        """The features, mapped from the file (copied only where a batch touches them)."""
        return np.memmap(self.path, dtype=np.float16, mode="c", shape=self.shape)
