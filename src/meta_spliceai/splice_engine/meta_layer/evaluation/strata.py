"""The evaluation within strata of the test (by region, kind of variant, source, distance to the site), and what a
scorer adds to position: within-stratum AUROC with position held fixed, and the gain over position.

The latter two follow seqleak (0.4.1), with one difference. seqleak averages over genomes, each of which holds thousands
of items; a gene or exon here holds a handful, mostly of one class, so that its own AUROC is undefined. Variants of
different genes are therefore compared with each other, and the genes are resampled. The within-stratum AUROC is that
of `seqleak.within_auc(compare="across_groups")`, to which it is held in a test; computed from sorted scores it needs
no matrix of groups × groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import ndtri

from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.meta_layer.evaluation.baselines import PLACE, load_seqleak, position_design
from meta_spliceai.splice_engine.meta_layer.evaluation.evaluate import evaluate
from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import (
    NO_POINTS,
    Counts,
    RankedScores,
    Replicates,
    ResamplingPlan,
    Rows,
    Units,
    bootstrap_table,
    plan_resamples,
    rank_scores,
)
from meta_spliceai.splice_engine.meta_layer.evaluation.position import position_features
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import (
    NEGATIVES,
    Evaluation,
    Scorer,
    binary_labels,
    check_predictions,
    records,
)

COARSE = {
    "canonical acceptor": "canonical ±2",
    "canonical donor": "canonical ±2",
    "acceptor region": "splice region",
    "donor region": "splice region",
}
"""The regions of `position_features`, both kinds of site together; the others keep their names."""

CONTEXT = "context"
"""Column of tables whose variants stand some on their chromosome and some in constructs."""

FEWEST_IN_STRATUM = 20
"""Rows, and one of each class, that a stratum needs to be evaluated; smaller ones are listed with their size."""

FOLDS = 5
"""Of the rows on which the gain over position is measured."""

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
    """Bins of the position features within which position is almost uninformative: side, site, distance."""
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
    negatives: Sequence[str] = NEGATIVES,
) -> list[dict[str, Any]]:
    """AUPRC and AUROC of every scorer within every stratum that has rows enough (FEWEST_IN_STRATUM), on the rows that
    all scorers score there, as in `evaluate`; the sizes of the other strata.

    Args:
        strata: one column per stratification, rows as in predictions.

    Returns:
        Records with stratification and stratum: the sizes of small strata with a reason, then the columns of
        `Evaluation.metrics`.
    """
    labels = binary_labels(predictions, negatives)
    found: list[dict[str, Any]] = []
    for stratification in strata:
        values = strata[stratification].to_numpy()
        evaluated = []
        for stratum in sorted(set(values)):
            mine = values == stratum
            known = labels[mine & np.isfinite(labels)]
            n, positive = len(known), int(known.sum())
            about = {"stratification": str(stratification), "stratum": str(stratum)}
            if n < FEWEST_IN_STRATUM or not 0 < positive < n:
                reason = f"{n} rows, {positive} of them positive: not evaluated"
                found.append({**about, "n": n, "n_positive": positive, "reason": reason})
                continue
            options: dict[str, Any] = {"points": NO_POINTS, "negatives": negatives, "fewest_scored": 0}
            metrics = evaluate(predictions[mine], scorers, None, n_boot, seed, **options).metrics
            kept = metrics[metrics["metric"].isin(("auprc", "auroc"))]
            kept = kept.drop(columns=["undefined_resamples", "n_seeds", "seed_sd"])
            evaluated += [{**about, **record} for record in records(kept)]
        found += evaluated
    return found


def within_strata_auroc(
    predictions: pd.DataFrame,
    scorers: Sequence[Scorer],
    strata: pd.Series | np.ndarray,
    *,
    n_boot: int = 2000,
    seed: int = 0,
    negatives: Sequence[str] = NEGATIVES,
) -> pd.DataFrame:
    """AUROC in which a positive is compared only with negatives of its own stratum.

    Σ over strata of the Mann-Whitney statistic / Σ of positives × negatives. With strata of position, a scorer that
    knows position only reads 0.5.

    The arguments are those of `evaluate`; rows without a score of the scorer are left aside for that scorer, and
    counted, and a model trained several times is evaluated training by training.

    Returns:
        A row per scorer: estimate, low, high, reason, pairs (compared), n, n_left_aside; index: scorer.
    """
    frame = check_predictions(predictions, scorers)
    code = pd.factorize(np.asarray(strata, dtype=object).astype(str), sort=True)[0]
    y = binary_labels(frame, negatives)
    tables = {}
    for scorer in (one for given in scorers for one in given.trainings()):
        score = frame[scorer.score_column].to_numpy()
        sided, scored = ~np.isnan(y), ~np.isnan(score)
        kept = sided & scored
        plan = plan_resamples(frame["group"][kept], n_boot, seed)
        table = _within_strata(y[kept], score[kept], code[kept], plan)
        tables[scorer.name] = table.assign(n=int(kept.sum()), n_left_aside=int((sided & ~scored).sum()))
    return pd.concat(tables, names=["scorer"]).droplevel("metric")


def _within_strata(y: Rows, score: Rows, stratum: Units, plan: ResamplingPlan) -> pd.DataFrame:
    """Σ U / Σ pairs with its interval, and the pairs compared, of one scorer."""
    sides: list[list[Float[np.ndarray, " groups"]]] = []  # positives and negatives of each group, for each stratum
    ranked: list[RankedScores] = []
    for number in np.unique(stratum):
        here = stratum == number
        truth, unit = y[here], plan.unit[here]
        if 0 < truth.sum() < len(truth):
            sides.append([np.bincount(unit, weights=side, minlength=plan.n_groups) for side in (truth, 1 - truth)])
            ranked.append(rank_scores(truth == 1, score[here], unit))

    def at(counts: Counts) -> dict[str, Replicates]:
        won, pairs = np.zeros(len(counts)), np.zeros(len(counts))
        for (positives, negatives), scores in zip(sides, ranked, strict=True):
            product = (counts @ positives) * (counts @ negatives)
            won += np.where(product > 0, scores.at(counts, NO_POINTS)["auroc"] * product, 0.0)
            pairs += product
        with np.errstate(invalid="ignore", divide="ignore"):
            return {"auroc": np.where(pairs > 0, won / pairs, np.nan)}

    widest = max((len(scores.unit) for scores in ranked), default=1)
    table = bootstrap_table(plan, at, "no stratum holds both classes", widest)
    return table.assign(pairs=float(sum(positives.sum() * negatives.sum() for positives, negatives in sides)))


def gain_over_position(
    predictions: pd.DataFrame,
    scorer: Scorer,
    features: pd.DataFrame,
    *,
    n_boot: int = 2000,
    seed: int = 0,
    negatives: Sequence[str] = NEGATIVES,
) -> Evaluation:
    """What a scorer adds to position: position with it against position without it, both out of fold.

    `seqleak.position_model` is fitted on the evaluated rows themselves in `FOLDS` folds that split no group, once on
    position alone and once with the scorer's score as a further column (its normal score, so that its scale does not
    matter).

    Args:
        scorer: whose gain is asked for; of a model trained several times, the mean score.
        features: position features of the same rows (see `position_features`); no row without a known site. There are
            at least as many groups as folds.

    Returns:
        An evaluation of "position" and "position + {scorer}", whose paired difference is the gain.
    """
    position_model = load_seqleak("the gain over position").position_model
    frame = check_predictions(predictions, [scorer])
    y = binary_labels(frame, negatives)
    columns_of_scorer = [one.score_column for one in scorer.trainings()]
    score = frame[columns_of_scorer].mean(axis=1, skipna=False).to_numpy()
    kept = ~np.isnan(y) & ~np.isnan(score)
    place = features.reset_index(drop=True)[kept].reset_index(drop=True)
    rows = frame[kept].reset_index(drop=True)
    design = position_design(place)
    columns, groups = place[[*PLACE, "region"]], rows["group"].to_numpy()

    def fitted(extra: Rows | None) -> Rows:
        return np.asarray(position_model(columns, y[kept], groups, spec=design, extra=extra, folds=FOLDS, seed=seed))

    ranks = pd.Series(score[kept]).rank(method="average").to_numpy()
    normal = np.asarray(ndtri((ranks - 0.5) / len(ranks)))
    position = Scorer("position", "baseline", "position, out of fold on the evaluated rows", "rank")
    both = Scorer(f"position + {scorer.name}", "learned", "the same with the scorer's score", "rank")
    scored = rows.assign(**{position.score_column: fitted(None), both.score_column: fitted(normal)})
    return evaluate(scored, [position, both], position.name, n_boot, seed, negatives=negatives)
