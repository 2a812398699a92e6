"""All tasks at once, on one encoder."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor, nn

from meta_spliceai.splice_engine.meta_layer.models.heads.classes import BinaryHead, EffectTypeHead
from meta_spliceai.splice_engine.meta_layer.models.heads.delta import DeltaHead
from meta_spliceai.splice_engine.meta_layer.models.heads.head import Head
from meta_spliceai.splice_engine.meta_layer.models.heads.magnitude import MagnitudeHead
from meta_spliceai.splice_engine.meta_layer.models.heads.position import PositionHead
from meta_spliceai.splice_engine.meta_layer.training_config import TrainingConfig

TASKS: dict[str, type[Head]] = {
    "validated-delta": DeltaHead,
    "altering": BinaryHead,
    "effect-type": EffectTypeHead,
    "position": PositionHead,
    "magnitude": MagnitudeHead,
}
"""The joined tasks; labels and predictions stand side by side in this order."""

OF_ALTERING = ("effect-type", "position")
"""Tasks that know altering rows only: there altering and Normal have nothing to share."""


class MultitaskHead(Head):
    """One head a task; a label that is missing costs nothing.

    The tasks' mean costs are added, each weighed with a learned precision: Σ exp(−s) · cost + s (Kendall, Gal and
    Cipolla 2018, arXiv 1705.07115, homoscedastic uncertainty). Validation adds the plain costs: a yardstick that
    moved with the learned weights could not tell epochs apart.

    Columns: those of each task, named `task.column`, and `score` and `signed` of altering and validated Δ.
    """

    task = "multitask"
    class_names = BinaryHead.class_names

    def __init__(self, inputs: int, channels: int, positions: int, dropout: float = 0.1) -> None:
        super().__init__()
        heads = {name: kind(inputs, channels, positions, dropout) for name, kind in TASKS.items()}
        self.heads = nn.ModuleDict(heads)
        self.log_variance = nn.Parameter(torch.zeros(len(heads)))
        self.outputs = sum(head.outputs for head in heads.values())
        self.labels = sum(head.labels for head in heads.values())

    def _heads(self) -> list[tuple[str, Head]]:
        return list(self.heads.items())  # type: ignore[arg-type]

    def forward(
        self,
        compared: Float[Tensor, "batch inputs"],
        ref: Float[Tensor, "batch channels positions"],
        alt: Float[Tensor, "batch channels positions"],
    ) -> Float[Tensor, "batch outputs"]:
        return torch.cat([head(compared, ref, alt).float() for _, head in self._heads()], dim=1)

    def _split(self, joined: Tensor, what: str) -> list[Tensor]:
        return list(joined.split([getattr(head, what) for _, head in self._heads()], dim=1))

    def loss(
        self,
        prediction: Float[Tensor, "batch outputs"],
        labels: Float[Tensor, "batch labels"],
        config: TrainingConfig,
        weights: Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, ""]:
        """Sum over the tasks that have a known label in the batch; weights of altering and Normal count where a task
        knows both."""
        parts = zip(self._heads(), self._split(prediction, "outputs"), self._split(labels, "labels"), strict=True)
        total = prediction.new_zeros(())
        for i, ((task, head), own_prediction, own_labels) in enumerate(parts):
            cost = head.loss(own_prediction, own_labels, config, None if task in OF_ALTERING else weights)
            if not self.training:
                total = total + cost
                continue
            known = head.costs(own_prediction.detach(), own_labels, config)[1].any()
            s = self.log_variance[i]
            total = total + torch.where(known, torch.exp(-s) * cost + s, s * 0)
        return total

    def costs(
        self, prediction: Float[Tensor, "batch outputs"], labels: Float[Tensor, "batch labels"], config: TrainingConfig
    ) -> tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """Plain sum of the tasks' costs in each row."""
        parts = zip(self._heads(), self._split(prediction, "outputs"), self._split(labels, "labels"), strict=True)
        costs, known = zip(*(head.costs(a, lab, config) for (_, head), a, lab in parts), strict=True)
        return torch.stack(costs).sum(0), torch.stack(known).any(0)

    def classes(self, labels: Float[Tensor, "n labels"]) -> Int[Tensor, " n"]:
        """Altering or not."""
        return self.heads["altering"].classes(self._split(labels, "labels")[1])  # type: ignore[operator]

    def moved(
        self, labels: Float[Tensor, "batch labels"], shift: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch labels"]:
        """Each head moves its own."""
        parts = zip(self._heads(), self._split(labels, "labels"), strict=True)
        return torch.cat([head.moved(own, shift) for (_, head), own in parts], dim=1)

    def learn_scale(self, labels: Float[Tensor, "n labels"]) -> None:
        """Each head takes its own."""
        for (_, head), own in zip(self._heads(), self._split(labels, "labels"), strict=True):
            head.learn_scale(own)

    def comparable(
        self, prediction: Float[Tensor, "batch outputs"], labels: Float[Tensor, "batch labels"]
    ) -> tuple[Float[Tensor, "known 3"], Float[Tensor, "known 3"]]:
        """Δ where it is known."""
        delta, wanted = self._split(prediction, "outputs")[0], self._split(labels, "labels")[0]
        known = ~wanted.isnan().any(1)
        return delta[known], wanted[known]

    def columns(self, predictions: Float32[np.ndarray, "n outputs"]) -> dict[str, Float32[np.ndarray, " n"]]:
        named: dict[str, Float32[np.ndarray, " n"]] = {}
        start = 0
        for name, head in self._heads():
            own = head.columns(predictions[:, start : start + head.outputs])
            named.update({f"{name}.{column}": values for column, values in own.items()})
            start += head.outputs
        return {**named, "score": named["altering.score"], "signed": named["validated-delta.signed"]}
