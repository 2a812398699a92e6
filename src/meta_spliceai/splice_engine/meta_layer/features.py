"""A predictor's inputs: windows as bytes on the device, one-hot encoded per batch, or features of a frozen encoder,
computed once and stored on disk by content; and the device that holds them: which one, its peak memory (on a CPU that
of the process), and whether an error means that it is full."""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float, Float16, Int, UInt8
from torch import Tensor

from meta_spliceai.errors import RunError, unknown_value
from meta_spliceai.files import atomic_write
from meta_spliceai.splice_engine.base_layer.network import one_hot
from meta_spliceai.splice_engine.meta_layer.models.predictor import Features, Predictor, Shift
from meta_spliceai.splice_engine.variants.table import Windows

PREDICTED_AT_ONCE = 256
"""Variants that a trained model predicts at a time."""

BASES_AT_A_TIME = 2**18
"""Bases of one allele that are read at a time where no gradients are kept: 256 windows of 1,001, one of 160,001."""

VALIDATION_BATCHES = 4
"""Validation reads so many training batches at a time: it keeps no gradients."""

BLOCK = 128
"""Sequences whose features are computed, written and checked together."""

SHARE_OF_DEVICE = 0.5
"""Features move to a CUDA device if they take at most this share of its free memory."""

NO_MEMORY = ("can't allocate memory", "could not create a primitive", "could not create a memory object")
"""How PyTorch's allocator and oneDNN, which knows no error of its own for it, say that a processor's memory is full."""


def rows_at_a_time(most: int, window: int) -> int:
    """Rows that are read together without gradients: as many as asked for, fewer where windows are long, so that memory
    does not grow with both."""
    return max(1, min(most, BASES_AT_A_TIME // window))


def validation_rows(batch_size: int, window: int) -> int:
    return max(batch_size, rows_at_a_time(VALIDATION_BATCHES * batch_size, window))


def batches(
    rows: Int[np.ndarray, " n"], size: int, device: torch.device, seed: int | None = None
) -> tuple[Int[Tensor, " batch"], ...]:
    """Row numbers on the device, the last batch maybe smaller; in an order drawn with the seed, or as given."""
    order = torch.from_numpy(np.asarray(rows, dtype=np.int64)).to(device)
    if seed is not None:
        order = order[torch.randperm(len(order), generator=torch.Generator().manual_seed(seed)).to(device)]
    return order.split(size)


@dataclass(frozen=True)
class WindowData:
    """All windows of a table on one device: one byte a base, both alleles, the variant in the middle. `margin`: bases
    on either side beyond what a predictor reads; so far a window can be moved."""

    ref: UInt8[Tensor, "n wide"]
    alt: UInt8[Tensor, "n wide"]
    margin: int = 0
    encoded = False

    @classmethod
    def on_device(cls, windows: Windows, device: torch.device, margin: int = 0) -> WindowData:
        """Copy the codes to the device once."""
        ref, alt = (torch.from_numpy(np.ascontiguousarray(codes)).to(device) for codes in (windows.ref, windows.alt))
        return cls(ref, alt, margin)

    def pair(
        self, rows: Int[Tensor, " batch"], shift: Int[Tensor, " batch"] | None = None
    ) -> tuple[Float[Tensor, "batch 4 length"], Float[Tensor, "batch 4 length"]]:
        """Reference and alternative of the chosen rows, one-hot. Each window is moved downstream by `shift` bases (at
        most `margin` either way): the variant then stands that many places before the middle."""
        length = self.ref.shape[1] - 2 * self.margin
        if shift is None:
            middle = slice(self.margin, self.margin + length)
            return one_hot(self.ref[rows, middle]), one_hot(self.alt[rows, middle])
        places = (self.margin + shift)[:, None] + torch.arange(length, device=self.ref.device)
        return one_hot(self.ref[rows[:, None], places]), one_hot(self.alt[rows[:, None], places])


def draw_shifts(rows: int, most: int, seed: int, device: torch.device) -> Int[Tensor, " rows"]:
    """A shift for every row, each from −most to most equally likely; the same for the same seed on every device."""
    return torch.randint(-most, most + 1, (rows,), generator=torch.Generator().manual_seed(seed)).to(device)


@dataclass(frozen=True)
class FeatureData:
    """Features of all windows: like WindowData, but a batch holds what the encoder made of them.

    Attributes:
        store: features of each distinct sequence.
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

    def pair(self, rows: Int[Tensor, " batch"], shift: Shift = None) -> tuple[Features, Features]:
        """Features of reference and alternative; they are of windows that stay where they are, without a shift."""
        at = self.store.device
        ref, alt = (self.store[slot[rows].to(at)] for slot in (self.ref_slot, self.alt_slot))
        return ref.to(self.device).float().mT, alt.to(self.device).float().mT


def frozen_features(
    predictor: Predictor, data: WindowData, folder: Path, write: bool = True, batch_size: int = 16
) -> FeatureData | None:
    """The frozen encoder's features of all windows, from the cache (`folder`) as far as they are there.

    The file is named by the encoder's weights, its settings and the distinct sequences.

    Args:
        write: compute what is missing; otherwise None is returned unless everything is there.
        batch_size: sequences the encoder reads at a time, fewer where they are long.
    """
    joined = torch.cat((data.ref, data.alt)).cpu().numpy()
    sequences, places = np.unique(joined, axis=0, return_inverse=True)
    slots = torch.from_numpy(places.reshape(-1).astype(np.int64))
    encoder: Any = predictor.encoder
    name = hashlib.sha256(f"{_state_digest(encoder)}/{encoder.window}/{encoder.positions}/float16/".encode())
    name.update(np.ascontiguousarray(sequences).tobytes())
    store = FeatureStore(folder / name.hexdigest(), len(sequences), int(encoder.positions), int(encoder.channels))
    device = data.ref.device
    computed = store.fill(lambda rows: _encode(predictor, sequences[rows], device, batch_size), write)
    if computed is None:
        return None
    ref_slot, alt_slot = slots.to(device).chunk(2)
    return FeatureData(near(store.read(), device), ref_slot, alt_slot, device, name.hexdigest(), computed)


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


class FeatureStore:
    """One file of features in blocks, and a JSON file beside it with the checksum of every finished block: finished
    blocks outlive an interruption, damaged ones are computed again, and two processes wait for each other."""

    def __init__(self, path: Path, sequences: int, positions: int, channels: int) -> None:
        self.path, self.index = path, path.with_suffix(".json")
        self.shape = (sequences, positions, channels)
        self.row_bytes = 2 * positions * channels
        self.blocks = [slice(at, min(at + BLOCK, sequences)) for at in range(0, sequences, BLOCK)]

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
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock"):
                checksums = self._whole_blocks()
                missing = [number for number in range(len(self.blocks)) if number not in checksums]
                if missing and not write:
                    return None
                for done, number in enumerate(missing, start=len(checksums) + 1):
                    content = np.ascontiguousarray(compute(self.blocks[number])).tobytes()
                    with self.path.open("r+b" if self.path.exists() else "w+b") as handle:
                        handle.seek(self.blocks[number].start * self.row_bytes)
                        handle.write(content)
                    checksums[number] = zlib.crc32(content)
                    with atomic_write(self.index) as index:
                        json.dump(checksums, index)
                    if progress is not None:
                        progress(min(done * BLOCK, self.shape[0]), self.shape[0])
        except OSError as error:
            why = error.strerror or error
            raise RunError(f"features cannot be kept in {self.path.parent}: {why}; choose another folder") from error
        return sum(self.blocks[number].stop - self.blocks[number].start for number in missing)

    def _whole_blocks(self) -> dict[int, int]:
        """Checksums of the blocks that are there with the bytes they were written with."""
        if not (self.index.exists() and self.path.exists()):
            return {}
        stored = {int(number): crc for number, crc in json.loads(self.index.read_text()).items()}
        whole = {}
        with self.path.open("rb") as handle:
            for number, rows in enumerate(self.blocks):
                handle.seek(rows.start * self.row_bytes)
                found = zlib.crc32(handle.read((rows.stop - rows.start) * self.row_bytes))
                if found == stored.get(number):
                    whole[number] = found
        return whole

    def read(self) -> Float16[Tensor, "sequences positions channels"]:
        """The features, mapped from the file (copied only where a batch touches them)."""
        return torch.from_numpy(np.memmap(self.path, dtype=np.float16, mode="c", shape=self.shape))


def choose_device(device: str) -> torch.device:
    """The device to work on: "cpu", "cuda" (or "cuda:1"), or "auto" for CUDA where there is one.

    Raises:
        InputError: an unknown name.
        RunError: CUDA was asked for and this machine has none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name, _, number = device.partition(":")
    if name not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise unknown_value("device", device, ("auto", "cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise RunError("device 'cuda' was asked for, but PyTorch sees no CUDA device here; use cpu or auto")
    return torch.device(device)


def reset_peak(device: torch.device) -> None:
    """Start a new measurement. Where the system cannot reset the process's peak, it counts from the process's start."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak resident size


def peak_memory(device: torch.device) -> int:
    """Bytes: CUDA's largest allocation, or the largest resident size of the process, since the last reset."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with suppress(OSError):
        _, found, peak = Path("/proc/self/status").read_text("ascii", errors="replace").partition("VmHWM:")
        if found:
            return int(peak.split()[0]) * 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(largest) * (1 if sys.platform == "darwin" else 1024)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, of a GPU or of the machine."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
