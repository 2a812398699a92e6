from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.splice_engine.variants.merge import allele_keys, merge_alleles, merge_class

Make = Callable[..., pd.DataFrame]


@pytest.mark.parametrize(
    ("classes", "merged"),
    [
        (["Normal", "Normal"], "Normal"),
        (["Normal", "Unknown"], "Normal"),
        (["Unknown", "Unknown"], "Unknown"),
        (["Normal", "Splice-altering"], "Conflicting"),
        (["Low-frequency", "Normal"], "Conflicting"),
        (["Conflicting", "Conflicting"], "Conflicting"),
    ],
)
def test_class_of_several_measurements(classes: list[str], merged: str) -> None:
    assert merge_class(classes) == merged


def test_keys_see_through_padding_and_contig_names(variants: Make) -> None:
    table = variants(
        [
            ("chr1", 7, "G", "A", "+"),
            ("1", 5, "CTG", "CTA", "+"),
            ("1", 7, "GTT", "ATT", "+"),
            ("1", 7, "G", "A", "-"),
            ("1", 5, "CT", "C", "+"),
            ("1", 5, "C", "CT", "+"),
        ]
    )
    assert allele_keys(table).tolist() == ["1:7:G>A:+"] * 3 + ["1:7:G>A:-", "1:6:T>:+", "1:6:>T:+"]


def test_effects_are_averaged_within_a_source_only(variants: Make) -> None:
    rows = [("1", 5, "A", "C", "+")] * 2 + [("1", 6, "A", "C", "+")] * 2 + [("1", 7, "A", "C", "+")] * 2
    table = variants(
        rows,
        source=["a", "a", "a", "b", "a", "b"],
        effect=[1.0, 2.0, 1.0, 2.0, np.nan, 3.0],
        acceptor_pos=[pd.NA, 4, pd.NA, pd.NA, pd.NA, pd.NA],
    )
    merged, coverage = merge_alleles(table, "toy")
    np.testing.assert_equal(merged["effect"].tolist(), [1.5, np.nan, 3.0])
    assert merged["source"].tolist() == ["a", "a,b", "a,b"]
    assert merged["acceptor_pos"][0] == 4
    assert coverage.used == 3


def test_a_table_without_repeats_is_unchanged(variants: Make) -> None:
    table = variants([("1", 5, "A", "C", "+"), ("1", 5, "A", "G", "+")])
    merged, coverage = merge_alleles(table, "toy")
    pd.testing.assert_frame_equal(merged[table.columns], table)
    assert coverage.left_out == {}
