"""The wishlist's two convolutional Δ predictors: an encoder, the pair readout and a Δ head."""

from __future__ import annotations

from meta_spliceai.splice_engine.meta_layer.models.encoders.cnn import GatedCNNEncoder, SimpleCNNEncoder
from meta_spliceai.splice_engine.meta_layer.models.heads.delta import DeltaHead
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor, seeded
from meta_spliceai.splice_engine.meta_layer.models.readout import PairReadout


class ValidatedDeltaPredictor(Predictor):
    """Δ of the three channels from a gated dilated residual CNN that reads reference and alternative.

    Args:
        window: bases in the window (odd, the variant in the middle); dilations follow it.
        hidden_dim: channels of the encoder and width of the head.
        layers: gated blocks.
        kernel: taps of each convolution (odd).
        dropout: share dropped in training.
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
        config = {
            "window": window,
            "hidden_dim": hidden_dim,
            "layers": layers,
            "kernel": kernel,
            "dropout": dropout,
            "seed": seed,
        }
        super().__init__(window, config)
        with seeded(seed):
            self.encoder = GatedCNNEncoder(window, hidden_dim, layers, kernel, dropout)
            self.readout = PairReadout(hidden_dim)
            self.head = DeltaHead(self.readout.out_features, hidden_dim, dropout)


class SimpleCNNDeltaPredictor(Predictor):
    """Δ of the three channels from a plain dilated CNN that reads reference and alternative.

    Args:
        window: bases in the window (odd, the variant in the middle); dilations follow it.
        hidden_dim: channels of the encoder and width of the head.
        layers: convolutions.
        kernel: taps of each convolution (odd).
        dropout: share dropped in training.
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
        config = {
            "window": window,
            "hidden_dim": hidden_dim,
            "layers": layers,
            "kernel": kernel,
            "dropout": dropout,
            "seed": seed,
        }
        super().__init__(window, config)
        with seeded(seed):
            self.encoder = SimpleCNNEncoder(window, hidden_dim, layers, kernel, dropout)
            self.readout = PairReadout(hidden_dim)
            self.head = DeltaHead(self.readout.out_features, hidden_dim, dropout)
