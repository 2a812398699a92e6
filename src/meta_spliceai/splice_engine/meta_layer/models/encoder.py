"""What every encoder says of itself, so that any head can be put behind it."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from meta_spliceai.errors import InputError

OneHot = Float[Tensor, "batch 4 length"]
Features = Float[Tensor, "batch channels positions"]

SCRATCH = "scratch"


class Encoder(nn.Module):
    """Bases of a window to features of the places around its middle.

    Attributes:
        window: bases that are read (odd, the variant in the middle).
        channels, positions: of the features.
        hidden_dim: channels to which a projection, trained with the head, brings the features; None: they stay.
        weights: where the encoder's weights come from, in words.
        frozen: the encoder is never trained, so that its features can be computed once and kept.
        sites: the first place is the tested exon's acceptor and the last one its donor, not neighbours of the variant.
        receptive_field: bases that the middle depends on; None if it is not known.
    """

    receptive_field: int | None = None
    weights = SCRATCH
    frozen = False
    sites = False

    def __init__(self, window: int, channels: int, positions: int, hidden_dim: int | None = None) -> None:
        super().__init__()
        if window < 1 or window % 2 == 0:
            raise InputError(f"window {window} is not an odd positive number of bases")
        if (hidden_dim or channels) < 1 or hidden_dim == 0:
            raise InputError(f"hidden_dim {hidden_dim if hidden_dim is not None else channels} is not positive")
        self.window, self.channels, self.positions, self.hidden_dim = window, channels, positions, hidden_dim

    def require_window(self, onehot: OneHot) -> None:
        """InputError for a window of another length than the encoder was made for."""
        if onehot.shape[-1] != self.window:
            raise InputError(f"a window of {onehot.shape[-1]} bases was given to an encoder made for {self.window}")

    def layers_from_last(self) -> list[list[nn.Parameter]]:
        """A pre-trained encoder's parameters by layer, from the last to the first; empty for others."""
        return []
