"""What every head is: a module that answers, the task it answers for, and what an answer costs."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from meta_spliceai.splice_engine.meta_layer.training_config import TrainingConfig


class Head(nn.Module):
    """Maps the vector that compares the two alleles to a task's answer."""

    task: ClassVar[str]

    def loss(
        self, answer: Float[Tensor, "batch outputs"], labels: Float[Tensor, "batch labels"], config: TrainingConfig
    ) -> Float[Tensor, ""]:
        """Mean cost of the answers."""
        raise NotImplementedError


def two_layers(inputs: int, hidden_dim: int, outputs: int, dropout: float) -> nn.Sequential:
    """Norm, linear, GELU, dropout, linear. The last layer starts small, so that training starts near a zero output."""
    last = nn.Linear(hidden_dim, outputs)
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, hidden_dim), nn.GELU(), nn.Dropout(dropout), last)
