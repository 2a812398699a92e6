"""Ways of deciding who is trained on and who is tested, by the name a row gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.experiments.spec import SplitSpec
from meta_spliceai.splice_engine.variants.coverage import Coverage
from meta_spliceai.splice_engine.variants.splits import PARTS, Split, group_split, make_split, position_block_split

Splitter = Callable[[pd.DataFrame, SplitSpec, int], Split]


def _shares(wanted: SplitSpec) -> dict[str, float]:
    return dict(zip(PARTS, wanted.fractions, strict=True))


def _groups(table: pd.DataFrame, wanted: SplitSpec, seed: int) -> Split:
    return group_split(table, _shares(wanted), seed, wanted.name)


def _position_blocks(table: pd.DataFrame, wanted: SplitSpec, seed: int) -> Split:
    return position_block_split(table, _shares(wanted), seed, wanted.name)


SPLITTERS: dict[str, Splitter] = {"gene": _groups, "position-blocks": _position_blocks}
"""Name of a split: what makes it. `gene` keeps the table's own groups together."""


def _group_folds(table: pd.DataFrame, wanted: SplitSpec, seed: int) -> list[Split]:
    """Whole groups dealt to as many folds as the row asks for, of about equal numbers of rows."""
    if not isinstance(wanted.folds, int):
        raise InputError(
            f"split '{wanted.name}' takes a number of folds; 'chromosome' folds go with split 'chromosome'"
        )
    groups = table["group"].value_counts()
    if len(groups) < wanted.folds + 1:
        raise InputError(f"{len(groups)} groups are too few for {wanted.folds} folds; use more rows or fewer folds")
    names = groups.index.to_numpy()[np.random.default_rng(seed).permutation(len(groups))]
    filled = np.zeros(wanted.folds, dtype=np.int64)
    fold_of: dict[str, int] = {}
    for group in sorted(names, key=lambda name: -groups[name]):  # large groups first: the folds end up about equal
        fold_of[group] = int(filled.argmin())
        filled[fold_of[group]] += groups[group]
    return _folds_from(table, table["group"].map(fold_of).to_numpy(), wanted, seed, "groups")


def _folds_from(table: pd.DataFrame, fold: np.ndarray, wanted: SplitSpec, seed: int, of_what: str) -> list[Split]:
    """One split for each fold: the fold is the test part, whole groups of the rest go to train and validation."""
    train, validation, _ = wanted.fractions
    splits = []
    for number in range(int(fold.max()) + 1):
        name = f"{wanted.name}, fold {number + 1}"
        rest = np.flatnonzero(fold != number)
        inner = group_split(
            table.iloc[rest].reset_index(drop=True), {"train": train, "validation": validation}, seed + number, name
        )
        parts = np.full(len(table), "test", dtype=object)
        parts[rest] = inner.parts
        description = f"fold {number + 1} of {int(fold.max()) + 1}, {of_what} kept whole, seed {seed}"
        # A fold's test part may lack a class: folds are pooled before they are judged.
        splits.append(make_split(table, parts, name, description, Coverage(len(table)), classes=()))
    return splits


FOLDERS: dict[str, Callable[[pd.DataFrame, SplitSpec, int], list[Split]]] = {"gene": _group_folds}
"""Name of a split: what makes its folds for cross-validation."""


def make_splits(table: pd.DataFrame, wanted: SplitSpec, seed: int) -> list[Split]:
    """The one split a row asks for, or one for each fold of a cross-validation.

    Raises:
        InputError: an unknown name, or a part that would be empty.
    """
    known = SPLITTERS if wanted.folds is None else FOLDERS
    if wanted.name not in known:
        raise unknown_value("split" if wanted.folds is None else "split with folds", wanted.name, known)
    if wanted.folds is None:
        return [SPLITTERS[wanted.name](table, wanted, seed)]
    return FOLDERS[wanted.name](table, wanted, seed)
