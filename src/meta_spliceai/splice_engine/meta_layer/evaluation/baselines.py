"""Baselines: the simple models at the top of every leaderboard that a learned model has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from meta_spliceai.errors import InputError, MissingPackageError
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.meta_layer.boosting import grow
from meta_spliceai.splice_engine.meta_layer.evaluation.position import REGIONS, kmer_changes, position_features
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import (
    NEGATIVES,
    Scorer,
    Scores,
    training_labels,
    unsigned,
)
from meta_spliceai.splice_engine.meta_layer.settings import BoostingConfig
from meta_spliceai.splice_engine.variants.table import Windows

POSITION = Scorer("position alone", "baseline", "distance to the exon's sites, exon or intron, region", "probability")
ASSAY_SOURCE = Scorer("assay source", "baseline", "share of altering variants of the same assay", "probability")
KMERS_AND_POSITION = Scorer(
    "k-mers + position", "baseline", "gradient boosting on k-mers up to 3 and position, no network", "probability"
)
BASE_MAX_WINDOW = Scorer("base max_window", "base", "largest |Δ| of the base network within ±D", "delta")
BASE_OWN_SITE = Scorer("base own_site", "base", "Δ of the base network at the tested exon's own two sites", "delta")

PRIOR_WEIGHT = 1.0
"""Weight of the overall share in each source's share, in variants, so that a source seen once is not taken at its
word; an unseen source gets the overall share."""

MOST_KNOTS = {"nearest": 12, "to_acceptor": 8, "to_donor": 8}
"""Knots of the spline of each distance; fewer where the distances take too few values for so many."""

PLACE = ["to_acceptor", "to_donor", "nearest", "nearest_is_donor", "in_exon"]


def assay_source(
    train_table: pd.DataFrame, test_table: pd.DataFrame, *, negatives: Sequence[str] = NEGATIVES
) -> Scores:
    """Share of Splice-altering among the training variants of the same source and assay, for every test row. A number
    near 1 here means that the classes come from different experiments: a model can then score well by recognising the
    experiment. InputError: a side without a training variant."""
    y = training_labels(train_table, "training part", negatives)
    kept = ~np.isnan(y)
    overall = float(y[kept].mean())
    learned, asked = (
        part[["source", "method"]].astype(str).agg("\t".join, axis=1) for part in (train_table, test_table)
    )
    known = pd.Series(y[kept]).groupby(learned.to_numpy(dtype=object)[kept])
    share = (known.sum() + PRIOR_WEIGHT * overall) / (known.count() + PRIOR_WEIGHT)
    return unsigned(asked.map(share).fillna(overall).to_numpy(dtype=np.float64))


def position_only(
    train_table: pd.DataFrame,
    test_table: pd.DataFrame,
    seed: int = 0,
    *,
    annotation: GeneAnnotation | None = None,
    negatives: Sequence[str] = NEGATIVES,
) -> Scores:
    """Probability of Splice-altering from position alone, learned on the training part, for the test part.

    A logistic regression on splines of the distances to the exon's two sites (that of the nearer site split by its
    kind), the exon/intron flag and the region's name; fitted by `seqleak.position_model` on the training rows only.
    The probability is calibrated to the training part's prevalence.

    `annotation`: genes, for rows without a tested exon. `negatives`: the classes of the other side.

    Raises:
        InputError: no splice site known for any training row, a side without a variant.
    """
    seqleak = load_seqleak("position alone as a baseline")
    y = training_labels(train_table, "training part", negatives)
    features = position_features(pd.concat([train_table, test_table], ignore_index=True), annotation)
    labels = np.append(y, np.full(len(test_table), np.nan))
    learned_from = ~np.isnan(labels)
    if not features["nearest"].notna()[learned_from].any():
        raise InputError(
            "position alone: no splice site is known for any training row; fill acceptor_pos and donor_pos or give "
            "an annotation of the same build"
        )
    # A row without a site gets a distance that means nothing; the region "no site known" takes up its effect.
    filled = features[PLACE].fillna(0.0)
    filled["region"] = features["region"]
    training = np.arange(len(labels)) < len(train_table)
    predicted = seqleak.position_model(
        filled,
        labels,
        np.zeros(len(labels), dtype=np.int64),
        spec=position_design(filled[learned_from]),
        folds=None,
        train_mask=training,
        output="proba",
        seed=seed,
    )
    return unsigned(predicted[~training])


def load_seqleak(what_for: str) -> ModuleType:
    """The package seqleak, which a machine that only opened a bundle may lack."""
    try:
        import seqleak
        import seqleak.baseline
    except ImportError as error:
        raise MissingPackageError(what_for, "seqleak") from error
    return seqleak


def position_design(training: pd.DataFrame) -> list[Any]:
    """seqleak's design: only what varies in the training part, with as many distinct knots as its quantiles allow."""
    design = load_seqleak("position alone as a baseline").baseline
    terms: list[Any] = []
    for column, most in MOST_KNOTS.items():
        values = training[column].to_numpy()
        values = np.sign(values) * np.log1p(np.abs(values))
        knots = next(
            (k for k in range(most, 1, -1) if len(np.unique(np.percentile(values, np.linspace(0, 100, k)))) == k), 0
        )
        if knots:
            by = "nearest_is_donor" if column == "nearest" else None
            terms.append(design.Spline(column, knots, "slog1p", by=by, fit_on="train"))
        elif np.ptp(values) > 0:
            terms.append(design.Linear(column))
    if np.ptp(training["in_exon"]) > 0:
        terms.append(design.Linear("in_exon"))
    # The commonest region is the one that others are measured from, and what a region not seen in training counts as.
    regions = training["region"].value_counts()
    if len(regions) > 1:
        terms.append(design.OneHot("region", sorted(regions.index[1:]), other=False))
    if not terms:
        raise InputError("position alone: all training rows stand at the same place; position cannot be learned")
    return terms


def kmers_and_position(
    train: tuple[pd.DataFrame, Windows],
    test: tuple[pd.DataFrame, Windows],
    seed: int = 0,
    *,
    annotation: GeneAnnotation | None = None,
    negatives: Sequence[str] = NEGATIVES,
    config: BoostingConfig | None = None,
) -> Scores:
    """Probability of Splice-altering from k-mers (k ≤ 3) and position, learned on the training part.

    Of both parts are needed the variant table and windows, row by row the same variants; `annotation`: genes, for rows
    without a tested exon.

    Raises:
        InputError: a side without a variant, too few groups.
    """
    table = train[0]
    y = training_labels(table, "training part", negatives)
    x = _kmers_and_place(*train, annotation)
    kept = ~np.isnan(y)
    grown = grow(x[kept], y[kept], table["group"].to_numpy()[kept], seed, config)
    raw = grown.trees.raw(_kmers_and_place(*test, annotation))
    return unsigned(1 / (1 + np.exp(-raw)))


def _kmers_and_place(
    table: pd.DataFrame, windows: Windows, annotation: GeneAnnotation | None
) -> Float[np.ndarray, "rows features"]:
    place = position_features(table, annotation)
    region = place["region"].map({name: number for number, name in enumerate(REGIONS)}).to_numpy(dtype=np.float64)
    return np.column_stack([place[PLACE].to_numpy(dtype=np.float64), region, kmer_changes(windows).to_numpy()])
