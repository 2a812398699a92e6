"""The validated Δ: which rows get which label, and the account of the others."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.meta_layer.targets import validated_delta
from meta_spliceai.splice_engine.variants.table import as_variant_table

CLASSES = ["Splice-altering", "Normal", "Low-frequency", "Conflicting", "Unknown", "Splice-altering"]


@pytest.fixture
def table() -> pd.DataFrame:
    rows = [
        {
            "variant_id": f"v{i}",
            "chrom": "toy",
            "pos": i + 1,
            "ref": "A",
            "alt": "C",
            "strand": "+",
            "gene": "",
            "classification": name,
            "source": "toy",
            "method": "toy",
            "group": str(i),
        }
        for i, name in enumerate(CLASSES)
    ]
    return as_variant_table(pd.DataFrame(rows), "toy")


@pytest.fixture
def scores() -> SimpleNamespace:
    delta = np.zeros((len(CLASSES), 5, 3), np.float32)
    delta[0, 1] = [0.4, -0.6, 0.2]
    delta[0, 3] = [-0.1, 0.0, 0.1]
    delta[5, 4] = [-0.9, 0.1, 0.8]
    delta[5, 0] = [0.95, 0.0, 0.0]
    return SimpleNamespace(delta=delta)


def test_altering_rows_get_the_strongest_position_and_normal_rows_zero(
    table: pd.DataFrame, scores: SimpleNamespace
) -> None:
    targets = validated_delta(table, scores)
    assert targets.values[0] == pytest.approx([0.4, -0.6, 0.2])
    # The neither channel alone does not decide which position is strongest.
    assert targets.values[5] == pytest.approx([-0.9, 0.1, 0.8])
    assert (targets.values[1] == 0).all()
    assert targets.used.tolist() == [True, True, False, False, False, True]
    assert np.isnan(targets.values[2:5]).all()


def test_rows_without_a_label_are_counted_with_their_reason(table: pd.DataFrame, scores: SimpleNamespace) -> None:
    coverage = validated_delta(table, scores).coverage
    assert (coverage.read, coverage.used) == (6, 3)
    assert sorted(reason.split(":")[0] for reason in coverage.left_out) == ["Conflicting", "Low-frequency", "Unknown"]
    assert any("v2" in row for row in next(v for k, v in coverage.examples.items() if k.startswith("Low")))


def test_scores_of_other_rows_and_broken_scores_are_refused(table: pd.DataFrame, scores: SimpleNamespace) -> None:
    with pytest.raises(InputError, match="6 rows"):
        validated_delta(table, SimpleNamespace(delta=scores.delta[:5]))
    scores.delta[5, 2, 1] = np.nan
    with pytest.raises(InputError, match="v5"):
        validated_delta(table, scores)
    scores.delta[5, 2, 1] = 0
    scores.delta[2] = np.nan  # a row that needs no score
    assert validated_delta(table, scores).coverage.used == 3
