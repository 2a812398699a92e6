"""Pangolin's networks: SpliceAI's trunk with a head for each tissue.

A published file carries eight heads: for heart, liver, brain and testis the probability that a position is a splice
site, and its usage. Its last training was on one tissue, whose index stands in the file's name
(`final.<replicate>.<index>.3.v2`: 0 heart, 2 liver, 4 brain, 6 testis), and only that tissue's probability is used: of
the twelve output channels of the published code, channels 1, 4, 7 and 10. A network here keeps that one head.

Pangolin does not tell acceptors from donors, so that its model has the tissues as channels and none of the reductions
that ask for ACCEPTOR or DONOR apply. Its own summary of a variant is `gain` and `loss`: the largest and the smallest Δ
over the tissues, Δ being of the mean over replicates (Zeng and Li 2022, 10.1186/s13059-022-02664-4).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from meta_spliceai.errors import IntegrityError
from meta_spliceai.splice_engine.base_layer.network import SPLICEAI_STAGES, Architecture, SpliceAINetwork
from meta_spliceai.splice_engine.base_layer.state_dict import load_state, read_torch_state, renamed

TISSUES = ("heart", "liver", "brain", "testis")
"""Channels of Pangolin's scores."""

TISSUE_INDEX = {"heart": 0, "liver": 2, "brain": 4, "testis": 6}
"""Number in the published file names; the head of tissue `i` is `conv_last<i + 1>`."""

REPLICATES = (1, 2, 3)

_ARCHITECTURE = Architecture(SPLICEAI_STAGES, outputs=1)


class SiteHead(nn.Module):
    """Probability that a position is a splice site: the second of two softmax outputs."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, 2, 1)

    def forward(self, x: Float[Tensor, "batch channels length"]) -> Float[Tensor, "batch 1 length"]:
        """One probability a position."""
        return torch.softmax(self.conv(x), dim=1)[:, 1:]


def load_pangolin(path: Path, tissue: str) -> SpliceAINetwork:
    """One network of Pangolin with its own tissue's head.

    Args:
        path: a published state dict (`final.*.3.v2`).
        tissue: which of TISSUES the file was trained on.

    Raises:
        IntegrityError: the file is damaged or of another architecture.
    """
    state = read_torch_state(path)
    network = SpliceAINetwork(_ARCHITECTURE, head=SiteHead(_ARCHITECTURE.channels))
    blocks = _ARCHITECTURE.stages[0].blocks
    head = f"conv_last{TISSUE_INDEX[tissue] + 1}"
    heads = {f"conv_last{number + 1}" for number in range(2 * len(TISSUES))}
    missing = sorted(name for name in heads if f"{name}.weight" not in state)
    if missing:
        raise IntegrityError(f"{path} lacks the heads {', '.join(missing)}; it is not one of Pangolin's networks")

    def theirs(module: str) -> str:
        if module in ("first", "first_skip", "head.conv"):
            return {"first": "conv1", "first_skip": "skip", "head.conv": head}[module]
        parts = module.split(".")
        if parts[0] == "skips":
            return f"convs.{parts[1]}"
        return f"resblocks.{int(parts[1]) * blocks + int(parts[2])}.{parts[3].replace('norm', 'bn')}"

    load_state(network, renamed(state, _ARCHITECTURE, theirs, str(path)), str(path))
    return network


@dataclass(frozen=True)
class GainAndLoss:
    """Pangolin's result for each variant and position: how much splice-site probability is won and lost.

    Attributes:
        gain: largest Δ over the tissues.
        loss: smallest Δ over the tissues (negative where a site weakens).
    """

    gain: Float32[np.ndarray, "variants positions"]
    loss: Float32[np.ndarray, "variants positions"]


def gain_and_loss(delta: Float32[np.ndarray, "variants positions tissues"]) -> GainAndLoss:
    """Largest and smallest Δ over tissues at each position; Δ of each tissue is that of its replicates' mean."""
    return GainAndLoss(gain=delta.max(axis=2), loss=delta.min(axis=2))
