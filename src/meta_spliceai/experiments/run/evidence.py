"""What a leaderboard's single number leaves out: strata, position held fixed, calibration, the labels' ceiling,
observed sites; and the metrics of tasks that predict a position or a kind of effect.

Everything is computed once, in the evaluation step, on the test rows, and kept in the run as `evidence.json`; the page
and the documents only draw it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from meta_spliceai.datasets import Loaded
from meta_spliceai.errors import MissingPackageError
from meta_spliceai.experiments.run.prepare import Prepared
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.ledger import ITSELF, NEARER_SITE, NO_CHANGE
from meta_spliceai.splice_engine.base_layer.scores import ACCEPTOR, CHANNELS, DONOR
from meta_spliceai.splice_engine.meta_layer.evaluation.calibration import evaluate_calibration, reliability
from meta_spliceai.splice_engine.meta_layer.evaluation.evaluate import covering
from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import plan_resamples, share
from meta_spliceai.splice_engine.meta_layer.evaluation.position import position_features
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Scorer, binary_labels, plain, records
from meta_spliceai.splice_engine.meta_layer.evaluation.sites import (
    ObservedSites,
    evaluate_effect_types,
    evaluate_localisation,
    evaluate_peaks,
    replicate_ceiling,
)
from meta_spliceai.splice_engine.meta_layer.evaluation.strata import (
    FEWEST_IN_STRATUM,
    evaluate_strata,
    gain_over_position,
    strata_of,
    within_strata_auroc,
)
from meta_spliceai.splice_engine.meta_layer.targets import (
    EFFECT_TYPES,
    GOLD,
    GOLD_COLUMNS,
    MARKS,
    TARGETS,
    base_effect_type,
    gold_sites,
)
from meta_spliceai.splice_engine.variants.table import NORMAL, SPLICE_ALTERING

Columns = Mapping[str, Float[np.ndarray, " all"]]
Deltas = Mapping[str, Float[np.ndarray, "rows positions 3"]]
Records = list[dict[str, Any]]

EVIDENCE = "evidence.json"
FORMAT = 1
OBSERVED = ("peaks", "localisation", "effect_types")
PARTS = ("strata", "within_position", "gain_over_position", "calibration", "ceiling", *OBSERVED)
"""What evidence consists of; each part is a list of records."""

STRATA_METRICS = ("auprc", "auroc")
MOST_RESAMPLES = 400
"""Resamples behind the intervals of strata and peaks at most: there are dozens of them, and none is the headline."""

GOLD_KINDS = (("gained", "donor"), ("lost", "donor"), ("gained", "acceptor"), ("lost", "acceptor"))
"""What GOLD_COLUMNS hold, in their order."""

NO_EFFECT = "no effect"
KINDS = (*EFFECT_TYPES, NO_EFFECT)

CALLED = 0.2
"""|Δ| from which a kind of effect is called: the weakest threshold SpliceAI's authors recommend."""

LIKELY = 0.5
"""Probability from which a model that states one calls a variant altering."""

QUANTILE = re.compile(r"q[0-9.]+_acceptor")
"""A predicted quantile's column, named once a quantile."""


def gather_evidence(
    spec: ExperimentSpec,
    prepared: Prepared,
    tested: pd.DataFrame,
    scorers: Sequence[Scorer],
    columns: Mapping[str, Float[np.ndarray, " rows"]],
) -> dict[str, Any]:
    """Everything besides the headline metrics, as plain values.

    Args:
        tested: the test part with every scorer's columns, as `evaluate` reads it; its index says which rows of the
            table they are.
        columns: the model's predictions by name, one value per row of the table.

    Returns:
        the PARTS, each a list of records (or empty, with the reason in `reasons`); see docs/reference/metrics.md.
    """
    found: dict[str, Any] = {"format": FORMAT, "negatives": list(spec.negatives), "rows": len(tested)}
    if spec.evidence == "none":
        why = "smoke runs leave it out" if spec.smoke else "left out as the row asks (evidence: none)"
        return {**found, **{part: [] for part in PARTS}, "reasons": dict.fromkeys(PARTS, why)}
    reasons: dict[str, str] = {}
    rows = tested.reset_index(drop=True)
    evaluated = covering(scorers, rows)
    resamples = min(spec.bootstrap, MOST_RESAMPLES)
    strata = strata_of(rows, prepared.loaded.annotation)
    within = within_strata_auroc(
        rows, evaluated, strata["position"], n_boot=resamples, seed=spec.seed, negatives=spec.negatives
    )
    found["strata"] = evaluate_strata(
        rows, evaluated, strata, n_boot=resamples, seed=spec.seed, negatives=spec.negatives
    )
    found["within_position"] = records(within.reset_index())
    try:
        found["gain_over_position"] = _gains(rows, evaluated, prepared, spec, resamples, reasons)
    except MissingPackageError as error:
        found["gain_over_position"], reasons["gain_over_position"] = [], str(error)
    found["calibration"] = _calibration(rows, evaluated, spec, resamples)
    if not found["calibration"]:
        reasons["calibration"] = "no scorer gives a probability, or the test has one class only"
    found["ceiling"] = _ceiling(rows, prepared.loaded, spec, reasons)
    found |= evaluate_observed_sites(prepared, tested, spec, columns, resamples, reasons)
    return {**found, "reasons": reasons}


def _gains(
    rows: pd.DataFrame,
    evaluated: list[Scorer],
    prepared: Prepared,
    spec: ExperimentSpec,
    resamples: int,
    reasons: dict[str, str],
) -> Records:
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
    for scorer in (one for one in evaluated if one.kind != "baseline"):
        gain = gain_over_position(here, scorer, features, n_boot=resamples, seed=spec.seed, negatives=spec.negatives)
        position, both = gain.scorers
        for metric in STRATA_METRICS:
            difference = gain.difference(both.name, position.name, metric)
            found.append(
                {
                    **{"scorer": scorer.name, "kind": scorer.kind, "metric": metric, "n": len(here)},
                    "position": plain(gain.value(position.name, metric)["estimate"]),
                    "with_scorer": plain(gain.value(both.name, metric)["estimate"]),
                    **{name: plain(difference[name]) for name in ("estimate", "low", "high", "reason")},
                }
            )
    return found


def _calibration(rows: pd.DataFrame, evaluated: list[Scorer], spec: ExperimentSpec, resamples: int) -> Records:
    """Reliability curve, Brier score and calibration error of every scorer that states a probability."""
    labels, groups = binary_labels(rows, spec.negatives), rows["group"].to_numpy()
    found = []
    for scorer in (one for one in evaluated if one.scale == "probability"):
        stated = rows[scorer.score_column].to_numpy(dtype=np.float64)
        known = np.isfinite(labels) & np.isfinite(stated)
        if len(set(labels[known])) < 2 or stated[known].min() < 0 or stated[known].max() > 1:
            continue
        summary = evaluate_calibration(stated, labels, groups, n_boot=resamples, seed=spec.seed).reset_index()
        about = {"scorer": scorer.name, "kind": scorer.kind, "n": int(known.sum())}
        found.append({**about, "summary": records(summary), "curve": records(reliability(stated, labels))})
    return found


def _ceiling(rows: pd.DataFrame, loaded: Loaded, spec: ExperimentSpec, reasons: dict[str, str]) -> Records:
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
    sides = [np.array(loaded.dataset.label_rule(mine)) == SPLICE_ALTERING for mine in (one, two)]
    groups, resamples = sided["group"].to_numpy()[known], min(spec.bootstrap, 1000)
    found = replicate_ceiling(one, two, sides[0], sides[1], groups, n_boot=resamples, seed=spec.seed)
    return records(found.reset_index())


# ----------------------------------------------------------------------------------------------------- observed sites


@dataclass(frozen=True)
class _Observed:
    """The test variants with an observation.

    Attributes:
        rows: their row numbers in the table.
        sites: sites lost and gained, as offsets from the variant in transcript orientation; none for Normal variants.
        kinds: of the sites observed for each, the nearest site's first; "no effect" for Normal variants.
        own_site: offset of the tested exon's nearer site, as annotated; NaN where none is known.
        groups: for the bootstrap.
    """

    rows: np.ndarray
    sites: tuple[ObservedSites, ...]
    kinds: tuple[tuple[str, ...], ...]
    own_site: np.ndarray
    groups: np.ndarray


def evaluate_observed_sites(
    prepared: Prepared,
    tested: pd.DataFrame,
    spec: ExperimentSpec,
    columns: Columns,
    resamples: int,
    reasons: dict[str, str],
) -> dict[str, Records]:
    """Peaks, positions and kinds of effect of every base network and of the model, against observed ones.

    A model that learned validated Δ has one Δ for the position where the row's own base network is strongest (its label
    rule); it is added there. A fusion has a probability: it is read as the base network's Δ where that is at least 0.5,
    and as no Δ elsewhere.

    Args:
        tested, columns: as `gather_evidence`.
        reasons: why a part is empty is added here.

    Returns:
        `peaks`: see `evaluate_peaks`, the reference of the row's own base network left as it is (NO_CHANGE) among the
        scorers; `localisation`: hit rates of the strongest |Δ| within 0, 1 and 5 bases of any observed site, on
        variants with one in reach; `effect_types`: a record a scorer with its `metrics` and `confusion` among
        EFFECT_TYPES and "no effect". Where several kinds were observed (a skipped exon loses both its sites), a called
        one of them is right, and for any other call the nearest site's kind counts as missed.
    """
    found: dict[str, Records] = {part: [] for part in OBSERVED}
    if not any(column in tested for column in GOLD_COLUMNS):
        why = f"{prepared.loaded.dataset.name} has no observed positions of splice sites"
        reasons.update(dict.fromkeys(OBSERVED, why))
        return found
    observed = _observed(tested)
    if not any(one.lost or one.gained for one in observed.sites):
        reasons.update(dict.fromkeys(OBSERVED, "no test variant has an observed position"))
        return found
    deltas: dict[str, Float[np.ndarray, "rows positions 3"]] = {}
    for base, scores, _ in prepared.networks:
        if tuple(scores.channels) != tuple(CHANNELS):
            reasons[f"peaks of {base.name}"] = "it does not tell acceptors from donors"
            continue
        mine = {base.name: scores.delta[observed.rows].astype(np.float64)}
        unchanged = {}
        if scores is prepared.scores:
            unchanged = {NO_CHANGE: np.zeros_like(mine[base.name])}
            mine |= _of_model(spec, columns, mine[base.name], observed.rows)
        evaluated = evaluate_peaks(
            scores.ref[observed.rows].astype(np.float64),
            {**unchanged, **mine},
            observed.sites,
            observed.groups,
            n_boot=resamples,
            seed=spec.seed,
        )
        found["peaks"] += records(evaluated.assign(n=len(observed.rows)))
        deltas |= mine
    if deltas:
        found["localisation"] = _localised(spec, columns, deltas, observed, resamples)
        found["effect_types"] = _kinds(spec, columns, deltas, observed, resamples)
    return found


def _observed(tested: pd.DataFrame) -> _Observed:
    gold = gold_sites(tested)
    labels = tested["classification"].to_numpy()
    kept = [place for place, sites in enumerate(gold) if sites or labels[place] == NORMAL]
    sites, kinds, own = [], [], []
    for place in kept:
        row = tested.iloc[place]
        forward = -1 if row["strand"] == "-" else 1
        offsets = {
            kind: [(there - int(row["pos"])) * forward for there in places] for kind, places in gold[place].items()
        }
        changed: dict[str, list[tuple[str, int]]] = {"lost": [], "gained": []}
        for kind, mine in offsets.items():
            which, site = GOLD_KINDS[kind]
            changed[which] += [(site, offset) for offset in mine]
        sites.append(ObservedSites(**{which: tuple(mine) for which, mine in changed.items()}))
        exon = [(int(site) - int(row["pos"])) * forward for site in row[["acceptor_pos", "donor_pos"]].dropna()]
        own.append(min(exon, key=abs, default=np.nan))
        near = sorted(offsets, key=lambda kind: min(map(abs, offsets[kind])))
        kinds.append(tuple(EFFECT_TYPES[kind] for kind in near) or (NO_EFFECT,))
    return _Observed(
        tested.index.to_numpy()[kept],
        tuple(sites),
        tuple(kinds),
        np.array(own, dtype=np.float64),
        tested["group"].to_numpy()[kept],
    )


def _of_model(
    spec: ExperimentSpec, columns: Columns, base: Float[np.ndarray, "rows positions 3"], rows: np.ndarray
) -> Deltas:
    """The model's Δ by its name; empty for a model that has none."""
    sides = [_column(columns, "validated-delta", f"delta_{site}") for site in ("acceptor", "donor")]
    if sides[0] is not None and sides[1] is not None:
        placed = np.zeros(base.shape)
        strongest = np.abs(base[:, :, [ACCEPTOR, DONOR]]).max(axis=2).argmax(axis=1)
        for channel, values in ((ACCEPTOR, sides[0]), (DONOR, sides[1])):
            placed[np.arange(len(base)), strongest, channel] = values[rows]
        return {spec.id: placed}
    if spec.fusion is not None:
        return {spec.id: base * (columns["score"][rows] >= LIKELY)[:, None, None]}
    return {}


def _column(columns: Columns, task: str, name: str) -> Float[np.ndarray, " all"] | None:
    """A head's prediction, also where the head is one of several."""
    return columns.get(name, columns.get(f"{task}.{name}"))


def _localised(spec: ExperimentSpec, columns: Columns, deltas: Deltas, observed: _Observed, resamples: int) -> Records:
    """Hit rates of where each network's |Δ| is largest, of a position head, and of two baselines."""
    reach = next(iter(deltas.values())).shape[1] // 2
    offsets = [[offset for _, offset in (*sites.lost, *sites.gained)] for sites in observed.sites]
    beyond = sum(bool(mine) and min(map(abs, mine)) > reach for mine in offsets)
    gold = [[offset for offset in mine if abs(offset) <= reach] for mine in offsets]
    predicted = {ITSELF: np.zeros(len(gold)), NEARER_SITE: observed.own_site}
    for name, delta in deltas.items():
        size = np.abs(delta[:, :, [ACCEPTOR, DONOR]]).max(axis=2)
        predicted[name] = np.where(size.max(axis=1) > 0, size.argmax(axis=1).astype(np.float64) - reach, np.nan)
    offset = _column(columns, "position", "offset")
    if offset is not None:
        predicted[spec.id] = offset[observed.rows].astype(np.float64)
    evaluated = evaluate_localisation(gold, predicted, observed.groups, n_boot=resamples, seed=spec.seed)
    return records(evaluated.drop(columns="n_without_gold").assign(out_of_reach=beyond))


def _kinds(spec: ExperimentSpec, columns: Columns, deltas: Deltas, observed: _Observed, resamples: int) -> Records:
    """Kind of each network's strongest |Δ| (no effect below 0.2) against the observed ones."""
    called = {
        name: np.array([kind or NO_EFFECT for kind in base_effect_type(delta.astype(np.float32), CALLED)], dtype=object)
        for name, delta in deltas.items()
    }
    kind, score = _column(columns, "effect-type", "effect_type"), columns.get("score")
    if kind is not None and score is not None:
        named = np.array(EFFECT_TYPES, dtype=object)[kind[observed.rows].astype(int)]
        called[spec.id] = np.where(score[observed.rows] >= LIKELY, named, NO_EFFECT)
    several = sum(len(kinds) > 1 for kinds in observed.kinds)
    found = []
    for name, mine in called.items():
        right = [one if one in kinds else kinds[0] for one, kinds in zip(mine, observed.kinds, strict=True)]
        told = _told_apart(right, mine, observed.groups, KINDS, n_boot=resamples, seed=spec.seed)
        found.append({"scorer": name, "n": len(right), "several_observed": several, **told})
    return found


def _told_apart(
    right: Sequence[str], called: Sequence[str] | np.ndarray, groups: np.ndarray, kinds: Sequence[str], **how: int
) -> dict[str, Any]:
    confusion, table = evaluate_effect_types(right, called, groups, kinds, **how)
    return {"metrics": records(table.reset_index()), "confusion": records(confusion.reset_index())}


def evaluate_task(spec: ExperimentSpec, prepared: Prepared, columns: Columns) -> dict[str, Any]:
    """The metrics of the tasks "effect-type" and "position" on the test part, by where the labels are from, and the
    coverage of predicted quantiles; empty for rows that learn none of these."""
    found = quantile_coverage(spec, prepared, columns)
    how: dict[str, Any] = {"n_boot": spec.bootstrap, "seed": spec.seed}
    for task, name in (("effect-type", "effect_type"), ("position", "offset")):
        if spec.target not in (task, "multitask"):
            continue
        values = columns[name if name in columns else f"{task}.{name}"]
        labels = TARGETS[task](prepared.table, prepared.scores)
        test = (prepared.parts == "test") & labels.used
        found[task] = {}
        for mark in MARKS:
            rows = test & (labels.marks == mark)
            n, right = int(rows.sum()), labels.values[rows, 0].astype(int)
            groups = prepared.table["group"].to_numpy()[rows]
            if not n:
                found[task][mark] = {"n": 0}
            elif task == "effect-type":
                named, called = ([EFFECT_TYPES[int(kind)] for kind in kinds] for kinds in (right, values[rows]))
                found[task][mark] = {"n": n, **_told_apart(named, called, groups, EFFECT_TYPES, **how)}
            else:
                predicted = {spec.id: values[rows].astype(np.float64)}
                if mark == GOLD:  # on its own peaks the base network would be evaluated by itself
                    sizes = np.abs(prepared.scores.delta[:, :, [ACCEPTOR, DONOR]]).max(axis=2)
                    own = sizes.argmax(axis=1).astype(np.float64) - prepared.scores.distance
                    predicted["base max_window"] = own[rows]
                evaluated = evaluate_localisation([[int(one)] for one in right], predicted, groups, **how)
                found[task][mark] = {"n": n, "hit_rates": records(evaluated)}
    return found


def quantile_coverage(spec: ExperimentSpec, prepared: Prepared, columns: Columns) -> dict[str, Any]:
    """Share of validated |Δ| of the test part, acceptor and donor together, that lies at or below each predicted
    quantile (well calibrated: the quantile's own level); for all variants and for Splice-altering ones alone, as most
    others are 0. Empty for rows that predict no quantiles."""
    quantiles = sorted({float(name[1:].split("_")[0]) for name in columns if QUANTILE.fullmatch(name)})
    if not quantiles:
        return {}
    labels = TARGETS["validated-delta"](prepared.table, prepared.scores)
    test = (prepared.parts == "test") & labels.used
    measured = []
    for group, chosen in (
        ("all", test),
        (SPLICE_ALTERING, test & (prepared.table["classification"] == SPLICE_ALTERING).to_numpy()),
    ):
        if not chosen.any():
            continue
        plan = plan_resamples(prepared.table["group"].to_numpy()[chosen], spec.bootstrap, spec.seed)
        both = np.full(int(chosen.sum()), 2.0)
        for quantile in quantiles:
            covered = np.zeros(len(both))
            for channel in (ACCEPTOR, DONOR):
                predicted = columns[f"q{quantile:g}_{CHANNELS[channel]}"][chosen]
                covered += np.abs(labels.values[chosen, channel]) <= predicted
            shared = share(covered, both, plan, "no variant")
            bounds = {key: plain(shared[key]) for key in ("estimate", "low", "high", "reason")}
            measured.append(
                {"metric": f"at or below the {quantile:g} % quantile", "of": group, **bounds, "n": len(both)}
            )
    return {"quantiles": {"metrics": measured}}
