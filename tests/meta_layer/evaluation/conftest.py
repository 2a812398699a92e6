"""Toy predictions: a few scorers of known quality on variants that come in groups."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Scorer

MAX_WINDOW = Scorer("base max_window", "base")
STRONG = Scorer("strong", "learned")
WEAK = Scorer("weak", "learned")
POSITION = Scorer("position alone", "baseline", scale="probability")


@pytest.fixture
def scorers() -> list[Scorer]:
    return [STRONG, MAX_WINDOW, WEAK, POSITION]


@pytest.fixture
def make_predictions() -> Callable[..., pd.DataFrame]:
    def make(rows: int = 400, groups: int = 40, seed: int = 0, tied: bool = True) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        classes = rng.choice(
            ["Splice-altering", "Normal", "Low-frequency", "Conflicting"], rows, p=[0.25, 0.55, 0.15, 0.05]
        )
        altering = classes == "Splice-altering"
        effect = np.where(altering, -0.7, -0.02) + rng.normal(0, 0.1, rows)
        truth = altering * rng.uniform(0.2, 1.0, rows)
        frame = pd.DataFrame(
            {
                "variant_id": [f"v{i}" for i in range(rows)],
                "group": [f"g{i}" for i in rng.integers(0, groups, rows)],
                "classification": classes,
                "effect": effect,
                "target": np.where(np.isin(classes, ["Splice-altering", "Normal"]), truth, np.nan),
            }
        )
        for scorer, noise in ((STRONG, 0.15), (MAX_WINDOW, 0.4), (WEAK, 2.0), (POSITION, 0.6)):
            signed = -(truth + rng.normal(0, noise, rows))
            if tied:
                signed = np.round(signed, 1)
            frame[scorer.score_column] = np.abs(signed)
            frame[scorer.signed_column] = np.nan if scorer.scale == "probability" else signed
        return frame

    return make
