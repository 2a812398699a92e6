"""From features per position, of the reference and of the alternative, to one vector that compares the two."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


class PairReadout(nn.Module):
    """Where, how much and how strongly the two sequences differ, and what stands at the variant.

    Of the difference D (alternative minus reference, position by position) each channel gives four numbers: D at the
    variant, the sum of D over positions divided by the square root of their number, the largest and the smallest D.
    With them come the reference's features at the variant. Nothing is learned here: a channel's largest change is seen
    wherever it stands and from the first step on. Equal sequences give a difference of exactly zero.

    Behind an insertion or a deletion the positions of the two sequences no longer match, so that D is large there; sum
    and extremes then tell that, too.

    Args:
        channels: of the features.
        normed: bring each of the five readings to one scale, over its channels. For frozen encoders: a trained one
            finds the scale of its differences itself.
    """

    def __init__(self, channels: int, normed: bool = False) -> None:
        super().__init__()
        self.out_features = 5 * channels
        self.normed = normed

    def forward(
        self,
        ref: Float[Tensor, "batch channels length"],
        alt: Float[Tensor, "batch channels length"],
        shift: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch out_features"]:
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

    def forward(
        self,
        ref: Float[Tensor, "batch channels places"],
        alt: Float[Tensor, "batch channels places"],
        shift: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch out_features"]:
        """The comparison; `shift` as `PairReadout` has it."""
        around = self.around(ref[..., 1:-1], alt[..., 1:-1], shift)
        ref_sites, alt_sites = (torch.cat((of[..., 0], of[..., -1]), dim=1) for of in (ref, alt))
        return torch.cat((around, alt_sites - ref_sites, ref_sites), dim=1)


def _at_variant(
    features: Float[Tensor, "batch channels length"], shift: Int[Tensor, " batch"] | None
) -> Float[Tensor, "batch channels"]:
    middle = features.shape[-1] // 2
    if shift is None:
        return features[:, :, middle]
    return features[torch.arange(len(features), device=features.device), :, middle - shift]
