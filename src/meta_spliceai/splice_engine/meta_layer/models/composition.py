"""Any encoder with any head: the registries, the predictor that joins two of their entries, and the named
predictors."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.splice_engine.meta_layer.models.cnn import GatedCNNEncoder, SimpleCNNEncoder
from meta_spliceai.splice_engine.meta_layer.models.heads import HEADS
from meta_spliceai.splice_engine.meta_layer.models.hyenadna import BothStrandsHyenaDNA
from meta_spliceai.splice_engine.meta_layer.models.hyenadna_weights import HUB, PUBLISHED, load_hyenadna
from meta_spliceai.splice_engine.meta_layer.models.predictor import Encoder, Features, OneHot, Predictor, Shift
from meta_spliceai.splice_engine.meta_layer.settings import MEMBERS, READ_RADIUS, SITE_REACH, TRUNK, TrunkConfig


class BaseTrunk(Encoder):
    """Stands for features that come with the windows (see `TrunkReader`).

    A base network sees 5,000 bases to either side of a position, which no row's window holds. So features are computed
    from the genome before training, and a predictor with this encoder has no weights of the network.

    Its places: the acceptor, the variant and `read_radius` bases to either side of it, the donor. Its channels: those
    of each network one after the other, and one that is 1 where the place is known.
    """

    frozen = sites = True

    def __init__(self, window: int, reading: TrunkConfig, networks: int, width: int, hidden_dim: int) -> None:
        super().__init__(window, networks * width + 1, reading.positions, hidden_dim)
        self.reading = reading
        self.weights = f"{reading.family}, the first {networks} networks, frozen"

    def forward(self, onehot: OneHot) -> Features:
        raise InputError(
            f"the trunk of {self.reading.family} is computed from the genome, not from a window of "
            f"{onehot.shape[-1]} bases; give `fit` and `predict` windows with their features (`TrunkWindows.joined`)"
        )


def _hyenadna(model_name: str) -> Callable[..., Encoder]:
    """What makes the encoder from a HyenaDNA of a published size."""

    def make(
        window: int,
        seed: int,
        hidden_dim: int = 256,
        freeze_encoder: bool = True,
        weights: str = HUB,
        revision: str | None = None,
        read_radius: int | None = 32,
        gradient_checkpointing: bool = False,
    ) -> Encoder:
        model, origin = load_hyenadna(
            model_name, weights, revision, seed=seed, gradient_checkpointing=gradient_checkpointing
        )
        encoder = BothStrandsHyenaDNA(model, window, read_radius, hidden_dim)
        encoder.weights, encoder.frozen = origin, freeze_encoder
        return encoder.requires_grad_(not freeze_encoder)

    return make


def base_trunk(
    window: int,
    family: str,
    width: int = 32,
    hidden_dim: int = 64,
    members: int = MEMBERS,
    read_radius: int = READ_RADIUS,
    site_reach: int = SITE_REACH,
) -> Encoder:
    """The encoder that reads the first `members` networks of a family, `width` channels of each."""
    asked = {"family": family, "members": tuple(range(members)), "read_radius": read_radius, "site_reach": site_reach}
    reading = TrunkConfig.from_mapping(asked, f"settings of encoder '{family}{TRUNK}'")
    return BaseTrunk(window, reading, members, width, hidden_dim)


ENCODERS: dict[str, Callable[..., Encoder]] = {
    "simple-cnn": SimpleCNNEncoder,
    "gated-cnn": GatedCNNEncoder,
    **{name: _hyenadna(name) for name in PUBLISHED},
    **{f"{family}{TRUNK}": partial(base_trunk, family=family) for family in ("spliceai", "cispliceai")},
}
"""Name of an encoder: what makes it from a window, a seed if it asks for one, and its own settings."""

_GIVEN = {"window", "seed", "family", "width", "inputs", "channels", "positions"}


def settings_of(kind: str, name: str) -> list[str]:
    """Names of the settings that an encoder or a head takes; `kind` is "encoder" or "head"."""
    registry: Mapping[str, Callable[..., Any]] = ENCODERS if kind == "encoder" else HEADS
    if name not in registry:
        raise unknown_value(kind, name, registry)
    return [setting for setting in inspect.signature(registry[name]).parameters if setting not in _GIVEN]


class _Projection(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        # No scale of the norm's own: the linear map has one, and features that are kept then take no gradient.
        norm = nn.LayerNorm(inputs, elementwise_affine=False)
        self.layers = nn.Sequential(norm, nn.Linear(inputs, outputs), nn.GELU())

    def forward(self, features: Features) -> Features:
        projected: Tensor = self.layers(features.mT).mT
        return projected


class PairReadout(nn.Module):
    """Where, how much and how strongly the two sequences differ, and the features at the variant.

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
        difference = alt - ref
        summed = difference.sum(-1) / math.sqrt(difference.shape[-1])
        extremes = difference.amax(-1), difference.amin(-1)
        readings = [_at_variant(difference, shift), summed, *extremes, _at_variant(ref, shift)]
        if self.normed:
            readings = [F.layer_norm(one, one.shape[-1:]) for one in readings]
        return torch.cat(readings, dim=1)


class SitesReadout(nn.Module):
    """Reads the variant's surroundings as `PairReadout` does, and also the exon's two sites.

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


class ComposedPredictor(Predictor):
    """Any encoder with any head, by their names in ENCODERS and HEADS, each with the settings that differ from its
    defaults; the window is odd, the variant in its middle."""

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
        make = ENCODERS[encoder]
        seeded = {"seed": seed} if "seed" in inspect.signature(make).parameters else {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.read_with(made := make(window=window, **seeded, **encoder_settings))
            channels = made.channels
            if made.hidden_dim is not None:
                channels = made.hidden_dim
                self.project = _Projection(made.channels, channels)
            self.readout = SitesReadout(channels) if made.sites else PairReadout(channels, made.frozen)
            self.head = HEADS[head](self.readout.out_features, channels, self.positions, **head_settings)
        self.train(self.training)


class ValidatedDeltaPredictor(ComposedPredictor):
    """Δ of the three channels from a gated dilated residual CNN that reads reference and alternative.

    Args:
        window: bases in the window (odd, the variant in the middle); dilations follow it.
        hidden_dim: channels of the encoder and width of the head.
        kernel: taps of each convolution (odd).
    """

    def __init__(
        self,
        window: int = 501,
        hidden_dim: int = 128,
        layers: int = 6,
        kernel: int = 7,
        dropout: float = 0.1,
        seed: int = 0,
    ) -> None:
        settings = {"hidden_dim": hidden_dim, "layers": layers, "kernel": kernel}
        super().__init__("gated-cnn", "delta", window, seed, settings, {"dropout": dropout})
        self.config = {"window": window, **settings, "dropout": dropout, "seed": seed}


class SimpleCNNDeltaPredictor(ComposedPredictor):
    """Δ of the three channels from a plain dilated CNN that reads reference and alternative.

    The arguments are those of `ValidatedDeltaPredictor`.
    """

    def __init__(
        self,
        window: int = 101,
        hidden_dim: int = 64,
        layers: int = 4,
        kernel: int = 11,
        dropout: float = 0.1,
        seed: int = 0,
    ) -> None:
        settings = {"hidden_dim": hidden_dim, "layers": layers, "kernel": kernel}
        super().__init__("simple-cnn", "delta", window, seed, settings, {"dropout": dropout})
        self.config = {"window": window, **settings, "dropout": dropout, "seed": seed}


class HyenaDNADeltaPredictor(ComposedPredictor):
    """Δ of the three channels from HyenaDNA on both strands of reference and alternative.

    Args:
        model_name: a published size: hyenadna-tiny-1k, -small-32k, -medium-160k, -medium-450k, -large-1m.
        freeze_encoder: the encoder's weights stay as they are and its features are computed once; otherwise it is
            fine-tuned as the training settings say.
        encoder_settings: `weights` ("hub", a local folder, "packaged": the encoder in the package, or "scratch":
            random; only when asked for, and written on every result), `revision` (another commit on the hub than the
            pinned one), `read_radius` (features are read up to this many bases from the variant; None for the whole
            window), `gradient_checkpointing` (less memory in fine-tuning, a third more time).

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
        dropout: float = 0.1,
        seed: int = 0,
        **encoder_settings: Any,
    ) -> None:
        settings = {"hidden_dim": hidden_dim, "freeze_encoder": freeze_encoder, **encoder_settings}
        super().__init__(model_name, "delta", window, seed, settings, {"dropout": dropout})
        self.config = {"model_name": model_name, "window": window, **settings, "dropout": dropout, "seed": seed}


class _TaskPredictor(ComposedPredictor):
    """One task on any encoder.

    Args:
        window: bases in the window (odd, the variant in the middle).
        encoder: a name in ENCODERS.
        encoder_settings: the encoder's own settings (hidden_dim, layers, weights …).
    """

    head_name: ClassVar[str]

    def __init__(
        self,
        window: int = 501,
        encoder: str = "gated-cnn",
        dropout: float = 0.1,
        seed: int = 0,
        **encoder_settings: Any,
    ) -> None:
        super().__init__(encoder, self.head_name, window, seed, encoder_settings, {"dropout": dropout})
        self.config = {"window": window, "encoder": encoder, "dropout": dropout, "seed": seed, **encoder_settings}


class SpliceInducingClassifier(_TaskPredictor):
    """Whether a variant alters splicing (step 1); predicts log odds, see BinaryHead."""

    head_name = "binary"


class EffectTypeClassifier(_TaskPredictor):
    """Which kind of effect an altering variant has (step 2); see EffectTypeHead."""

    head_name = "effect-type"


class PositionLocalizer(_TaskPredictor):
    """Where the affected site lies (step 3); see PositionHead."""

    head_name = "position"


class DeltaMagnitudePredictor(_TaskPredictor):
    """How large the effect is (step 4); see MagnitudeHead."""

    head_name = "magnitude"


class UnifiedSpliceClassifier(_TaskPredictor):
    """All tasks on one encoder; see MultitaskHead."""

    head_name = "multitask"
