"""A frozen base network's last hidden channels as an encoder; they are computed where the genome is, not here."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.meta_layer.trunk_config import TrunkConfig


class BaseTrunk(nn.Module):
    """Stands for features that come with the windows (see `trunk_features`).

    A base network sees 5,000 bases to either side of a position, which no row's window holds. So features are computed
    from the genome before training, and a predictor with this encoder has no weights of the network.

    Attributes:
        positions: places: the acceptor, the variant and `read_radius` bases to either side of it, the donor.
        channels: those of each network one after the other, and one that is 1 where the place is known.
    """

    def __init__(self, reading: TrunkConfig, networks: int, width: int) -> None:
        super().__init__()
        self.reading = reading
        self.positions = reading.positions
        self.channels = networks * width + 1

    def forward(self, onehot: Float[Tensor, "batch 4 length"]) -> Float[Tensor, "batch channels positions"]:
        raise InputError(
            f"the trunk of {self.reading.family} is computed from the genome, not from a window of "
            f"{onehot.shape[-1]} bases; give `fit` and `predict` windows with their features (`TrunkWindows.joined`)"
        )
