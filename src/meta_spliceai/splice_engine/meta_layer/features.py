"""A predictor's inputs: windows as bytes on the device, one-hot encoded per batch, or features of a frozen encoder,
computed once and stored on disk by content; and the device that holds them: which one, peak memory (of the process on a
CPU, of the device on CUDA), and out-of-memory errors in training: at which batch size, and which one fits."""

from __future__ import annotations

import gc
import hashlib
import json
import resource
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float, Float16, Int, UInt8
from torch import Tensor

from meta_spliceai.errors import InputError, RunError, unknown_value
from meta_spliceai.files import atomic_write
from meta_spliceai.splice_engine.base_layer.network import one_hot
from meta_spliceai.splice_engine.meta_layer.models.predictor import Features, Predictor
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig
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


def rows_at_a_time(most: int, window: int) -> int:
    """Rows that are read together without gradients: as many as asked for, fewer where windows are long, so that memory
    does not grow with both."""
    return max(1, min(most, BASES_AT_A_TIME // window))


def validation_rows(batch_size: int, window: int) -> int:
    return max(batch_size, rows_at_a_time(VALIDATION_BATCHES * batch_size, window))


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

    def digest(self) -> str:
        joined = hashlib.sha256()
        for codes in (self.ref, self.alt):
            joined.update(str(tuple(codes.shape)).encode())
            joined.update(codes.cpu().numpy().tobytes())
        return joined.hexdigest()


def check_shift(predictor: Predictor, config: TrainingConfig) -> None:
    """InputError where the predictor's windows cannot be moved as the settings ask."""
    most = config.window_shift
    if not most:
        return
    if predictor.encoder_frozen:
        raise InputError(
            f"window_shift = {most} with a frozen encoder: its features are computed once, for windows that stay "
            "where they are; set window_shift to 0 or freeze_encoder to false"
        )
    if most > predictor.positions // 2:
        raise InputError(
            f"window_shift = {most} moves the variant out of the {predictor.positions} positions that are read; "
            f"at most {predictor.positions // 2}"
        )


def draw_shifts(rows: int, most: int, seed: int, device: torch.device) -> Int[Tensor, " rows"]:
    """A shift for every row, each from −most to most equally likely; the same for the same seed on every device."""
    return torch.randint(-most, most + 1, (rows,), generator=torch.Generator().manual_seed(seed)).to(device)


class IndexBatches:
    """Batches of row numbers on the device, the last one maybe smaller; `order` gives the seed of the current epoch's
    order, None keeps the given order."""

    def __init__(
        self, rows: Int[np.ndarray, " n"], batch_size: int, device: torch.device, order: Callable[[], int] | None = None
    ) -> None:
        self.rows = torch.from_numpy(np.asarray(rows, dtype=np.int64)).to(device)
        self.batch_size = batch_size
        self.order = order

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[Int[Tensor, " batch"]]:
        # The seed is asked for when the first batch is drawn: by then the training loop knows its epoch.
        rows = self.rows
        if self.order is not None:
            shuffled = torch.randperm(len(rows), generator=torch.Generator().manual_seed(self.order()))
            rows = rows[shuffled.to(rows.device)]
        yield from rows.split(self.batch_size)


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

    def pair(self, rows: Int[Tensor, " batch"]) -> tuple[Features, Features]:
        at = self.store.device
        ref, alt = (self.store[slot[rows].to(at)] for slot in (self.ref_slot, self.alt_slot))
        return ref.to(self.device).float().mT, alt.to(self.device).float().mT

    def digest(self) -> str:
        slots = torch.stack((self.ref_slot, self.alt_slot)).cpu().numpy().tobytes()
        return hashlib.sha256(self.name.encode() + slots).hexdigest()


def frozen_features(
    predictor: Predictor,
    data: WindowData,
    folder: Path,
    write: bool = True,
    batch_size: int = 16,
) -> FeatureData | None:
    """The frozen encoder's features of all windows, from the cache (`folder`) as far as they are there.

    The file is named by the encoder's weights, its settings and the distinct sequences. Blocks have checksums: a
    damaged or missing one is computed again. Finished blocks outlive an interruption. Two processes wait for each
    other.

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
        why = error.strerror or error
        raise RunError(f"features cannot be kept in {folder}: {why}; choose another folder") from error


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
        return sum(self._rows(block).stop - self._rows(block).start for block in missing)

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


_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")

NO_MEMORY = ("can't allocate memory", "could not create a primitive", "could not create a memory object")
"""How PyTorch's allocator and oneDNN, which knows no error of its own for it, say that a processor's memory is full."""


def reset_peak(device: torch.device) -> None:
    """Start a new measurement. Where the system cannot reset the process's peak, it counts from the process's start."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _RESET.exists():
        try:
            _RESET.write_text("5")  # Linux: forget the peak resident size
        except PermissionError:
            return


def peak_memory(device: torch.device) -> int:
    """Bytes: CUDA's largest allocation, or the largest resident size of the process, since the last reset."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if _STATUS.exists():
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(largest) * (1 if sys.platform == "darwin" else 1024)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, of a GPU or of the machine."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


class OutOfMemory(RunError):
    """Training needs more memory than the device has.

    `tried`: smaller batches were tried, and `fits` is the largest of them that fits, None if not even one row did.
    """

    def __init__(
        self, device: str, batch_size: int, accumulate: int, window: int, tried: bool = False, fits: int | None = None
    ) -> None:
        self.asked = device, batch_size, accumulate, window
        self.batch_size, self.fits = batch_size, fits
        words = f"out of memory at batch {batch_size}"
        if not tried:
            words += (
                f" on {device} with windows of {window}; try batch_size {max(1, batch_size // 2)} with accumulate "
                f"{accumulate * 2} (the same step in smaller pieces)"
            )
        elif fits is None:
            words += f", and at 1 too, on {device} with windows of {window}; it needs a larger device"
        else:
            words += (
                f"; fits at {fits} (the same step in smaller pieces: --set training.batch_size={fits} "
                f"--set training.accumulate={accumulate * batch_size // fits})"
            )
        super().__init__(words)

    def alone(self) -> OutOfMemory:
        """The same error without the frames it was raised through, which hold the memory that ran out."""
        return OutOfMemory(*self.asked)

    def with_what_fits(self, try_step: Callable[[int], None]) -> OutOfMemory:
        """The same error once halves of the batch have been tried; `try_step` takes a batch size and raises OutOfMemory
        where one step of it does not fit."""
        batch = self.batch_size // 2
        while batch >= 1:
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            try:
                try_step(batch)
            except OutOfMemory:
                batch //= 2
            else:
                break
        return OutOfMemory(*self.asked, tried=True, fits=batch or None)
