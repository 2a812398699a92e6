"""Ensembles: quantile members trained together, and finished members weighted on validation rows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Float32
from scipy.optimize import nnls
from torch import Tensor, nn

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.meta_layer.models.composition import ComposedPredictor
from meta_spliceai.splice_engine.meta_layer.models.heads import QuantileHead
from meta_spliceai.splice_engine.meta_layer.models.predictor import (
    Features,
    OneHot,
    Predictor,
    Shift,
    model_card,
    read_config,
    without_weights,
    write_description,
)

Predictions = Float[Tensor, "batch outputs"]


class QuantileEnsemble(Predictor):
    """One model a quantile of |Δ|, trained side by side; together they predict as a QuantileHead does.

    The members share nothing but the stopping time: each has its own encoder, head and seed. Only a frozen encoder is
    one for all: its features are computed once and kept on disk like any other's. Models trained apart may cross; the
    prediction sorts them, which never makes a quantile worse (Chernozhukov, Fernández-Val and Galichon 2010,
    10.3982/ECTA7880). The direction is the members' mean.

    Args:
        quantiles: increasing numbers between 0 and 1.
        seed: of the first member; each further one takes the next.
        score: `middle` or `mean`, as in QuantileHead.
    """

    def __init__(
        self,
        window: int = 501,
        quantiles: Sequence[float] = (0.5, 0.75, 0.9),
        encoder: str = "gated-cnn",
        dropout: float = 0.1,
        seed: int = 0,
        score: str = "middle",
        **encoder_settings: Any,
    ) -> None:
        own = {"window": window, "score": score, "quantiles": list(quantiles), "encoder": encoder}
        super().__init__(window, {**own, "dropout": dropout, "seed": seed, **encoder_settings})
        # Stands for all members: it checks the quantiles and knows what the joined predictions mean. It has no part in
        # the computation, so it has no trained weights either.
        self.head = QuantileHead(1, 1, 1, dropout, quantiles, score)
        self.head.requires_grad_(False)

        def member(i: int) -> ComposedPredictor:
            head = {"quantiles": [quantiles[i]], "dropout": dropout}
            return ComposedPredictor(encoder, "quantile", window, seed + i, encoder_settings, head)

        first = member(0)
        # Members that take over the first one's encoder need not look for its weights.
        with without_weights() if first.encoder_frozen else nullcontext():
            members = [first, *(member(i) for i in range(1, len(quantiles)))]
        self.weights, self.positions, self.sites = first.weights, first.positions, first.sites
        self.field = first.field
        if first.encoder_frozen:
            self.encoder, self.encoder_frozen = first.encoder, True
            for each in members:
                each.encoder = nn.Identity()  # type: ignore[assignment]
        self.members = nn.ModuleList(members)
        self.train(self.training)

    def encoder_layers(self) -> list[list[nn.Parameter]]:
        """Layer by layer, those of all members together."""
        if self.encoder_frozen:
            return super().encoder_layers()
        each = [member.encoder_layers() for member in self.members]  # type: ignore[operator]
        return [[p for layer in layers for p in layer] for layers in zip(*each, strict=True)]

    def forward(self, ref: OneHot, alt: OneHot, shift: Shift = None) -> Predictions:
        """Sorted quantiles of |Δ|, three channels each, then the three directions."""
        if self.encoder_frozen:
            return super().forward(ref, alt, shift)
        return self._joined([member(ref, alt, shift) for member in self.members])

    def compare(self, ref: Features, alt: Features, shift: Shift = None) -> Predictions:
        """The same from the features of the members' common, frozen encoder."""
        return self._joined([member.compare(ref, alt, shift) for member in self.members])  # type: ignore[operator]

    def _joined(self, predictions: list[Float[Tensor, "batch member_outputs"]]) -> Predictions:
        each = torch.stack([prediction.float() for prediction in predictions])
        sizes = each[:, :, :3]
        if not self.training:
            sizes = sizes.sort(dim=0).values
        return torch.cat((sizes.permute(1, 0, 2).flatten(1), each[:, :, 3:].mean(0)), dim=1)


class WeightedEnsemble(nn.Module):
    """Finished predictors of one kind of prediction, averaged with weights.

    Members may read windows of different lengths: each takes the middle of what it is given. `predict` takes it as
    it takes any predictor.

    Args:
        members: finished predictors whose predictions have the same meaning.
        weights: one number of at least 0 a member, with sum 1; equal where absent.

    Raises:
        InputError: fewer than two members, members whose predictions mean different things, bad weights.
    """

    def __init__(self, members: Sequence[Predictor], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if len(members) < 2:
            raise InputError(f"an ensemble needs at least 2 members, not {len(members)}")
        meanings = dict.fromkeys(f"{one.head.task} ({', '.join(prediction_names(one))})" for one in members)
        if len(meanings) > 1:
            raise InputError(f"members predict different things: {'; '.join(meanings)}")
        shares = np.asarray(weights if weights is not None else [1 / len(members)] * len(members), dtype=np.float64)
        if shares.shape != (len(members),) or not (shares >= 0).all() or not abs(shares.sum() - 1) <= 1e-6:
            raise InputError(f"weights {shares.tolist()} are not {len(members)} numbers of at least 0 with sum 1")
        self.members = nn.ModuleList(members)
        self.shares = tuple(float(share) for share in shares)
        self.window = max(member.window for member in members)

    def forward(self, ref: OneHot, alt: OneHot) -> Predictions:
        """The members' weighted mean; InputError for windows shorter than the widest member's."""
        if ref.shape[-1] != self.window:
            raise InputError(f"a window of {ref.shape[-1]} bases was given to an ensemble made for {self.window}")
        total = ref.new_zeros(())
        for member, share in zip(self.members, self.shares, strict=True):
            cut = (self.window - int(member.window)) // 2  # type: ignore[arg-type]
            inside = slice(cut, self.window - cut)
            total = total + share * member(ref[..., inside], alt[..., inside]).float()
        return total

    def columns(self, predictions: Float32[np.ndarray, "n outputs"]) -> dict[str, Float32[np.ndarray, " n"]]:
        first: Predictor = self.members[0]  # type: ignore[assignment]
        return first.columns(predictions)

    def describe(self) -> dict[str, Any]:
        return {
            "predictor": type(self).__name__,
            "window": self.window,
            "parameters": sum(p.numel() for p in self.parameters()),
            "parameters_trained": sum(p.numel() for p in self.parameters() if p.requires_grad),
            "weights": "; ".join(dict.fromkeys(str(member.weights) for member in self.members)),
            "shares": list(self.shares),
            "members": [member.describe() for member in self.members],  # type: ignore[operator]
        }

    def save_pretrained(self, folder: Path | str, trained_on: str = "") -> Path:
        """Write each member into a folder of its own, config.json and a model card (which says what the members were
        `trained_on`, as Markdown) beside them. Returns the folder."""
        folder = Path(folder)
        for i, member in enumerate(self.members):
            member.save_pretrained(folder / f"member-{i}")  # type: ignore[operator]
        told = self.describe()
        settings = {
            f"member-{i}": f"{member['predictor']}, {member['window']} bases, weight {share:.4g}"
            for i, (member, share) in enumerate(zip(told["members"], self.shares, strict=True))
        }
        first: Predictor = self.members[0]  # type: ignore[assignment]
        about = type(self).__doc__ or "", type(first.head).__doc__ or ""
        card = model_card({**told, "config": settings}, *about, trained_on, type(self).__name__)
        write_description(folder, told, card)
        return folder

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> Self:
        """Read what `save_pretrained` wrote.

        Raises:
            InputError: the folder holds a single predictor.
        """
        folder = Path(folder)
        shares = read_config(folder, "shares")["shares"]
        return cls([Predictor.from_pretrained(folder / f"member-{i}") for i in range(len(shares))], shares).eval()


def prediction_names(member: Predictor) -> tuple[str, ...]:
    """The names of a predictor's columns: members that differ in them predict something else."""
    return tuple(member.columns(np.zeros((1, member.head.outputs), np.float32)))


def fit_shares(
    predictions: Float32[np.ndarray, "members n outputs"], labels: Float32[np.ndarray, "n outputs"]
) -> Float[np.ndarray, " members"]:
    """The members' weights: at least 0, sum 1, least squared error on the rows given.

    Non-negative least squares with a heavily weighed row that asks for the sum (Breiman 1996, "Stacked regressions",
    10.1007/BF00117832, for why weights must not be negative). The rows are the validation part's: members trained on a
    row look better on it than they are.
    """
    columns = predictions.reshape(len(predictions), -1).T.astype(np.float64)
    heavy = 1e3 * max(1.0, float(np.abs(columns).max())) * np.sqrt(len(columns))
    matrix = np.vstack([columns, np.full((1, len(predictions)), heavy)])
    shares, _ = nnls(matrix, np.append(labels.reshape(-1).astype(np.float64), heavy))
    return shares / shares.sum()


def disagreement(
    predictions: Float32[np.ndarray, "members n outputs"], shares: Sequence[float]
) -> Float32[np.ndarray, " n"]:
    """How far the members are apart on each row: the weighted standard deviation, its root mean square over outputs."""
    weights = np.asarray(shares, dtype=np.float64)
    mean = np.tensordot(weights, predictions, axes=1)
    variance = np.tensordot(weights, np.square(predictions - mean), axes=1)
    return np.sqrt(variance.mean(axis=1)).astype(np.float32)
