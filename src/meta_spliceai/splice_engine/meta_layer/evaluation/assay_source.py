"""Baseline: how far the name of the assay alone tells the class, which is how far a test measures the source."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Scores, unsigned
from meta_spliceai.splice_engine.meta_layer.evaluation.sides import NEGATIVES, training_labels

PRIOR_WEIGHT = 1.0
"""Weight of the overall share in each source's share, in variants, so that a source seen once is not taken at its
word; an unseen source gets the overall share."""


def assay_source(
    train_table: pd.DataFrame,
    test_table: pd.DataFrame,
    columns: Sequence[str] = ("source", "method"),
    *,
    negatives: Sequence[str] = NEGATIVES,
) -> Scores:
    """Share of Splice-altering among the training variants of the same source and assay, for every test row.

    A number near 1 here means that the classes come from different experiments: a model can then score well by
    recognising the experiment.

    Args:
        train_table: variant table.
        test_table: variant table.
        columns: what names the source; the combination of their values is looked up.
        negatives: the classes of the other side.

    Raises:
        InputError: a missing column, a side without a training variant, a class nobody knows.
    """
    for column in columns:
        for name, table in (("training part", train_table), ("test part", test_table)):
            if column not in table:
                raise InputError(f"{name}: column '{column}' missing; the assay source cannot be looked up")
    y = training_labels(train_table, "training part", negatives)
    kept = ~np.isnan(y)
    overall = float(y[kept].mean())
    known = pd.DataFrame({"key": _keys(train_table, columns)[kept], "y": y[kept]}).groupby("key")["y"]
    share = (known.sum() + PRIOR_WEIGHT * overall) / (known.count() + PRIOR_WEIGHT)
    looked_up = pd.Series(_keys(test_table, columns)).map(share).fillna(overall)
    return unsigned(looked_up.to_numpy(dtype=np.float64))


def _keys(table: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    joined = table[list(columns)].astype(str).agg("\t".join, axis=1)
    return joined.to_numpy(dtype=object)
