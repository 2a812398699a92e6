"""CI-SpliceAI's five networks, out of the frozen TensorFlow graph in which they are published.

The graph calls one SpliceAI-shaped Keras model five times with five sets of weights and averages the outputs. The
constants of call `k` carry the suffix `_k` (none for the first call) behind the name of the operation they feed; layers
are numbered in the order in which SpliceAI's code makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from meta_spliceai.errors import IntegrityError
from meta_spliceai.splice_engine.base_layer.network import SPLICEAI_STAGES, Architecture, SpliceAINetwork
from meta_spliceai.splice_engine.base_layer.state_dict import load_state, module_names
from meta_spliceai.splice_engine.base_layer.tensorflow_graph import read_constants

MEMBERS = 5
NORM_EPS = 1e-3
"""Keras's; the graph's own constant is compared with it."""

_ARCHITECTURE = Architecture(SPLICEAI_STAGES, norm_eps=NORM_EPS)


def load_cispliceai(path: Path) -> tuple[SpliceAINetwork, ...]:
    """The five networks of a frozen CI-SpliceAI graph, in the order of their calls.

    Raises:
        IntegrityError: the file is damaged, or a layer is missing or has another shape.
    """
    constants = read_constants(path)
    networks = []
    for member in range(MEMBERS):
        network = SpliceAINetwork(_ARCHITECTURE)
        load_state(network, _member_state(constants, member, path), f"{path}: network {member}")
        networks.append(network)
    return tuple(networks)


def _member_state(constants: Mapping[str, np.ndarray], member: int, path: Path) -> dict[str, Tensor]:
    """The weights of one call of the model, under our names."""
    call = f"_{member}" if member else ""

    def constant(name: str) -> np.ndarray:
        if name not in constants:
            raise IntegrityError(f"{path} lacks the constant {name}; it is not CI-SpliceAI's graph")
        return constants[name]

    state: dict[str, Tensor] = {}
    convolutions = norms = 0
    for module in module_names(_ARCHITECTURE):
        if "norm" in module:
            norms += 1
            layer = f"model_1/batch_normalization_{norms}/batchnorm{call}"
            eps = constant(f"{layer}/add/y")
            if not np.allclose(eps, NORM_EPS, rtol=1e-6, atol=0):
                raise IntegrityError(f"{path}: {layer} adds {eps} to the variance, expected {NORM_EPS}")
            arrays = {
                "weight": constant(f"{layer}/mul/ReadVariableOp/resource"),
                "bias": constant(f"{layer}/ReadVariableOp_2/resource"),
                "running_mean": constant(f"{layer}/ReadVariableOp_1/resource"),
                "running_var": constant(f"{layer}/ReadVariableOp/resource"),
            }
        else:
            convolutions += 1
            layer = f"model_1/conv1d_{convolutions}"
            kernel = constant(f"{layer}/conv1d{call}/ExpandDims_1/ReadVariableOp/resource")
            if kernel.ndim != 3:
                raise IntegrityError(f"{path}: the kernel of {layer} has shape {kernel.shape}, expected three axes")
            arrays = {
                # TensorFlow keeps (position, in, out), PyTorch (out, in, position).
                "weight": np.ascontiguousarray(kernel.transpose(2, 1, 0)),
                "bias": constant(f"{layer}/BiasAdd{call}/ReadVariableOp/resource"),
            }
        state.update({f"{module}.{part}": torch.from_numpy(values.copy()) for part, values in arrays.items()})
    return state
