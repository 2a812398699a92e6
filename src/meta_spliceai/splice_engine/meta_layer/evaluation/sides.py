"""Which classes are the two sides of a binary question, and the labels that follow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.splice_engine.variants.table import CLASSES, LOW_FREQUENCY, NORMAL, SPLICE_ALTERING

POSITIVE = SPLICE_ALTERING
NEGATIVES: tuple[str, ...] = (NORMAL,)
"""The two sides unless asked otherwise. Low-frequency, Conflicting and Unknown are on neither, and are counted."""

MAY_BE_NEGATIVE = (NORMAL, LOW_FREQUENCY)
"""MFASS's own question is "strong loss or not", with the Low-frequency variants among the negatives."""


def check_negatives(negatives: Sequence[str]) -> tuple[str, ...]:
    """The classes asked for as negatives, in the order of MAY_BE_NEGATIVE; InputError for none or another class."""
    for name in negatives:
        if name not in MAY_BE_NEGATIVE:
            raise unknown_value("negative class", name, MAY_BE_NEGATIVE)
    if not negatives:
        raise InputError(f"no negative class; choose among {', '.join(MAY_BE_NEGATIVE)}")
    return tuple(name for name in MAY_BE_NEGATIVE if name in negatives)


def binary_labels(table: pd.DataFrame, negatives: Sequence[str] = NEGATIVES) -> Float[np.ndarray, " rows"]:
    """1 for Splice-altering, 0 for the negatives, NaN for the classes on neither side."""
    classes = table["classification"]
    sides = np.where(classes.isin(check_negatives(negatives)), 0.0, np.nan)
    return np.where(classes == POSITIVE, 1.0, sides)


def training_labels(
    table: pd.DataFrame, where: str, negatives: Sequence[str] = NEGATIVES
) -> Float[np.ndarray, " rows"]:
    """`binary_labels` of a part to learn from.

    Raises:
        InputError: a class nobody knows, or a side without a variant; the message names the part.
    """
    classes = table["classification"]
    strange = ~classes.isin(CLASSES)
    if strange.any():
        place = int(np.flatnonzero(strange.to_numpy())[0])
        raise unknown_value("class", classes.iloc[place], CLASSES, f"{where}, row {place + 1}")
    y = binary_labels(table, negatives)
    for side, name in ((1, POSITIVE), (0, " or ".join(negatives))):
        if not (y == side).any():
            raise InputError(f"{where}: no {name} variant among {len(table)} rows; nothing can be learned from it")
    return y
