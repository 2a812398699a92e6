"""Seconds and bytes of what a run does beside its networks: trees, rows zero, judging, tables in memory.

Every constant is an assumption, taken once from processor seconds on a two-core machine (Xeon at 2.8 GHz), and mended
by finished runs as all estimates are.
"""

from __future__ import annotations

from meta_spliceai.datasets import registry
from meta_spliceai.experiments.plan.data_facts import Parts
from meta_spliceai.experiments.spec import ExperimentSpec
from meta_spliceai.splice_engine.meta_layer.fusion_config import BoostingConfig

TREE_SECONDS, TREE_FEATURE_SECONDS, TREE_CELL_SECONDS = 2.5e-3, 1.6e-5, 8.5e-9
"""A tree of a dozen leaves: at all, for each feature, for each row and feature (2,000 to 16,000 rows, 49 to 150
features: 4 to 18 ms)."""

STAGE_ROW_SECONDS = 3e-8
"""A tree asked about a held-out row while the number of trees is chosen."""

GROWN_SHARE = 0.8
"""Trees of the final models, as a share of the most that may be grown."""

POSITION_FEATURES, NETWORK_FEATURES, POOLED_FEATURES, WORD_FEATURES = 14, 35, 21, 104
"""Features of a fusion: position, each network, all networks together where there are several, words."""

FEATURES_SECONDS = 1e-4
"""A variant's features, once."""

WORDS_SECONDS = 1.5e-4
"""A variant's words and place, in each fold of a row zero."""

FOUND = "base scores found"
"""The step "base scores" of a run that found them all in the cache: another work, which calibrates nothing else."""

FOUND_SECONDS, FOUND_BYTES_SECOND = 1.0, 60e6
"""Reading base scores that were computed before: a family's weights, and how fast scores are read."""

SPLIT_ROW_SECONDS = 3e-5
"""A variant's label, part and window."""

AUDIT_SECONDS, AUDIT_ROW_SECONDS, AUDIT_FOLD_SECONDS = 0.5, 6e-5, 2.2e-5
"""An audit: at all, a variant, a variant and fold."""

JUDGE_SECONDS, JUDGE_ROW_SECONDS, JUDGE_RESAMPLE_SECONDS = 3.0, 2e-4, 1e-7
"""Judging: at all, a tested variant, a tested variant of one scorer in one resample."""

PROCESS_BYTES = 500e6
"""A processor's run before it has read anything: interpreter, PyTorch, Lightning, pandas, scikit-learn."""

DATA_BYTES, DATA_ROW_BYTES, TABLE_ROW_BYTES = 120e6, 3e3, 18e3
"""Annotation and genome, a variant of the data set as read, and one of the row's table with all that is made of it
(windows, words, predictions, resamples)."""

SCORE_COPIES, FEATURE_COPIES = 1.5, 6.0
"""How often base scores and features stand in memory at once: arrays, their parts of a fold, bins."""


def feature_count(spec: ExperimentSpec) -> int:
    """Features that a fusion sees."""
    networks = len(spec.networks)
    words = WORD_FEATURES if spec.fusion is not None and spec.fusion.words else 0
    return POSITION_FEATURES + networks * NETWORK_FEATURES + (POOLED_FEATURES if networks > 1 else 0) + words


def measures_effects(spec: ExperimentSpec) -> bool:
    """Whether the row's data set has amounts of effect, from which a fusion's second model learns."""
    return not registry.get(spec.data.name).effect.startswith("not ")


def trees_seconds(rows: float, features: int, config: BoostingConfig) -> float:
    """Growing trees once (see `boosting.grow`): on folds to choose their number, then with all rows for each seed.

    Args:
        rows: learned from.
        features: columns.
        config: folds, seeds and most trees.
    """

    def tree(seen: float) -> float:
        return TREE_SECONDS + TREE_FEATURE_SECONDS * features + TREE_CELL_SECONDS * seen * features

    choosing = config.folds * tree(rows * (config.folds - 1) / config.folds) + STAGE_ROW_SECONDS * rows
    return config.most_trees * (choosing + GROWN_SHARE * config.seeds * tree(rows))


def fusion_seconds(spec: ExperimentSpec, parts: Parts) -> float:
    """Growing a fusion's trees, of the class and of the effect, in every fold."""
    if spec.fusion is None:
        return 0.0
    config, learned = spec.fusion.settings, spec.fusion.validation == "learn"
    models = 2 if config.use_effect and measures_effects(spec) else 1
    return sum(
        models * trees_seconds(train + (validation if learned else 0), feature_count(spec), config.trees)
        for train, validation in parts.folds
    )


def rows_zero_seconds(parts: Parts) -> float:
    """The rows zero that learn, where none is in the cache: trees on words and place, and on place alone."""
    config = BoostingConfig.model_validate({})
    each = [train + validation for train, validation in parts.folds]
    return sum(
        trees_seconds(rows, POSITION_FEATURES + WORD_FEATURES, config) + WORDS_SECONDS * parts.rows for rows in each
    )


def judging_seconds(spec: ExperimentSpec, parts: Parts) -> float:
    """Metrics with intervals, strata, calibration, over all scorers."""
    scorers = 3 + 2 * len(spec.networks)
    each = JUDGE_ROW_SECONDS + JUDGE_RESAMPLE_SECONDS * spec.bootstrap
    return JUDGE_SECONDS + parts.tested * scorers * each


def found_seconds(spec: ExperimentSpec, parts: Parts) -> float:
    """Reading base scores that were computed before."""
    return len(spec.networks) * FOUND_SECONDS + score_bytes(spec, parts) / FOUND_BYTES_SECOND


def score_bytes(spec: ExperimentSpec, parts: Parts) -> float:
    """The base scores themselves: three channels of both alleles at every position, in float32."""
    return parts.rows * (2 * spec.base.distance + 1) * 3 * 2 * 4.0 * len(spec.networks)


def process_bytes(spec: ExperimentSpec, parts: Parts, read_rows: int) -> dict[str, float]:
    """What a run on a processor holds beside its model, by kind."""
    held = {
        "libraries": PROCESS_BYTES,
        "data": DATA_BYTES + DATA_ROW_BYTES * read_rows + TABLE_ROW_BYTES * parts.rows,
        "base scores": SCORE_COPIES * score_bytes(spec, parts),
    }
    if spec.procedure == "fusion":
        held["features"] = FEATURE_COPIES * 8.0 * parts.rows * feature_count(spec)
    return held
