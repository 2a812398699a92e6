"""A base model: one or more networks whose outputs are averaged, with name, licence and identity."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import torch

from meta_spliceai.errors import IntegrityError
from meta_spliceai.splice_engine.base_layer.channels import CHANNELS
from meta_spliceai.splice_engine.base_layer.network import SpliceAINetwork


@dataclass(frozen=True)
class BaseIdentity:
    """What a base model is, without its weights: all that a result says of it and that its scores are found by.

    Attributes:
        name, licence, citation, channels, digest, flank: as `BaseModel` has them.
        size: number of its networks.
    """

    name: str
    licence: str
    citation: str
    channels: tuple[str, ...]
    digest: str
    flank: int
    size: int


@dataclass(frozen=True)
class BaseModel:
    """Networks that score together.

    A network's outputs are averaged with those of the other networks of its slot, in probability space. The ensembles
    of SpliceAI, OpenSpliceAI and CI-SpliceAI have one slot; Pangolin has one slot a tissue, three networks each.

    Attributes:
        name: what it is asked for by.
        networks: members, in evaluation mode, on one device, all with the same flank and number of outputs.
        licence: of the weights.
        citation: paper and DOI.
        channels: names of the scores' channels: each slot's outputs, slots one after the other.
        slots: slot of each network; all in slot 0 by default.
        digest: identity of architecture and weights (SHA-256, hexadecimal), computed when empty.

    Raises:
        IntegrityError: a weight is not finite.
    """

    name: str
    networks: tuple[SpliceAINetwork, ...]
    licence: str
    citation: str
    channels: tuple[str, ...] = CHANNELS
    slots: tuple[int, ...] = ()
    digest: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.networks:
            raise ValueError(f"base model {self.name} has no networks")
        if not self.slots:
            object.__setattr__(self, "slots", (0,) * len(self.networks))
        if len(self.slots) != len(self.networks) or set(self.slots) != set(range(max(self.slots) + 1)):
            raise ValueError(f"base model {self.name}: slots {self.slots} for {len(self.networks)} networks")
        if len(self.channels) % (max(self.slots) + 1):
            raise ValueError(f"base model {self.name}: {len(self.channels)} channels in {max(self.slots) + 1} slots")
        if len({network.flank for network in self.networks}) != 1:
            raise ValueError(f"base model {self.name}: its networks see different flanks")
        _require_finite(self.name, self.networks)
        for network in self.networks:
            network.eval().requires_grad_(False)
        if not self.digest:
            object.__setattr__(self, "digest", networks_digest(self.networks))

    @property
    def identity(self) -> BaseIdentity:
        """The model without its weights."""
        return BaseIdentity(
            self.name, self.licence, self.citation, self.channels, self.digest, self.flank, len(self.networks)
        )

    @property
    def flank(self) -> int:
        """Bases on either side that an output position sees (5,000 for the published 10,000-nt networks)."""
        return self.networks[0].flank

    @property
    def outputs(self) -> int:
        """Output channels of each network."""
        return len(self.channels) // (max(self.slots) + 1)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.networks[0].first.weight.device


def _require_finite(model: str, networks: tuple[SpliceAINetwork, ...]) -> None:
    for number, network in enumerate(networks):
        for name, tensor in network.state_dict().items():
            if not torch.isfinite(tensor).all() or (name.endswith("running_var") and (tensor < 0).any()):
                raise IntegrityError(
                    f"base model {model}, network {number}: {name} holds values that are not finite, or a negative "
                    "variance; fetch its weights again"
                )


def networks_digest(networks: tuple[SpliceAINetwork, ...]) -> str:
    """SHA-256 over the architectures and weights of networks, in order."""
    total = hashlib.sha256()
    for network in networks:
        total.update(f"{network.architecture} {network.head}".encode())
        for name, tensor in sorted(network.state_dict().items()):
            total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
