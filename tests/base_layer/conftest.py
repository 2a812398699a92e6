"""A small SpliceAI-shaped ensemble built in code, for tests that need no real weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from meta_spliceai.splice_engine.base_layer.network import Architecture, BaseModel, SpliceAINetwork, Stage

TOY_STAGES = (Stage(2, 5, 1), Stage(1, 11, 2), Stage(2, 21, 3))
"""A trunk that sees 148 bases to either side, with short and long kernels as the real one has."""


def build_network(architecture: Architecture, seed: int) -> SpliceAINetwork:
    """A network with random weights whose outputs move with every base it sees."""
    generator = torch.Generator().manual_seed(seed)
    network = SpliceAINetwork(architecture)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv1d):
                fan_in = module.in_channels * module.kernel_size[0]
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * (2.0 / fan_in) ** 0.5)
                module.bias.copy_(torch.randn(module.bias.shape, generator=generator) * 0.2)
            elif isinstance(module, nn.BatchNorm1d):
                module.weight.copy_(0.7 + 0.6 * torch.rand(module.weight.shape, generator=generator))
                module.bias.copy_(torch.randn(module.bias.shape, generator=generator) * 0.2)
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) * 0.2)
                module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))
        # Probabilities well away from 0 and 1, so that every change shows.
        network.head.conv.weight.mul_(0.2)
    return network.eval()


@pytest.fixture(scope="session")
def toy_base_model() -> BaseModel:
    """Two random networks, 148 bases of flank, 8 channels wide."""
    architecture = Architecture(TOY_STAGES, channels=8)
    networks = tuple(build_network(architecture, seed) for seed in (1, 2))
    return BaseModel("toy", networks, licence="none needed", citation="built in code")
