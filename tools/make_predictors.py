"""Make the predictor that travels with the package, its card, and docs/results/predictors.{json,md}. Deterministic.

Run: python tools/make_predictors.py   (a few minutes on one core, no download)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedGroupKFold

from meta_spliceai.datasets import load_dataset
from meta_spliceai.experiments.run.packaged_network import packaged_network
from meta_spliceai.experiments.run.shipped_scores import shipped_scores
from meta_spliceai.experiments.spec.experiment import BaseSpec
from meta_spliceai.splice_engine.base_layer.reductions import max_window
from meta_spliceai.splice_engine.meta_layer.evaluation.calibration import calibration_error
from meta_spliceai.splice_engine.meta_layer.evaluation.resampling import plan_resamples
from meta_spliceai.splice_engine.meta_layer.evaluation.sides import binary_labels
from meta_spliceai.splice_engine.meta_layer.fusion_features import fusion_features
from meta_spliceai.splice_engine.meta_layer.shipped_predictor import FEATURES, predictor_features

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "src/meta_spliceai/splice_engine/meta_layer/shipped/fusion-open.json"
RESULTS = ROOT / "docs/results/predictors.json"
MEMBERS, RESAMPLES, SEED = 50, 1000, 0
RISING = {"strongest |Δ|": 1, "loss": -1, "own least Δ": -1, "gain acceptor": 1, "gain donor": 1}
FEW = (*RISING, "own log-odds", "own exon Δ", "to_acceptor", "to_donor", "nearest", "in_exon", "length change")
Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]


def main() -> None:
    loaded = load_dataset("packaged-human")
    table = loaded.variants
    scored = shipped_scores(BaseSpec(name="cispliceai", distance=50), table, loaded)
    if scored is None:
        raise SystemExit("the packaged scores do not cover the packaged variants")
    scores = scored[1]
    y = binary_labels(table)
    genome = (table["context"] == "genome").to_numpy()
    rows = np.flatnonzero(genome & ~np.isnan(y))
    table, x, y = table.iloc[rows].reset_index(drop=True), predictor_features(table, scores)[rows], y[rows]
    trees = fusion_features(loaded.variants, (scores,)).iloc[rows]
    trees.columns = pd.Index([name.removeprefix("cispliceai: ") for name in trees.columns])
    base = np.abs(max_window(scores))[rows].astype(np.float64)
    groups, chrom = table["group"].to_numpy().astype(str), table["genome_chrom"].to_numpy().astype(str)
    few = trees[list(FEW)].to_numpy()
    tried = {
        "logistic regression, 5 features (shipped)": (x, logistic),
        "logistic regression, max abs Δ alone": (x[:, :1], logistic),
        "trees, all features": (trees.to_numpy(), grown([0] * trees.shape[1])),
        "trees, few features": (few, grown([0] * len(FEW))),
        "trees, few features, monotone in Δ": (few, grown([RISING.get(name, 0) for name in FEW])),
    }
    views = {"pooled": np.ones(len(y), bool)}
    views["CI-SpliceAI validated"] = table["source"].str.startswith("CI").to_numpy()
    views["MaPSy"] = ~views["CI-SpliceAI validated"]
    results: dict[str, Any] = {"network": "cispliceai", "held_out": len(set(chrom)), "tried": {}}
    for name, (features, fit) in tried.items():
        held = by_chromosome(features, y, groups, chrom, fit)
        results["tried"][name] = {view: compare(held, base, y, groups, mask) for view, mask in views.items()}
    weights = fitted(x, y)
    rng = np.random.default_rng(SEED)
    members, labels = [], np.unique(groups)
    places = {label: np.flatnonzero(groups == label) for label in labels}
    while len(members) < MEMBERS:
        drawn = np.concatenate([places[label] for label in rng.choice(labels, len(labels))])
        members.append(fitted(x[drawn], y[drawn]).round(6).tolist())
    place = fusion_features(table, (take(scores, rows),))
    about = packaged_network()
    card = {
        "title": "fusion-open: CI-SpliceAI's Δ and position, by logistic regression on measured labels",
        "training_data": f"packaged-human, genome context: {len(y)} variants of {len(labels)} genes, "
        f"{int(y.sum())} splice-altering (CI-SpliceAI validated, MaPSy); nothing of chr1 and chr9",
        "split": f"metrics: each of {len(set(chrom))} chromosomes held out in turn; 95 % intervals over genes; "
        "the shipped weights are of all rows",
        "features": list(FEATURES),
        "metrics": results["tried"]["logistic regression, 5 features (shipped)"],
        "licences": f"network and CI-SpliceAI's variants {about['licence']}; MaPSy as published under Apache-2.0",
        "interval": f"{MEMBERS} models of genes drawn with replacement, 2.5 to 97.5 %; "
        "the uncertainty of the weights, not of a single variant",
        "domain": "variants on the genome near exons; distance 50; see in_domain of each allele",
        "notes": [
            "research use; about as many altering as normal variants in training: in a patient's genome "
            "altering variants are far rarer, and the probability is too high by that"
        ],
    }
    stored = {
        "network": "cispliceai",
        "distance": 50,
        "weights": weights.round(6).tolist(),
        "members": members,
        "least": round(1 / (float((y == 0).sum()) + 2), 6),
        "greatest": round(1 - 1 / (float((y == 1).sum()) + 2), 6),
        "domain": {
            "length_change": int(place["length change"].abs().quantile(0.99)),
            "from_exon": int(place["nearest"].abs().quantile(0.99)),
        },
        "card": card,
    }
    SHIPPED.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    RESULTS.with_suffix(".md").write_text(rendered(results, card), encoding="utf-8")


def take(scores: Any, rows: np.ndarray) -> Any:
    """The scores of some rows."""
    from dataclasses import replace

    return replace(scores, ref=scores.ref[rows], alt=scores.alt[rows])


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


def by_chromosome(x: np.ndarray, y: np.ndarray, groups: np.ndarray, chrom: np.ndarray, fit: Fit) -> np.ndarray:
    held = np.empty(len(y))
    for one in np.unique(chrom):
        test = chrom == one
        train = ~test & ~np.isin(groups, groups[test])
        held[test] = fit(x[train], y[train], groups[train])(x[test])
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
             "calibration_error": calibration_error(p, y)}  # fmt: skip
    return {"n": len(y), "positives": int(y.sum()), **{name: round(float(value), 4) for name, value in found.items()}}


def rendered(results: dict[str, Any], card: dict[str, Any]) -> str:
    lines = ["# The predictor that travels with the package", "", "Rendered by `tools/make_predictors.py` from "
             "`predictors.json`.", "", f"{card['training_data']}. {card['split']}.", "",
             "| model | rows | n | AUPRC | CI-SpliceAI's max abs Δ | difference (95 %) | calibration error |",
             "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for name, views in results["tried"].items():
        lines += [
            f"| {name} | {view} | {one['n']} | {one['auprc']:.3f} | {one['network_auprc']:.3f} | "
            f"{one['difference']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f}) | {one['calibration_error']:.3f} |"
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
        "The shipped features were chosen on these same rows, after more models had been looked at than the kinds kept "
        "above: its figures flatter it, and a pooled interval that barely clears 0 is no proof of a gain. Variants of "
        "reporter constructs were left out of its training. MFASS and the deep intronic variants were not evaluated.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
