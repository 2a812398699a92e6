"""Label rules by the name a row gives."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from meta_spliceai.errors import unknown_value
from meta_spliceai.splice_engine.base_layer.scores import BaseScores
from meta_spliceai.splice_engine.meta_layer.targets import Targets, validated_delta

TARGETS: dict[str, Callable[[pd.DataFrame, BaseScores], Targets]] = {"validated-delta": validated_delta}
"""Name of a target: the label rule."""


def make_targets(name: str, table: pd.DataFrame, scores: BaseScores) -> Targets:
    """Labels of a table by the rule a row asks for."""
    if name not in TARGETS:
        raise unknown_value("target", name, TARGETS)
    return TARGETS[name](table, scores)
