"""The validated Δ: which rows get which label, and the account of the others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.splice_engine.meta_layer.targets import (
    EFFECT_TYPES,
    TARGETS,
    altering,
    effect_type,
    magnitude,
    multitask,
    position,
    validated_delta,
)
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
def scores() -> Any:
    delta = np.zeros((len(CLASSES), 5, 3), np.float32)
    delta[0, 1] = [0.4, -0.6, 0.2]
    delta[0, 3] = [-0.1, 0.0, 0.1]
    delta[5, 4] = [-0.9, 0.1, 0.8]
    delta[5, 0] = [0.95, 0.0, 0.0]
    return SimpleNamespace(delta=delta)


def test_altering_rows_get_the_strongest_position_and_normal_rows_zero(table: pd.DataFrame, scores: Any) -> None:
    targets = validated_delta(table, scores)
    assert targets.values[0] == pytest.approx([0.4, -0.6, 0.2])
    # The neither channel alone does not decide which position is strongest.
    assert targets.values[5] == pytest.approx([-0.9, 0.1, 0.8])
    assert (targets.values[1] == 0).all()
    assert targets.used.tolist() == [True, True, False, False, False, True]
    assert np.isnan(targets.values[2:5]).all()


def test_rows_without_a_label_are_counted_with_their_reason(table: pd.DataFrame, scores: Any) -> None:
    coverage = validated_delta(table, scores).coverage
    assert (coverage.read, coverage.used) == (6, 3)
    assert sorted(reason.split(":")[0] for reason in coverage.left_out) == ["Conflicting", "Low-frequency", "Unknown"]
    assert any("v2" in row for row in next(v for k, v in coverage.examples.items() if k.startswith("Low")))


def test_a_score_that_is_no_number_is_left_out_and_counted(table: pd.DataFrame, scores: Any) -> None:
    scores.delta[5, 2, 1] = np.nan
    assert validated_delta(table, scores).coverage.left_out["Splice-altering: no Δ of the base network"] == 1
    scores.delta[5, 2, 1] = 0
    scores.delta[2] = np.nan  # a row that needs no score
    assert validated_delta(table, scores).coverage.used == 3


def test_altering_is_one_for_altering_and_zero_for_normal(table: pd.DataFrame, scores: Any) -> None:
    targets = altering(table, scores)
    assert targets.values[:2, 0].tolist() == [1, 0]
    assert targets.used.tolist() == [True, True, False, False, False, True]
    assert targets.coverage.used == 3


def test_base_labels_come_from_the_strongest_site_peak_and_are_marked(table: pd.DataFrame, scores: Any) -> None:
    kinds, places = effect_type(table, scores), position(table, scores)
    # Row 0: acceptor −0.6 at index 1 of 5; row 5: donor +0.8 at index 4 (the neither channel does not count).
    assert EFFECT_TYPES[int(kinds.values[0, 0])] == "acceptor loss"
    assert EFFECT_TYPES[int(kinds.values[5, 0])] == "donor gain"
    assert places.values[[0, 5], 0].tolist() == [-1, 2]
    for targets in (kinds, places):
        assert targets.marks.tolist() == ["base", "", "", "", "", "base"]
        assert targets.used.tolist() == [True, False, False, False, False, True]
        assert targets.coverage.used == 2


def test_a_peak_that_is_noise_gives_no_label(table: pd.DataFrame, scores: Any) -> None:
    scores.delta[5] = 0.05
    targets = effect_type(table, scores)
    assert targets.used.tolist() == [True, False, False, False, False, False]
    assert any("no peak" in reason for reason in targets.coverage.left_out)


def test_observed_sites_come_before_the_base_networks_peaks(table: pd.DataFrame, scores: Any) -> None:
    table["strand"] = ["+", "+", "+", "+", "+", "-"]
    table["pos"] = 100
    table["donors_lost"] = ["", "", "", "", "", "103;90"]
    kinds, places = effect_type(table, scores), position(table, scores)
    assert EFFECT_TYPES[int(kinds.values[5, 0])] == "donor loss"
    # On the minus strand a higher coordinate lies upstream; of two observed sites the nearer one is taken.
    assert places.values[5, 0] == -3
    assert places.marks.tolist() == kinds.marks.tolist() == ["base", "", "", "", "", "gold"]
    assert kinds.counts_by_mark() == {"gold": 1, "base": 1}
    assert kinds.counts_by_mark(np.array([1, 5])) == {"gold": 1, "base": 0}
    assert "1 observed (gold), 1 taken from the base network's own" in kinds.sources()
    assert altering(table, scores).sources() == ""
    table["acceptors_gained"] = ["", "", "", "", "", "120"]
    several = effect_type(table, scores)
    assert not several.used[5]
    assert several.coverage.left_out["several kinds of effect were observed"] == 1


def test_magnitude_takes_measured_effects_of_any_class(table: pd.DataFrame, scores: Any) -> None:
    table["effect"] = [-4.0, 0.1, -1.0, np.nan, np.nan, np.nan]
    targets = magnitude(table, scores)
    assert targets.values[:3, 0] == pytest.approx([-4, 0.1, -1])
    assert targets.values[[0, 1, 5], 1] == pytest.approx([0.6, 0, 0.8])
    assert np.isnan(targets.values[2, 1])
    assert targets.used.tolist() == [True, True, True, False, False, True]
    assert targets.coverage.used == 4


def test_multitask_labels_stand_side_by_side(table: pd.DataFrame, scores: Any) -> None:
    joined = multitask(table, scores).values
    parts = [TARGETS[name](table, scores).values for name in list(TARGETS)[:-1]]
    assert np.array_equal(joined, np.concatenate(parts, axis=1), equal_nan=True)
    assert joined.shape[1] == 8
