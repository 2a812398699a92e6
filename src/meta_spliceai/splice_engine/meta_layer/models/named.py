"""The named predictors: thin compositions of an encoder and a head."""

from __future__ import annotations

from typing import Any, ClassVar

from meta_spliceai.splice_engine.meta_layer.models.composition import ComposedPredictor
from meta_spliceai.splice_engine.meta_layer.models.encoders.hyenadna_weights import HUB, model_config


class _CNNDeltaPredictor(ComposedPredictor):
    """Δ from a CNN.

    Args:
        window: bases in the window (odd, the variant in the middle); dilations follow it.
        hidden_dim: channels of the encoder and width of the head.
        layers: convolutions of the encoder.
        kernel: taps of each convolution (odd).
        dropout: share dropped in the head in training.
        seed: of the initial weights.

    Raises:
        InputError: a bad number; too few layers for the window.
    """

    encoder_name: ClassVar[str]

    def __init__(self, window: int, hidden_dim: int, layers: int, kernel: int, dropout: float, seed: int) -> None:
        settings = {"hidden_dim": hidden_dim, "layers": layers, "kernel": kernel}
        super().__init__(self.encoder_name, "delta", window, seed, settings, {"dropout": dropout})
        self.config = {"window": window, **settings, "dropout": dropout, "seed": seed}


class ValidatedDeltaPredictor(_CNNDeltaPredictor):
    """Δ of the three channels from a gated dilated residual CNN that reads reference and alternative."""

    encoder_name = "gated-cnn"

    def __init__(
        self,
        window: int = 501,
        hidden_dim: int = 128,
        layers: int = 6,
        kernel: int = 7,
        dropout: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(window, hidden_dim, layers, kernel, dropout, seed)


class SimpleCNNDeltaPredictor(_CNNDeltaPredictor):
    """Δ of the three channels from a plain dilated CNN that reads reference and alternative."""

    encoder_name = "simple-cnn"

    def __init__(
        self,
        window: int = 101,
        hidden_dim: int = 64,
        layers: int = 4,
        kernel: int = 11,
        dropout: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(window, hidden_dim, layers, kernel, dropout, seed)


class HyenaDNADeltaPredictor(ComposedPredictor):
    """Δ of the three channels from HyenaDNA on both strands of reference and alternative.

    Args:
        model_name: a published size: hyenadna-tiny-1k, -small-32k, -medium-160k, -medium-450k, -large-1m.
        hidden_dim: width after the encoder.
        freeze_encoder: the encoder's weights stay as they are and its features are computed once; otherwise it is
            fine-tuned as the training settings say.
        window: bases in the window (odd, the variant in the middle).
        dropout: share dropped in the head in training.
        seed: of all random weights.
        encoder_settings: `weights` ("hub", a local folder, or "scratch": random; only when asked for, and written on
            every result), `revision` (another commit on the hub than the pinned one), `read_radius` (features are read
            up to this many bases from the variant; None for the whole window), `gradient_checkpointing` (less memory in
            fine-tuning, a third more time).

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
        model_config(model_name)  # refuses names that are no HyenaDNA
        given = {"weights": HUB, "revision": None, "read_radius": 32, "gradient_checkpointing": False}
        settings = {"hidden_dim": hidden_dim, "freeze_encoder": freeze_encoder, **given, **encoder_settings}
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
