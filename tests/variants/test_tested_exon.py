from __future__ import annotations

import pytest

from meta_spliceai.splice_engine.genome.annotation import Gene
from meta_spliceai.splice_engine.variants.tested_exon import nearest_exon

EXONS = ((100, 200), (300, 310), (900, 1000))


@pytest.mark.parametrize(
    ("pos", "number", "acceptor", "donor", "distance"),
    [
        (150, 1, None, 200, 49),  # within an exon
        (201, 1, None, 200, 1),
        (251, 2, 301, 310, 50),
        (305, 2, 301, 310, 4),
        (600, 2, 301, 310, 290),
        (610, 3, 901, None, 291),
        (50, 1, None, 200, 51),
    ],
)
def test_plus_strand(pos: int, number: int, acceptor: int | None, donor: int | None, distance: int) -> None:
    exon, found = nearest_exon(Gene("g", "1", "+", 100, 1000, EXONS), pos)
    assert (exon.number, exon.acceptor, exon.donor, found) == (number, acceptor, donor, distance)


@pytest.mark.parametrize(
    ("pos", "number", "acceptor", "donor"), [(150, 3, 200, None), (305, 2, 310, 301), (950, 1, None, 901)]
)
def test_minus_strand(pos: int, number: int, acceptor: int | None, donor: int | None) -> None:
    exon, _ = nearest_exon(Gene("g", "1", "-", 100, 1000, EXONS), pos)
    assert (exon.number, exon.acceptor, exon.donor) == (number, acceptor, donor)


def test_within_a_long_exon_no_near_neighbour_is_preferred() -> None:
    gene = Gene("g", "1", "+", 0, 2000, ((0, 100), (110, 2000)))
    assert nearest_exon(gene, 1000)[0].number == 2
