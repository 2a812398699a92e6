"""Make the predictors that travel with the package, their cards, and docs/results/predictors.{json,md}. Deterministic.

Needs the four open sources of `splicevardb-open` (`meta-spliceai data get splicevardb-open`, and a genome, or a mirror
that holds them), and the networks of NETWORKS. Base scores are taken from the cache, or computed.

How a predictor is chosen: for each block of chromosomes the ways of FITS are compared on the other blocks alone, by
cross-validation over those, and by the log loss on each source, averaged over the sources. The way that is best there
predicts the block's chromosomes, each learned from all others. What is shipped is the way that is best over all blocks,
learned from all rows.

Run: python tools/make_predictors.py [NAME ...]   (five minutes for each on two cores, without base scores)
     python tools/make_predictors.py --render     (the page alone, from the kept results)
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit, log_expit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedGroupKFold

from meta_spliceai.datasets import load_dataset
from meta_spliceai.experiments.predict.predict_shipped import predictor_features
from meta_spliceai.splice_engine.base_layer.families import load_base_model
from meta_spliceai.splice_engine.base_layer.scores import BaseScores, ScoreCache, max_window
from meta_spliceai.splice_engine.base_layer.scoring import score_variants
from meta_spliceai.splice_engine.meta_layer.boosting import trees_of
from meta_spliceai.splice_engine.meta_layer.evaluation.calibration import calibration_error
from meta_spliceai.splice_engine.meta_layer.evaluation.metrics import OperatingPoints, plan_resamples, rank_scores
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import binary_labels
from meta_spliceai.splice_engine.meta_layer.shipped_predictor import RISING, linear_columns

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "src/meta_spliceai/splice_engine/meta_layer/shipped"
RESULTS = ROOT / "docs/results/predictors.json"
EXPLORED = ROOT / "docs/results/predictors-explored.json"
"""Log losses of ways that were looked at before FITS was written down, of CI-SpliceAI on 8 blocks of chromosomes. The
code of these trials was not kept, and nothing makes the file again."""
MEMBERS, RESAMPLES, BLOCKS, SEED, DISTANCE = 30, 1000, 6, 0, 50
SOURCES = {
    "MFASS": "10.1016/j.molcel.2018.10.037",
    "MaPSy": "10.1038/ng.3837",
    "CI-SpliceAI validated": "10.1371/journal.pone.0269159",
    "deep intronic": "10.1093/gigascience/giad085",
}
"""Where a variant was measured; one of several sources counts for the first of them."""
USERS = list(SOURCES).index("CI-SpliceAI validated")
"""The source that a user's variants count for: no reporter assay, and variants of disease genes wherever they lie."""
NETWORKS: dict[str, list[int] | None] = {
    "cispliceai": None,
    "spliceai": None,
    "pangolin": [0, 3, 6, 9],
    "openspliceai": None,
}
"""Base networks by name, with the members that are run: of Pangolin one a tissue."""
PREDICTORS = {
    "fusion": ("spliceai", "pangolin"),
    "fusion-spliceai": ("spliceai",),
    "fusion-open": ("cispliceai", "pangolin"),
    "fusion-cispliceai": ("cispliceai",),
}
WIDE = 200
CONSIDERED = {
    "fusion-open and OpenSpliceAI": (("cispliceai", "openspliceai", "pangolin"), DISTANCE),
    **{f"{name} within {WIDE} bases": (used, WIDE) for name, used in PREDICTORS.items()},
}
"""What was evaluated as the predictors were, and is not shipped: base networks, and bases to either side of a variant
that they score; WHY_NOT says why."""
WHY_NOT = (
    "Not shipped is what was evaluated in the same way and left: OpenSpliceAI's networks beside the others do not "
    "lower fusion-open's log loss. Scores 200 bases to either side in place of 50 lower everyone's a little, but "
    "MaPSy's variants are then mostly ordered worse, and `fusion` no longer holds all of its bars; all predictors stay "
    "with the distance that `score` has, so that they share its scores."
)
CHOSEN = "chosen on the other chromosomes"
Rows = np.ndarray


@dataclass(frozen=True)
class Data:
    """Variants as all ways of fitting see them.

    Attributes:
        x: features of every row (`predictor_features`); NaN where unknown.
        linear: those of the regression, NaN as 0.
        y: 1 for Splice-altering, else 0.
        source: number in SOURCES.
        groups, chrom, block: gene family, chromosome, number of the chromosome's block.
    """

    x: pd.DataFrame
    linear: Rows
    y: Rows
    source: Rows
    groups: Rows
    chrom: Rows
    block: Rows

    def without(self, held: Rows) -> Rows:
        """Rows that share neither chromosome nor gene with those held out."""
        return ~held & ~np.isin(self.groups, self.groups[held])

    def drawn(self, rows: Rows) -> Data:
        parts = {name: getattr(self, name)[rows] for name in ("linear", "y", "source", "groups", "chrom", "block")}
        return Data(x=self.x.iloc[rows].reset_index(drop=True), **parts)


def negative_log_likelihood(odds: Rows, y: Rows) -> Rows:
    return -log_expit(np.where(y == 1, 1, -1) * odds)


def platt(raw: Rows, y: Rows, prior: float = 0.3) -> tuple[float, float]:
    """Intercept and slope that make raw values log-odds; the slope is normal around 1 with this standard deviation."""

    def loss(terms: Rows) -> float:
        own = negative_log_likelihood(terms[0] + terms[1] * raw, y).sum()
        return float(own + ((terms[1] - 1) / prior) ** 2 / 2)

    intercept, slope = minimize(loss, [0.0, 1.0]).x
    return float(intercept), float(slope)


def regressed(data: Data, columns: slice, slopes: float, weigh: bool = False) -> Rows:
    """Intercept and weights of the features for each source, [sources, terms], learned together.

    Args:
        columns: of the features.
        slopes: how freely a source's weights may differ from those of all: the prior's standard deviation at unit
            spread, where that of the common weights is 1.
        weigh: give every source the same share of the loss.
    """
    x, one = data.linear[:, columns], np.eye(len(SOURCES))
    middle, spread = x.mean(axis=0), x.std(axis=0)
    z, own = (x - middle) / spread, one[data.source]
    by_source = [own[:, [number]] * z * slopes for number in range(len(SOURCES))]
    design = np.concatenate([z, 100 * own, *(by_source if slopes else [])], axis=1)
    weight = (len(x) / len(SOURCES) / np.bincount(data.source))[data.source] if weigh else None
    model = LogisticRegression(C=1.0, max_iter=1000, solver="newton-cholesky", fit_intercept=False)
    found = model.fit(design, data.y, sample_weight=weight).coef_.ravel()
    width, sources = x.shape[1], len(SOURCES)
    weights = np.tile(found[:width], (sources, 1))
    if slopes:
        weights = weights + slopes * found[width + sources :].reshape(sources, width)
    weights = weights / spread
    return np.column_stack([100 * found[width : width + sources] - weights @ middle, weights])


def shifted(data: Data) -> Rows:
    """As `regressed`, but learned without regard to the source; an intercept a source is fitted afterwards."""
    x = data.linear
    middle, spread = x.mean(axis=0), x.std(axis=0)
    model = LogisticRegression(C=1.0, max_iter=1000).fit((x - middle) / spread, data.y)
    slopes = model.coef_.ravel() / spread
    odds = model.intercept_[0] + (x - middle) @ slopes
    found = []
    for number in range(len(SOURCES)):
        mine = data.source == number
        term = minimize(lambda t, m=mine: negative_log_likelihood(odds[m] + t[0], data.y[m]).sum(), [0.0]).x[0]
        found.append([model.intercept_[0] - slopes @ middle + term, *slopes])
    return np.array(found)


def grown(data: Data) -> HistGradientBoostingClassifier:
    """Trees of all features and the source, monotone in Δ."""
    rising = [RISING.get(name.rpartition(": ")[2], 0) for name in data.x] + [0] * len(SOURCES)
    model = HistGradientBoostingClassifier(
        max_iter=80, learning_rate=0.06, max_leaf_nodes=6, l2_regularization=5, max_features=0.5,
        early_stopping=False, random_state=SEED, monotonic_cst=rising,
    )  # fmt: skip
    return model.fit(with_source(data), data.y)


def with_source(data: Data) -> Rows:
    return np.column_stack([data.x.to_numpy(), np.eye(len(SOURCES))[data.source]])


def calibrated(data: Data) -> list[tuple[float, float]]:
    """For each source what `platt` gives for trees that did not see a row's gene."""
    out = np.empty(len(data.y))
    for train, held in StratifiedGroupKFold(3, shuffle=True, random_state=SEED).split(data.x, data.y, data.groups):
        out[held] = grown(data.drawn(train)).decision_function(with_source(data.drawn(held)))
    return [platt(out[data.source == number], data.y[data.source == number]) for number in range(len(SOURCES))]


Fit = Callable[[Data], Callable[[Data], Rows]]
"""What learns from some rows the log-odds of any."""


def linear_fit(how: Callable[[Data], Rows], columns: slice = slice(None)) -> Fit:
    def fit(data: Data) -> Callable[[Data], Rows]:
        weights = how(data)
        return lambda new: weights[new.source, 0] + (weights[new.source, 1:] * new.linear[:, columns]).sum(axis=1)

    return fit


def trees_fit(data: Data) -> Callable[[Data], Rows]:
    model, terms = grown(data), np.array(calibrated(data))
    return lambda new: terms[new.source, 0] + terms[new.source, 1] * model.decision_function(with_source(new))


EVERY = slice(None)
BY_SOURCE = partial(regressed, columns=EVERY, slopes=0.3)
TREES, BOTH = "trees, monotone in Δ", "mean of the regression with weights by source and the trees"
REGRESSIONS: dict[str, Callable[[Data], Rows]] = {
    "regression, an intercept a source fitted afterwards": shifted,
    "regression, an intercept a source": partial(regressed, columns=EVERY, slopes=0),
    "regression, an intercept a source, sources weigh the same": partial(
        regressed, columns=EVERY, slopes=0, weigh=True
    ),
    "regression, weights by source": BY_SOURCE,
}
FITS: dict[str, Fit] = {
    "max abs Δ alone, an intercept a source": linear_fit(
        partial(regressed, columns=slice(1, 2), slopes=0), slice(1, 2)
    ),
    **{name: linear_fit(how) for name, how in REGRESSIONS.items()},
    TREES: trees_fit,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="make these alone")
    parser.add_argument("--render", action="store_true", help="make none, write the page")
    given = parser.parse_args()
    if unknown := set(given.names) - {*PREDICTORS, *CONSIDERED}:
        parser.error(f"no predictor {', '.join(sorted(unknown))}; there are {', '.join([*PREDICTORS, *CONSIDERED])}")
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if given.render or given.names else {"predictors": {}}
    if not given.render:
        predictors, results["networks"] = made(given.names or [*PREDICTORS, *CONSIDERED])
        for kind, known in (("predictors", PREDICTORS), ("considered", CONSIDERED)):
            every = results.get(kind, {}) | predictors
            results[kind] = {name: every[name] for name in known if name in every}
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    explored = json.loads(EXPLORED.read_text(encoding="utf-8"))
    RESULTS.with_suffix(".md").write_text(rendered(results, explored), encoding="utf-8")


def made(names: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is known of predictors, of which PREDICTORS are written into the package; AUPRC of each network alone."""
    loaded = load_dataset("splicevardb-open")
    y = binary_labels(loaded.variants)
    table = loaded.variants[~np.isnan(y)].reset_index(drop=True)
    models = {name: load_base_model(name, device="cpu", members=members) for name, members in NETWORKS.items()}

    @cache
    def scores(name: str, distance: int) -> BaseScores:
        genome, genes = loaded.genome, loaded.annotation
        return score_variants(table, genome, models[name], distance, annotation=genes, cache=ScoreCache.default())

    networks = {name: np.abs(max_window(scores(name, DISTANCE))).astype(np.float64) for name in NETWORKS}
    results: dict[str, Any] = {}
    y = y[~np.isnan(y)]
    source = source_of(table)
    alone = {
        name: {
            view: round(float(average_precision_score(y[mask], delta[mask])), 4)
            for view, mask in views_of(source).items()
        }
        for name, delta in networks.items()
    }
    licences = {name: model.licence for name, model in models.items()}
    for name in names:
        used, distance = CONSIDERED[name] if name in CONSIDERED else (PREDICTORS[name], DISTANCE)
        data = data_of(table, y, [scores(one, distance) for one in used], loaded.annotation)
        results[name] = evaluated(data, networks, used)
        if name in PREDICTORS:
            ship(name, data, results[name], licences)
    return results, alone


def data_of(table: pd.DataFrame, y: Rows, base: list[BaseScores], annotation: Any) -> Data:
    x = predictor_features(table, base, annotation)
    linear = x[linear_columns([one.model for one in base])].fillna(0).to_numpy()
    chrom = table["genome_chrom"].to_numpy().astype(str)
    mixed = np.random.default_rng(SEED).permutation(np.unique(chrom))
    number = {name: place % BLOCKS for place, name in enumerate(mixed)}
    block = np.array([number[name] for name in chrom])
    return Data(x, linear, y, source_of(table), table["group"].to_numpy().astype(str), chrom, block)


def source_of(table: pd.DataFrame) -> Rows:
    """The number in SOURCES of each row."""
    found = np.full(len(table), -1)
    for number, doi in reversed(list(enumerate(SOURCES.values()))):
        found[table["source"].str.contains(doi, regex=False).to_numpy()] = number
    if (found < 0).any():
        raise SystemExit(f"an unknown source: {table['source'][found < 0].iloc[0]}")
    return found


def views_of(source: Rows) -> dict[str, Rows]:
    """Which rows a table's line is of: all, and those of each source."""
    return {"pooled": np.ones(len(source), bool)} | {name: source == number for number, name in enumerate(SOURCES)}


def loss_of(odds: Rows, data: Data, rows: Rows) -> float:
    """Log loss on each source, averaged over the sources."""
    each = negative_log_likelihood(odds, data.y)
    return float(np.mean([each[rows & (data.source == number)].mean() for number in range(len(SOURCES))]))


def evaluated(data: Data, networks: dict[str, Rows], used: tuple[str, ...]) -> dict[str, Any]:
    """Every way of fitting on chromosomes held out in turn, and the one that is chosen for each without it."""
    held = {name: np.empty(len(data.y)) for name in FITS}
    pairs = {name: np.full((BLOCKS, len(data.y)), np.nan) for name in FITS}
    every = np.arange(len(data.y))
    for name, fit in FITS.items():
        for chrom in np.unique(data.chrom):
            test = data.chrom == chrom
            held[name][test] = fit(data.drawn(every[data.without(test)]))(data.drawn(every[test]))
        for one, other in combinations(range(BLOCKS), 2):
            test = np.isin(data.block, (one, other))
            odds = fit(data.drawn(every[data.without(test)]))(data.drawn(every[test]))
            within = data.block[test]
            pairs[name][one, every[test][within == other]] = odds[within == other]
            pairs[name][other, every[test][within == one]] = odds[within == one]
    held[BOTH] = (held["regression, weights by source"] + held[TREES]) / 2
    pairs[BOTH] = (pairs["regression, weights by source"] + pairs[TREES]) / 2
    best = []
    for block in range(BLOCKS):
        losses = {name: loss_of(odds[block], data, data.block != block) for name, odds in pairs.items()}
        best.append(min(losses, key=losses.__getitem__))
    held[CHOSEN] = np.choose(data.block, [held[name] for name in best])
    views = views_of(data.source)
    tried = {
        name: {view: compare(expit(odds), networks, data, mask) for view, mask in views.items()}
        for name, odds in held.items()
    }
    losses = {name: round(loss_of(odds, data, views["pooled"]), 4) for name, odds in held.items()}
    shipped = min(pairs, key=losses.__getitem__)
    return {
        "networks": list(used), "held_out": len(np.unique(data.chrom)), "genes": len(np.unique(data.groups)),
        "log_loss": losses, "chosen": best, "shipped": shipped, "tried": tried,
    }  # fmt: skip


def compare(p: Rows, networks: dict[str, Rows], data: Data, mask: Rows) -> dict[str, Any]:
    """AUPRC beside the best network's |Δ|, the paired difference's bootstrap interval over genes, calibration error."""
    p, y = p[mask], data.y[mask]
    reached = {name: average_precision_score(y, delta[mask]) for name, delta in networks.items()}
    best = max(reached, key=lambda name: float(reached[name]))
    base = networks[best][mask]
    plan = plan_resamples(data.groups[mask], RESAMPLES, SEED)
    both = [
        rank_scores(y == 1, score, plan.unit).at(plan.counts, OperatingPoints((), (), (), ()))["auprc"]
        for score in (p, base)
    ]
    own = average_precision_score(y, p)
    low, high = np.percentile(both[0] - both[1], [2.5, 97.5])
    found = {"auprc": own, "network_auprc": reached[best], "difference": own - reached[best], "low": low, "high": high,
             "calibration_error": calibration_error(p, y), "by_chance": by_chance(p)}  # fmt: skip
    counts = {"n": len(y), "positives": int(y.sum()), "network": best}
    return counts | {name: round(float(value), 4) for name, value in found.items()}


def by_chance(p: Rows) -> float:
    """The calibration error of true probabilities on as many rows, on average over drawn labels."""
    rng = np.random.default_rng(SEED)
    return float(np.mean([calibration_error(p, (rng.random(len(p)) < p).astype(float)) for _ in range(50)]))


def ship(name: str, data: Data, found: dict[str, Any], licences: dict[str, str]) -> None:
    """Learn the chosen way from all rows and from genes drawn with replacement, and write it into the package."""
    way, rng = found["shipped"], np.random.default_rng(SEED)
    labels = np.unique(data.groups)
    places = {label: np.flatnonzero(data.groups == label) for label in labels}
    drawn = [np.arange(len(data.y))]
    drawn += [np.concatenate([places[one] for one in rng.choice(labels, len(labels))]) for _ in range(MEMBERS)]
    share = {TREES: 0.0, BOTH: 0.5}.get(way, 1.0)
    arrays = {"linear": np.stack([REGRESSIONS.get(way, BY_SOURCE)(data.drawn(rows))[USERS] for rows in drawn])}
    if share < 1:
        width = data.x.shape[1] + len(SOURCES)
        for number, rows in enumerate(drawn):
            parts = trees_of([grown(data.drawn(rows))], width).arrays()
            arrays |= {f"{number}.{part}": values for part, values in parts.items()}
    own = data.y[data.source == USERS]
    stored = {
        "networks": {one: NETWORKS[one] for one in found["networks"]},
        "distance": DISTANCE,
        "source": USERS,
        "share": share,
        "platt": calibrated(data)[USERS] if share < 1 else (0.0, 1.0),
        "least": round(1 / (float((own == 0).sum()) + 2), 6),
        "greatest": round(1 - 1 / (float((own == 1).sum()) + 2), 6),
        "domain": {
            "length_change": int(data.x["length change"].abs().quantile(0.99)),
            "from_exon": int(data.x["nearest"].abs().quantile(0.99)),
        },
        "card": card_of(name, found, licences),
    }
    (SHIPPED / f"{name}.json").write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    np.savez_compressed(SHIPPED / f"{name}.npz", allow_pickle=False, **arrays)


def card_of(name: str, found: dict[str, Any], licences: dict[str, str]) -> dict[str, Any]:
    views, used = found["tried"][CHOSEN], found["networks"]
    counts = ", ".join(f"{view} {one['n']:,}" for view, one in views.items() if view != "pooled")
    pooled = views["pooled"]
    source = list(SOURCES)[USERS]
    return {
        "title": f"{name}: Δ of {' and '.join(used)} and position, by {found['shipped']}, on measured labels",
        "training_data": f"{pooled['n']:,} variants of {found['genes']:,} genes on the genome, "
        f"{pooled['positives']:,} splice-altering ({counts}); nothing of chr1 and chr9",
        "split": f"metrics: each of {found['held_out']} chromosomes held out in turn, the way of fitting chosen "
        "without it; 95 % intervals over genes; the shipped weights are of all rows",
        "source_term": f"each source has terms of its own; a prediction has those of {source}",
        "metrics": views,
        "licences": f"networks: {'; '.join(f'{one}, {licences[one]}' for one in used)}; variants as published: MFASS, "
        "MaPSy (Apache-2.0), CI-SpliceAI's (CC BY 4.0), deep intronic (GPL-3.0); none of them is in the package with "
        "this predictor",
        "interval": f"{MEMBERS} models of genes drawn with replacement, 2.5 to 97.5 %; "
        "the uncertainty of the weights, not of a single variant",
        "domain": f"variants on the genome near exons; distance {DISTANCE}; see in_domain of each allele",
        "notes": [
            f"research use; about as many altering as normal variants in {source}, whose terms predictions have: in a "
            "patient's genome altering variants are far rarer, and the probability is too high by that"
        ],
    }


def rendered(results: dict[str, Any], explored: list[dict[str, Any]]) -> str:
    lines = ["# The predictors that travel with the package", "",
             "Rendered by `tools/make_predictors.py` from `predictors.json`.", "", *summary(results)]  # fmt: skip
    for name, found in results["predictors"].items():
        card = card_of(name, found, dict.fromkeys(NETWORKS, ""))
        lines += [f"## {name}", "", f"{card['training_data']}. {card['split']}.", "", *bars(found), ""]
        lines += ["<details><summary>Every way of fitting that was tried</summary>", ""]
        lines += ["| way of fitting | log loss | rows | n | AUPRC | best network | difference (95 %) | calibration "
                  "error | by chance |", "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
        for way, views in found["tried"].items():
            lines += [
                f"| {way}{' (shipped)' if way == found['shipped'] else ''} | {found['log_loss'][way]:.4f} | {view} | "
                f"{one['n']} | {one['auprc']:.3f} | {one['network']} {one['network_auprc']:.3f} | "
                f"{one['difference']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f}) | "
                f"{one['calibration_error']:.3f} | {one['by_chance']:.3f} |"
                for view, one in views.items()
            ]
        lines += ["", "</details>", ""]
    lines += [
        "## Looked at before",
        "",
        "Log loss on each source, and its mean, of ways that were looked at on CI-SpliceAI alone before those above "
        "were settled: each of 8 blocks of chromosomes held out in turn. No AUPRC and no calibration error was "
        "looked at. The code of these trials was not kept: what they gave stands in `predictors-explored.json`, as it "
        "was noted then, and no command of this repository gives it again.",
        "",
        f"| way of fitting | mean | {' | '.join(SOURCES)} |",
        f"| --- | --- |{' --- |' * len(SOURCES)}",
    ]
    lines += [
        f"| {one['way']} | {one['log_loss']:.4f} | {' | '.join(f'{loss:.4f}' for loss in one['by_source'])} |"
        for one in explored
    ]
    lines += [""]
    lines += [
        "## How to read this", "",
        f"*{CHOSEN}*: for each of {BLOCKS} blocks of chromosomes the way of fitting was chosen on the other blocks, by "
        "the log loss on each source, averaged over the sources (the column *log loss* has it over all blocks); no "
        "AUPRC and no calibration error had a part in it. The ways themselves, and the size of the trees, were settled "
        "by the same loss on these rows, and the regression's features on an earlier, smaller part of them: a little "
        "of that flatters the figures. *best network*: the one whose max abs Δ has the highest AUPRC on these rows, of "
        f"{', '.join(NETWORKS)} (of Pangolin one network a tissue), whether the predictor uses it or not. *max "
        "abs Δ alone* orders a source's variants as the predictor's first network does, so that its AUPRC is that "
        "network's own. A source's "
        f"probabilities here have its own terms; a user's variants get those of {list(SOURCES)[USERS]}. Every "
        "calibration error of so few rows is above 0 for true probabilities, too: *by chance* is what a model whose "
        "probabilities are all true would read on these rows, on average.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def summary(results: dict[str, Any]) -> list[str]:
    """One line a predictor: AUPRC minus the best network's, and how many bars hold."""
    lines = ["AUPRC minus that of the best single network on the same variants (95 % intervals over genes), with "
             "chromosomes held out in turn, and how many of the ten bars hold:", "",
             f"| predictor | networks | {' | '.join(['pooled', *SOURCES])} | calibration error, pooled | bars held |",
             f"| --- | --- |{' --- |' * (len(SOURCES) + 3)}"]  # fmt: skip
    for name, found in (results["predictors"] | results["considered"]).items():
        views = found["tried"][CHOSEN]
        cells = [f"{one['difference']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})" for one in views.values()]
        held = sum(line.count("**holds**") for line in bars(found))
        error = f"{views['pooled']['calibration_error']:.3f}"
        shipped = "" if name in PREDICTORS else " (not shipped)"
        lines += [
            f"| {name}{shipped} | {', '.join(found['networks'])} | {' | '.join(cells)} | {error} | {held} of 10 |"
        ]
    lines += ["", WHY_NOT, ""]
    lines += ["AUPRC of each network's max abs Δ alone:", "", f"| network | {' | '.join(['pooled', *SOURCES])} |",
              f"| --- |{' --- |' * (len(SOURCES) + 1)}"]  # fmt: skip
    for name, reached in results["networks"].items():
        lines += [f"| {name} | {' | '.join(f'{auprc:.3f}' for auprc in reached.values())} |"]
    return [*lines, "", "Where the bar on a difference does not hold:", "", *misses(results), ""]


def difference_holds(view: str, one: dict[str, Any]) -> bool:
    """The bar on the difference from the best network: above it pooled, and hardly below it on a source."""
    return bool(one["low"] > 0 if view == "pooled" else one["low"] >= -0.01)


def misses(results: dict[str, Any]) -> list[str]:
    """For each difference whose bar does not hold, what the networks reach that the predictor reads."""
    lines = []
    for name, found in results["predictors"].items():
        for view, one in found["tried"][CHOSEN].items():
            if difference_holds(view, one):
                continue
            text = (
                f"- {name}, {view}: {one['auprc']:.3f} beside {one['network_auprc']:.3f} of {one['network']}, which it "
            )
            reached = {network: results["networks"][network][view] for network in found["networks"]}
            best = max(reached, key=reached.__getitem__)
            reads = f"does not read; the best that it reads, {best}, has {reached[best]:.3f} alone"
            lines.append(text + ("reads" if one["network"] in reached else reads))
    return lines


def bars(found: dict[str, Any]) -> list[str]:
    """The bars, held against the way that was chosen without the chromosomes it is tested on."""
    lines = [f"Shipped: {found['shipped']}. The bars, of what was {CHOSEN}:", ""]
    for view, one in found["tried"][CHOSEN].items():
        pooled = view == "pooled"
        rank, most = difference_holds(view, one), 0.02 if pooled else 0.05
        lines += [
            f"- {view}: difference's interval {'above 0' if pooled else 'not below −0.01'}: "
            f"**{'holds' if rank else 'does not hold'}** ({one['low']:+.4f} to {one['high']:+.4f}); calibration error "
            f"≤ {most}: **{'holds' if one['calibration_error'] <= most else 'does not hold'}** "
            f"({one['calibration_error']:.3f})"
        ]
    return lines


if __name__ == "__main__":
    main()
