"""Δ of the three channels, as one number each or as quantiles of its size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor, nn
from torch.nn import functional as F

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.splice_engine.meta_layer.models.heads.head import Head, regression_costs, strongest, two_layers
from meta_spliceai.splice_engine.meta_layer.training_config import TrainingConfig


class DeltaHead(Head):
    """Δ (alternative − reference probability) for neither, acceptor and donor, in that order, unbounded.

    Label: validated Δ, three numbers. Columns: delta_neither, delta_acceptor, delta_donor, score, signed.
    """

    task = "validated-delta"
    class_names = ("with Δ 0", "with another Δ")
    outputs = labels = 3

    def __init__(self, inputs: int, channels: int, positions: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.layers = two_layers(inputs, channels, 3, dropout)

    def forward(
        self,
        compared: Float[Tensor, "batch inputs"],
        ref: Float[Tensor, "batch channels positions"],
        alt: Float[Tensor, "batch channels positions"],
    ) -> Float[Tensor, "batch 3"]:
        prediction: Tensor = self.layers(compared)
        return prediction

    def costs(
        self, prediction: Float[Tensor, "batch 3"], labels: Float[Tensor, "batch 3"], config: TrainingConfig
    ) -> tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """Huber or squared error, as the config says."""
        return regression_costs(prediction, labels, config)

    def classes(self, labels: Float[Tensor, "n 3"]) -> Int[Tensor, " n"]:
        """0 for a Δ of zero (Normal), 1 for any other."""
        return (labels != 0).any(1).long().where(~labels.isnan().any(1), -torch.ones_like(labels[:, 0]).long())

    def comparable(
        self, prediction: Float[Tensor, "batch 3"], labels: Float[Tensor, "batch 3"]
    ) -> tuple[Float[Tensor, "batch 3"], Float[Tensor, "batch 3"]]:
        """Both, as they are."""
        return prediction, labels

    def columns(self, predictions: Float32[np.ndarray, "n 3"]) -> dict[str, Float32[np.ndarray, " n"]]:
        signed = strongest(predictions)
        named = {f"delta_{name}": predictions[:, i] for i, name in enumerate(("neither", "acceptor", "donor"))}
        return {**named, "score": np.abs(signed), "signed": signed}


QUANTILE_SCORES = ("middle", "mean")


class QuantileHead(Head):
    """Quantiles of |Δ| for each channel, never crossing, and the direction of Δ.

    The lowest quantile is a softplus and each further one adds a softplus, so that they are ordered whatever the
    weights. Large effects are few: a high quantile does not shrink towards the many zeros as a mean does.
    The pinball loss: Koenker and Bassett 1978 (10.2307/1913643).

    Label: validated Δ, three numbers. Prediction: for each quantile, the three channels; then three directions in
    [−1, 1].
    Columns: q50_acceptor, … for each quantile and channel, score, signed.

    Args:
        quantiles: increasing numbers between 0 and 1.
        score: what becomes the score: `middle`, the quantile nearest 0.5, or `mean`, the mean of all. Where most labels
            are zero, so is the median of every variant, and only higher quantiles tell variants apart.
    """

    task = "validated-delta"
    class_names = ("with Δ 0", "with another Δ")
    labels = 3

    def __init__(
        self,
        inputs: int,
        channels: int,
        positions: int,
        dropout: float = 0.1,
        quantiles: Sequence[float] = (0.5, 0.75, 0.9),
        score: str = "middle",
    ) -> None:
        super().__init__()
        if score not in QUANTILE_SCORES:
            raise unknown_value("score of quantiles", score, QUANTILE_SCORES)
        self.score = score
        if not quantiles or any(not 0 < q < 1 for q in quantiles) or sorted(set(quantiles)) != list(quantiles):
            raise InputError(f"quantiles {list(quantiles)} are not increasing numbers between 0 and 1")
        self.quantiles = tuple(quantiles)
        self.outputs = 3 * len(quantiles) + 3
        self.layers = two_layers(inputs, channels, self.outputs, dropout)
        # softplus(−4) is about 0.02: training starts from small magnitudes, as most labels are zero.
        last: nn.Linear = self.layers[-1]  # type: ignore[assignment]
        nn.init.constant_(last.bias[:-3], -4.0)

    def forward(
        self,
        compared: Float[Tensor, "batch inputs"],
        ref: Float[Tensor, "batch channels positions"],
        alt: Float[Tensor, "batch channels positions"],
    ) -> Float[Tensor, "batch outputs"]:
        raw = self.layers(compared).float().unflatten(1, (-1, 3))
        sizes = F.softplus(raw[:, :-1]).cumsum(1)
        return torch.cat((sizes, raw[:, -1:].tanh()), dim=1).flatten(1)

    def costs(
        self, prediction: Float[Tensor, "batch outputs"], labels: Float[Tensor, "batch 3"], config: TrainingConfig
    ) -> tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """Pinball loss of the sizes, and the squared error of the direction weighed with the label's size."""
        split = prediction.unflatten(1, (-1, 3))
        sizes, direction = split[:, :-1], split[:, -1]
        known = ~labels.isnan().any(1)
        wanted = labels.where(known[:, None], labels.new_zeros(()))
        error = wanted.abs()[:, None] - sizes
        level = prediction.new_tensor(self.quantiles)[:, None]
        pinball = torch.maximum(level * error, (level - 1) * error).mean((1, 2))
        turned = (wanted.abs() * (direction - wanted.sign()).square()).mean(1)
        return (pinball + turned).where(known, prediction.new_zeros(())), known

    def classes(self, labels: Float[Tensor, "n 3"]) -> Int[Tensor, " n"]:
        """0 for a Δ of zero (Normal), 1 for any other."""
        return (labels != 0).any(1).long().where(~labels.isnan().any(1), -torch.ones_like(labels[:, 0]).long())

    def comparable(
        self, prediction: Float[Tensor, "batch outputs"], labels: Float[Tensor, "batch 3"]
    ) -> tuple[Float[Tensor, "batch 3"], Float[Tensor, "batch 3"]]:
        """The size that becomes the score, with its direction, against Δ."""
        split = prediction.unflatten(1, (-1, 3))
        return split[:, self._scored()].mean(1) * split[:, -1], labels

    def _scored(self) -> slice:
        """Which quantiles the score is the mean of."""
        if self.score == "mean":
            return slice(0, len(self.quantiles))
        middle = int(np.abs(np.asarray(self.quantiles) - 0.5).argmin())
        return slice(middle, middle + 1)

    def columns(self, predictions: Float32[np.ndarray, "n outputs"]) -> dict[str, Float32[np.ndarray, " n"]]:
        split = predictions.reshape(len(predictions), -1, 3)
        named = {
            f"q{100 * level:g}_{name}": split[:, q, channel]
            for q, level in enumerate(self.quantiles)
            for channel, name in enumerate(("neither", "acceptor", "donor"))
        }
        signed = strongest(split[:, self._scored()].mean(1) * np.sign(split[:, -1]))
        return {**named, "score": np.abs(signed), "signed": signed}
