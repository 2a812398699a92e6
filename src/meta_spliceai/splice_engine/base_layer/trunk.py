"""A base model without its heads: its scores are then the last hidden channels of every network."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from meta_spliceai.splice_engine.base_layer.model import BaseModel, networks_digest
from meta_spliceai.splice_engine.base_layer.network import SpliceAINetwork


def trunk_of(model: BaseModel) -> BaseModel:
    """The model whose "probabilities" are what its heads read: the sum of skip connections, 32 channels a network.

    Channels of different networks mean different things, so that nothing is averaged: each network is a slot of its
    own. Everything that scores a model (incremental or full) works on it, alignment of insertions and deletions
    included: deleted positions are 0, inserted ones are folded into `pos` by the maximum of each channel.
    """
    bare = []
    for network in model.networks:
        trunk = SpliceAINetwork(network.architecture, head=nn.Identity())
        weights = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("head.")}
        trunk.load_state_dict(weights, assign=True)
        bare.append(trunk)
    networks = tuple(bare)
    width = networks[0].architecture.channels
    return replace(
        model,
        name=f"{model.name}-trunk",
        networks=networks,
        channels=tuple(f"{number}.{channel}" for number in range(len(networks)) for channel in range(width)),
        slots=tuple(range(len(networks))),
        digest=networks_digest(networks),
    )
