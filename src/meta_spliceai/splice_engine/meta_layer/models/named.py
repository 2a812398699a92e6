"""The named predictors: thin compositions of an encoder and a head."""

from __future__ import annotations

from typing import Any, ClassVar

from meta_spliceai.splice_engine.meta_layer.models.composition import ComposedPredictor
from meta_spliceai.splice_engine.meta_layer.models.encoders.hyenadna_weights import HUB, model_config


class ValidatedDeltaPredictor(ComposedPredictor):
    """Δ of the three channels from a gated dilated residual CNN that reads reference and alternative.

    Args:
        window: bases in the window (odd, the variant in the middle); dilations follow it.
        hidden_dim: channels of the encoder and width of the head.
        layers: gated blocks.
        kernel: taps of each convolution (odd).
        dropout: share dropped in the head in training.
        seed: of the initial weights.

    Raises:
        InputError: a bad number; too few layers for the window.
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

    Args:
        window: bases in the window (odd, the variant in the middle); dilations follow it.
        hidden_dim: channels of the encoder and width of the head.
        layers: convolutions.
        kernel: taps of each convolution (odd).
        dropout: share dropped in the head in training.
        seed: of the initial weights.

    Raises:
        InputError: a bad number; too few layers for the window.
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
        model_config(model_name)  # refuses names that are no HyenaDNA
        settings = {
            "hidden_dim": hidden_dim,
            "freeze_encoder": freeze_encoder,
            "weights": weights,
            "revision": revision,
            "read_radius": read_radius,
            "gradient_checkpointing": gradient_checkpointing,
        }
        super().__init__(model_name, "delta", window, seed, settings, {"dropout": dropout})
        self.config = {"model_name": model_name, "window": window, **settings, "dropout": dropout, "seed": seed}


class _TaskPredictor(ComposedPredictor):
    """One task on any encoder.

    Args:
        window: bases in the window (odd, the variant in the middle).
        encoder: a name in ENCODERS.
        dropout: share dropped in the head in training.
        seed: of all random weights.
        encoder_settings: the encoder's own settings (hidden_dim, layers, weights …).

    Raises:
        InputError: an unknown encoder or setting, a bad value.
        MissingResourceError: pretrained weights that cannot be had.
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
