"""What every head is: a module that predicts, the task it learns, and what a prediction costs."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor, nn
from torch.nn import functional as F

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.meta_layer.training_config import TrainingConfig


class Head(nn.Module):
    """Predictions from what compares the two alleles.

    Attributes:
        task: the target it is trained on.
        class_names: names of the classes that `classes` numbers; none where the task has no classes.
        outputs: numbers in a prediction.
        labels: numbers in a label; NaN in a label means "not known".
    """

    task: ClassVar[str]
    class_names: ClassVar[tuple[str, ...]] = ()
    outputs: int
    labels: int

    def forward(
        self,
        compared: Float[Tensor, "batch inputs"],
        ref: Float[Tensor, "batch channels positions"],
        alt: Float[Tensor, "batch channels positions"],
    ) -> Float[Tensor, "batch outputs"]:
        """The prediction from the vector that compares the alleles and from both alleles' features per position."""
        raise NotImplementedError

    def costs(
        self, prediction: Float[Tensor, "batch outputs"], labels: Float[Tensor, "batch labels"], config: TrainingConfig
    ) -> tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """Cost of each row's prediction (0 where its label is not known), and whether the label is known."""
        raise NotImplementedError

    def loss(
        self,
        prediction: Float[Tensor, "batch outputs"],
        labels: Float[Tensor, "batch labels"],
        config: TrainingConfig,
        weights: Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean cost over the rows whose label is known.

        Weighed rows are divided by their number too, not by their weights: over the training rows these have a mean of
        1, and so each class keeps its share of an epoch whichever batches its rows fall into.
        """
        costs, known = self.costs(prediction, labels, config)
        counted = costs * known if weights is None else costs * known * weights
        return counted.sum() / known.sum().clamp_min(1)

    def classes(self, labels: Float[Tensor, "n labels"]) -> Int[Tensor, " n"] | None:
        """The class of each row (−1 where it is not known), by which an imbalance is weighed out; None where the task
        has no classes."""
        return None

    def moved(
        self, labels: Float[Tensor, "batch labels"], shift: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch labels"]:
        """The labels of windows that were moved downstream by `shift`: places in them move the other way."""
        return labels

    def learn_scale(self, labels: Float[Tensor, "n labels"]) -> None:
        """Take the training labels' scale, where the head's predictions are in the labels' own unit."""

    def comparable(
        self, prediction: Float[Tensor, "batch outputs"], labels: Float[Tensor, "batch labels"]
    ) -> tuple[Float[Tensor, "batch k"], Float[Tensor, "batch k"]] | None:
        """The parts of predictions and labels whose correlation is worth a look; None where there are none."""
        return None

    def columns(self, predictions: Float32[np.ndarray, "n outputs"]) -> dict[str, Float32[np.ndarray, " n"]]:
        """What the predictions mean, by name; see the head for the names. `score` (higher: more likely altering) and
        `signed` (negative: less of the normal product) are among them where the task gives them."""
        raise NotImplementedError


def two_layers(inputs: int, hidden_dim: int, outputs: int, dropout: float) -> nn.Sequential:
    """Norm, linear, GELU, dropout, linear. The last layer starts small, so that training starts near a zero output.

    Raises:
        InputError: a dropout outside [0, 1).
    """
    if not 0 <= dropout < 1:
        raise InputError(f"dropout {dropout} is not in [0, 1)")
    last = nn.Linear(hidden_dim, outputs)
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, hidden_dim), nn.GELU(), nn.Dropout(dropout), last)


def regression_costs(
    prediction: Float[Tensor, "batch k"], labels: Float[Tensor, "batch k"], config: TrainingConfig
) -> tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"]]:
    """Huber's loss divided by its delta (so that large errors cost their size) or the squared error, row by row,
    averaged over the numbers of a row that are known."""
    known = ~labels.isnan()
    wanted = labels.where(known, prediction.detach())
    if config.loss == "mse":
        each = F.mse_loss(prediction, wanted, reduction="none")
    else:
        each = F.huber_loss(prediction, wanted, delta=config.huber_delta, reduction="none") / config.huber_delta
    each = each.where(known, each.new_zeros(()))
    return each.sum(1) / known.sum(1).clamp_min(1), known.any(1)


def strongest(delta: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, " n"]:
    """The signed Δ of largest magnitude over the acceptor and donor channels."""
    sites = delta[:, 1:]
    return sites[np.arange(len(sites)), np.abs(sites).argmax(axis=1)]
