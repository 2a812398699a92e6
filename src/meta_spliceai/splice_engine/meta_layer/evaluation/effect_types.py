"""Which kind of effect: confusion, F1 of each kind, and their unweighted mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.splice_engine.meta_layer.evaluation.resampling import plan_resamples, with_interval


class EffectTypes(NamedTuple):
    """How well a classifier of several kinds does.

    Attributes:
        confusion: observed kinds as rows, predicted ones as columns.
        table: a row for `macro F1`, `accuracy` and `F1 of …`: estimate, low, high, n, reason.
    """

    confusion: pd.DataFrame
    table: pd.DataFrame


def evaluate_effect_types(
    observed: Sequence[str] | np.ndarray,
    predicted: Sequence[str] | np.ndarray,
    groups: np.ndarray,
    kinds: Sequence[str],
    *,
    n_boot: int = 2000,
    seed: int = 0,
) -> EffectTypes:
    """Confusion and F1 with group-bootstrap intervals.

    F1 of a kind is 2 TP / (2 TP + FP + FN); macro F1 is the plain mean over the kinds that are observed or predicted,
    so that a rare kind counts as much as a common one. A resample in which a kind is neither observed nor predicted
    leaves it out of the mean, as scikit-learn does.

    Raises:
        InputError: a kind outside the list, no variants, different numbers of rows.
    """
    if len(observed) != len(predicted) or len(observed) != len(groups):
        raise InputError(
            f"effect types: {len(observed)} observed, {len(predicted)} predicted, {len(groups)} groups; one each a "
            "variant is needed"
        )
    if not len(observed):
        raise InputError("effect types: no variants; there is nothing to evaluate")
    number = {kind: place for place, kind in enumerate(kinds)}
    for what, values in (("observed effect type", observed), ("predicted effect type", predicted)):
        for row, value in enumerate(values):
            if value not in number:
                raise unknown_value(what, value, kinds, f"row {row + 1}")
    k = len(kinds)
    plan = plan_resamples(groups, n_boot, seed)
    cell = np.array([number[o] * k + number[p] for o, p in zip(observed, predicted, strict=True)])
    by_group = np.bincount(plan.unit * k * k + cell, minlength=plan.n_groups * k * k).reshape(plan.n_groups, k * k)
    counts = by_group.sum(axis=0).reshape(k, k)
    whole = _scores(counts[None].astype(np.float64))
    drawn = _scores((plan.counts.astype(np.float64) @ by_group).reshape(-1, k, k))
    sizes = [counts.sum(), counts.sum(), *counts.sum(axis=1)]
    rows = []
    for place, name in enumerate(["macro F1", "accuracy", *(f"F1 of {kind}" for kind in kinds)]):
        lacking, undefined = "kind neither observed nor predicted", "neither observed nor predicted"
        bounded = with_interval(whole[place][0], drawn[place], plan.n_groups, lacking, undefined)
        rows.append({"metric": name, **bounded, "n": int(sizes[place])})
    confusion = pd.DataFrame(counts, index=pd.Index(kinds, name="observed"), columns=pd.Index(kinds, name="predicted"))
    return EffectTypes(confusion, pd.DataFrame(rows).set_index("metric"))


def _scores(confusion: Float[np.ndarray, "resamples kinds kinds"]) -> list[Float[np.ndarray, " resamples"]]:
    """Macro F1, accuracy and each kind's F1; NaN where a kind is neither observed nor predicted."""
    true = np.einsum("rkk->rk", confusion)
    touched = confusion.sum(axis=1) + confusion.sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.where(touched > 0, 2 * true / touched, np.nan)
        present = (touched > 0).sum(axis=1)
        macro = np.where(present > 0, np.nansum(f1, axis=1) / present, np.nan)
        accuracy = true.sum(axis=1) / confusion.sum(axis=(1, 2))
    return [macro, accuracy, *f1.T]
