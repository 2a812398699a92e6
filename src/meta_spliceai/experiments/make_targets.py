"""Label rules by the name a row gives."""

from __future__ import annotations

import pandas as pd

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.experiments.spec import ExperimentSpec
from meta_spliceai.splice_engine.base_layer.scores import BaseScores
from meta_spliceai.splice_engine.meta_layer.models import HEADS
from meta_spliceai.splice_engine.meta_layer.targets import TARGETS, Targets

__all__ = ["TARGETS", "make_targets"]


def make_targets(spec: ExperimentSpec, table: pd.DataFrame, scores: BaseScores) -> Targets:
    """Labels of a table by the rule a row asks for.

    Raises:
        InputError: an unknown target, or one that the row's head does not learn.
    """
    if spec.target not in TARGETS:
        raise unknown_value("target", spec.target, TARGETS, where=f"row '{spec.id}'")
    head = HEADS.get(spec.head.name)
    task = getattr(head, "task", spec.target)
    if task != spec.target:
        raise InputError(
            f"row '{spec.id}': head '{spec.head.name}' learns target '{task}', not '{spec.target}'; set target={task}"
        )
    return TARGETS[spec.target](table, scores)
