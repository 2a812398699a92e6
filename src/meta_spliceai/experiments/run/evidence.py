"""What a leaderboard's one number leaves out: strata, position held fixed, calibration, the labels' ceiling, observed
sites.

Everything is computed once, in the evaluation step, on the test rows, and kept in the run as `evidence.json`; the page
and the documents only draw it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from meta_spliceai.datasets import Loaded
from meta_spliceai.errors import MissingPackageError
from meta_spliceai.experiments.run import observed_sites
from meta_spliceai.experiments.run.observed_sites import plain, records
from meta_spliceai.experiments.run.prepare import Prepared
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.splice_engine.meta_layer.evaluation.calibration import evaluate_calibration, reliability
from meta_spliceai.splice_engine.meta_layer.evaluation.evaluate import covering
from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import OperatingPoints
from meta_spliceai.splice_engine.meta_layer.evaluation.position import position_features
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Scorer, binary_labels
from meta_spliceai.splice_engine.meta_layer.evaluation.sites import replicate_ceiling
from meta_spliceai.splice_engine.meta_layer.evaluation.strata import (
    evaluate_strata,
    gain_over_position,
    strata_of,
    within_strata_auroc,
)
from meta_spliceai.splice_engine.variants.table import SPLICE_ALTERING

FORMAT = 1
EVIDENCE = "evidence.json"
STRATA_METRICS = ("auprc", "auroc")
MOST_RESAMPLES = 400
"""Resamples behind the intervals of strata and peaks at most: there are dozens of them, and none is the headline."""
PARTS = ("strata", "within_position", "gain_over_position", "calibration", "ceiling", *observed_sites.PARTS)
"""What evidence consists of; each part is a list of records."""

FEWEST_IN_STRATUM = 20
"""Rows, and one of each class, that a stratum needs to be evaluated; smaller ones are listed with their size."""


def gather_evidence(
    spec: ExperimentSpec,
    prepared: Prepared,
    tested: pd.DataFrame,
    scorers: Sequence[Scorer],
    columns: Mapping[str, Float[np.ndarray, " rows"]],
) -> dict[str, Any]:
    """Everything beside the headline metrics, as plain values.

    Args:
        tested: the test part with every scorer's columns, as `evaluate` reads it; its index says which rows of the
            table they are.
        columns: the model's predictions by name, one value a row of the table.

    Returns:
        the PARTS, each a list of records (or empty, with the reason in `reasons`), `seconds` by part; see
        docs/reference/metrics.md.
    """
    found: dict[str, Any] = {"format": FORMAT, "negatives": list(spec.negatives), "rows": len(tested)}
    if spec.evidence == "none":
        why = "smoke runs leave it out" if spec.smoke else "left out as the row asks (evidence: none)"
        empty: dict[str, Any] = {part: [] for part in PARTS}
        return {**found, **empty, "reasons": dict.fromkeys(PARTS, why), "seconds": {}}
    seconds: dict[str, float] = {}
    reasons: dict[str, str] = {}

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        started = perf_counter()
        yield
        seconds[part] = round(perf_counter() - started, 3)

    rows = tested.reset_index(drop=True)
    evaluated = covering(scorers, rows)
    resamples = min(spec.bootstrap, MOST_RESAMPLES)
    with timed("strata"):
        strata = strata_of(rows, prepared.loaded.annotation)
        found["strata"] = records_of_strata(rows, evaluated, strata, spec.negatives, resamples, spec.seed)
    with timed("within_position"):
        within = within_strata_auroc(
            rows, evaluated, strata["position"], n_boot=resamples, seed=spec.seed, negatives=spec.negatives
        )
        found["within_position"] = records(within.reset_index())
    with timed("gain_over_position"):
        try:
            found["gain_over_position"] = _gains(rows, evaluated, prepared, spec, resamples, reasons)
        except MissingPackageError as error:
            found["gain_over_position"], reasons["gain_over_position"] = [], str(error)
    with timed("calibration"):
        found["calibration"] = _calibration(rows, evaluated, spec, resamples)
        if not found["calibration"]:
            reasons["calibration"] = "no scorer gives a probability, or the test has one class only"
    with timed("ceiling"):
        found["ceiling"] = _ceiling(rows, prepared.loaded, spec, reasons)
    with timed("observed sites"):
        found |= observed_sites.evaluate_observed_sites(prepared, tested, spec, columns, resamples, reasons)
    return {**found, "reasons": reasons, "seconds": seconds}


def records_of_strata(
    rows: pd.DataFrame,
    evaluated: Sequence[Scorer],
    strata: pd.DataFrame,
    negatives: Sequence[str],
    resamples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """AUPRC and AUROC of every scorer in every stratum that has rows enough; the sizes of the others."""
    labels = binary_labels(rows, negatives)
    found: list[dict[str, Any]] = []
    for column in strata:
        values = strata[column].to_numpy()
        large = np.zeros(len(rows), dtype=bool)
        for stratum in sorted(set(values)):
            mine = values == stratum
            known = labels[mine & np.isfinite(labels)]
            n, positive = len(known), int(known.sum())
            if n >= FEWEST_IN_STRATUM and 0 < positive < n:
                large |= mine
                continue
            why = f"{n} rows, {positive} of them positive: not evaluated"
            about = {"stratification": str(column), "stratum": str(stratum)}
            found.append({**about, "n": n, "n_positive": positive, "reason": why})
        if not large.any():
            continue
        table = evaluate_strata(
            rows[large].reset_index(drop=True),
            evaluated,
            strata.loc[large, [column]].reset_index(drop=True),
            n_boot=resamples,
            seed=seed,
            points=OperatingPoints((), (), (), ()),
            negatives=negatives,
        )
        kept = table[table["metric"].isin(STRATA_METRICS)].drop(columns=["undefined_resamples", "n_seeds", "seed_sd"])
        found += records(kept)
    return found


def _gains(
    rows: pd.DataFrame,
    evaluated: list[Scorer],
    prepared: Prepared,
    spec: ExperimentSpec,
    resamples: int,
    reasons: dict[str, str],
) -> list[dict[str, Any]]:
    """What each scorer adds to position: AUPRC and AUROC of position with it, and the paired gain."""
    place = position_features(rows, prepared.loaded.annotation)
    known = place["nearest"].notna().to_numpy()
    here, features = rows[known].reset_index(drop=True), place[known].reset_index(drop=True)
    sided = here[np.isfinite(binary_labels(here, spec.negatives))]
    altering = sided["classification"] == SPLICE_ALTERING
    positives, negatives = (sided.loc[side, "group"].nunique() for side in (altering, ~altering))
    if min(positives, negatives) < 5:
        reasons["gain_over_position"] = (
            f"of the groups with a known splice site {positives} hold an altering variant and {negatives} one of the "
            "other side; five of each are the least"
        )
        return []
    found = []
    for scorer in evaluated:
        if scorer.kind == "baseline":
            continue
        gain = gain_over_position(here, scorer, features, n_boot=resamples, seed=spec.seed, negatives=spec.negatives)
        position, both = gain.scorers
        for metric in STRATA_METRICS:
            difference = gain.difference(both.name, position.name, metric)
            found.append(
                {
                    "scorer": scorer.name,
                    "kind": scorer.kind,
                    "metric": metric,
                    "position": plain(gain.value(position.name, metric)["estimate"]),
                    "with_scorer": plain(gain.value(both.name, metric)["estimate"]),
                    **{name: plain(difference[name]) for name in ("estimate", "low", "high", "reason")},
                    "n": len(here),
                }
            )
    return found


def _calibration(
    rows: pd.DataFrame, evaluated: list[Scorer], spec: ExperimentSpec, resamples: int
) -> list[dict[str, Any]]:
    """Reliability curve, Brier score and calibration error of every scorer that states a probability."""
    labels, groups = binary_labels(rows, spec.negatives), rows["group"].to_numpy()
    found = []
    for scorer in evaluated:
        if scorer.scale != "probability":
            continue
        stated = rows[scorer.score_column].to_numpy(dtype=np.float64)
        known = np.isfinite(labels) & np.isfinite(stated)
        if len(set(labels[known])) < 2 or stated[known].min() < 0 or stated[known].max() > 1:
            continue
        summary = evaluate_calibration(stated, labels, groups, n_boot=resamples, seed=spec.seed).reset_index()
        about = {"scorer": scorer.name, "kind": scorer.kind, "n": int(known.sum())}
        found.append({**about, "summary": records(summary), "curve": records(reliability(stated, labels))})
    return found


def _ceiling(rows: pd.DataFrame, loaded: Loaded, spec: ExperimentSpec, reasons: dict[str, str]) -> list[dict[str, Any]]:
    """How well one replicate of the measurement does as a predictor of the other, on the test's binary rows."""
    names = loaded.dataset.replicates
    if names is None or any(name not in rows for name in names):
        reasons["ceiling"] = f"{loaded.dataset.name} has no replicates in its table"
        return []
    sided = rows[np.isfinite(binary_labels(rows, spec.negatives))]
    one, two = (sided[name].to_numpy(dtype=np.float64) for name in names)
    known = np.isfinite(one) & np.isfinite(two)
    if known.sum() < FEWEST_IN_STRATUM:
        reasons["ceiling"] = f"only {int(known.sum())} test variants were measured twice"
        return []
    one, two = one[known], two[known]
    sides = [np.array([name == SPLICE_ALTERING for name in loaded.dataset.classes_of(mine)]) for mine in (one, two)]
    groups, resamples = sided["group"].to_numpy()[known], min(spec.bootstrap, 1000)
    found = replicate_ceiling(one, two, sides[0], sides[1], groups, n_boot=resamples, seed=spec.seed)
    return records(found.reset_index())
