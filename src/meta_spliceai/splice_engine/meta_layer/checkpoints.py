"""Checkpoints of a training run: one file of the last whole epoch, one of the best weights; each whole or not there."""

from __future__ import annotations

import pickle
from errno import EACCES, EIO, EISDIR
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from meta_spliceai.errors import IntegrityError
from meta_spliceai.files import atomic_write

LAST = "last.ckpt"
BEST = "best.safetensors"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content: tensors and plain values only.

    Raises:
        IntegrityError: the file is truncated, altered, or holds objects that a checkpoint of ours never holds.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    # PyTorch's own words are left out: they advise to read the file unsafely. A truncated file may be an OSError.
    except (RuntimeError, OSError, EOFError, ValueError, LookupError, pickle.UnpicklingError) as error:
        why = error.strerror if isinstance(error, OSError) and error.errno in (EACCES, EISDIR, EIO) else "damaged"
        raise IntegrityError(f"checkpoint {path} cannot be read ({why}); delete it to start over") from error
    if not isinstance(content, dict):
        raise IntegrityError(f"checkpoint {path} cannot be read (no checkpoint); delete it to start over")
    found: dict[str, Any] = content
    return found


def trained_state(model: nn.Module, names: set[str]) -> dict[str, Tensor]:
    """The named parameters, on the CPU: what training changes; frozen parameters and fixed tables are left out."""
    return {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if name in names}


def write_best(model: nn.Module, names: set[str], folder: Path) -> None:
    """Replace the best weights by the model's."""
    with atomic_write(folder / BEST, "wb") as handle:
        handle.write(save(trained_state(model, names)))


def load_best(model: nn.Module, names: set[str], folder: Path) -> None:
    """Put the best weights into the model.

    Raises:
        IntegrityError: the file is gone, damaged, or of another model.
    """
    path = folder / BEST
    try:
        state = load(path.read_bytes())
    except (FileNotFoundError, SafetensorError) as error:
        raise IntegrityError(f"best weights {path} cannot be read ({error}); delete the checkpoints") from error
    if state.keys() != names:
        raise IntegrityError(f"best weights {path} belong to another model; delete the checkpoints to start over")
    broken = next((name for name, tensor in state.items() if not tensor.isfinite().all()), None)
    if broken is not None:
        raise IntegrityError(f"best weights {path}: {broken} is not finite; delete the checkpoints to start over")
    model.load_state_dict(state, strict=False)
