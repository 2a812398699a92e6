"""Baselines: the simple models that stand first on every leaderboard and that a learned model has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from meta_spliceai.splice_engine.base_layer.reductions import max_window, own_site
from meta_spliceai.splice_engine.base_layer.scores import BaseScores
from meta_spliceai.splice_engine.meta_layer.evaluation.assay_source import assay_source
from meta_spliceai.splice_engine.meta_layer.evaluation.position_only import position_only
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Scorer, Scores, signed_scores, unsigned
from meta_spliceai.splice_engine.meta_layer.evaluation.sides import NEGATIVES, training_labels
from meta_spliceai.splice_engine.meta_layer.evaluation.words_and_position import words_and_position

PREVALENCE = Scorer("prevalence", "baseline", "the same for every variant: what knowing nothing gives", "probability")
POSITION = Scorer("position alone", "baseline", "distance to the exon's sites, exon or intron, region", "probability")
ASSAY_SOURCE = Scorer("assay source", "baseline", "share of altering variants of the same assay", "probability")
WORDS_AND_POSITION = Scorer(
    "k-mers + position", "baseline", "gradient boosting on k-mers up to 3 and position, no network", "probability"
)
BASE_MAX_WINDOW = Scorer("base max_window", "base", "largest |Δ| of the base network within ±D", "delta")
BASE_OWN_SITE = Scorer("base own_site", "base", "Δ of the base network at the tested exon's own two sites", "delta")

__all__ = [
    "ASSAY_SOURCE",
    "BASE_MAX_WINDOW",
    "BASE_OWN_SITE",
    "POSITION",
    "PREVALENCE",
    "WORDS_AND_POSITION",
    "assay_source",
    "base_max_window",
    "base_own_site",
    "position_only",
    "prevalence",
    "words_and_position",
]


def prevalence(train_table: pd.DataFrame, test_table: pd.DataFrame, negatives: Sequence[str] = NEGATIVES) -> Scores:
    """The training part's share of Splice-altering among both sides, for every test row.

    Raises:
        InputError: a side without a training variant, or a class nobody knows.
    """
    share = float(np.nanmean(training_labels(train_table, "training part", negatives)))
    return unsigned(np.full(len(test_table), share))


def base_max_window(scores: BaseScores) -> Scores:
    """The base network's Δ of largest magnitude within ±D of the variant, over the acceptor and donor channels."""
    return signed_scores(max_window(scores))


def base_own_site(scores: BaseScores, table: pd.DataFrame) -> Scores:
    """The base network's Δ at the tested exon's own sites; NaN where no site is known or in reach."""
    return signed_scores(own_site(scores, table))
