"""Where a variant stands, and what its position alone tells."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.meta_layer.evaluation.baselines import position_only
from meta_spliceai.splice_engine.meta_layer.evaluation.position import changed_span, position_features
from meta_spliceai.splice_engine.variants.table import as_variant_table

EXON = (101, 200)
"""1-based, inclusive, plus strand."""


def variants(
    rows: list[tuple[int, str, str]], strand: str = "+", sites: bool = True, **columns: object
) -> pd.DataFrame:
    first, last = EXON if strand == "+" else EXON[::-1]
    frame = pd.DataFrame(rows, columns=["pos", "ref", "alt"]).assign(
        variant_id=[f"v{i}" for i in range(len(rows))],
        chrom="chr1",
        strand=strand,
        gene="G",
        classification="Normal",
        source="toy",
        method="toy",
        group="g",
        acceptor_pos=first if sites else pd.NA,
        donor_pos=last if sites else pd.NA,
    )
    return as_variant_table(frame.assign(**columns), "toy")


@pytest.mark.parametrize(
    ("pos", "to_acceptor", "to_donor", "region"),
    [
        (100, -1, 100, "canonical acceptor"),
        (99, -2, 101, "canonical acceptor"),
        (98, -3, 102, "acceptor region"),
        (81, -20, 119, "acceptor region"),
        (80, -21, 120, "deep intronic"),
        (101, 0, 99, "acceptor region"),
        (103, 2, 97, "acceptor region"),
        (104, 3, 96, "exonic"),
        (197, 96, 3, "exonic"),
        (198, 97, 2, "donor region"),
        (200, 99, 0, "donor region"),
        (201, 100, -1, "canonical donor"),
        (202, 101, -2, "canonical donor"),
        (203, 102, -3, "donor region"),
        (208, 107, -8, "donor region"),
        (209, 108, -9, "deep intronic"),
    ],
)
def test_distances_and_regions_on_the_plus_strand(pos: int, to_acceptor: int, to_donor: int, region: str) -> None:
    row = position_features(variants([(pos, "A", "C")])).iloc[0]
    assert (row["to_acceptor"], row["to_donor"], row["region"]) == (to_acceptor, to_donor, region)
    assert row["in_exon"] == float(EXON[0] <= pos <= EXON[1])


def test_the_minus_strand_is_the_mirror_image() -> None:
    plus = position_features(variants([(pos, "A", "C") for pos in range(60, 241)]))
    minus = position_features(variants([(301 - pos, "A", "C") for pos in range(60, 241)], strand="-"))
    seen = plus.columns.difference(["acceptor_site", "donor_site"])
    pd.testing.assert_frame_equal(plus[seen], minus[seen])
    assert set(minus["acceptor_site"]) == {EXON[1]}


def test_changed_span_ignores_what_both_alleles_share() -> None:
    table = variants([(10, "A", "C"), (10, "AT", "A"), (10, "A", "AT"), (10, "ACG", "TCA"), (10, "CAAT", "CT")])
    first, last = changed_span(table)
    assert first.tolist() == [10, 11, 10, 10, 11]
    assert last.tolist() == [10, 11, 11, 12, 12]


def test_a_deletion_over_the_site_stands_at_the_site() -> None:
    rows = position_features(variants([(98, "ACGTACGT", "A"), (96, "ACG", "A"), (100, "A", "AT")]))
    assert rows["to_acceptor"].tolist() == [0, -3, 0]


def test_annotation_stands_in_where_the_exon_is_not_known() -> None:
    gene = Gene("G", "1", "+", 0, 500, ((0, 50), (100, 200), (400, 500)))
    other = Gene("H", "1", "-", 0, 500, ((0, 10), (300, 500)))
    table = variants([(99, "A", "C"), (150, "A", "C"), (420, "A", "C"), (300, "A", "C")], sites=False)
    rows = position_features(table, GeneAnnotation([other, gene], "GRCh38", "toy"))
    assert rows["to_acceptor"].tolist() == [-2, 49, 19, -101]
    assert rows["to_donor"].tolist() == [-49, 50, -220, -100]
    assert rows["in_exon"].tolist() == [0, 1, 1, 0]
    assert set(rows["site_source"]) == {"annotation"}
    unknown = position_features(table)
    assert unknown["nearest"].isna().all()
    assert set(unknown["region"]) == {"no site known"}


def by_position(seed: int, rows: int = 1500, strand: str = "+") -> pd.DataFrame:
    """Variants near the sites alter splicing, with chance; those elsewhere seldom do."""
    rng = np.random.default_rng(seed)
    pos = rng.integers(60, 241, rows)
    near = np.minimum(np.abs(pos - EXON[0]), np.abs(pos - EXON[1])) <= 4
    altering = rng.random(rows) < np.where(near, 0.8, 0.05)
    table = variants([(int(p), "A", "C") for p in pos], strand=strand)
    table["classification"] = np.where(altering, "Splice-altering", "Normal")
    return table


@pytest.mark.parametrize("strand", ["+", "-"])
def test_position_alone_learns_what_position_tells_and_transfers(strand: str) -> None:
    test = by_position(2, strand=strand)
    scores = position_only(by_position(1, strand=strand), test)
    altering = test["classification"] == "Splice-altering"
    assert roc_auc_score(altering, scores.score) > 0.8
    assert np.isnan(scores.signed).all()
    # a probability, and calibrated as a whole
    assert scores.score.mean() == pytest.approx(altering.mean(), abs=0.03)


def test_position_alone_sees_both_sites() -> None:
    """Variants just behind the acceptor alter splicing in short exons only; the nearer site alone cannot tell."""

    def made(seed: int) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        table = variants([(int(pos), "A", "C") for pos in rng.integers(101, 111, 600)])
        short = rng.random(600) < 0.5
        table["donor_pos"] = pd.array(np.where(short, 140, 400), dtype="Int64")
        table["classification"] = np.where(rng.random(600) < np.where(short, 0.8, 0.1), "Splice-altering", "Normal")
        return table

    test = made(2)
    scores = position_only(made(1), test).score
    assert roc_auc_score(test["classification"] == "Splice-altering", scores) > 0.8


def test_position_alone_does_not_see_the_labels_of_the_test_part() -> None:
    train, test = by_position(1), by_position(2)
    flipped = test.assign(
        classification=np.where(test["classification"] == "Normal", "Splice-altering", "Normal"),
        effect=1.0,
    )
    np.testing.assert_array_equal(position_only(train, test).score, position_only(train, flipped).score)
    assert len(position_only(train, test.iloc[:1]).score) == 1
    np.testing.assert_allclose(position_only(train, test.iloc[:5]).score, position_only(train, test).score[:5])


def test_classes_without_a_side_are_not_learned_from() -> None:
    train, test = by_position(1), by_position(2)
    extra = train.assign(classification="Low-frequency", variant_id="x" + train["variant_id"])
    both = pd.concat([train, extra.assign(pos=150)], ignore_index=True)
    np.testing.assert_allclose(position_only(both, test).score, position_only(train, test).score)


def test_few_distinct_positions_are_enough() -> None:
    train, test = by_position(1), by_position(2)
    train = train[train["pos"].isin([100, 150])]
    scores = position_only(train, test).score
    assert np.isfinite(scores).all()
    assert scores[test["pos"] == 100].mean() > scores[test["pos"] == 150].mean() + 0.4


def test_what_position_alone_refuses() -> None:
    train, test = by_position(1, rows=100), by_position(2, rows=50)
    with pytest.raises(InputError, match="training part: no Splice-altering variant among"):
        position_only(train[train["classification"] == "Normal"], test)
    with pytest.raises(InputError, match="no splice site is known for any training row"):
        position_only(train.assign(acceptor_pos=pd.NA), test)
    with pytest.raises(InputError, match="all training rows stand at the same place"):
        position_only(train.assign(pos=150), test)
