"""Weights under other people's names into our networks: read safely, every name and shape compared."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from meta_spliceai.errors import IntegrityError
from meta_spliceai.splice_engine.base_layer.network import Architecture

COUNTER = "num_batches_tracked"
"""A normalisation's training counter: of no meaning when scoring, left out on both sides."""


def read_torch_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch state dict, on the CPU. Nothing but tensors is unpickled (`weights_only`).

    Raises:
        IntegrityError: the file is truncated, holds something else than tensors by name, or wants code to be run.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    # PyTorch's own words are left out: they advise to read the file unsafely.
    except (RuntimeError, OSError, EOFError, ValueError, LookupError, pickle.UnpicklingError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "damaged, or no tensors alone"
        raise IntegrityError(f"{path} cannot be read as PyTorch weights ({why}); fetch it again") from error
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise IntegrityError(f"{path} holds no state dict (tensors by name), so it is not a file of weights")
    return dict(state)


def load_state(network: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Fill a network, in place, with exactly the tensors it has.

    Raises:
        IntegrityError: a tensor is missing, superfluous, of another shape, or not finite.
    """
    wanted = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(COUNTER)}
    given = {name: tensor for name, tensor in state.items() if not name.endswith(COUNTER)}
    for problem, names in (("lacks", wanted.keys() - given.keys()), ("has besides", given.keys() - wanted.keys())):
        if names:
            listed = ", ".join(sorted(names)[:3])
            raise IntegrityError(f"{where} {problem} {len(names)} tensors ({listed} …); it is of another architecture")
    for name, target in wanted.items():
        value = given[name]
        if tuple(value.shape) != tuple(target.shape):
            raise IntegrityError(f"{where}: {name} has shape {tuple(value.shape)}, expected {tuple(target.shape)}")
        if not torch.isfinite(value).all():
            raise IntegrityError(f"{where}: {name} holds values that are not finite")
        with torch.no_grad():
            target.copy_(value)


def renamed(
    state: Mapping[str, Tensor], architecture: Architecture, theirs: Callable[[str], str | None], where: str
) -> dict[str, Tensor]:
    """A state dict under our names.

    Args:
        state: tensors by their names.
        architecture: of the network to be filled.
        theirs: our module's name ("stages.0.1.conv2", "skips.3", "head.conv" …) -> theirs, without ".weight".
        where: the file, for messages.

    Raises:
        IntegrityError: a module's tensors are missing. Shapes are compared by `load_state`.
    """
    ours: dict[str, Tensor] = {}
    for module in module_names(architecture):
        name = theirs(module)
        found = {key.rpartition(".")[2]: value for key, value in state.items() if key.rpartition(".")[0] == name}
        if not found:
            raise IntegrityError(f"{where} lacks the layer {name}; it is of another architecture")
        ours.update({f"{module}.{part}": value for part, value in found.items()})
    return ours


def module_names(architecture: Architecture) -> list[str]:
    """Names of all layers with weights of a `SpliceAINetwork`, in the order in which published code makes them."""
    names = ["first", "first_skip"]
    for number, stage in enumerate(architecture.stages):
        for block in range(stage.blocks):
            names += [f"stages.{number}.{block}.{part}" for part in ("norm1", "conv1", "norm2", "conv2")]
        names.append(f"skips.{number}")
    return [*names, "head.conv"]
