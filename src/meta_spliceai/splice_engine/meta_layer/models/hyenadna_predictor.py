"""Δ from HyenaDNA's features, frozen or fine-tuned."""

from __future__ import annotations

from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.meta_layer.models.encoders.both_strands import BothStrandsHyenaDNA
from meta_spliceai.splice_engine.meta_layer.models.encoders.hyenadna_weights import HUB, SCRATCH, load_hyenadna
from meta_spliceai.splice_engine.meta_layer.models.heads.delta import DeltaHead
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor, seeded
from meta_spliceai.splice_engine.meta_layer.models.readout import PairReadout


class _Projection(nn.Module):
    """Norm, linear map to fewer channels, GELU, at each position."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, outputs), nn.GELU())

    def forward(self, features: Float[Tensor, "batch inputs length"]) -> Float[Tensor, "batch outputs length"]:
        projected: Tensor = self.layers(features.mT)
        return projected.mT


class HyenaDNADeltaPredictor(Predictor):
    """Δ of the three channels from HyenaDNA on both strands of reference and alternative.

    Args:
        model_name: a published size: hyenadna-tiny-1k, -small-32k, -medium-160k, -medium-450k, -large-1m.
        hidden_dim: width after the encoder.
        freeze_encoder: the encoder's weights stay as they are and its features are computed once; otherwise it is
            fine-tuned as the training settings say.
        window: bases in the window (odd, the variant in the middle).
        weights: "hub", a local folder, or "scratch" (random; only when asked for, and written on every result).
        revision: another commit on the hub than the pinned one.
        read_radius: features are read up to this many bases from the variant; None for the whole window.
        dropout: share dropped in the head in training.
        gradient_checkpointing: less memory in fine-tuning, a third more time.
        seed: of all random weights.

    Raises:
        InputError: a bad value, or a folder that holds another size.
        MissingResourceError: the weights cannot be had; the message names the ways out.
    """

    def __init__(
        self,
        model_name: str = "hyenadna-small-32k",
        hidden_dim: int = 256,
        freeze_encoder: bool = True,
        window: int = 501,
        weights: str = HUB,
        revision: str | None = None,
        read_radius: int | None = 32,
        dropout: float = 0.1,
        gradient_checkpointing: bool = False,
        seed: int = 0,
    ) -> None:
        if hidden_dim < 1:
            raise InputError(f"hidden_dim {hidden_dim} is not positive")
        config = {
            "model_name": model_name,
            "hidden_dim": hidden_dim,
            "freeze_encoder": freeze_encoder,
            "window": window,
            "weights": weights,
            "revision": revision,
            "read_radius": read_radius,
            "dropout": dropout,
            "gradient_checkpointing": gradient_checkpointing,
            "seed": seed,
        }
        super().__init__(window, config)
        model, self.weights = load_hyenadna(
            model_name, weights, revision, seed=seed, gradient_checkpointing=gradient_checkpointing
        )
        self.encoder_frozen = freeze_encoder
        with seeded(seed):
            self.encoder: BothStrandsHyenaDNA = BothStrandsHyenaDNA(model, window, read_radius)
            self.project = _Projection(self.encoder.channels, hidden_dim)
            self.readout = PairReadout(hidden_dim)
            self.head = DeltaHead(self.readout.out_features, hidden_dim, dropout)
        if freeze_encoder:
            self.encoder.requires_grad_(False)
            self.encoder.eval()

    @classmethod
    def _empty(cls, config: dict[str, Any]) -> Self:
        predictor = cls(**{**config, "weights": SCRATCH})
        predictor.config = config
        return predictor

    def train(self, mode: bool = True) -> Self:
        """As everywhere, but a frozen encoder stays in evaluation mode: no dropout in features that are kept."""
        super().train(mode)
        if self.encoder_frozen:
            self.encoder.eval()
        return self

    def encode_pair(
        self, ref: Float[Tensor, "batch 4 length"], alt: Float[Tensor, "batch 4 length"]
    ) -> tuple[Float[Tensor, "batch channels positions"], Float[Tensor, "batch channels positions"]]:
        """Features of both alleles around the variant."""
        if not self.encoder_frozen:
            return super().encode_pair(ref, alt)
        with torch.no_grad(), torch.autocast(ref.device.type, enabled=False):
            # As they come out of the cache: the answers do not depend on whether the features were kept.
            features_ref, features_alt = super().encode_pair(ref, alt)
            return features_ref.half().float(), features_alt.half().float()

    def encoder_layers(self) -> list[list[nn.Parameter]]:
        """HyenaDNA's layers from the last (with the final norm) to the first, then the token table."""
        backbone = self.encoder.model.backbone
        layers = [list(layer.parameters()) for layer in backbone.layers][::-1]
        layers[0] += list(backbone.ln_f.parameters())
        return [*layers, list(backbone.embeddings.parameters())]
