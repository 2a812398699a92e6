from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from meta_spliceai.errors import InputError, MissingExtraError
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.genome.packaged_genes import PackagedGenes
from meta_spliceai.splice_engine.genome.region_fasta import RegionFasta
from meta_spliceai.splice_engine.genome.sequence import decode
from meta_spliceai.splice_engine.genome.source import SequenceSource

pytestmark = pytest.mark.quickstart


@pytest.fixture(scope="module")
def genes() -> PackagedGenes:
    try:
        return PackagedGenes("hg19")
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("strand", "intron_start", "intron_end"), [("+", "GT", "AG"), ("-", "CT", "AC")])
def test_introns_begin_and_end_as_introns_do(
    genes: PackagedGenes, strand: str, intron_start: str, intron_end: str
) -> None:
    assert isinstance(genes, SequenceSource)
    usual = seen = 0
    for gene in GeneAnnotation.named("grch37").genes:
        if gene.strand != strand or gene.chrom != "3":
            continue
        for (_, end), (start, _) in zip(gene.exons, gene.exons[1:], strict=False):
            bases = decode(genes.fetch("3", end, end + 2)), decode(genes.fetch("3", start - 2, start))
            if "N" not in "".join(bases):
                seen += 1
                usual += bases == (intron_start, intron_end)
    assert seen > 500
    assert usual / seen > 0.95


def test_agrees_with_the_regions_of_the_same_build(genes: PackagedGenes, mirror: Path) -> None:
    regions = RegionFasta(mirror / "data" / "genome" / "hg19_regions.fa.gz", "GRCh37")
    both = 0
    for start, end in genes.regions("chr3")[:10]:
        one, two = genes.fetch("chr3", start, end), regions.fetch("chr3", start, end)
        known = (one < 4) & (two < 4)
        np.testing.assert_array_equal(one[known], two[known])
        both += int(known.sum())
    assert both > 100_000


def test_another_build_is_refused() -> None:
    with pytest.raises(InputError, match="sequence of GRCh37, not of hg38"):
        PackagedGenes("hg38")
