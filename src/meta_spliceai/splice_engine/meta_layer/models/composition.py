"""Any encoder with any head: the registries, and the predictor that joins two of their entries."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.splice_engine.meta_layer.models.encoders.base_trunk import BaseTrunk
from meta_spliceai.splice_engine.meta_layer.models.encoders.cnn import GatedCNNEncoder, SimpleCNNEncoder
from meta_spliceai.splice_engine.meta_layer.models.encoders.hyenadna import BothStrandsHyenaDNA
from meta_spliceai.splice_engine.meta_layer.models.encoders.hyenadna_weights import (
    HUB,
    PUBLISHED,
    SCRATCH,
    load_hyenadna,
)
from meta_spliceai.splice_engine.meta_layer.models.heads import HEADS
from meta_spliceai.splice_engine.meta_layer.models.predictor import Features, Predictor, Shift, seeded
from meta_spliceai.splice_engine.meta_layer.trunk_config import MEMBERS, READ_RADIUS, SITE_REACH, TRUNK, TrunkConfig


class Place(NamedTuple):
    """What every encoder is built from: bases of the window, and the seed of random weights."""

    window: int
    seed: int


@dataclass(frozen=True)
class Encoding:
    """An encoder, ready for a readout.

    Attributes:
        encoder: one-hot bases to features of `positions` positions around the middle.
        project: features to `channels` channels, trained with the head.
        weights: where the encoder's weights come from, in words.
        sites: the encoder gives the exon's two sites too, one place before and one behind those positions.
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


class PairReadout(nn.Module):
    """Where, how much and how strongly the two sequences differ, and what stands at the variant.

    Of the difference D (alternative minus reference, position by position) each channel gives four numbers: D at the
    variant, the sum of D over positions divided by the square root of their number, the largest and the smallest D.
    With them come the reference's features at the variant. Nothing is learned here: a channel's largest change is seen
    wherever it stands and from the first step on. Equal sequences give a difference of exactly zero.

    Behind an insertion or a deletion the positions of the two sequences no longer match, so that D is large there; sum
    and extremes then tell that, too.

    With `normed` each of the five readings is brought to one scale, over its channels. That is for frozen encoders: a
    trained one finds the scale of its differences itself.
    """

    def __init__(self, channels: int, normed: bool = False) -> None:
        super().__init__()
        self.out_features = 5 * channels
        self.normed = normed

    def forward(self, ref: Features, alt: Features, shift: Shift = None) -> Float[Tensor, "batch out_features"]:
        """The comparison. The variant stands in the middle, or `shift` places before it."""
        difference = alt - ref
        summed = difference.sum(-1) / math.sqrt(difference.shape[-1])
        extremes = difference.amax(-1), difference.amin(-1)
        readings = [_at_variant(difference, shift), summed, *extremes, _at_variant(ref, shift)]
        if self.normed:
            readings = [F.layer_norm(one, one.shape[-1:]) for one in readings]
        return torch.cat(readings, dim=1)


class SitesReadout(nn.Module):
    """Reads the variant's surroundings as `PairReadout` does, and beside them the exon's two sites.

    The first place of the features is the exon's acceptor and the last one its donor, the places between lie around the
    variant. Equal sequences give a difference of exactly zero here too.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.around = PairReadout(channels)
        self.out_features = self.around.out_features + 4 * channels

    def forward(self, ref: Features, alt: Features, shift: Shift = None) -> Float[Tensor, "batch out_features"]:
        around = self.around(ref[..., 1:-1], alt[..., 1:-1], shift)
        ref_sites, alt_sites = (torch.cat((of[..., 0], of[..., -1]), dim=1) for of in (ref, alt))
        return torch.cat((around, alt_sites - ref_sites, ref_sites), dim=1)


def _at_variant(features: Features, shift: Shift) -> Float[Tensor, "batch channels"]:
    middle = features.shape[-1] // 2
    if shift is None:
        return features[:, :, middle]
    return features[torch.arange(len(features), device=features.device), :, middle - shift]


def _gated_cnn(place: Place, hidden_dim: int = 128, layers: int = 6, kernel: int = 7) -> Encoding:
    encoder = GatedCNNEncoder(place.window, hidden_dim, layers, kernel)
    return Encoding(encoder, nn.Identity(), hidden_dim, place.window)


def _simple_cnn(place: Place, hidden_dim: int = 64, layers: int = 4, kernel: int = 11) -> Encoding:
    encoder = SimpleCNNEncoder(place.window, hidden_dim, layers, kernel)
    return Encoding(encoder, nn.Identity(), hidden_dim, place.window)


def _hyenadna(
    place: Place,
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
        model_name, weights, revision, seed=place.seed, gradient_checkpointing=gradient_checkpointing
    )
    encoder = BothStrandsHyenaDNA(model, place.window, read_radius)
    if freeze_encoder:
        encoder.requires_grad_(False)
    project = _Projection(encoder.channels, hidden_dim)
    return Encoding(encoder, project, hidden_dim, encoder.positions, origin, freeze_encoder)


def _base_trunk(
    place: Place,
    family: str,
    width: int = 32,
    hidden_dim: int = 64,
    members: int = MEMBERS,
    read_radius: int = READ_RADIUS,
    site_reach: int = SITE_REACH,
) -> Encoding:
    if hidden_dim < 1 or members < 1:
        raise InputError(f"hidden_dim {hidden_dim} and members {members} are numbers of at least 1")
    asked = {"family": family, "members": tuple(range(members)), "read_radius": read_radius, "site_reach": site_reach}
    reading = TrunkConfig.from_mapping(asked, f"settings of encoder '{family}{TRUNK}'")
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
"""Name of an encoder: what builds it from its place and its own settings."""

_GIVEN = {"place", "model_name", "family", "width", "inputs", "channels", "positions"}


def settings_of(kind: str, name: str) -> list[str]:
    """Names of the settings that an encoder or a head takes; `kind` is "encoder" or "head"."""
    registry: Mapping[str, Callable[..., Any]] = ENCODERS if kind == "encoder" else HEADS
    if name not in registry:
        raise unknown_value(kind, name, registry)
    return [setting for setting in inspect.signature(registry[name]).parameters if setting not in _GIVEN]


class ComposedPredictor(Predictor):
    """Any encoder with any head.

    Args:
        encoder, head: names in ENCODERS and HEADS.
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
        config = {"encoder": encoder, "head": head, "window": window, "seed": seed}
        super().__init__(window, {**config, "encoder_settings": encoder_settings, "head_settings": head_settings})
        for kind, name, settings in (("encoder", encoder, encoder_settings), ("head", head, head_settings)):
            known = settings_of(kind, name)
            for setting in settings:
                if setting not in known:
                    raise unknown_value("setting", setting, known, where=f"the settings of {kind} '{name}'")
        with seeded(seed):
            encoding = ENCODERS[encoder](Place(window, seed), **encoder_settings)
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
