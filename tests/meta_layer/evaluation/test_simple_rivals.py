"""The assay look-up and the k-mer model: what they catch, and that they cannot see the test part's labels."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from meta_spliceai.splice_engine.genome.sequence import encode
from meta_spliceai.splice_engine.meta_layer.evaluation.baselines import assay_source, kmers_and_position
from meta_spliceai.splice_engine.meta_layer.evaluation.position import count_kmers, kmer_changes
from meta_spliceai.splice_engine.meta_layer.settings import BoostingConfig
from meta_spliceai.splice_engine.variants.table import Windows, as_variant_table

SMALL = BoostingConfig(most_trees=30, learning_rate=0.2, leaves=6, fewest_in_leaf=5, folds=3, seeds=1)


def made(rows: int, seed: int) -> tuple[pd.DataFrame, Windows]:
    """Variants whose class hangs on losing the base G in the middle of the window, whatever the position."""
    rng = np.random.default_rng(seed)
    ref = rng.integers(0, 4, (rows, 21)).astype(np.uint8)
    alt = ref.copy()
    alt[:, 10] = (ref[:, 10] + rng.integers(1, 4, rows)) % 4
    altering = (ref[:, 10] == 2) & (rng.random(rows) < 0.9)
    frame = pd.DataFrame(
        {
            "variant_id": [f"v{seed}_{i}" for i in range(rows)],
            "chrom": "toy",
            "pos": rng.integers(105, 190, rows),
            "ref": np.array(list("ACGT"))[ref[:, 10]],
            "alt": np.array(list("ACGT"))[alt[:, 10]],
            "strand": "+",
            "gene": "",
            "classification": np.where(altering, "Splice-altering", "Normal"),
            "source": np.where(altering, "clinic", "screen"),
            "method": np.where(rng.random(rows) < 0.5, "RT-PCR", "MFASS"),
            "group": [f"g{i % 30}" for i in range(rows)],
            "acceptor_pos": 101,
            "donor_pos": 200,
        }
    )
    return as_variant_table(frame, "toy"), Windows(ref, alt)


def test_kmers_are_counted_as_python_counts_them() -> None:
    texts = ["ACGTACGTNACG", "GGGGGGNNTTTT"]
    codes = np.stack([encode(text) for text in texts])
    for k in (1, 2, 3):
        expected = [
            [sum(text[i : i + k] == "".join(kmer) for i in range(12 - k + 1)) for kmer in product("ACGT", repeat=k)]
            for text in texts
        ]
        np.testing.assert_array_equal(count_kmers(codes, k), expected)
    assert count_kmers(codes[:, :2], 3).sum() == 0


def test_kmer_changes_of_one_substitution() -> None:
    sides = "A" * 15
    ref, alt = (np.stack([encode(f"{sides}{base}{sides}")]) for base in "CG")
    changes = kmer_changes(Windows(ref, alt)).iloc[0]
    assert changes["ΔC"] == -1
    assert changes["ΔG"] == 1
    assert changes["ΔAG"] == 1
    assert changes["ΔCA"] == -1
    assert changes["ΔAA"] == 0
    assert changes["near A"] == 20  # the ten bases on either side


def test_the_assay_source_gives_the_classes_away_where_they_come_from_different_experiments() -> None:
    train, test = made(300, 1)[0], made(200, 2)[0]
    altering = test["classification"] == "Splice-altering"
    assert roc_auc_score(altering, assay_source(train, test).score) == 1


def test_the_assay_source_of_an_unseen_source_is_the_overall_share() -> None:
    train, test = made(300, 1)[0], made(4, 2)[0].assign(source="new", method="new")
    share = (train["classification"] == "Splice-altering").mean()
    np.testing.assert_allclose(assay_source(train, test).score, share)
    one = train.copy()
    one.loc[0, ["source", "method"]] = ["single", "single"]
    one.loc[0, "classification"] = "Splice-altering"
    seen = assay_source(one, test.assign(source="single", method="single")).score[0]
    assert seen == pytest.approx((1 + (one["classification"] == "Splice-altering").mean()) / 2)


def test_kmers_and_position_learns_kmers_without_seeing_the_test_labels() -> None:
    (train, train_windows), (test, test_windows) = made(600, 1), made(300, 2)
    scores = kmers_and_position((train, train_windows), (test, test_windows), config=SMALL).score
    altering = test["classification"] == "Splice-altering"
    assert roc_auc_score(altering, scores) > 0.9
    blind = test.assign(classification="Normal", effect=0.0)
    np.testing.assert_array_equal(
        kmers_and_position((train, train_windows), (blind, test_windows), config=SMALL).score, scores
    )
