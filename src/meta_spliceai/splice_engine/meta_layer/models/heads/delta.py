"""Δ of the three channels."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from meta_spliceai.splice_engine.meta_layer.losses import regression_loss
from meta_spliceai.splice_engine.meta_layer.models.heads.head import Head, two_layers
from meta_spliceai.splice_engine.meta_layer.training_config import TrainingConfig


class DeltaHead(Head):
    """Predicts Δ (alternative − reference probability) for neither, acceptor and donor, in that order, unbounded."""

    task = "delta"

    def __init__(self, inputs: int, hidden_dim: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.layers = two_layers(inputs, hidden_dim, 3, dropout)

    def forward(self, compared: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch 3"]:
        answer: Tensor = self.layers(compared)
        return answer

    def loss(
        self, answer: Float[Tensor, "batch 3"], labels: Float[Tensor, "batch 3"], config: TrainingConfig
    ) -> Float[Tensor, ""]:
        """Huber or squared error, as the config says."""
        return regression_loss(answer, labels, config)
