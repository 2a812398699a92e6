#!/usr/bin/env python3
"""Would one network be enough to see which alleles the other four need not score?

    META_SPLICEAI_MIRROR=FOLDERS python benchmarks/screen.py [--data mfass] [--context construct] [--rows N] [--out F]

Scores a data set's alleles with SpliceAI's five networks and with its first alone. A screen would run the others
only where the first shows any |Δ| above a threshold; what it loses are alleles whose |Δ| of all five is 0.1 or more
and whose first network stays below. Prints one JSON object: for every threshold the share of alleles that all
networks would score, and the share of those with |Δ| ≥ 0.1 that would be lost, with its exact 95 % interval (Clopper
and Pearson).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from scipy.stats import binomtest

from meta_spliceai.datasets import load_dataset
from meta_spliceai.splice_engine.base_layer.families import load_base_model
from meta_spliceai.splice_engine.base_layer.scores import BaseScores, ScoreCache
from meta_spliceai.splice_engine.base_layer.scoring import score_variants

DISTANCE = 150
SEEN = 50
"""Positions to either side that count, as for `score -D 50`; more are scored, so that a row's scores can be used."""
THRESHOLDS = (0.001, 0.005, 0.02, 0.05)
STRONG = 0.1


def largest_delta(scores: BaseScores) -> Float32[np.ndarray, " alleles"]:
    """The largest |Δ| of acceptor and donor near each allele."""
    middle = slice(DISTANCE - SEEN, DISTANCE + SEEN + 1)
    sites = [scores.channels.index(name) for name in ("acceptor", "donor")]
    return np.abs(scores.delta[:, middle, sites]).max(axis=(1, 2))


def main() -> None:
    """Score, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mfass")
    parser.add_argument("--context", default="construct")
    parser.add_argument("--rows", type=int, help="so many alleles, drawn at random; all by default")
    parser.add_argument(
        "--out", type=Path, help="folder for screen-DATA.json, and for screen.md, a table of all of them"
    )
    given = parser.parse_args()
    loaded = load_dataset(given.data, **({"context": given.context} if given.context else {}))
    table = loaded.variants
    if given.rows is not None and given.rows < len(table):
        drawn = np.random.default_rng(0).choice(len(table), given.rows, replace=False)
        table = table.iloc[np.sort(drawn)].reset_index(drop=True)
    largest = []
    for members in (None, [0]):
        scores = score_variants(
            table,
            loaded.genome,
            load_base_model("spliceai", members=members),
            DISTANCE,
            annotation=loaded.annotation,
            cache=ScoreCache.default(),
        )
        largest.append(largest_delta(scores))
    whole, first = largest
    strong = whole >= STRONG
    screens = []
    for threshold in THRESHOLDS:
        lost = int((strong & (first <= threshold)).sum())
        interval = binomtest(lost, int(strong.sum())).proportion_ci()
        screens.append(
            {
                "threshold": threshold,
                "scored_by_all": round(float((first > threshold).mean()), 4),
                "lost": lost,
                "share_lost": round(lost / int(strong.sum()), 5),
                "interval": [round(interval.low, 5), round(interval.high, 5)],
                "largest_lost": round(float(whole[first <= threshold].max(initial=0)), 3),
            }
        )
    result = {
        **{name: value for name, value in vars(given).items() if name != "out"},
        "alleles": len(table),
        "strong": int(strong.sum()),
        "screens": screens,
    }
    print(json.dumps(result))
    if given.out is not None:
        (given.out / f"screen-{given.data}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        results = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(given.out.glob("screen-*.json"))]
        (given.out / "screen.md").write_text(in_markdown(results), encoding="utf-8")


def in_markdown(results: list[dict[str, Any]]) -> str:
    """All kept results in one table."""
    lines = [
        f"| data | alleles | with a Δ of {STRONG} | threshold | scored by all five | lost | share lost | largest |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for result in results:
        name = f"{result['data']} ({result['context'] or 'genome'})"
        for one in result["screens"]:
            low, high = one["interval"]
            share = f"{one['share_lost']:.2%} [{low:.2%}, {high:.2%}]"
            numbers = (
                f"{one['threshold']} | {one['scored_by_all']:.0%} | {one['lost']} | {share} | {one['largest_lost']:.2f}"
            )
            lines.append(f"| {name} | {result['alleles']:,} | {result['strong']:,} | {numbers} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
