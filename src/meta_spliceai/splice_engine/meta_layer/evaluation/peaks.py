"""The biological reading: with Δ added to the base scores, do sites appear and vanish where they were seen to?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.base_layer.channels import ACCEPTOR, DONOR
from meta_spliceai.splice_engine.meta_layer.evaluation.resampling import plan_resamples, share

CHANNEL_OF = {"acceptor": ACCEPTOR, "donor": DONOR}
PEAK = 0.5
"""Probability from which a position counts as a splice site."""

Sites = Bool[np.ndarray, "variants positions 2"]


@dataclass(frozen=True)
class ObservedSites:
    """Sites seen to be lost and gained by one variant: (site, offset), site "acceptor" or "donor", offset in bases
    from the variant in transcript orientation."""

    lost: tuple[tuple[str, int], ...] = ()
    gained: tuple[tuple[str, int], ...] = ()


def evaluate_peaks(
    reference: Float[np.ndarray, "variants positions 3"],
    delta: Mapping[str, Float[np.ndarray, "variants positions 3"]],
    observed: Sequence[ObservedSites],
    groups: np.ndarray,
    *,
    peak: float = PEAK,
    tolerance: int = 0,
    n_boot: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Peaks of base + Δ against what was observed.

    A peak is a position of the acceptor or donor channel with base + Δ at or above `peak`. What should be there is
    the reference's peaks, less those observed lost, plus those observed gained.

    Args:
        reference: base probabilities of the reference sequence, centre = the variant, transcript orientation.
        delta: for each scorer its Δ at the same positions.
        observed: for each variant the sites lost and gained; both empty for a variant observed to change nothing.
        groups: for the bootstrap.
        peak: threshold.
        tolerance: bases by which a peak may miss an observed site.

    Returns:
        Rows scorer × metric with estimate, low, high, hits, of, groups, reason. `peak_precision`: predicted peaks that
        should be there; `peak_recall`: expected ones that are; `gain_detection`: gained sites that were no reference
        peak and are one now; `loss_detection`: lost sites that were a reference peak and are none any more;
        `false_gain_rate`: variants with no gained site observed that get a new peak. Sites outside the positions given
        can neither hit nor miss, and are in `out_of_reach`.

    Raises:
        InputError: arrays of other shapes, an even number of positions, a kind of site nobody knows.
    """
    variants, positions = reference.shape[:2]
    if positions % 2 == 0 or reference.ndim != 3 or reference.shape[2] != 3:
        raise InputError(f"peaks: reference of shape {reference.shape}; (variants, odd positions, 3) is needed")
    if len(observed) != variants or len(groups) != variants:
        raise InputError(f"peaks: {variants} variants, {len(observed)} observations, {len(groups)} groups; one each")
    if not 0 < peak < 1 or tolerance < 0:
        raise InputError(f"peaks: threshold {peak:g} and tolerance {tolerance}; 0 < threshold < 1, tolerance ≥ 0")
    plan = plan_resamples(groups, n_boot, seed)
    half = positions // 2
    before = _sites(reference) >= peak
    lost, out_of_reach = _marked(observed, "lost", before.shape, half)
    gained, out_of_reach_too = _marked(observed, "gained", before.shape, half)
    lost_here = _widened(lost, tolerance) & before
    gained_here = gained & ~_widened(before, tolerance)
    expected = (before & ~lost_here) | gained
    any_gain = np.array([bool(sites.gained) for sites in observed])
    rows = []
    for scorer, change in delta.items():
        if change.shape != reference.shape:
            raise InputError(f"peaks: Δ of {scorer} has shape {change.shape}, the reference {reference.shape}")
        after = _sites(reference + change) >= peak
        right = after & _widened(expected, tolerance)
        met = _widened(after, tolerance)
        new = after & ~before & ~_widened(gained, tolerance)
        counts = {
            "peak_precision": (_per_variant(right), _per_variant(after), "no peak predicted"),
            "peak_recall": (_per_variant(met & expected), _per_variant(expected), "no peak expected"),
            "gain_detection": (
                _per_variant(met & gained_here),
                _per_variant(gained_here),
                "no gained site observed that the reference lacks",
            ),
            "loss_detection": (_per_variant(lost_here & ~after), _per_variant(lost_here), "no reference peak lost"),
            "false_gain_rate": (
                (_per_variant(new) > 0) * ~any_gain * 1.0,
                ~any_gain * 1.0,
                "every variant has a gained site",
            ),
        }
        for metric, (hits, of, nothing) in counts.items():
            found = share(hits, of, plan, nothing)._asdict()
            rows.append({"scorer": scorer, "metric": metric, **found, "out_of_reach": out_of_reach + out_of_reach_too})
    return pd.DataFrame(rows)


def _sites(values: Float[np.ndarray, "variants positions 3"]) -> Float[np.ndarray, "variants positions 2"]:
    return values[:, :, list(CHANNEL_OF.values())]


def _marked(observed: Sequence[ObservedSites], which: str, shape: tuple[int, ...], half: int) -> tuple[Sites, int]:
    marked, outside = np.zeros(shape, dtype=bool), 0
    order = list(CHANNEL_OF)
    for row, sites in enumerate(observed):
        for site, offset in getattr(sites, which):
            if site not in CHANNEL_OF:
                raise InputError(f"peaks: kind of site '{site}' at variant {row + 1}; choices: {', '.join(order)}")
            if abs(offset) > half:
                outside += 1
            else:
                marked[row, half + offset, order.index(site)] = True
    return marked, outside


def _widened(marked: Sites, tolerance: int) -> Sites:
    """Marked positions and those within the tolerance of one."""
    wide = marked.copy()
    for step in range(1, tolerance + 1):
        wide[:, step:] |= marked[:, :-step]
        wide[:, :-step] |= marked[:, step:]
    return wide


def _per_variant(marked: Sites) -> Float[np.ndarray, " variants"]:
    return marked.sum(axis=(1, 2)).astype(np.float64)
