"""Where the affected splice site lies."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor, nn
from torch.nn import functional as F

from meta_spliceai.splice_engine.meta_layer.models.heads.head import Head
from meta_spliceai.splice_engine.meta_layer.training_config import TrainingConfig


class PositionHead(Head):
    """Attention over positions: a probability that each is the affected site.

    A position's score comes from its features in both alleles and from their difference. The label is the site's
    offset from the variant in transcript orientation (positive: downstream); the loss is the Kullback-Leibler
    divergence to a normal distribution around it, one base wide, so that a near miss costs less than a far one.

    Columns: offset (the likeliest), offset_mean, p_offset (probability of the likeliest). No `score`: it says where,
    not whether.
    """

    task = "position"
    labels = 1
    softness = 1.0
    """Standard deviation of the softened target, in bases."""

    def __init__(self, inputs: int, channels: int, positions: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.outputs = positions
        self.layers = nn.Sequential(
            nn.LayerNorm(3 * channels),
            nn.Linear(3 * channels, channels),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(channels, 1),
        )

    def forward(
        self,
        compared: Float[Tensor, "batch inputs"],
        ref: Float[Tensor, "batch channels positions"],
        alt: Float[Tensor, "batch channels positions"],
    ) -> Float[Tensor, "batch positions"]:
        scores: Tensor = self.layers(torch.cat((ref, alt, alt - ref), dim=1).mT)
        return scores[:, :, 0]

    def costs(
        self, prediction: Float[Tensor, "batch positions"], labels: Float[Tensor, "batch 1"], config: TrainingConfig
    ) -> tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """Divergence to the softened target; an offset beyond the positions read counts as not known."""
        offsets = torch.arange(self.outputs, device=prediction.device) - self.outputs // 2
        known = labels[:, 0].abs() <= self.outputs // 2  # False for NaN
        place = labels[:, 0].where(known, labels.new_zeros(()))
        wanted = (-0.5 * ((offsets - place[:, None]) / self.softness).square()).softmax(1)
        costs = F.kl_div(prediction.log_softmax(1), wanted, reduction="none").sum(1)
        return costs.where(known, costs.new_zeros(())), known

    def moved(self, labels: Float[Tensor, "batch 1"], shift: Int[Tensor, " batch"]) -> Float[Tensor, "batch 1"]:
        """Offsets from the window's middle, which has left the variant."""
        return labels - shift[:, None]

    def columns(self, predictions: Float32[np.ndarray, "n positions"]) -> dict[str, Float32[np.ndarray, " n"]]:
        powers = np.exp(predictions - predictions.max(axis=1, keepdims=True))
        shares = powers / powers.sum(axis=1, keepdims=True)
        offsets = np.arange(self.outputs, dtype=np.float32) - self.outputs // 2
        return {
            "offset": offsets[shares.argmax(axis=1)],
            "offset_mean": (shares @ offsets).astype(np.float32),
            "p_offset": shares.max(axis=1),
        }
