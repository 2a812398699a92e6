"""The tensors of a HyenaDNA checkpoint in its authors' own format, read without running anything that the file names.

The authors trained with PyTorch Lightning and Hydra, which save a whole run: beside `state_dict` such a file may hold
the run's settings as OmegaConf objects and the states of callbacks. PyTorch's reader refuses a file that names a class
of a third party. Here the names of those packages are read as empty shells, so that the weights beside them can be had;
a file that names anything else is refused.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from meta_spliceai.errors import IntegrityError

_SHELLS = ("argparse.", "hydra.", "lightning.", "lightning_fabric.", "omegaconf.", "pathlib.", "pytorch_lightning.")
"""Packages whose names may stand beside the weights."""

_PLAIN = {f"builtins.{kind}" for kind in ("bool", "dict", "float", "int", "list", "str", "tuple")} | {"typing.Any"}
"""Plain types, which OmegaConf's settings name as the kind of what they hold."""

_RECOMPUTED = {".mixer.layer.": ".mixer.", ".mlp.layer.": ".mlp."}
"""The larger models were trained with recomputation, whose wrapper stands in the names of what it wraps."""


class _Shell:
    """Takes the place of an object that is not wanted: made from anything, keeps nothing."""

    def __new__(cls, *_: Any, **__: Any) -> _Shell:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _empty_dict(*_: Any) -> dict[Any, Any]:
    """Takes the place of a `collections.defaultdict`, into which a checkpoint writes."""
    return {}


def read_original(path: Path) -> dict[str, Tensor]:
    """The model's tensors by the names they have in the hub's format, without its prefix ("backbone.layers.0.…").

    Raises:
        IntegrityError: the file is truncated, is no checkpoint, or names what no checkpoint of a HyenaDNA holds.
    """
    try:
        with torch.serialization.safe_globals(_stand_ins(path)):
            content = torch.load(path, map_location="cpu", weights_only=True)
    # The reader's own words are left out: they advise to read the file unsafely.
    except (RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, pickle.UnpicklingError) as error:
        raise IntegrityError(f"{path} cannot be read: it is damaged or no PyTorch checkpoint") from error
    state = content.get("state_dict") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping):
        raise IntegrityError(f"{path} cannot be read: it holds no state_dict")
    return {_plain_name(name): value for name, value in state.items() if isinstance(name, str)}


def _stand_ins(path: Path) -> list[Any]:
    """What each of the file's unusual names stands for, as PyTorch's reader wants it."""
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except ValueError:  # PyTorch's old file format: read without any names but PyTorch's own
        return []
    stand_ins: list[Any] = []
    for name in sorted(named):
        if name == "collections.defaultdict":
            stand_ins.append((_empty_dict, name))
        elif name in _PLAIN or name.startswith(_SHELLS):
            stand_ins.append((_Shell, name))
        else:
            raise IntegrityError(f"{path} cannot be read: it names {name}, which no checkpoint of a HyenaDNA needs")
    return stand_ins


def _plain_name(name: str) -> str:
    for wrapped, plain in _RECOMPUTED.items():
        name = name.replace(wrapped, plain)
    return name.removeprefix("model.")
