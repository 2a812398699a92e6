"""A causal encoder that sees both sides: the sequence and its reverse complement, aligned position by position."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.meta_layer.models.encoders.hyenadna import HyenaDNA


class BothStrandsHyenaDNA(nn.Module):
    """HyenaDNA on the transcript and on its reverse complement.

    At every position the first half of the channels has seen the bases up to and including it, the second half those
    from it on, read on the other strand; together they have seen the whole window.

    Args:
        model: HyenaDNA.
        window: bases (at most as many as the model's position tables serve).
        radius: only positions up to this far from the middle are given out; None for all.
    """

    def __init__(self, model: HyenaDNA, window: int, radius: int | None = None) -> None:
        super().__init__()
        if window < 1 or window % 2 == 0:
            raise InputError(f"window {window} is not an odd positive number of bases")
        if window > model.config.max_seq_len:
            raise InputError(f"window {window} is longer than this HyenaDNA can read ({model.config.max_seq_len})")
        self.model = model
        self.window = window
        self.channels = 2 * model.config.d_model
        self.receptive_field = window
        self.first = max(0, window // 2 - radius) if radius is not None else 0
        self.positions = window - 2 * self.first

    def layers_from_last(self) -> list[list[nn.Parameter]]:
        """Parameters of HyenaDNA's layers from the last (with the final norm) to the first, then of the token table."""
        backbone = self.model.backbone
        layers = [list(layer.parameters()) for layer in backbone.layers][::-1]
        layers[0] += list(backbone.ln_f.parameters())
        return [*layers, list(backbone.embeddings.parameters())]

    def forward(self, onehot: Float[Tensor, "batch 4 length"]) -> Float[Tensor, "batch channels positions"]:
        """Features of the middle positions.

        Raises:
            InputError: a window of another length than the encoder was made for.
        """
        if onehot.shape[-1] != self.window:
            raise InputError(f"a window of {onehot.shape[-1]} bases was given to an encoder made for {self.window}")
        # Channels are A, C, G, T: turning both axes round gives the reverse complement.
        both = torch.cat((onehot, onehot.flip((1, 2))))
        hidden = self.model(self.model.embed_bases(both))
        onward, backward = hidden[: len(onehot)], hidden[len(onehot) :].flip(1)
        last = self.first + self.positions
        return torch.cat((onward[:, self.first : last], backward[:, self.first : last]), dim=2).mT
