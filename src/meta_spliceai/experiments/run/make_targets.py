"""Label rules by the name a row gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.splice_engine.base_layer.scores import BaseScores
from meta_spliceai.splice_engine.meta_layer.evaluation.sides import NEGATIVES, POSITIVE, binary_labels
from meta_spliceai.splice_engine.meta_layer.models import HEADS
from meta_spliceai.splice_engine.meta_layer.targets import TARGETS, Targets
from meta_spliceai.splice_engine.variants.coverage import Coverage
from meta_spliceai.splice_engine.variants.table import describe

__all__ = ["TARGETS", "make_targets", "sides"]


def make_targets(spec: ExperimentSpec, table: pd.DataFrame, scores: BaseScores) -> Targets:
    """Labels of a table by the rule a row asks for.

    Raises:
        InputError: an unknown target, or one that the row's head does not learn.
    """
    if spec.fusion is not None:
        return sides(table, spec.negatives, effect=spec.fusion.settings.use_effect)
    if spec.target not in TARGETS:
        raise unknown_value("target", spec.target, TARGETS, where=f"row '{spec.id}'")
    head = HEADS.get(spec.head.name)
    task = getattr(head, "task", spec.target)
    if task != spec.target:
        raise InputError(
            f"row '{spec.id}': head '{spec.head.name}' learns target '{task}', not '{spec.target}'; set target={task}"
        )
    if spec.target == "altering" and spec.negatives != NEGATIVES:
        return sides(table, spec.negatives)
    return TARGETS[spec.target](table, scores)


def sides(table: pd.DataFrame, negatives: Sequence[str], effect: bool = False) -> Targets:
    """1 for Splice-altering, 0 for the negatives; classes on neither side are left out and counted.

    Args:
        table: a variant table.
        negatives: classes of the negative side.
        effect: the measured effect is learned from too, of any class; then only rows without either are left out.
    """
    labels = binary_labels(table, negatives)
    used = np.isfinite(labels)
    rule = f"{POSITIVE} 1; {' and '.join(negatives)} 0; other classes left out"
    if effect:
        used |= table["effect"].notna().to_numpy()
        rule = f"{POSITIVE} 1; {' and '.join(negatives)} 0; beside it the measured effect of every class"
    coverage = Coverage(read=len(table))
    for name in pd.unique(table["classification"][~used]):
        rows = table[~used & (table["classification"] == name).to_numpy()]
        coverage.leave_out(f"{name}: on neither side", (describe(row) for _, row in rows.iterrows()))
    return Targets(labels[:, None].astype(np.float32), used, coverage, "altering", rule)
