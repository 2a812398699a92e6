"""SpliceAI's published weights: Keras .h5 files read with h5py, without Keras or TensorFlow."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from meta_spliceai.errors import IntegrityError
from meta_spliceai.splice_engine.base_layer.network import SpliceAINetwork

_MOST_VALUES = 1 << 24
"""Of one layer's weights; the largest of a published network has 42,000."""


def load_keras_weights(network: SpliceAINetwork, path: Path) -> None:
    """Fill a network with the weights of a Keras file, in place.

    Keras numbers layers in the order in which the published code makes them: first convolution, first skip, then for
    each stage its blocks' convolutions and its skip, and the head last.

    Args:
        network: of the file's shape, with a softmax head.
        path: a Keras model file (.h5) that holds weights of that shape.

    Raises:
        IntegrityError: the file is no readable HDF5 file, a layer is missing or has another shape, or a weight is not
            finite.
    """
    layers = _read_layers(path)
    convolutions, norms = _in_keras_order(network)
    for kind, modules in (("conv1d", convolutions), ("batch_normalization", norms)):
        found = sorted((name for name in layers if re.fullmatch(rf"{kind}_\d+", name)), key=_number)
        if len(found) != len(modules):
            raise IntegrityError(f"{path}: {len(found)} {kind} layers, expected {len(modules)}")
        for name, module in zip(found, modules, strict=True):
            _fill(module, layers[name], f"{path}: layer {name}")


def _read_layers(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Layer name -> weight name ("kernel", "beta" …) -> values."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    try:
        with h5py.File(path, "r") as file:
            root = file["model_weights"]
            for layer in root:
                values: dict[str, np.ndarray] = {}

                def collect(name: str, item: object, into: dict[str, np.ndarray] = values) -> None:
                    if isinstance(item, h5py.Dataset):
                        if item.size > _MOST_VALUES:
                            raise ValueError(f"{name} claims {item.size:,} values")
                        into[name.rsplit("/", 1)[-1].split(":")[0]] = np.asarray(item[...], dtype=np.float32)

                root[layer].visititems(collect)
                layers[layer] = values
    # h5py's ways of saying that the bytes are not right, or that something else than numbers stands there
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, MemoryError) as error:
        raise IntegrityError(f"{path} cannot be read as a Keras weight file: {error}; fetch it again") from error
    return layers


def _number(layer: str) -> int:
    return int(layer.rsplit("_", 1)[-1])


def _in_keras_order(network: SpliceAINetwork) -> tuple[list[nn.Module], list[nn.Module]]:
    """Convolutions and normalisations in the order in which Keras numbered them."""
    convolutions: list[nn.Module] = [network.first, network.first_skip]
    norms: list[nn.Module] = []
    for blocks, skip in zip(network.stages, network.skips, strict=True):
        for block in blocks:  # type: ignore[attr-defined]
            convolutions += [block.conv1, block.conv2]
            norms += [block.norm1, block.norm2]
        convolutions.append(skip)
    convolutions.append(network.head.conv)  # type: ignore[arg-type]
    return convolutions, norms


def _fill(module: nn.Module, values: dict[str, np.ndarray], where: str) -> None:
    pairs: dict[str, tuple[object, tuple[int, ...]]]
    if isinstance(module, nn.Conv1d):
        pairs = {"kernel": (module.weight, (2, 1, 0)), "bias": (module.bias, (0,))}
    else:
        pairs = {
            "gamma": (module.weight, (0,)),
            "beta": (module.bias, (0,)),
            "moving_mean": (module.running_mean, (0,)),
            "moving_variance": (module.running_var, (0,)),
        }
    for name, (target, axes) in pairs.items():
        if name not in values:
            raise IntegrityError(f"{where} has no {name}; found {', '.join(values) or 'nothing'}")
        given = values[name]
        turned = given.transpose(axes) if given.ndim == len(axes) else given
        if not isinstance(target, Tensor) or turned.shape != tuple(target.shape):
            expected = tuple(target.shape) if isinstance(target, Tensor) else "none"
            raise IntegrityError(f"{where}: {name} has shape {tuple(turned.shape)}, expected {expected}")
        if not np.isfinite(turned).all():
            raise IntegrityError(f"{where}: {name} holds values that are not finite; fetch the file again")
        with torch.no_grad():
            target.copy_(torch.from_numpy(np.ascontiguousarray(turned)))
