"""From features per position, of the reference and of the alternative, to one vector that compares the two."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class PairReadout(nn.Module):
    """Reads both sequences at the variant and, by attention, at the places that may be affected, and compares them.

    For each sequence: the features in the middle (the variant) and `queries` sums of features over positions, weighted
    by softmax attention whose scores are linear in the features. The output joins the reference's readings with the
    alternative's minus the reference's. The two sequences share all parameters, so equal sequences give a difference
    of exactly zero.

    Attention is taken for each sequence by itself: after an insertion or a deletion the positions of the two sequences
    no longer match, but what attention collects (say, the strength of the strongest donor) can still be compared.
    """

    def __init__(self, channels: int, queries: int = 4) -> None:
        super().__init__()
        self.queries = queries
        self.score = nn.Linear(channels, queries)
        self.out_features = 2 * channels * (1 + queries)

    def weights(self, features: Float[Tensor, "batch channels length"]) -> Float[Tensor, "batch queries length"]:
        """Attention over positions; each row sums to 1."""
        return self.score(features.mT).float().softmax(dim=1).mT

    def _read(
        self, features: Float[Tensor, "batch channels length"], shift: Int[Tensor, " batch"] | None
    ) -> Float[Tensor, "batch readings"]:
        weights = self.weights(features).to(features.dtype)
        collected = torch.einsum("bcl,bql->bqc", features, weights).flatten(1)
        middle = features.shape[-1] // 2
        if shift is None:
            at_variant = features[:, :, middle]
        else:
            at_variant = features[torch.arange(len(features), device=features.device), :, middle - shift]
        return torch.cat((at_variant, collected), dim=1)

    def forward(
        self,
        ref: Float[Tensor, "batch channels length"],
        alt: Float[Tensor, "batch channels length"],
        shift: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch out_features"]:
        """The comparison. The variant stands in the middle, or `shift` places before it."""
        read_ref, read_alt = self._read(ref, shift), self._read(alt, shift)
        return torch.cat((read_alt - read_ref, read_ref), dim=1)


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
