"""From Δ at every position to one number a variant."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int

from meta_spliceai.splice_engine.base_layer.channels import CHANNELS, NEITHER
from meta_spliceai.splice_engine.base_layer.scores import BaseScores


def max_window(scores: BaseScores) -> Float32[np.ndarray, " variants"]:
    """The signed Δ of largest |Δ| over all positions and all channels that mean a splice site."""
    sites = [index for index, name in enumerate(scores.channels) if name != CHANNELS[NEITHER]]
    delta = (scores.alt[:, :, sites] - scores.ref[:, :, sites]).reshape(len(scores), -1)
    return _strongest(delta)


def own_site(scores: BaseScores, table: pd.DataFrame) -> Float32[np.ndarray, " variants"]:
    """The signed Δ of largest |Δ| among Δacceptor at `acceptor_pos` and Δdonor at `donor_pos`.

    A site that is unknown, or farther than the scores reach, is left aside; with neither left the value is NaN.
    `own_sites_in_reach` counts them, for the account. What a network without acceptor and donor channels says of either
    is told by `site_probabilities`.

    Args:
        scores: of the table's rows, in its order.
        table: a variant table.
    """
    columns = (("acceptor_pos", "acceptor"), ("donor_pos", "donor"))
    rows = np.arange(len(scores))
    delta = np.full((len(scores), 2), np.nan, dtype=np.float32)
    for place, (column, site) in enumerate(columns):
        index, reached = _index_of_site(table, column, scores.distance)
        ref, alt = site_probabilities(scores, site)
        delta[reached, place] = (alt[rows, index] - ref[rows, index])[reached]
    known = ~np.isnan(delta)
    value = _strongest(np.where(known, delta, np.float32(0)))
    return np.where(known.any(axis=1), value, np.float32(np.nan))


def site_probabilities(
    scores: BaseScores, site: str
) -> tuple[Float32[np.ndarray, "variants positions"], Float32[np.ndarray, "variants positions"]]:
    """Reference and alternative probability of one kind of site, "acceptor" or "donor".

    A network that does not tell them apart (Pangolin: one probability of any site for each tissue) gives the mean of
    its channels for both.
    """
    if site in scores.channels:
        channel = scores.channels.index(site)
        return scores.ref[:, :, channel], scores.alt[:, :, channel]
    channels = [number for number, name in enumerate(scores.channels) if name != CHANNELS[NEITHER]]
    return scores.ref[:, :, channels].mean(axis=2), scores.alt[:, :, channels].mean(axis=2)


def own_sites_in_reach(table: pd.DataFrame, distance: int) -> Int[np.ndarray, " variants"]:
    """How many of the tested exon's own two sites are known and within ±distance of the variant: 0, 1 or 2."""
    reached = [_index_of_site(table, column, distance)[1] for column in ("acceptor_pos", "donor_pos")]
    return np.sum(reached, axis=0)


def _index_of_site(table: pd.DataFrame, column: str, distance: int) -> tuple[np.ndarray, np.ndarray]:
    """Index of a site on the scores' position axis (0 where it is not in reach), and whether it is in reach."""
    site = table[column].astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
    ahead = (site - table["pos"].to_numpy()) * np.where(table["strand"].to_numpy() == "-", -1, 1)
    reached = np.abs(ahead) <= distance  # False for NaN
    return np.where(reached, ahead + distance, 0).astype(np.int64), reached


def _strongest(delta: Float32[np.ndarray, "variants places"]) -> Float32[np.ndarray, " variants"]:
    return delta[np.arange(len(delta)), np.abs(delta).argmax(axis=1)]
