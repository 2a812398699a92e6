"""What a leaderboard's one number leaves out: strata, position held fixed, calibration, the labels' ceiling, observed
sites.

Everything is computed once, in the evaluation step, on the test rows, and kept in the run as `evidence.json`; the page
and the documents only draw it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from meta_spliceai.datasets import Loaded
from meta_spliceai.errors import MissingPackageError
from meta_spliceai.experiments.run.observed_sites import evaluate_observed_sites
from meta_spliceai.experiments.run.prepare import Prepared
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.plain_values import plain, records
from meta_spliceai.splice_engine.meta_layer.evaluation.calibration import evaluate_calibration, reliability
from meta_spliceai.splice_engine.meta_layer.evaluation.ceiling import replicate_ceiling
from meta_spliceai.splice_engine.meta_layer.evaluation.evaluate import covering
from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import OperatingPoints
from meta_spliceai.splice_engine.meta_layer.evaluation.position_features import position_features
from meta_spliceai.splice_engine.meta_layer.evaluation.position_held import gain_over_position, within_strata_auroc
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Scorer
from meta_spliceai.splice_engine.meta_layer.evaluation.sides import binary_labels
from meta_spliceai.splice_engine.meta_layer.evaluation.strata import evaluate_strata, strata_of
from meta_spliceai.splice_engine.variants.table import SPLICE_ALTERING

FORMAT = 1
EVIDENCE = "evidence.json"
STRATA_METRICS = ("auprc", "auroc")
MOST_RESAMPLES = 400
"""Resamples behind the intervals of strata and peaks at most: there are dozens of them, and none is the headline."""
PARTS = (
    "strata",
    "within_position",
    "gain_over_position",
    "calibration",
    "ceiling",
    "peaks",
    "localisation",
    "effect_types",
)
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
        spec: the row.
        prepared: what it was trained on.
        tested: the test part with every scorer's columns, as `evaluate` reads it; its index says which rows of the
            table they are.
        scorers: what is evaluated.
        columns: the model's predictions by name, one value a row of the table.

    Returns:
        the PARTS, each a list of records (or empty, with the reason in `reasons`), `seconds` by part; see
        docs/reference/metrics.md.
    """
    if spec.evidence == "none":
        why = "smoke runs leave it out" if spec.smoke else "left out as the row asks (evidence: none)"
        empty: dict[str, Any] = {part: [] for part in PARTS}
        about = {"format": FORMAT, "negatives": list(spec.negatives), "rows": len(tested)}
        return {**about, **empty, "reasons": dict.fromkeys(PARTS, why), "seconds": {}}
    started = time.perf_counter()
    seconds: dict[str, float] = {}
    reasons: dict[str, str] = {}

    def took(part: str) -> None:
        nonlocal started
        seconds[part] = round(time.perf_counter() - started, 3)
        started = time.perf_counter()

    rows = tested.reset_index(drop=True)
    evaluated = covering(scorers, rows)
    resamples = min(spec.bootstrap, MOST_RESAMPLES)
    strata = strata_of(rows, prepared.loaded.annotation)
    found: dict[str, Any] = {"format": FORMAT, "negatives": list(spec.negatives), "rows": len(rows)}
    found["strata"] = records_of_strata(rows, evaluated, strata, spec.negatives, resamples, spec.seed)
    took("strata")
    found["within_position"] = records(
        within_strata_auroc(
            rows, evaluated, strata["position"], n_boot=resamples, seed=spec.seed, negatives=spec.negatives
        ).reset_index()
    )
    took("within_position")
    try:
        found["gain_over_position"] = _gains(rows, evaluated, prepared, spec, resamples, reasons)
    except MissingPackageError as error:
        found["gain_over_position"], reasons["gain_over_position"] = [], str(error)
    took("gain_over_position")
    found["calibration"] = _calibration(rows, evaluated, spec, resamples)
    if not found["calibration"]:
        reasons["calibration"] = "no scorer gives a probability, or the test has one class only"
    took("calibration")
    found["ceiling"] = _ceiling(rows, prepared.loaded, spec, reasons)
    took("ceiling")
    found |= evaluate_observed_sites(prepared, tested, spec, columns, resamples, reasons)
    took("observed sites")
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
            if len(known) >= FEWEST_IN_STRATUM and 0 < known.sum() < len(known):
                large |= mine
                continue
            found.append(
                {
                    "stratification": str(column),
                    "stratum": str(stratum),
                    "n": len(known),
                    "n_positive": int(known.sum()),
                    "reason": f"{len(known)} rows, {int(known.sum())} of them positive: not evaluated",
                }
            )
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
    labels = binary_labels(rows[known], spec.negatives)
    sided = rows[known][np.isfinite(labels)]
    altering = sided["classification"] == SPLICE_ALTERING
    positives, negatives = (sided.loc[side, "group"].nunique() for side in (altering, ~altering))
    if min(positives, negatives) < 5:
        reasons["gain_over_position"] = (
            f"of the groups with a known splice site {positives} hold an altering variant and {negatives} one of the "
            "other side; five of each are the least"
        )
        return []
    found = []
    here, features = rows[known].reset_index(drop=True), place[known].reset_index(drop=True)
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
    labels = binary_labels(rows, spec.negatives)
    found = []
    for scorer in evaluated:
        if scorer.scale != "probability":
            continue
        stated = rows[scorer.score_column].to_numpy(dtype=np.float64)
        known = np.isfinite(labels) & np.isfinite(stated)
        if len(set(labels[known])) < 2 or stated[known].min() < 0 or stated[known].max() > 1:
            continue
        summary = evaluate_calibration(
            stated, labels, rows["group"].to_numpy(), n_boot=resamples, seed=spec.seed
        ).reset_index()
        found.append(
            {
                "scorer": scorer.name,
                "kind": scorer.kind,
                "n": int(known.sum()),
                "summary": records(summary),
                "curve": records(reliability(stated, labels)),
            }
        )
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
    classes = [
        np.array([name == SPLICE_ALTERING for name in loaded.dataset.classes_of(values[known])])
        for values in (one, two)
    ]
    return records(
        replicate_ceiling(
            one[known],
            two[known],
            classes[0],
            classes[1],
            sided["group"].to_numpy()[known],
            n_boot=min(spec.bootstrap, 1000),
            seed=spec.seed,
        ).reset_index()
    )
