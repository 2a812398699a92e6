"""Builds what a row names: its splits, its labels, its predictor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from meta_spliceai.errors import InputError, MissingResourceError
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, SplitSpec
from meta_spliceai.experiments.spec.parts import OFFERED
from meta_spliceai.splice_engine.base_layer.families import FAMILIES
from meta_spliceai.splice_engine.base_layer.scores import BaseScores
from meta_spliceai.splice_engine.genome.sequence import SequenceSource
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import NEGATIVES, POSITIVE, binary_labels
from meta_spliceai.splice_engine.meta_layer.models import ENCODERS, HEADS, ComposedPredictor, QuantileEnsemble
from meta_spliceai.splice_engine.meta_layer.models.hyenadna_weights import (
    HUB,
    PUBLISHED,
    missing_here,
    require_weights,
)
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.targets import TARGETS, Targets
from meta_spliceai.splice_engine.variants.families import exon_families, gene_families
from meta_spliceai.splice_engine.variants.splits import (
    PARTS,
    TRAIN,
    Split,
    chromosome_folds,
    chromosome_split,
    gene_folds,
    group_split,
    leave_one_chromosome_out,
    make_split,
    position_block_split,
    spliceai_clean_split,
)
from meta_spliceai.splice_engine.variants.table import Coverage, describe


@dataclass(frozen=True)
class Wanted:
    """Everything a split is made from.

    Attributes:
        table: the variants.
        genome: where their sequence comes from, for finding paralogs.
        window: bases a model sees.
        spec: what the row asks for.
        seed: of every draw.
    """

    table: pd.DataFrame
    genome: SequenceSource
    window: int
    spec: SplitSpec
    seed: int

    @property
    def shares(self) -> dict[str, float]:
        return dict(zip(PARTS, self.spec.fractions, strict=True))

    @property
    def validation(self) -> float:
        """Share of validation among what is not test."""
        return self.spec.fractions[1] / (self.spec.fractions[0] + self.spec.fractions[1])

    def families(self) -> pd.Series:
        return gene_families(self.table, self.genome, self.window)


SPLITTERS: dict[str, Callable[[Wanted], Split]] = {
    "gene": lambda w: group_split(w.table, w.shares, w.seed, "gene", w.families(), "gene"),
    "group": lambda w: group_split(w.table, w.shares, w.seed, "group"),
    "exon": lambda w: group_split(
        w.table, w.shares, w.seed, "exon", exon_families(w.table, w.genome, w.window), "exon"
    ),
    "position-blocks": lambda w: position_block_split(w.table, w.shares, w.seed),
    "chromosome": lambda w: chromosome_split(w.table, w.spec.test_chromosomes, w.seed, w.validation, w.families()),
    "spliceai-clean": lambda w: spliceai_clean_split(w.table, w.seed, w.validation, w.families()),
}
"""Name of a split: what makes it. `gene` keeps families (paralogs, neighbours) together, `group` the table's groups."""


def _chromosome_folds(wanted: Wanted) -> list[Split]:
    if wanted.spec.folds == "chromosome":
        return leave_one_chromosome_out(wanted.table, wanted.seed, wanted.validation, wanted.families())
    return chromosome_folds(wanted.table, _number(wanted), wanted.seed, wanted.families())


FOLDERS: dict[str, Callable[[Wanted], list[Split]]] = {
    "gene": lambda w: gene_folds(w.table, _number(w), w.seed, w.families()),
    "group": lambda w: gene_folds(w.table, _number(w), w.seed),
    "chromosome": _chromosome_folds,
}
"""Name of a split: what makes its folds for cross-validation."""


def _number(wanted: Wanted) -> int:
    folds = wanted.spec.folds
    if not isinstance(folds, int):
        raise InputError(
            f"split.folds = {folds!r} goes with split 'chromosome' only; split '{wanted.spec.name}' takes a number"
        )
    return folds


def make_splits(wanted: Wanted) -> list[Split]:
    """The one split a row asks for, or one for each fold of a cross-validation; which there are is checked before.

    Raises:
        InputError: a part that would be empty or lack a class.
    """
    name, folds = wanted.spec.name, wanted.spec.folds is not None
    splits = FOLDERS[name](wanted) if folds else [SPLITTERS[name](wanted)]
    for split in splits:
        for part in PARTS:
            if not len(split.indices(part)):
                raise InputError(f"split '{split.name}' has no {part} part; use more rows")
    if wanted.spec.train_rows is not None:
        splits = [_train_on(split, wanted.spec.train_rows, wanted) for split in splits]
    return splits


def _train_on(split: Split, rows: int, wanted: Wanted) -> Split:
    """The same split with fewer training rows: the first of one seeded order, so that smaller draws lie within larger.

    Raises:
        InputError: the draw lacks a class.
    """
    train = split.indices(TRAIN)
    parts = split.parts.copy()
    left_out = np.random.default_rng(wanted.seed).permutation(train)[rows:]
    parts[left_out] = ""
    coverage = deepcopy(split.coverage)
    coverage.leave_out(f"not drawn: split.train_rows = {rows:,}", wanted.table["variant_id"].iloc[left_out])
    description = f"{split.description}; trained on {min(rows, len(train)):,} of {len(train):,} rows"
    return make_split(wanted.table, parts, split.name, description, coverage, unit=split.unit, may_lack=PARTS[1:])


def make_targets(spec: ExperimentSpec, table: pd.DataFrame, scores: BaseScores) -> Targets:
    """Labels of a table by the rule a row asks for.

    Raises:
        InputError: the row's head does not learn its target.
    """
    if spec.fusion is not None:
        return sides(table, spec.negatives, effect=spec.fusion.settings.use_effect)
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


JOINT = ("quantile-members",)
"""Heads that are more than one module: `quantile-members` trains one model a quantile, side by side."""

HEAD_NAMES = (*HEADS, *JOINT)

OFFERED["base network"], OFFERED["encoder"], OFFERED["head"] = FAMILIES, ENCODERS, HEAD_NAMES
OFFERED["target"], OFFERED["split"], OFFERED["split with folds"] = TARGETS, SPLITTERS, FOLDERS


def build_predictor(spec: ExperimentSpec) -> Predictor:
    """The row's predictor with its initial weights, which the row's seed decides where they are random.

    Raises:
        InputError: an encoder, a head or a setting that does not exist; a setting's bad value.
        MissingResourceError: pretrained weights that cannot be had.
    """
    encoder, head = dict[str, Any](spec.encoder.settings), dict[str, Any](spec.head.settings)
    how: dict[str, Any] = {"window": spec.window, "seed": spec.training.own_seed}
    if spec.head.name in JOINT:
        return QuantileEnsemble(encoder=spec.encoder.name, **how, **encoder | head)
    return ComposedPredictor(spec.encoder.name, spec.head.name, encoder_settings=encoder, head_settings=head, **how)


def require_encoder_weights(spec: ExperimentSpec) -> None:
    """Make sure that a row's encoder can be built, before hours go into its base scores. An ensemble has none of its
    own; its members have.

    Raises:
        MissingResourceError: the weights cannot be had; the message names the row and the ways out.
        MissingExtraError: they have to be downloaded, and the extra that does it is not installed.
    """
    try:
        if asked := _weights_of(spec):
            require_weights(spec.encoder.name, **asked)
    except MissingResourceError as error:
        how = "--set encoder.settings.weights=FOLDER, or =scratch"
        raise MissingResourceError(f"row '{spec.id}': {error} ({how})") from error


def missing_encoder_weights(spec: ExperimentSpec) -> str:
    """Why a row's encoder has no weights on this machine, in words; empty where it has, or needs none. Nothing is
    downloaded."""
    asked = _weights_of(spec)
    return "" if asked is None else missing_here(spec.encoder.name, **asked)


def _weights_of(spec: ExperimentSpec) -> dict[str, Any] | None:
    """Which weights a row asks for; None for rows whose model has none but its own."""
    if spec.ensemble is not None or spec.fusion is not None or spec.encoder.name not in PUBLISHED:
        return None
    settings = spec.encoder.settings
    return {"weights": str(settings.get("weights", HUB)), "revision": settings.get("revision")}
