"""Ways of deciding who is trained on and who is tested, by the name a row gives."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from meta_spliceai.errors import unknown_value
from meta_spliceai.experiments.spec import SplitSpec
from meta_spliceai.splice_engine.variants.splits import PARTS, Split, group_split, position_block_split

Splitter = Callable[[pd.DataFrame, SplitSpec, int], Split]


def _shares(wanted: SplitSpec) -> dict[str, float]:
    return dict(zip(PARTS, wanted.fractions, strict=True))


def _groups(table: pd.DataFrame, wanted: SplitSpec, seed: int) -> Split:
    return group_split(table, _shares(wanted), seed, wanted.name)


def _position_blocks(table: pd.DataFrame, wanted: SplitSpec, seed: int) -> Split:
    return position_block_split(table, _shares(wanted), seed, wanted.name)


SPLITTERS: dict[str, Splitter] = {"gene": _groups, "position-blocks": _position_blocks}
"""Name of a split: what makes it. `gene` keeps the table's own groups together."""


def make_split(table: pd.DataFrame, wanted: SplitSpec, seed: int) -> Split:
    """The split a row asks for.

    Raises:
        InputError: an unknown name, or a part that would be empty.
    """
    if wanted.name not in SPLITTERS:
        raise unknown_value("split", wanted.name, SPLITTERS)
    return SPLITTERS[wanted.name](table, wanted, seed)
