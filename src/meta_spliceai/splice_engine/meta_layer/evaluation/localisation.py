"""Is the position right: does a predicted splice-site change fall where one was observed?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.meta_layer.evaluation.resampling import plan_resamples, share

TOLERANCES = (0, 1, 5)
"""Bases by which a prediction may miss and still count."""


def evaluate_localisation(
    gold: Sequence[Sequence[int]],
    predicted: Mapping[str, Float[np.ndarray, " variants"]],
    groups: np.ndarray,
    *,
    tolerances: Sequence[int] = TOLERANCES,
    n_boot: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Hit rates of predicted against observed positions.

    A variant is hit if its predicted position lies within the tolerance of any of its observed ones. A variant without
    a prediction (NaN) is a miss: the observation is there and the scorer did not find it. Variants without an observed
    position are not evaluated, and are counted.

    Args:
        gold: observed positions of each variant (bases from the variant, transcript orientation); empty if none known.
        predicted: for each scorer the position it gives each variant, in the same coordinates.

    Returns:
        A row a scorer and tolerance: scorer, tolerance, estimate, low, high, n (evaluated), n_without_gold,
        n_without_prediction, reason.

    Raises:
        InputError: predictions of other rows, or a negative tolerance.
    """
    if any(tolerance < 0 for tolerance in tolerances):
        raise InputError(f"tolerances {', '.join(map(str, tolerances))}: none may be negative")
    known = np.array([len(positions) > 0 for positions in gold], dtype=bool)
    plan = plan_resamples(groups, n_boot, seed)
    if len(plan.unit) != len(gold):
        raise InputError(f"localisation: {len(plan.unit)} groups for {len(gold)} variants")
    rows = []
    for scorer, positions in predicted.items():
        if np.shape(positions) != (len(gold),):
            raise InputError(f"localisation: {scorer} gives {np.shape(positions)} positions for {len(gold)} variants")
        miss = np.array(
            [
                np.inf if np.isnan(mine) or not len(theirs) else min(abs(mine - one) for one in theirs)
                for mine, theirs in zip(positions, gold, strict=True)
            ]
        )
        for tolerance in tolerances:
            hits = (miss <= tolerance).astype(np.float64)
            found = share(hits, known.astype(np.float64), plan, "no observed position")
            rows.append(
                {
                    "scorer": scorer,
                    "tolerance": tolerance,
                    "estimate": found.estimate,
                    "low": found.low,
                    "high": found.high,
                    "n": int(known.sum()),
                    "n_without_gold": int((~known).sum()),
                    "n_without_prediction": int((known & np.isnan(positions)).sum()),
                    "reason": found.reason,
                }
            )
    return pd.DataFrame(rows)
