"""Seconds and bytes of what a run does beside its networks: trees, baselines, judging, tables in memory.

Every constant is an assumption, taken once from processor seconds on a two-core machine (Xeon at 2.8 GHz), and mended
by finished runs as all estimates are.
"""

from __future__ import annotations

from meta_spliceai.datasets import registry
from meta_spliceai.experiments.plan.data_facts import Parts
from meta_spliceai.experiments.plan.scoring_work import shape_of
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

TRUNK_FEATURES = 6
"""Features of a fusion for each hidden channel of a network: three places, reference and change."""

FEATURE_SECONDS = 2.7e-7
"""One network's features of a variant, a position."""

WORDS_SECONDS = 1.5e-4
"""A variant's words and place, in each fold of a baseline."""

FOUND = "base scores found"
"""The step "base scores" of a run that found them all in the cache: another work, which calibrates nothing else."""

FEATURES, FEATURES_FOUND = "frozen features", "frozen features found"
"""The steps in which a frozen encoder's features are computed, and in which all of them are found in the cache."""

FOUND_SECONDS, FOUND_ROW_SECONDS, FOUND_BYTES_SECOND = 0.6, 2e-4, 600e6
"""Finding one network's base scores that were computed before: its weights, a variant's key (a digest of all bases that
its scores depend on), and how fast what is found is read and checked."""

SPLIT_ROW_SECONDS = 8e-5
"""A variant's label, part and window."""

AUDIT_SECONDS, AUDIT_ROW_SECONDS, AUDIT_FOLD_SECONDS = 0.05, 6e-5, 2.2e-5
"""An audit: at all, a variant, a variant and fold."""

JUDGE_SECONDS, JUDGE_FOLD_SECONDS, JUDGE_ROW_SECONDS, JUDGE_RESAMPLE_SECONDS = 1.0, 0.2, 5.5e-5, 6e-8
"""Judging: at all, a fold, a tested variant of one scorer, and that in one resample."""

JUDGED_ONCE = 4
"""What judging does with a tested variant whatever is compared (resamples, strata, position held fixed), in scorers."""

PROCESS_BYTES = 540e6
"""A processor's run before it has read anything: interpreter, PyTorch, Lightning, pandas, scikit-learn."""

DATA_BYTES, DATA_ROW_BYTES, TABLE_ROW_BYTES = 95e6, 3e3, 1.5e3
"""Annotation and genome, a variant of the data set as read, and one of the row's table with its windows."""

FEATURE_ARRAYS = 9
"""Arrays of rows and positions, in float64, that stand at once while one network's features are made."""

FEATURE_COPIES = 5.0
"""How often features stand in memory while trees grow: those of all rows, of a fold, their bins."""

JUDGED_ROW_BYTES = 9e3
"""A variant while the run is judged: words, predictions, resamples."""

LEFT_BEHIND = 200e6
"""What training leaves behind in a process: code that oneDNN made for its shapes, and pieces of freed memory that the
allocator keeps. What comes after (the next fold, judging) stands on top of it."""


def feature_count(spec: ExperimentSpec) -> int:
    """Features that a fusion sees."""
    networks = len(spec.networks)
    words = WORD_FEATURES if spec.fusion is not None and spec.fusion.words else 0
    trunk = 0
    if spec.fusion is not None and spec.fusion.trunk:
        architecture, members = shape_of(spec.base)
        trunk = TRUNK_FEATURES * architecture.channels * members
    return POSITION_FEATURES + networks * NETWORK_FEATURES + (POOLED_FEATURES if networks > 1 else 0) + words + trunk


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


def features_seconds(spec: ExperimentSpec, parts: Parts) -> float:
    """A fusion's features, made once for all folds."""
    return FEATURE_SECONDS * parts.rows * _positions(spec) * len(spec.networks)


def baselines_seconds(parts: Parts) -> float:
    """The baselines that learn, where none is in the cache: trees on words and place, and on place alone."""
    config = BoostingConfig.model_validate({})
    each = [train + validation for train, validation in parts.folds]
    return sum(
        trees_seconds(rows, POSITION_FEATURES + WORD_FEATURES, config) + WORDS_SECONDS * parts.rows for rows in each
    )


def judging_seconds(spec: ExperimentSpec, parts: Parts) -> float:
    """Metrics with intervals, strata, calibration, over all scorers."""
    scorers = JUDGED_ONCE + 3 + 2 * len(spec.networks)
    each = JUDGE_ROW_SECONDS + JUDGE_RESAMPLE_SECONDS * spec.bootstrap
    return JUDGE_SECONDS + JUDGE_FOLD_SECONDS * len(parts.folds) + parts.tested * scorers * each


def found_seconds(spec: ExperimentSpec, parts: Parts) -> float:
    """Reading base scores that were computed before."""
    each = FOUND_SECONDS + FOUND_ROW_SECONDS * parts.rows + score_bytes(spec, parts) / FOUND_BYTES_SECOND
    return len(spec.networks) * each


def score_bytes(spec: ExperimentSpec, parts: Parts) -> float:
    """One network's base scores: three channels of both alleles at every position, in float32."""
    return parts.rows * _positions(spec) * 3 * 2 * 4.0


def _positions(spec: ExperimentSpec) -> int:
    return 2 * spec.base.distance + 1


def held_bytes(spec: ExperimentSpec, parts: Parts, read_rows: int) -> float:
    """What a run on a processor holds from preparation to its end, beside its model."""
    data = DATA_BYTES + DATA_ROW_BYTES * read_rows + TABLE_ROW_BYTES * parts.rows
    return PROCESS_BYTES + data + len(spec.networks) * score_bytes(spec, parts)


def passing_bytes(spec: ExperimentSpec, parts: Parts) -> dict[str, float]:
    """What a run on a processor holds on top of that for a time, by phase; the phases follow each other.

    Base scores are read a network at a time, and while they are copied into their place they stand there twice. The
    features of a fusion are made a network at a time as well: that its networks are many shows only in what is held.
    """
    phases = {"base scores": score_bytes(spec, parts), "judging": JUDGED_ROW_BYTES * parts.rows}
    if spec.procedure == "fusion":
        features = 8.0 * parts.rows * feature_count(spec)
        phases["features"] = FEATURE_ARRAYS * 8.0 * parts.rows * _positions(spec) + features
        phases["training"] = FEATURE_COPIES * features
    elif spec.ensemble is None:
        phases["judging"] += LEFT_BEHIND
    return phases
