"""Heads: from the vector that compares the two alleles to a task's outputs, and their losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from scipy.special import softmax
from torch import Tensor, nn
from torch.nn import functional as F

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.splice_engine.base_layer.scores import CHANNELS
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import strongest
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig
from meta_spliceai.splice_engine.meta_layer.targets import EFFECT_TYPES
from meta_spliceai.splice_engine.variants.table import NORMAL, SPLICE_ALTERING

Compared = Float[Tensor, "batch inputs"]
Features = Float[Tensor, "batch channels positions"]
Prediction = Float[Tensor, "batch outputs"]
Labels = Float[Tensor, "batch labels"]
Costs = tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"]]
"""Cost of each row (0 where its label is not known), and whether the label is known."""

Predictions = Float32[np.ndarray, "n outputs"]
Columns = dict[str, Float32[np.ndarray, " n"]]


class Head(nn.Module):
    """What every head is.

    Attributes:
        class_names: names of the classes that `classes` numbers; none where the task has no classes.
        labels: numbers in a label; NaN in a label means "not known".
    """

    task: ClassVar[str]
    class_names: ClassVar[tuple[str, ...]] = ()
    outputs: int
    labels: int

    def forward(self, compared: Compared, ref: Features, alt: Features) -> Prediction:
        """The prediction from the vector that compares the alleles and from both alleles' features per position."""
        raise NotImplementedError

    def costs(self, prediction: Prediction, labels: Labels, config: TrainingConfig) -> Costs:
        raise NotImplementedError

    def loss(
        self,
        prediction: Prediction,
        labels: Labels,
        config: TrainingConfig,
        weights: Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean cost over the rows whose label is known.

        Weighted rows are divided by their number too, not by their weights: over the training rows these have a mean
        of 1, and so each class keeps its share of an epoch whichever batches its rows fall into.
        """
        costs, known = self.costs(prediction, labels, config)
        counted = costs * known if weights is None else costs * known * weights
        return counted.sum() / known.sum().clamp_min(1)

    def classes(self, labels: Labels) -> Int[Tensor, " batch"] | None:
        return None

    def moved(self, labels: Labels, shift: Int[Tensor, " batch"]) -> Labels:
        """The labels of windows that were moved downstream by `shift`: places in them move the other way."""
        return labels

    def learn_scale(self, labels: Labels) -> None:
        """Take the training labels' scale, where the head's predictions are in the labels' own unit."""

    def comparable(self, prediction: Prediction, labels: Labels) -> tuple[Tensor, Tensor] | None:
        return None

    def columns(self, predictions: Predictions) -> Columns:
        """What the predictions mean, by name; see the head for the names. `score` (higher: more likely altering) and
        `signed` (negative: less of the normal product) are among them where the task gives them."""
        raise NotImplementedError


class _TwoLayerHead(Head):
    def __init__(self, inputs: int, channels: int, positions: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.layers = two_layers(inputs, channels, self.outputs, dropout)

    def forward(self, compared: Compared, ref: Features, alt: Features) -> Prediction:
        prediction: Tensor = self.layers(compared)
        return prediction


class _ClassHead(_TwoLayerHead):
    """A task whose label is the number of a class, NaN where it is not known."""

    labels = 1

    def entropy(self, prediction: Prediction, wanted: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        raise NotImplementedError

    def costs(self, prediction: Prediction, labels: Labels, config: TrainingConfig) -> Costs:
        known = ~labels[:, 0].isnan()
        costs = self.entropy(prediction, labels[:, 0].where(known, labels.new_zeros(())))
        return costs.where(known, costs.new_zeros(())), known

    def classes(self, labels: Labels) -> Int[Tensor, " batch"]:
        return labels[:, 0].nan_to_num(-1).long()


class BinaryHead(_ClassHead):
    """Log odds that the variant alters splicing. Label: 1 Splice-altering, 0 Normal. Columns: score (probability)."""

    task = "altering"
    class_names = (NORMAL, SPLICE_ALTERING)
    outputs = 1

    def entropy(self, prediction: Prediction, wanted: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        return F.binary_cross_entropy_with_logits(prediction[:, 0], wanted, reduction="none")

    def columns(self, predictions: Predictions) -> Columns:
        return {"score": 0.5 * (1 + np.tanh(0.5 * predictions[:, 0]))}  # the logistic function, without overflow


class EffectTypeHead(_ClassHead):
    """Scores of the four kinds of effect, of a variant known to alter splicing.

    Label: the kind's number in EFFECT_TYPES. It says nothing on whether there is an effect, so it gives no `score`.
    Columns: p_donor_gain, p_donor_loss, p_acceptor_gain, p_acceptor_loss (they sum to 1), effect_type (the number).
    """

    task = "effect-type"
    class_names = EFFECT_TYPES
    outputs = len(EFFECT_TYPES)

    def entropy(self, prediction: Prediction, wanted: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        return F.cross_entropy(prediction, wanted.long(), reduction="none")

    def columns(self, predictions: Predictions) -> Columns:
        shares = softmax(predictions, axis=1)
        named = {f"p_{name.replace(' ', '_')}": shares[:, i] for i, name in enumerate(EFFECT_TYPES)}
        return {**named, "effect_type": predictions.argmax(axis=1).astype(np.float32)}


class _OfDelta(Head):
    """What learns validated Δ."""

    task = "validated-delta"
    class_names = ("with Δ 0", "with another Δ")
    labels = 3

    def classes(self, labels: Labels) -> Int[Tensor, " batch"]:
        return (labels != 0).any(1).long().where(~labels.isnan().any(1), -torch.ones_like(labels[:, 0]).long())


class DeltaHead(_OfDelta, _TwoLayerHead):
    """Δ (alternative − reference probability) for neither, acceptor and donor, in that order, unbounded.

    Label: validated Δ, three numbers. Columns: delta_neither, delta_acceptor, delta_donor, score, signed.
    """

    outputs = 3

    def costs(self, prediction: Prediction, labels: Labels, config: TrainingConfig) -> Costs:
        return regression_costs(prediction, labels, config)

    def comparable(self, prediction: Prediction, labels: Labels) -> tuple[Tensor, Tensor]:
        return prediction, labels

    def columns(self, predictions: Predictions) -> Columns:
        signed = strongest(predictions)
        named = {f"delta_{name}": predictions[:, i] for i, name in enumerate(CHANNELS)}
        return {**named, "score": np.abs(signed), "signed": signed}


QUANTILE_SCORES = ("middle", "mean")


class QuantileHead(_OfDelta):
    """Quantiles of |Δ| for each channel, never crossing, and the direction of Δ.

    The lowest quantile is a softplus and each further one adds a softplus, so that they are ordered whatever the
    weights. Large effects are few: a high quantile does not shrink towards the many zeros as a mean does.
    The pinball loss: Koenker and Bassett 1978 (10.2307/1913643).

    Label: validated Δ, three numbers. Prediction: for each quantile, the three channels; then three directions in
    [−1, 1]. Columns: q50_acceptor, … for each quantile and channel, score, signed.

    Args:
        quantiles: increasing numbers between 0 and 1.
        score: what becomes the score: `middle`, the quantile nearest 0.5, or `mean`, the mean of all. Where most labels
            are zero, so is the median of every variant, and only higher quantiles tell variants apart.
    """

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

    def forward(self, compared: Compared, ref: Features, alt: Features) -> Prediction:
        raw = self.layers(compared).float().unflatten(1, (-1, 3))
        sizes = F.softplus(raw[:, :-1]).cumsum(1)
        return torch.cat((sizes, raw[:, -1:].tanh()), dim=1).flatten(1)

    def costs(self, prediction: Prediction, labels: Labels, config: TrainingConfig) -> Costs:
        split = prediction.unflatten(1, (-1, 3))
        sizes, direction = split[:, :-1], split[:, -1]
        known = ~labels.isnan().any(1)
        wanted = labels.where(known[:, None], labels.new_zeros(()))
        error = wanted.abs()[:, None] - sizes
        level = prediction.new_tensor(self.quantiles)[:, None]
        pinball = torch.maximum(level * error, (level - 1) * error).mean((1, 2))
        turned = (wanted.abs() * (direction - wanted.sign()).square()).mean(1)
        return (pinball + turned).where(known, prediction.new_zeros(())), known

    def comparable(self, prediction: Prediction, labels: Labels) -> tuple[Tensor, Tensor]:
        split = prediction.unflatten(1, (-1, 3))
        return split[:, self._scored()].mean(1) * split[:, -1], labels

    def _scored(self) -> slice:
        if self.score == "mean":
            return slice(0, len(self.quantiles))
        middle = int(np.abs(np.asarray(self.quantiles) - 0.5).argmin())
        return slice(middle, middle + 1)

    def columns(self, predictions: Predictions) -> Columns:
        split = predictions.reshape(len(predictions), -1, 3)
        named = {
            f"q{100 * level:g}_{name}": split[:, q, channel]
            for q, level in enumerate(self.quantiles)
            for channel, name in enumerate(CHANNELS)
        }
        signed = strongest(split[:, self._scored()].mean(1) * np.sign(split[:, -1]))
        return {**named, "score": np.abs(signed), "signed": signed}


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

    def forward(self, compared: Compared, ref: Features, alt: Features) -> Prediction:
        scores: Tensor = self.layers(torch.cat((ref, alt, alt - ref), dim=1).mT)
        return scores[:, :, 0]

    def costs(self, prediction: Prediction, labels: Labels, config: TrainingConfig) -> Costs:
        offsets = torch.arange(self.outputs, device=prediction.device) - self.outputs // 2
        known = labels[:, 0].abs() <= self.outputs // 2  # False for NaN
        place = labels[:, 0].where(known, labels.new_zeros(()))
        wanted = (-0.5 * ((offsets - place[:, None]) / self.softness).square()).softmax(1)
        costs = F.kl_div(prediction.log_softmax(1), wanted, reduction="none").sum(1)
        return costs.where(known, costs.new_zeros(())), known

    def moved(self, labels: Labels, shift: Int[Tensor, " batch"]) -> Labels:
        """Offsets from the window's middle, which has left the variant."""
        return labels - shift[:, None]

    def columns(self, predictions: Predictions) -> Columns:
        shares = softmax(predictions, axis=1)
        offsets = np.arange(self.outputs, dtype=np.float32) - self.outputs // 2
        return {
            "offset": offsets[shares.argmax(axis=1)],
            "offset_mean": (shares @ offsets).astype(np.float32),
            "p_offset": shares.max(axis=1),
        }


class MagnitudeHead(_TwoLayerHead):
    """The measured effect in the data set's own unit and sign, and |Δ| at the affected position.

    Label: (measured effect or NaN, |Δ| or NaN). The two have different units; each is learned on a scale of its own,
    taken from the training labels, and predicted in its unit.

    Columns: effect (signed as the data set has it), delta_magnitude, score (|effect|), signed (effect).
    """

    task = "magnitude"
    outputs = labels = 2

    def __init__(self, inputs: int, channels: int, positions: int, dropout: float = 0.1) -> None:
        super().__init__(inputs, channels, positions, dropout)
        self.register_buffer("scale", torch.ones(2))
        self.scale: Tensor

    def learn_scale(self, labels: Labels) -> None:
        """Root mean square of the known labels; 1 where there are none or all are zero. Zero stays zero: it means
        "no effect" in either unit."""
        for i in range(2):
            known = labels[:, i][~labels[:, i].isnan()]
            size = known.square().mean().sqrt() if len(known) else labels.new_zeros(())
            self.scale[i] = torch.where(size > 0, size, torch.ones_like(size))

    def forward(self, compared: Compared, ref: Features, alt: Features) -> Prediction:
        return super().forward(compared, ref, alt).float() * self.scale

    def costs(self, prediction: Prediction, labels: Labels, config: TrainingConfig) -> Costs:
        return regression_costs(prediction / self.scale, labels / self.scale, config)

    def comparable(self, prediction: Prediction, labels: Labels) -> tuple[Tensor, Tensor]:
        known = ~labels[:, 0].isnan()
        return prediction[known, :1], labels[known, :1]

    def columns(self, predictions: Predictions) -> Columns:
        effect = predictions[:, 0]
        return {"effect": effect, "delta_magnitude": predictions[:, 1], "score": np.abs(effect), "signed": effect}


class MultitaskHead(Head):
    """One head a task; a label that is missing costs nothing.

    The tasks' mean costs are added, each weighted with a learned precision: Σ exp(−s) · cost + s (Kendall, Gal and
    Cipolla 2018, arXiv 1705.07115, homoscedastic uncertainty). Validation adds the plain costs: a yardstick that
    moved with the learned weights could not tell epochs apart.

    Columns: those of each task, named `task.column`, and `score` and `signed` of altering and validated Δ.
    """

    task = "multitask"
    class_names = BinaryHead.class_names

    def __init__(self, inputs: int, channels: int, positions: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.of: dict[str, Head] = {kind.task: kind(inputs, channels, positions, dropout) for kind in JOINED}
        self.heads = nn.ModuleDict(self.of)
        self.log_variance = nn.Parameter(torch.zeros(len(self.of)))
        self.outputs = sum(head.outputs for head in self.of.values())
        self.labels = sum(head.labels for head in self.of.values())

    def _predictions(self, joined: Prediction) -> dict[str, Prediction]:
        return dict(zip(self.of, joined.split([head.outputs for head in self.of.values()], dim=1), strict=True))

    def _labels(self, joined: Labels) -> dict[str, Labels]:
        return dict(zip(self.of, joined.split([head.labels for head in self.of.values()], dim=1), strict=True))

    def forward(self, compared: Compared, ref: Features, alt: Features) -> Prediction:
        return torch.cat([head(compared, ref, alt).float() for head in self.of.values()], dim=1)

    def loss(
        self,
        prediction: Prediction,
        labels: Labels,
        config: TrainingConfig,
        weights: Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, ""]:
        """Sum over the tasks that have a known label in the batch; weights of altering and Normal count where a task
        knows both."""
        total, predictions, wanted = prediction.new_zeros(()), self._predictions(prediction), self._labels(labels)
        for i, (task, head) in enumerate(self.of.items()):
            cost = head.loss(predictions[task], wanted[task], config, None if task in OF_ALTERING else weights)
            if self.training:
                known = head.costs(predictions[task].detach(), wanted[task], config)[1].any()
                s = self.log_variance[i]
                cost = torch.where(known, torch.exp(-s) * cost + s, s * 0)
            total = total + cost
        return total

    def classes(self, labels: Labels) -> Int[Tensor, " batch"] | None:
        return self.of["altering"].classes(self._labels(labels)["altering"])

    def moved(self, labels: Labels, shift: Int[Tensor, " batch"]) -> Labels:
        return torch.cat([self.of[task].moved(own, shift) for task, own in self._labels(labels).items()], dim=1)

    def learn_scale(self, labels: Labels) -> None:
        for task, own in self._labels(labels).items():
            self.of[task].learn_scale(own)

    def comparable(self, prediction: Prediction, labels: Labels) -> tuple[Tensor, Tensor]:
        delta, wanted = self._predictions(prediction)[DeltaHead.task], self._labels(labels)[DeltaHead.task]
        known = ~wanted.isnan().any(1)
        return delta[known], wanted[known]

    def columns(self, predictions: Predictions) -> Columns:
        named: Columns = {}
        for task, own in self._predictions(torch.from_numpy(predictions)).items():
            named |= {f"{task}.{column}": values for column, values in self.of[task].columns(own.numpy()).items()}
        return {**named, "score": named["altering.score"], "signed": named["validated-delta.signed"]}


HEADS: dict[str, Callable[..., Head]] = {
    "delta": DeltaHead,
    "quantile": QuantileHead,
    "binary": BinaryHead,
    "effect-type": EffectTypeHead,
    "position": PositionHead,
    "magnitude": MagnitudeHead,
    "multitask": MultitaskHead,
}
"""Name of a head: its class. Its `task` is the name of the target it learns."""

JOINED: tuple[type[Head], ...] = (DeltaHead, BinaryHead, EffectTypeHead, PositionHead, MagnitudeHead)
"""Heads of the joined tasks; labels and predictions stand side by side in this order."""

OF_ALTERING = ("effect-type", "position")
"""Tasks that know altering rows only: there altering and Normal have nothing to share."""


def two_layers(inputs: int, hidden_dim: int, outputs: int, dropout: float) -> nn.Sequential:
    """Norm, linear, GELU, dropout, linear. The last layer starts small, so that training starts near a zero output."""
    if not 0 <= dropout < 1:
        raise InputError(f"dropout {dropout} is not in [0, 1)")
    last = nn.Linear(hidden_dim, outputs)
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, hidden_dim), nn.GELU(), nn.Dropout(dropout), last)


def regression_costs(prediction: Prediction, labels: Labels, config: TrainingConfig) -> Costs:
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
