"""The same evaluation within parts of the test: by region, by kind of variant, by source, by distance to the site."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.meta_layer.evaluation.evaluate import FEWEST_SCORED, evaluate, rows_in_common
from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import OperatingPoints
from meta_spliceai.splice_engine.meta_layer.evaluation.position_features import position_features
from meta_spliceai.splice_engine.meta_layer.evaluation.result import METRIC_COLUMNS
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Scorer, check_predictions
from meta_spliceai.splice_engine.meta_layer.evaluation.sides import NEGATIVES

COARSE = {
    "canonical acceptor": "canonical ±2",
    "canonical donor": "canonical ±2",
    "acceptor region": "splice region",
    "donor region": "splice region",
}
"""The regions of `position_features`, both kinds of site together; the others keep their names."""

CONTEXT = "context"
"""Column of tables whose variants stand some on their chromosome and some in constructs."""

DISTANCE_EDGES = (0, 3, 9, 21, 51)
"""Bases from the nearest site (0 = the exon's own last base): 0–2, 3–8, 9–20, 21–50, more."""


def strata_of(table: pd.DataFrame, annotation: GeneAnnotation | None = None) -> pd.DataFrame:
    """Which stratum of each kind a variant is in, aligned with the table.

    Returns:
        Columns "region" (canonical ±2, splice region, exonic, deep intronic, no site known), "type" (SNV,
        substitution, insertion, deletion, complex), "source", "position" (intron or exon, site and distance), and
        "context" (genome or construct) where the table says it.
    """
    place = position_features(table, annotation)
    found = {
        "region": place["region"].replace(COARSE),
        "type": _types(table),
        "source": table["source"].replace("", "source not given"),
        "position": position_bins(place),
    }
    if CONTEXT in table:
        found[CONTEXT] = table[CONTEXT]
    return pd.DataFrame(found, index=table.index)


def position_bins(place: pd.DataFrame) -> pd.Series:
    """Bins of the position features within which position tells next to nothing more: side, site, distance."""
    distance = place["nearest"].abs().to_numpy()
    number = np.digitize(np.nan_to_num(distance), DISTANCE_EDGES[1:])
    upper = [f"{low}–{high - 1}" for low, high in itertools.pairwise(DISTANCE_EDGES)]
    span = np.array([*upper, f"{DISTANCE_EDGES[-1]}+"])[number]
    side = np.where(place["in_exon"] == 1, "exon", "intron")
    site = np.where(place["nearest_is_donor"] == 1, "donor", "acceptor")
    named = pd.Series([f"{a}, {b} {c}" for a, b, c in zip(side, site, span, strict=True)], index=place.index)
    return named.where(place["nearest"].notna(), "no site known")


def _types(table: pd.DataFrame) -> np.ndarray:
    ref, alt = table["ref"].str.len().to_numpy(), table["alt"].str.len().to_numpy()
    anchored = (table["ref"].str[0] == table["alt"].str[0]).to_numpy()
    return np.select(
        [(ref == 1) & (alt == 1), ref == alt, anchored & (ref == 1), anchored & (alt == 1)],
        ["SNV", "substitution", "insertion", "deletion"],
        "complex",
    )


def evaluate_strata(
    predictions: pd.DataFrame,
    scorers: Sequence[Scorer],
    strata: pd.DataFrame,
    *,
    n_boot: int = 1000,
    seed: int = 0,
    points: OperatingPoints | None = None,
    negatives: Sequence[str] = NEGATIVES,
) -> pd.DataFrame:
    """Every metric of every scorer within every stratum.

    The rows are those that all scorers score, as in `evaluate`; a scorer that covers too few of them altogether is in
    no stratum. Sources with one class only (the rule, not the exception, in pooled tables) get NaN with a reason.

    The arguments are those of `evaluate`; `strata` has one column a stratification, rows as in predictions.

    Returns:
        Columns stratification, stratum and those of `Evaluation.metrics`; stratum sizes are in `n`.

    Raises:
        InputError: strata of other rows, or missing for a row.
    """
    if len(strata) != len(predictions):
        raise InputError(f"strata: {len(strata)} rows for {len(predictions)} predictions; one a row is needed")
    frame = check_predictions(predictions, scorers)
    marked = frame.assign(_row=np.arange(len(frame)))
    rows, left_out, _ = rows_in_common(marked, scorers, FEWEST_SCORED)
    evaluated = [scorer for scorer in scorers if scorer.name not in left_out]
    tables: list[pd.DataFrame] = []
    for stratification in strata.columns:
        values = strata[stratification].to_numpy(dtype=object)
        if pd.isna(values).any():
            row = int(np.flatnonzero(pd.isna(values))[0])
            raise InputError(f"strata: no '{stratification}' at row {row + 1}; every row is in some stratum")
        mine = pd.Series(values[rows["_row"].to_numpy()].astype(str))
        for stratum in sorted(mine.unique()):
            part = rows[(mine == stratum).to_numpy()].drop(columns="_row")
            options: dict[str, Any] = {"points": points, "negatives": negatives, "fewest_scored": 0}
            found = evaluate(part, evaluated, None, n_boot, seed, **options).metrics
            tables.append(found.assign(stratification=stratification, stratum=stratum))
    columns: list[Any] = ["stratification", "stratum", *METRIC_COLUMNS]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)
