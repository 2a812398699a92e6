"""Baseline: how far a variant's position alone tells whether it alters splicing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from meta_spliceai.errors import InputError, MissingPackageError
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.meta_layer.evaluation.position_features import position_features
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Scores, unsigned
from meta_spliceai.splice_engine.meta_layer.evaluation.sides import NEGATIVES, training_labels

if TYPE_CHECKING:
    from seqleak.baseline import Linear, OneHot, Spline

MOST_KNOTS = {"nearest": 12, "to_acceptor": 8, "to_donor": 8}
"""Knots of the spline of each distance; fewer where the distances take too few values for so many."""


def position_only(
    train_table: pd.DataFrame,
    test_table: pd.DataFrame,
    seed: int = 0,
    *,
    annotation: GeneAnnotation | None = None,
    negatives: Sequence[str] = NEGATIVES,
) -> Scores:
    """Probability of Splice-altering from position alone, learned on the training part, for the test part.

    A logistic regression on splines of the distances to the exon's two sites (that of the nearer site split by its
    kind), the exon/intron flag and the region's name; fitted by `seqleak.position_model` on the training rows only.
    The probability is calibrated to the training part's prevalence.

    Args:
        train_table: variant table; rows of classes on neither side are not learned from.
        test_table: variant table; every row is scored.
        seed: handed on to seqleak (this model draws nothing).
        annotation: genes, for rows without a tested exon.
        negatives: the classes of the other side.

    Raises:
        InputError: no splice site known for any training row, a side without a variant, an empty test part.
        MissingPackageError: seqleak is not installed.
    """
    try:
        from seqleak import position_model
    except ImportError as error:
        raise MissingPackageError("position alone as a baseline", "seqleak") from error
    y = training_labels(train_table, "training part", negatives)
    if test_table.empty:
        raise InputError("test part: no rows; there is nothing to score")
    both = pd.concat([train_table, test_table], ignore_index=True)
    features = position_features(both, annotation)
    training = np.arange(len(both)) < len(train_table)
    learned_from = training & np.isin(np.append(y, np.full(len(test_table), np.nan)), (0, 1))
    known = features["nearest"].notna()
    if not known[learned_from].any():
        raise InputError(
            "position alone: no splice site is known for any training row; fill acceptor_pos and donor_pos or give "
            "an annotation of the same build"
        )
    # A row without a site gets a distance that means nothing; the region "no site known" takes up its effect.
    filled = features[["to_acceptor", "to_donor", "nearest", "nearest_is_donor", "in_exon"]].fillna(0.0)
    filled["region"] = features["region"]
    predicted = position_model(
        filled,
        np.append(y, np.full(len(test_table), np.nan)),
        np.zeros(len(both), dtype=np.int64),
        spec=position_design(filled[learned_from]),
        folds=None,
        train_mask=training,
        output="proba",
        seed=seed,
    )
    return unsigned(predicted[~training])


def position_design(training: pd.DataFrame) -> list[Linear | OneHot | Spline]:
    """The design: only what varies in the training part, with as many distinct knots as its quantiles allow."""
    from seqleak.baseline import Linear, OneHot, Spline

    terms: list[Linear | OneHot | Spline] = []
    for column, most in MOST_KNOTS.items():
        values = training[column].to_numpy()
        values = np.sign(values) * np.log1p(np.abs(values))
        knots = next(
            (k for k in range(most, 1, -1) if len(np.unique(np.percentile(values, np.linspace(0, 100, k)))) == k), 0
        )
        if knots:
            by = "nearest_is_donor" if column == "nearest" else None
            terms.append(Spline(column, knots, "slog1p", by=by, fit_on="train"))
        elif np.ptp(values) > 0:
            terms.append(Linear(column))
    if np.ptp(training["in_exon"]) > 0:
        terms.append(Linear("in_exon"))
    # The commonest region is the one that others are measured from, and what a region not seen in training counts as.
    regions = training["region"].value_counts()
    if len(regions) > 1:
        terms.append(OneHot("region", sorted(regions.index[1:]), other=False))
    if not terms:
        raise InputError("position alone: all training rows stand at the same place; position cannot be learned")
    return terms
