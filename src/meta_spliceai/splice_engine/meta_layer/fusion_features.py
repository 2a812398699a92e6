"""The fusion's features of a variant: base networks' Δ at the exon's own sites and nearby, position, and k-mers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.base_layer.scores import BaseScores, site_probabilities
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.meta_layer.evaluation.position import REGIONS, kmer_changes, position_features
from meta_spliceai.splice_engine.meta_layer.prediction import TrunkData, trunk_columns
from meta_spliceai.splice_engine.variants.table import Windows

SITES = ("acceptor", "donor")
NEAR_CERTAIN = 1e-4
"""Probabilities are kept this far from 0 and 1 where their log-odds are taken: below it a network says nothing."""
NEAR_VARIANT = 3
"""Bases to either side of `pos` that count as the variant itself."""
POOLED = ("own log-odds", "own least Δ", "own exon Δ", "gain acceptor", "gain donor", "loss", "strongest |Δ|")
"""Features that are pooled over the networks by mean, least and greatest."""


def fusion_features(
    table: pd.DataFrame,
    base: Sequence[BaseScores],
    windows: Windows | None = None,
    annotation: GeneAnnotation | None = None,
    trunk: TrunkData | None = None,
) -> pd.DataFrame:
    """One row of features a variant; NaN where one is unknown (a site out of reach), which the trees handle as missing.

    Args:
        table: variant table.
        base: scores of one or several base networks on the table's rows.
        windows: bases around the variants, for k-mers; None leaves the k-mers out.
        annotation: genes, for rows without a tested exon.
        trunk: a base network's hidden channels around the same variants; None leaves them out.

    Raises:
        InputError: a network given twice.
    """
    names = [scores.model for scores in base]
    if len(set(names)) < len(names):
        raise InputError(f"fusion: base scores of the same name twice ({', '.join(names)}); name them apart")
    place = position_features(table, annotation).reset_index(drop=True)
    parts = [_of_position(table, place)]
    forward = np.where(table["strand"].to_numpy() == "-", -1, 1)
    ahead = {site: (place[f"{site}_site"].to_numpy() - table["pos"].to_numpy()) * forward for site in SITES}
    each = [_of_network(scores, ahead) for scores in base]
    parts += [features.add_prefix(f"{name}: ") for name, features in zip(names, each, strict=True)]
    if len(each) > 1:
        for feature in POOLED:
            stacked = pd.concat([features[feature] for features in each], axis=1)
            pooled = {"mean": stacked.mean(axis=1), "least": stacked.min(axis=1), "greatest": stacked.max(axis=1)}
            parts.append(pd.DataFrame(pooled).add_suffix(f": {feature}"))
    if trunk is not None:
        parts.append(trunk_columns(trunk))
    if windows is not None:
        parts.append(kmer_changes(windows))
    return pd.concat(parts, axis=1).astype(np.float64)


def _of_position(table: pd.DataFrame, place: pd.DataFrame) -> pd.DataFrame:
    features = place[["to_acceptor", "to_donor", "nearest", "nearest_is_donor", "in_exon"]].copy()
    # Sites found by annotation may belong to two exons, so that what lies between them is no exon.
    exon = (place["donor_site"] - place["acceptor_site"]).abs() + 1
    features["exon length"] = exon.where(place["site_source"] == "table")
    for name in REGIONS:
        features[f"in {name}"] = place["region"] == name
    lengths = table["ref"].str.len().to_numpy(), table["alt"].str.len().to_numpy()
    features["length change"] = lengths[1] - lengths[0]
    return features.astype(np.float64)


def _of_network(scores: BaseScores, ahead: Mapping[str, Float[np.ndarray, " rows"]]) -> pd.DataFrame:
    """Features of one network. One that does not tell acceptors from donors gives both the mean of its channels.

    `ahead`: for each kind of site, how many bases downstream of `pos` the own one lies; NaN if it is not known.
    """
    rows = np.arange(len(scores))
    offsets = np.arange(-scores.distance, scores.distance + 1)
    out: dict[str, Float[np.ndarray, " rows"]] = {}
    own_ref, own_alt, change, gained = {}, {}, {}, {}
    for site in SITES:
        ref, alt = (values.astype(np.float64) for values in site_probabilities(scores, site))
        delta = alt - ref
        index = ahead[site] + scores.distance
        reached = (index >= 0) & (index < len(offsets))
        at = np.where(reached, index, 0).astype(np.int64)
        own_ref[site] = np.where(reached, ref[rows, at], np.nan)
        own_alt[site] = np.where(reached, alt[rows, at], np.nan)
        out[f"own {site} ref"] = own_ref[site]
        out[f"own {site} Δ"] = own_alt[site] - own_ref[site]
        change[site] = _log_odds(own_alt[site]) - _log_odds(own_ref[site])
        out[f"own {site} log-odds"] = change[site]
        others = np.where(reached[:, None] & (np.arange(len(offsets)) == at[:, None]), -np.inf, delta)
        best = others.argmax(axis=1)
        gained[site] = np.maximum(others[rows, best], 0)
        out[f"gain {site}"] = gained[site]
        # How far the strongest gained site lies from the own one: a shift of the exon's edge, in bases.
        out[f"gain {site} at"] = np.where(gained[site] > NEAR_CERTAIN, offsets[best] - ahead[site], np.nan)
        out[f"rival {site}"] = np.where(np.isinf(others), 0, alt).max(axis=1)
        out[f"loss {site}"] = delta.min(axis=1)
        out[f"sum {site}"] = delta.sum(axis=1)
        out |= {f"{name} {site}": values for name, values in _profile(ref, alt, scores.distance).items()}
    acceptor, donor = SITES
    both = np.stack([change[acceptor], change[donor]])
    nothing = np.isnan(both).all(axis=0)
    least = np.stack([out[f"own {site} Δ"] for site in SITES])
    out["own log-odds"] = np.where(nothing, np.nan, np.nansum(both, axis=0))
    out["own least Δ"] = np.where(nothing, np.nan, np.nanmin(np.where(nothing, 0, least), axis=0))
    out["own exon Δ"] = own_alt[acceptor] * own_alt[donor] - own_ref[acceptor] * own_ref[donor]
    out["loss"] = np.minimum(out["loss acceptor"], out["loss donor"])
    out["strongest |Δ|"] = np.maximum(-out["loss"], np.maximum(gained[acceptor], gained[donor]))
    return pd.DataFrame(out)


def _profile(
    ref: Float[np.ndarray, "rows positions"], alt: Float[np.ndarray, "rows positions"], distance: int
) -> dict[str, Float[np.ndarray, " rows"]]:
    """How all positions change in log-odds, weak sites as much as strong ones, and how much of a site there is in all.

    A change that spreads over weak sites tells of a changed exon although no single Δ is large.
    """
    change = _log_odds(alt) - _log_odds(ref)
    near = slice(max(0, distance - NEAR_VARIANT), distance + NEAR_VARIANT + 1)
    return {
        "mean log-odds": change.mean(axis=1),
        "greatest log-odds": change.max(axis=1),
        "least log-odds": change.min(axis=1),
        "spread of log-odds": np.abs(change).mean(axis=1),
        "log-odds at the variant": change[:, near].mean(axis=1),
        "total ref": ref.sum(axis=1),
        "total alt": alt.sum(axis=1),
    }


def _log_odds(p: Float[np.ndarray, " *shape"]) -> Float[np.ndarray, " *shape"]:
    kept = np.clip(p, NEAR_CERTAIN, 1 - NEAR_CERTAIN)
    return np.log(kept) - np.log1p(-kept)
