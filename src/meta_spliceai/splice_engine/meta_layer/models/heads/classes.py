"""Heads that choose a class: altering or not, and which kind of effect."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor
from torch.nn import functional as F

from meta_spliceai.splice_engine.meta_layer.models.heads.head import Head, two_layers
from meta_spliceai.splice_engine.meta_layer.targets import EFFECT_TYPES
from meta_spliceai.splice_engine.meta_layer.training_config import TrainingConfig
from meta_spliceai.splice_engine.variants.table import NORMAL, SPLICE_ALTERING


class BinaryHead(Head):
    """Log odds that the variant alters splicing. Label: 1 Splice-altering, 0 Normal. Columns: score (probability)."""

    task = "altering"
    class_names = (NORMAL, SPLICE_ALTERING)
    outputs = labels = 1

    def __init__(self, inputs: int, channels: int, positions: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.layers = two_layers(inputs, channels, 1, dropout)

    def forward(
        self,
        compared: Float[Tensor, "batch inputs"],
        ref: Float[Tensor, "batch channels positions"],
        alt: Float[Tensor, "batch channels positions"],
    ) -> Float[Tensor, "batch 1"]:
        prediction: Tensor = self.layers(compared)
        return prediction

    def costs(
        self, prediction: Float[Tensor, "batch 1"], labels: Float[Tensor, "batch 1"], config: TrainingConfig
    ) -> tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """Cross entropy."""
        known = ~labels[:, 0].isnan()
        wanted = labels[:, 0].where(known, labels.new_zeros(()))
        costs = F.binary_cross_entropy_with_logits(prediction[:, 0], wanted, reduction="none")
        return costs.where(known, costs.new_zeros(())), known

    def classes(self, labels: Float[Tensor, "n 1"]) -> Int[Tensor, " n"]:
        """0 Normal, 1 Splice-altering."""
        return labels[:, 0].nan_to_num(-1).long()

    def columns(self, predictions: Float32[np.ndarray, "n 1"]) -> dict[str, Float32[np.ndarray, " n"]]:
        return {"score": _sigmoid(predictions[:, 0])}


class EffectTypeHead(Head):
    """Scores of the four kinds of effect, of a variant known to alter splicing.

    Label: the kind's number in EFFECT_TYPES. It says nothing on whether there is an effect, so it gives no `score`.
    Columns: p_donor_gain, p_donor_loss, p_acceptor_gain, p_acceptor_loss (they sum to 1), effect_type (the number).
    """

    task = "effect-type"
    class_names = EFFECT_TYPES
    outputs = len(EFFECT_TYPES)
    labels = 1

    def __init__(self, inputs: int, channels: int, positions: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.layers = two_layers(inputs, channels, self.outputs, dropout)

    def forward(
        self,
        compared: Float[Tensor, "batch inputs"],
        ref: Float[Tensor, "batch channels positions"],
        alt: Float[Tensor, "batch channels positions"],
    ) -> Float[Tensor, "batch 4"]:
        prediction: Tensor = self.layers(compared)
        return prediction

    def costs(
        self, prediction: Float[Tensor, "batch 4"], labels: Float[Tensor, "batch 1"], config: TrainingConfig
    ) -> tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """Cross entropy."""
        known = ~labels[:, 0].isnan()
        wanted = labels[:, 0].where(known, labels.new_zeros(())).long()
        costs = F.cross_entropy(prediction, wanted, reduction="none")
        return costs.where(known, costs.new_zeros(())), known

    def classes(self, labels: Float[Tensor, "n 1"]) -> Int[Tensor, " n"]:
        """The kind's number."""
        return labels[:, 0].nan_to_num(-1).long()

    def columns(self, predictions: Float32[np.ndarray, "n 4"]) -> dict[str, Float32[np.ndarray, " n"]]:
        powers = np.exp(predictions - predictions.max(axis=1, keepdims=True))
        shares = powers / powers.sum(axis=1, keepdims=True)
        named = {f"p_{name.replace(' ', '_')}": shares[:, i] for i, name in enumerate(EFFECT_TYPES)}
        return {**named, "effect_type": predictions.argmax(axis=1).astype(np.float32)}


def _sigmoid(x: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    """Without overflow for any x."""
    return 0.5 * (1 + np.tanh(0.5 * x))
