"""Windows as bytes on the device; a batch is a choice of rows there, one-hot only when it is used."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from meta_spliceai.errors import InputError, RunError, unknown_value
from meta_spliceai.splice_engine.genome.one_hot import one_hot
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.training_config import TrainingConfig

PREDICTED_AT_ONCE = 256
"""Variants that a trained model predicts at a time."""

BASES_AT_A_TIME = 2**18
"""Bases of one allele that are read at a time where no gradients are kept: 256 windows of 1,001, one of 160,001."""


def rows_at_a_time(most: int, window: int) -> int:
    """Rows that are read together without gradients: as many as asked for, fewer where windows are long, so that memory
    does not grow with both."""
    return max(1, min(most, BASES_AT_A_TIME // window))


VALIDATION_BATCHES = 4
"""Validation reads so many training batches at a time: it keeps no gradients."""


def validation_rows(batch_size: int, window: int) -> int:
    """Rows that validation reads at a time."""
    return max(batch_size, rows_at_a_time(VALIDATION_BATCHES * batch_size, window))


@runtime_checkable
class WindowPair(Protocol):
    """Codes of reference and alternative windows in transcript orientation, the variant in the middle."""

    @property
    def ref(self) -> UInt8[np.ndarray, "n length"]: ...

    @property
    def alt(self) -> UInt8[np.ndarray, "n length"]: ...


@dataclass(frozen=True)
class WindowData:
    """All windows of a table on one device: one byte a base, both alleles, the variant in the middle. `margin`: bases
    on either side beyond what a predictor reads; so far a window can be moved."""

    ref: UInt8[Tensor, "n wide"]
    alt: UInt8[Tensor, "n wide"]
    margin: int = 0
    encoded = False

    @classmethod
    def on_device(cls, windows: WindowPair, device: torch.device, margin: int = 0) -> WindowData:
        """Copy the codes to the device once; InputError for shapes that differ, or anything else than codes 0 to 4."""
        ref, alt = np.ascontiguousarray(windows.ref), np.ascontiguousarray(windows.alt)
        if ref.shape != alt.shape or ref.ndim != 2:
            raise InputError(f"windows of shapes {ref.shape} and {alt.shape}: both must be (variants, bases)")
        for codes in (ref, alt):
            if codes.dtype != np.uint8 or (codes.size and codes.max() > 4):
                raise InputError(f"windows must be uint8 codes 0 to 4; found {codes.dtype} up to {codes.max()}")
        return cls(torch.from_numpy(ref).to(device), torch.from_numpy(alt).to(device), margin)

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


def check_shift(predictor: Predictor, windows: WindowPair, config: TrainingConfig) -> None:
    """InputError where these windows cannot be moved as the settings ask."""
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
    length, wanted = windows.ref.shape[1], config.reach(predictor.window)
    if length != wanted:
        raise InputError(
            f"window_shift = {most} needs windows of {wanted} bases ({predictor.window} + 2 · {most}), not {length}"
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
