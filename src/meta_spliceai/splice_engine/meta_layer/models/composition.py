"""Any encoder with any head: the registries, and the predictor that joins two of their entries."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from jaxtyping import Float
from torch import Tensor, nn

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.splice_engine.meta_layer.models.encoders.base_trunk import BaseTrunk
from meta_spliceai.splice_engine.meta_layer.models.encoders.both_strands import BothStrandsHyenaDNA
from meta_spliceai.splice_engine.meta_layer.models.encoders.cnn import GatedCNNEncoder, SimpleCNNEncoder
from meta_spliceai.splice_engine.meta_layer.models.encoders.hyenadna_weights import (
    HUB,
    PUBLISHED,
    SCRATCH,
    load_hyenadna,
)
from meta_spliceai.splice_engine.meta_layer.models.heads import (
    BinaryHead,
    DeltaHead,
    EffectTypeHead,
    Head,
    MagnitudeHead,
    MultitaskHead,
    PositionHead,
    QuantileHead,
)
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor, seeded
from meta_spliceai.splice_engine.meta_layer.models.readout import PairReadout, SitesReadout
from meta_spliceai.splice_engine.meta_layer.trunk_config import MEMBERS, READ_RADIUS, SITE_REACH, TRUNK, TrunkConfig


@dataclass(frozen=True)
class Encoding:
    """An encoder, ready for a readout.

    Attributes:
        encoder: one-hot bases to features of `positions` positions around the middle.
        project: features to `channels` channels, trained with the head.
        channels, positions: shape of what the heads get.
        sites: the encoder gives the exon's two sites too, one place before and one behind those positions.
        weights: where the encoder's weights come from, in words.
        frozen: the encoder is not trained.
    """

    encoder: nn.Module
    project: nn.Module
    channels: int
    positions: int
    weights: str = SCRATCH
    frozen: bool = False
    sites: bool = False


class _Projection(nn.Module):
    """Norm, linear map to fewer channels, GELU, at each position."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        # No scale of the norm's own: the linear map has one, and features that are kept then take no gradient.
        norm = nn.LayerNorm(inputs, elementwise_affine=False)
        self.layers = nn.Sequential(norm, nn.Linear(inputs, outputs), nn.GELU())

    def forward(self, features: Float[Tensor, "batch inputs length"]) -> Float[Tensor, "batch outputs length"]:
        projected: Tensor = self.layers(features.mT).mT
        return projected


def _gated_cnn(window: int, seed: int, hidden_dim: int = 128, layers: int = 6, kernel: int = 7) -> Encoding:
    encoder = GatedCNNEncoder(window, hidden_dim, layers, kernel)
    return Encoding(encoder, nn.Identity(), hidden_dim, window)


def _simple_cnn(window: int, seed: int, hidden_dim: int = 64, layers: int = 4, kernel: int = 11) -> Encoding:
    encoder = SimpleCNNEncoder(window, hidden_dim, layers, kernel)
    return Encoding(encoder, nn.Identity(), hidden_dim, window)


def _hyenadna(
    window: int,
    seed: int,
    model_name: str,
    hidden_dim: int = 256,
    freeze_encoder: bool = True,
    weights: str = HUB,
    revision: str | None = None,
    read_radius: int | None = 32,
    gradient_checkpointing: bool = False,
) -> Encoding:
    if hidden_dim < 1:
        raise InputError(f"hidden_dim {hidden_dim} is not positive")
    model, origin = load_hyenadna(
        model_name, weights, revision, seed=seed, gradient_checkpointing=gradient_checkpointing
    )
    encoder = BothStrandsHyenaDNA(model, window, read_radius)
    if freeze_encoder:
        encoder.requires_grad_(False)
    project = _Projection(encoder.channels, hidden_dim)
    return Encoding(encoder, project, hidden_dim, encoder.positions, origin, freeze_encoder)


def _base_trunk(
    window: int,
    seed: int,
    family: str,
    width: int = 32,
    hidden_dim: int = 64,
    members: int = MEMBERS,
    read_radius: int = READ_RADIUS,
    site_reach: int = SITE_REACH,
) -> Encoding:
    if hidden_dim < 1 or members < 1:
        raise InputError(f"hidden_dim {hidden_dim} and members {members} are numbers of at least 1")
    reading = TrunkConfig.from_mapping(
        {
            "family": family,
            "members": tuple(range(members)),
            "read_radius": read_radius,
            "site_reach": site_reach,
        },
        f"settings of encoder '{family}{TRUNK}'",
    )
    encoder = BaseTrunk(reading, members, width)
    project = _Projection(encoder.channels, hidden_dim)
    weights = f"{family}, the first {members} networks, frozen"
    return Encoding(encoder, project, hidden_dim, encoder.positions - 2, weights, frozen=True, sites=True)


ENCODERS: dict[str, Callable[..., Encoding]] = {
    "simple-cnn": _simple_cnn,
    "gated-cnn": _gated_cnn,
    **{name: partial(_hyenadna, model_name=name) for name in PUBLISHED},
    **{f"{family}{TRUNK}": partial(_base_trunk, family=family) for family in ("spliceai", "cispliceai")},
}
"""Name of an encoder: what builds it from the window, the seed and its own settings."""

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

_GIVEN = {"window", "seed", "model_name", "family", "width", "inputs", "channels", "positions"}


def settings_of(kind: str, name: str) -> list[str]:
    """Names of the settings an encoder or a head takes.

    Args:
        kind: "encoder" or "head".
        name: which one.

    Raises:
        InputError: no such encoder or head.
    """
    registries: dict[str, dict[str, Callable[..., Any]]] = {"encoder": {**ENCODERS}, "head": {**HEADS}}
    registry = registries[kind]
    if name not in registry:
        raise unknown_value(kind, name, registry)
    return [setting for setting in inspect.signature(registry[name]).parameters if setting not in _GIVEN]


def _check_settings(kind: str, name: str, settings: dict[str, Any]) -> None:
    known = settings_of(kind, name)
    for setting in settings:
        if setting not in known:
            raise unknown_value("setting", setting, known, where=f"the settings of {kind} '{name}'")


class ComposedPredictor(Predictor):
    """Any encoder with any head.

    Args:
        encoder: a name in ENCODERS.
        head: a name in HEADS.
        window: bases in the window (odd, the variant in the middle).
        seed: of all random weights.
        encoder_settings, head_settings: what differs from their defaults.

    Raises:
        InputError: an unknown name or setting, a bad value.
        MissingResourceError: pretrained weights that cannot be had.
    """

    def __init__(
        self,
        encoder: str = "gated-cnn",
        head: str = "delta",
        window: int = 501,
        seed: int = 0,
        encoder_settings: dict[str, Any] | None = None,
        head_settings: dict[str, Any] | None = None,
    ) -> None:
        encoder_settings, head_settings = encoder_settings or {}, head_settings or {}
        super().__init__(
            window,
            {
                "encoder": encoder,
                "head": head,
                "window": window,
                "seed": seed,
                "encoder_settings": encoder_settings,
                "head_settings": head_settings,
            },
        )
        _check_settings("encoder", encoder, encoder_settings)
        _check_settings("head", head, head_settings)
        with seeded(seed):
            encoding = ENCODERS[encoder](window, seed, **encoder_settings)
            self.encoder = encoding.encoder
            self.project = encoding.project
            self.readout = (
                SitesReadout(encoding.channels) if encoding.sites else PairReadout(encoding.channels, encoding.frozen)
            )
            self.head = HEADS[head](self.readout.out_features, encoding.channels, encoding.positions, **head_settings)
        self.weights, self.encoder_frozen = encoding.weights, encoding.frozen
        self.positions, self.sites = encoding.positions, encoding.sites
        self.train(self.training)

    @classmethod
    def _empty(cls, config: dict[str, Any]) -> Self:
        """Built without the hub: the weights are about to be read from a file."""
        blank = dict(config)
        if "encoder_settings" in config:
            blank["encoder_settings"] = blank_settings(config["encoder"], config["encoder_settings"])
        else:
            blank |= blank_settings(config.get("encoder", config.get("model_name", "")), {})
        predictor = cls(**blank)
        predictor.config = config
        return predictor


def blank_settings(encoder: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with which the encoder is built without looking for its pretrained weights."""
    return {**settings, "weights": SCRATCH} if encoder in PUBLISHED else settings
