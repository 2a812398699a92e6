"""Baseline: gradient boosting on the words around a variant and its position, without any network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.meta_layer.boosting import grow
from meta_spliceai.splice_engine.meta_layer.evaluation.position_features import REGIONS, position_features
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Scores, unsigned
from meta_spliceai.splice_engine.meta_layer.evaluation.sides import NEGATIVES, training_labels
from meta_spliceai.splice_engine.meta_layer.fusion_config import BoostingConfig
from meta_spliceai.splice_engine.meta_layer.sequence_features import word_changes
from meta_spliceai.splice_engine.variants.windows import Windows


def words_and_position(
    train_table: pd.DataFrame,
    train_windows: Windows,
    test_table: pd.DataFrame,
    test_windows: Windows,
    seed: int = 0,
    *,
    annotation: GeneAnnotation | None = None,
    negatives: Sequence[str] = NEGATIVES,
    config: BoostingConfig | None = None,
) -> Scores:
    """Probability of Splice-altering from k-mers (k ≤ 3) and position, learned on the training part.

    Args:
        train_table, train_windows: the training part, row by row the same variants.
        test_table, test_windows: the test part.
        seed: of folds and trees.
        annotation: genes, for rows without a tested exon.
        negatives: the classes of the other side.
        config: of the trees.

    Raises:
        InputError: windows of another number of rows, a side without a variant, too few groups.
    """
    y = training_labels(train_table, "training part", negatives)
    x = _features(train_table, train_windows, annotation, "training part")
    kept = ~np.isnan(y)
    grown = grow(x[kept], y[kept], train_table["group"].to_numpy()[kept], seed, config)
    raw = grown.trees.raw(_features(test_table, test_windows, annotation, "test part"))
    return unsigned(1 / (1 + np.exp(-raw)))


def _features(
    table: pd.DataFrame, windows: Windows, annotation: GeneAnnotation | None, part: str
) -> Float[np.ndarray, "rows features"]:
    if len(table) != len(windows):
        raise InputError(f"{part}: {len(table)} variants but {len(windows)} windows; they must be the same rows")
    place = position_features(table, annotation)
    numbers = place[["to_acceptor", "to_donor", "nearest", "nearest_is_donor", "in_exon"]].to_numpy(dtype=np.float64)
    region = place["region"].map({name: number for number, name in enumerate(REGIONS)}).to_numpy(dtype=np.float64)
    return np.column_stack([numbers, region, word_changes(windows).to_numpy()])
