"""OpenSpliceAI's networks: SpliceAI's shape with a leaky activation, for 80, 400, 2,000 or 10,000 nt of context.

The published files are PyTorch state dicts. Their `residual_units` count residual blocks and skip connections in one
row: four blocks, a skip, four blocks, a skip …
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from meta_spliceai.errors import IntegrityError
from meta_spliceai.splice_engine.base_layer.network import SPLICEAI_STAGES, Architecture, SpliceAINetwork
from meta_spliceai.splice_engine.base_layer.state_dict import load_state, read_torch_state, renamed

SLOPE = 0.1
"""LeakyReLU below zero."""

ARCHITECTURES = {
    context: Architecture(SPLICEAI_STAGES[:stages], slope=SLOPE)
    for context, stages in ((80, 1), (400, 2), (2000, 3), (10000, 4))
}
"""Context in nucleotides (both sides together): architecture."""


def load_openspliceai(path: Path) -> SpliceAINetwork:
    """One network of OpenSpliceAI; how much context it sees is read off its layers.

    Raises:
        IntegrityError: the file is damaged or of another architecture.
    """
    state = read_torch_state(path)
    architecture = _architecture(state, path)
    network = SpliceAINetwork(architecture)
    per_stage = architecture.stages[0].blocks + 1

    def theirs(module: str) -> str:
        if module in ("first", "first_skip", "head.conv"):
            return {"first": "initial_conv", "first_skip": "initial_skip.conv", "head.conv": "final_conv"}[module]
        parts = module.split(".")
        if parts[0] == "skips":
            return f"residual_units.{int(parts[1]) * per_stage + per_stage - 1}.conv"
        unit = int(parts[1]) * per_stage + int(parts[2])
        return f"residual_units.{unit}.{parts[3].replace('norm', 'batchnorm')}"

    load_state(network, renamed(state, architecture, theirs, str(path)), str(path))
    return network


def _architecture(state: Mapping[str, Tensor], path: Path) -> Architecture:
    """The published architecture with as many residual units as the file has."""
    units = {int(found.group(1)) for name in state if (found := re.match(r"residual_units\.(\d+)\.", name))}
    for architecture in ARCHITECTURES.values():
        if units == set(range(sum(stage.blocks + 1 for stage in architecture.stages))):
            return architecture
    contexts = ", ".join(f"{context} nt" for context in ARCHITECTURES)
    raise IntegrityError(
        f"{path} has {len(units)} residual units, which is none of OpenSpliceAI's architectures ({contexts})"
    )
