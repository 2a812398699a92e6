from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.memory import MemoryGenome
from meta_spliceai.splice_engine.genome.sequence import decode
from meta_spliceai.splice_engine.variants.allele_check import check_reference

Make = Callable[..., pd.DataFrame]
COMPLEMENT = str.maketrans("ACGT", "TGCA")


def test_keeps_what_matches_and_accounts_for_the_rest(variants: Make) -> None:
    genome = MemoryGenome({"chr1": "ACGTNNACGT"}, build="GRCh38", name="/somewhere/toy.fa")  # no folder in a result
    table = variants(
        [
            ("1", 1, "A", "C", "+"),
            ("chr1", 2, "CGT", "C", "-"),
            ("chr1", 3, "A", "C", "+"),
            ("chr1", 5, "A", "C", "+"),
            ("chr7", 1, "A", "C", "+"),
        ]
    )
    kept, coverage = check_reference(table, genome)
    assert list(kept["variant_id"]) == ["v0", "v1"]
    assert list(kept.index) == [0, 1]
    assert coverage.left_out == {
        "contig not in genome": 1,
        "no reference sequence at the variant": 1,
        "reference mismatch": 1,
    }
    assert coverage.examples["reference mismatch"] == ["row 3: v2 (chr1:3 A>C) expects A, toy.fa (GRCh38) has G"]
    assert coverage.examples["no reference sequence at the variant"][0].endswith("has N in toy.fa")
    assert "row 5: v4" in coverage.examples["contig not in genome"][0]


def test_an_allele_past_the_end_of_a_contig_is_not_kept(variants: Make) -> None:
    genome = MemoryGenome({"chr1": "ACGT"}, build="toy", name="toy")
    kept, coverage = check_reference(variants([("chr1", 4, "TA", "T", "+")]), genome)
    assert kept.empty
    assert coverage.left_out == {"no reference sequence at the variant": 1}


def test_a_genome_without_any_of_the_contigs_is_refused(variants: Make) -> None:
    genome = MemoryGenome({"chr1": "ACGT"}, build="toy", name="toy.fa")
    with pytest.raises(InputError, match=r"none of the table's contigs is in the genome: no contig 'chr2' in toy.fa"):
        check_reference(variants([("chr2", 1, "A", "C", "+")]), genome)


@pytest.fixture
def random_genome() -> MemoryGenome:
    return MemoryGenome(
        {"chr1": np.random.default_rng(0).integers(0, 4, 400).astype(np.uint8)}, build="GRCh37", name="toy.fa"
    )


def rows_from(genome: MemoryGenome, shift: int, complement: bool) -> list[tuple[str, int, str, str, str]]:
    rows = []
    for pos in range(1, 101):
        ref = decode(genome.fetch("chr1", pos - 1 + shift, pos + shift))
        ref = ref.translate(COMPLEMENT) if complement else ref
        rows.append(("chr1", pos, ref, "A" if ref != "A" else "C", "-"))
    return rows


def test_a_table_of_another_build_is_refused_as_a_whole(variants: Make, random_genome: MemoryGenome) -> None:
    with pytest.raises(InputError, match=r"of 100 reference alleles mismatch, first row .* another build than GRCh37"):
        check_reference(variants(rows_from(random_genome, shift=7, complement=False)), random_genome)


def test_alleles_on_the_genes_strand_are_recognised(variants: Make, random_genome: MemoryGenome) -> None:
    with pytest.raises(InputError, match="write ref and alt on the plus strand"):
        check_reference(variants(rows_from(random_genome, shift=0, complement=True)), random_genome)


def test_a_right_table_passes_whole(variants: Make, random_genome: MemoryGenome) -> None:
    kept, coverage = check_reference(variants(rows_from(random_genome, shift=0, complement=False)), random_genome)
    assert len(kept) == coverage.used == 100
