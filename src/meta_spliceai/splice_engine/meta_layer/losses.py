"""Losses: what a head's answer costs against its labels."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from meta_spliceai.splice_engine.meta_layer.training_config import TrainingConfig


def regression_loss(
    answer: Float[Tensor, "batch outputs"], labels: Float[Tensor, "batch outputs"], config: TrainingConfig
) -> Float[Tensor, ""]:
    """Mean Huber loss (divided by its delta, so that large errors cost their size) or mean squared error."""
    if config.loss == "mse":
        return F.mse_loss(answer, labels)
    return F.huber_loss(answer, labels, delta=config.huber_delta) / config.huber_delta
