#!/usr/bin/env python3
"""How long an evaluation with intervals takes: thirty thousand variants of many genes, ten scorers.

    python benchmarks/evaluation.py [--variants 30000] [--genes 2200] [--scorers 10] [--resamples 2000]

Predictions are made up. Prints one JSON object: processor seconds, which should stay below 120, and what was asked for.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import pandas as pd

from meta_spliceai.splice_engine.meta_layer.evaluation.evaluate import evaluate
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Scorer


def make_predictions(variants: int, genes: int, scorers: list[Scorer]) -> pd.DataFrame:
    """A quarter of the variants altering; scorers that see the truth through noise of their own."""
    random = np.random.default_rng(0)
    altering = random.random(variants) < 0.25
    truth = altering * random.uniform(0.2, 1.0, variants)
    columns: dict[str, Any] = {
        "variant_id": [f"v{number}" for number in range(variants)],
        "group": [f"g{gene}" for gene in random.integers(0, genes, variants)],
        "classification": np.where(altering, "Splice-altering", "Normal"),
        "effect": np.where(altering, -0.7, -0.02) + random.normal(0, 0.1, variants),
        "target": truth,
    }
    for scorer in scorers:
        signed = -(truth + random.normal(0, 0.5, variants))
        columns |= {scorer.score_column: np.abs(signed), scorer.signed_column: signed}
    return pd.DataFrame(columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("variants", 30_000), ("genes", 2200), ("scorers", 10), ("resamples", 2000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    scorers = [Scorer(f"scorer {number}", "learned") for number in range(asked.scorers)]
    frame = make_predictions(asked.variants, asked.genes, scorers)
    before = time.process_time()
    evaluate(frame, scorers, None, n_boot=asked.resamples)
    print(json.dumps({"processor_seconds": round(time.process_time() - before, 1), **vars(asked)}))


if __name__ == "__main__":
    main()
