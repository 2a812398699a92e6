"""Make the predictor that travels with the package, its card, and docs/results/predictors.{json,md}. Deterministic.

Needs the four open sources of `splicevardb-open` (`meta-spliceai data get splicevardb-open`, and a genome, or a mirror
that holds them), and CI-SpliceAI's networks (extra `cispliceai`). Base scores are taken from the cache, or computed.

Run: python tools/make_predictors.py   (a quarter of an hour on two cores, without base scores)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedGroupKFold

from meta_spliceai.datasets import load_dataset
from meta_spliceai.splice_engine.base_layer.cache import ScoreCache
from meta_spliceai.splice_engine.base_layer.families import load_base_model
from meta_spliceai.splice_engine.base_layer.scores import max_window
from meta_spliceai.splice_engine.base_layer.scoring import score_variants
from meta_spliceai.splice_engine.meta_layer.evaluation.calibration import calibration_error
from meta_spliceai.splice_engine.meta_layer.evaluation.resampling import plan_resamples
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import binary_labels
from meta_spliceai.splice_engine.meta_layer.fusion_features import fusion_features
from meta_spliceai.splice_engine.meta_layer.shipped_predictor import FEATURES, predictor_features

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "src/meta_spliceai/splice_engine/meta_layer/shipped/fusion-open.json"
RESULTS = ROOT / "docs/results/predictors.json"
MEMBERS, RESAMPLES, SEED = 50, 1000, 0
RISING = {"strongest |Δ|": 1, "loss": -1, "own least Δ": -1, "gain acceptor": 1, "gain donor": 1}
FEW = (*RISING, "own log-odds", "own exon Δ", "to_acceptor", "to_donor", "nearest", "in_exon", "length change")
DISTANCE = 50
SHIPPED_MODEL = "logistic regression, 5 features, a term a source (shipped)"
SOURCES = {
    "MFASS": "10.1016/j.molcel.2018.10.037",
    "MaPSy": "10.1038/ng.3837",
    "CI-SpliceAI validated": "10.1371/journal.pone.0269159",
    "deep intronic": "10.1093/gigascience/giad085",
}
"""Where a variant was measured; one of several sources counts for the first of them."""
USERS = "CI-SpliceAI validated"
"""The source whose term a user's variants get: no reporter assay, and variants of disease genes wherever they lie."""
Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]


def main() -> None:
    loaded = load_dataset("splicevardb-open")
    y = binary_labels(loaded.variants)
    table = loaded.variants[~np.isnan(y)].reset_index(drop=True)
    y = y[~np.isnan(y)]
    network = load_base_model("cispliceai", device="cpu")
    scores = score_variants(
        table, loaded.genome, network, DISTANCE, annotation=loaded.annotation, cache=ScoreCache.default()
    )
    x = predictor_features(table, scores, loaded.annotation)
    source = source_of(table)
    trees = fusion_features(table, (scores,), annotation=loaded.annotation)
    trees.columns = pd.Index([name.removeprefix("cispliceai: ") for name in trees.columns])
    few = trees[list(FEW)].to_numpy()
    base = np.abs(max_window(scores)).astype(np.float64)
    groups, chrom = table["group"].to_numpy().astype(str), table["genome_chrom"].to_numpy().astype(str)
    tried: dict[str, tuple[np.ndarray, Fit, bool]] = {
        SHIPPED_MODEL: (x, logistic, True),
        "logistic regression, 5 features": (x, logistic, False),
        "logistic regression, max abs Δ alone": (x[:, :1], logistic, False),
        "trees, few features, monotone in Δ": (few, grown([RISING.get(name, 0) for name in FEW]), False),
    }
    views = {"pooled": np.ones(len(y), bool), **{name: source == name for name in SOURCES}}
    results: dict[str, Any] = {"network": "cispliceai", "held_out": len(set(chrom)), "tried": {}}
    for name, (features, fit, terms) in tried.items():
        held = by_chromosome(features, y, groups, chrom, fit, source if terms else None)
        results["tried"][name] = {view: compare(held, base, y, groups, mask) for view, mask in views.items()}
    own = source == USERS
    members, labels = [], np.unique(groups)
    places = {label: np.flatnonzero(groups == label) for label in labels}
    rng = np.random.default_rng(SEED)
    while len(members) < MEMBERS:
        drawn = np.concatenate([places[label] for label in rng.choice(labels, len(labels))])
        members.append(with_term(x[drawn], y[drawn], own[drawn]).round(6).tolist())
    counts = ", ".join(f"{name} {int(mask.sum()):,}" for name, mask in views.items() if name != "pooled")
    card = {
        "title": "fusion-open: CI-SpliceAI's Δ and position, by logistic regression on measured labels",
        "training_data": f"{len(y):,} variants of {len(labels):,} genes on the genome, {int(y.sum()):,} "
        f"splice-altering ({counts}); nothing of chr1 and chr9",
        "split": f"metrics: each of {len(set(chrom))} chromosomes held out in turn; 95 % intervals over genes; "
        "the shipped weights are of all rows",
        "features": list(FEATURES),
        "source_term": f"each source has an intercept of its own; a prediction has that of {USERS}",
        "metrics": results["tried"][SHIPPED_MODEL],
        "licences": f"network {network.licence}; variants as published: MFASS, MaPSy (Apache-2.0), CI-SpliceAI's "
        "(CC BY 4.0), deep intronic (GPL-3.0); none of them is in the package with this predictor",
        "interval": f"{MEMBERS} models of genes drawn with replacement, 2.5 to 97.5 %; "
        "the uncertainty of the weights, not of a single variant",
        "domain": "variants on the genome near exons; distance 50; see in_domain of each allele",
        "notes": [
            f"research use; about as many altering as normal variants in {USERS}, whose term predictions have: in a "
            "patient's genome altering variants are far rarer, and the probability is too high by that"
        ],
    }
    stored = {
        "network": "cispliceai",
        "distance": DISTANCE,
        "weights": with_term(x, y, own).round(6).tolist(),
        "members": members,
        "least": round(1 / (float((y[own] == 0).sum()) + 2), 6),
        "greatest": round(1 - 1 / (float((y[own] == 1).sum()) + 2), 6),
        "domain": {
            "length_change": int(trees["length change"].abs().quantile(0.99)),
            "from_exon": int(trees["nearest"].abs().quantile(0.99)),
        },
        "card": card,
    }
    SHIPPED.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    RESULTS.with_suffix(".md").write_text(rendered(results, card), encoding="utf-8")


def source_of(table: pd.DataFrame) -> np.ndarray:
    """The name in SOURCES of each row."""
    found = np.full(len(table), "", dtype=object)
    for name, doi in reversed(SOURCES.items()):
        found[table["source"].str.contains(doi, regex=False).to_numpy()] = name
    if (found == "").any():
        raise SystemExit(f"an unknown source: {table['source'][found == ''].iloc[0]}")
    return found


def shift(odds: np.ndarray, y: np.ndarray) -> float:
    """What is added to log-odds so that their mean probability is the share of altering rows (maximum likelihood)."""
    return float(brentq(lambda term: expit(odds + term).mean() - y.mean(), -20, 20))


def with_term(x: np.ndarray, y: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Weights learned from all rows, with the intercept of one source's rows."""
    weights = fitted(x, y)
    weights[0] += shift(weights[0] + x[own] @ weights[1:], y[own])
    return weights


def fitted(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Intercept and weights of unscaled features; lightly penalised at unit spread."""
    middle, spread = x.mean(axis=0), x.std(axis=0)
    model = LogisticRegression(C=1.0, max_iter=1000).fit((x - middle) / spread, y)
    slopes = model.coef_.ravel() / spread
    return np.concatenate([[model.intercept_[0] - (slopes * middle).sum()], slopes])


def logistic(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    weights = fitted(x, y)
    return lambda new: 1 / (1 + np.exp(-weights[0] - new @ weights[1:]))


def grown(rising: list[int]) -> Fit:
    """Trees with Platt's calibration on their own out-of-fold values."""

    def fit(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        def model() -> HistGradientBoostingClassifier:
            return HistGradientBoostingClassifier(
                max_iter=80, learning_rate=0.06, max_leaf_nodes=6, l2_regularization=5, max_features=0.5,
                early_stopping=False, random_state=SEED, monotonic_cst=rising,
            )  # fmt: skip

        out = np.empty(len(y))
        for train, held in StratifiedGroupKFold(3, shuffle=True, random_state=SEED).split(x, y, groups):
            out[held] = model().fit(x[train], y[train]).decision_function(x[held])
        platt, trees = LogisticRegression(C=100).fit(out[:, None], y), model().fit(x, y)
        return lambda new: platt.predict_proba(trees.decision_function(new)[:, None])[:, 1]

    return fit


def by_chromosome(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray, chrom: np.ndarray, fit: Fit, source: np.ndarray | None
) -> np.ndarray:
    """Probability of every row by a model that saw neither its chromosome nor its gene; with a term a source, which the
    same training rows give."""
    held = np.empty(len(y))
    for one in np.unique(chrom):
        test = chrom == one
        train = ~test & ~np.isin(groups, groups[test])
        probability = fit(x[train], y[train], groups[train])(x)
        held[test] = probability[test]
        odds = logit(probability)
        for name in () if source is None else np.unique(source):
            mine = source == name
            held[test & mine] = expit(odds[test & mine] + shift(odds[train & mine], y[train & mine]))
    return held


def compare(p: np.ndarray, base: np.ndarray, y: np.ndarray, groups: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
    """AUPRC beside the network's |Δ|, the paired difference's bootstrap interval over genes, calibration error."""
    p, base, y = p[mask], base[mask], y[mask]
    plan = plan_resamples(groups[mask], RESAMPLES, SEED)
    drawn = []
    for counts in plan.counts:
        weight = counts[plan.unit]
        drawn.append(average_precision_score(y, p, sample_weight=weight)
                     - average_precision_score(y, base, sample_weight=weight))  # fmt: skip
    own, network = average_precision_score(y, p), average_precision_score(y, base)
    low, high = np.percentile(drawn, [2.5, 97.5])
    found = {"auprc": own, "network_auprc": network, "difference": own - network, "low": low, "high": high,
             "calibration_error": calibration_error(p, y), "by_chance": by_chance(p)}  # fmt: skip
    return {"n": len(y), "positives": int(y.sum()), **{name: round(float(value), 4) for name, value in found.items()}}


def by_chance(p: np.ndarray) -> float:
    """The calibration error of true probabilities on as many rows, on average over drawn labels."""
    rng = np.random.default_rng(SEED)
    return float(np.mean([calibration_error(p, (rng.random(len(p)) < p).astype(float)) for _ in range(50)]))


def rendered(results: dict[str, Any], card: dict[str, Any]) -> str:
    lines = ["# The predictor that travels with the package", "", "Rendered by `tools/make_predictors.py` from "
             "`predictors.json`.", "", f"{card['training_data']}. {card['split']}.", "",
             "| model | rows | n | AUPRC | CI-SpliceAI's max abs Δ | difference (95 %) | calibration error | by "
             "chance |",
             "| --- | --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for name, views in results["tried"].items():
        lines += [
            f"| {name} | {view} | {one['n']} | {one['auprc']:.3f} | {one['network_auprc']:.3f} | "
            f"{one['difference']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f}) | {one['calibration_error']:.3f} | "
            f"{one['by_chance']:.3f} |"
            for view, one in views.items()
        ]
    lines += ["", "## The bars, of the shipped model", ""]
    for view, one in card["metrics"].items():
        pooled = view == "pooled"
        rank, most = one["low"] > 0 if pooled else one["low"] >= -0.01, 0.02 if pooled else 0.05
        lines += [
            f"- {view}: difference's interval {'above 0' if pooled else 'not below −0.01'}: "
            f"**{'holds' if rank else 'does not hold'}** ({one['low']:+.4f} to {one['high']:+.4f}); calibration error "
            f"≤ {most}: **{'holds' if one['calibration_error'] <= most else 'does not hold'}** "
            f"({one['calibration_error']:.3f})"
        ]
    lines += [
        "",
        "The five features were chosen on an earlier, smaller part of these rows (CI-SpliceAI's and MaPSy's), and the "
        "terms of the sources on all of them, after two other ways of calibrating by source: the figures flatter the "
        "model. The network beside it is CI-SpliceAI alone; other networks were not scored on these rows. A source's "
        "probabilities here have its own term; a user's variants get that of CI-SpliceAI's validated variants. Every "
        "calibration error of so few rows is above 0 for true probabilities, too: *by chance* is what a model whose "
        "probabilities are all true would read on these rows, on average.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
