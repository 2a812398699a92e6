"""How large the effect is: measured, and by the base network at the affected position."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from meta_spliceai.splice_engine.meta_layer.models.heads.head import Head, regression_costs, two_layers
from meta_spliceai.splice_engine.meta_layer.training_config import TrainingConfig


class MagnitudeHead(Head):
    """The measured effect in the data set's own unit and sign, and |Δ| at the affected position.

    Label: (measured effect or NaN, |Δ| or NaN). The two have different units; each is learned on a scale of its own,
    taken from the training labels, and predicted in its unit.

    Columns: effect (signed as the data set has it), delta_magnitude, score (|effect|), signed (effect).
    """

    task = "magnitude"
    outputs = labels = 2

    def __init__(self, inputs: int, channels: int, positions: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.layers = two_layers(inputs, channels, 2, dropout)
        self.register_buffer("scale", torch.ones(2))
        self.scale: Tensor

    def learn_scale(self, labels: Float[Tensor, "n 2"]) -> None:
        """Root mean square of the known labels; 1 where there are none or all are zero. Zero stays zero: it means
        "no effect" in either unit."""
        for i in range(2):
            known = labels[:, i][~labels[:, i].isnan()]
            size = known.square().mean().sqrt() if len(known) else labels.new_zeros(())
            self.scale[i] = torch.where(size > 0, size, torch.ones_like(size))

    def forward(
        self,
        compared: Float[Tensor, "batch inputs"],
        ref: Float[Tensor, "batch channels positions"],
        alt: Float[Tensor, "batch channels positions"],
    ) -> Float[Tensor, "batch 2"]:
        prediction: Tensor = self.layers(compared)
        return prediction.float() * self.scale

    def costs(
        self, prediction: Float[Tensor, "batch 2"], labels: Float[Tensor, "batch 2"], config: TrainingConfig
    ) -> tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """Huber or squared error of both numbers, each in units of its scale."""
        return regression_costs(prediction / self.scale, labels / self.scale, config)

    def comparable(
        self, prediction: Float[Tensor, "batch 2"], labels: Float[Tensor, "batch 2"]
    ) -> tuple[Float[Tensor, "known 1"], Float[Tensor, "known 1"]]:
        """The measured effect where it is known."""
        known = ~labels[:, 0].isnan()
        return prediction[known, :1], labels[known, :1]

    def columns(self, predictions: Float32[np.ndarray, "n 2"]) -> dict[str, Float32[np.ndarray, " n"]]:
        effect = predictions[:, 0]
        return {"effect": effect, "delta_magnitude": predictions[:, 1], "score": np.abs(effect), "signed": effect}
