"""Reference alleles compared, alleles merged, alleles lifted over."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome, decode
from meta_spliceai.splice_engine.variants.alleles import (
    Chain,
    allele_keys,
    check_reference,
    lift_over,
    merge_alleles,
    merge_class,
)

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


# chr1 [100,200) -> chr1 [1100,1200), a gap of 10 (old) and 5 (new), then 50 more; chr2 [0,40) -> chr9 minus strand
TEXT = """chain 1000 chr1 1000 + 100 260 chr1 5000 + 1100 1255 1
100 10 5
50

chain 500 chr2 500 + 0 40 chr9 300 - 60 100 2
40

chain 10 chr1 1000 + 150 160 chr7 5000 + 0 10 3
10
"""


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    path = tmp_path / "toy.chain.gz"
    path.write_bytes(gzip.compress(TEXT.encode()))
    return Chain(path)


@pytest.mark.parametrize(
    ("chrom", "pos", "lifted"),
    [
        ("chr1", 101, ("1", 1101, "+")),
        ("1", 200, ("1", 1200, "+")),
        ("1", 201, None),  # in the gap
        ("1", 211, ("1", 1206, "+")),
        ("1", 260, ("1", 1255, "+")),
        ("1", 261, None),
        ("1", 155, ("1", 1155, "+")),  # covered twice: the better chain
        ("2", 1, ("9", 240, "-")),
        ("2", 40, ("9", 201, "-")),
        ("3", 5, None),
    ],
)
def test_positions(chain: Chain, chrom: str, pos: int, lifted: tuple[str, int, str] | None) -> None:
    assert chain.lift(chrom, pos) == lifted


def test_variants_with_sites_and_strands(chain: Chain, variants: Make) -> None:
    table = variants(
        [
            ("1", 150, "AC", "A", "+"),
            ("2", 10, "AC", "G", "+"),
            ("1", 199, "ACG", "A", "+"),
            ("1", 205, "A", "C", "+"),
        ],
        acceptor_pos=[120, 5, pd.NA, pd.NA],
        donor_pos=[205, 30, pd.NA, pd.NA],
    )
    moved, coverage = lift_over(table, chain)
    assert moved[["chrom", "pos", "ref", "alt", "strand"]].to_numpy().tolist() == [
        ["1", 1150, "AC", "A", "+"],
        ["9", 230, "GT", "C", "-"],
    ]
    assert moved["acceptor_pos"].tolist() == [1120, 236]
    assert moved["donor_pos"].isna().tolist() == [True, False]
    assert coverage.left_out == {"no place in the other build": 2}


def test_an_allele_across_a_gap_is_not_lifted(chain: Chain, variants: Make) -> None:
    table = variants([("1", 195, "ACGTACGTACGTACGTAC", "A", "+")])
    moved, coverage = lift_over(table, chain)
    assert moved.empty
    assert coverage.left_out == {"reference allele is broken up in the other build": 1}


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no chain file at"):
        Chain(tmp_path / "absent.chain")


def test_every_open_variant_lands_where_its_source_says(mirror: Path) -> None:
    chain = Chain(mirror / "data" / "genome" / "hg19ToHg38.over.chain")
    rows = pd.read_csv(mirror / "data" / "splicevardb_format" / "open_sources.tsv", sep="\t", dtype=str).iloc[::10]
    for old, new in zip(rows["hg19"].str.split("-"), rows["hg38"].str.split("-"), strict=True):
        found = chain.lift(old[0], int(old[1]))
        assert found is not None
        assert found[:2] == (new[0], int(new[1]))
