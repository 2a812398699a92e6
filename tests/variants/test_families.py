from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from meta_spliceai.splice_engine.genome.sequence import MemoryGenome, encode, reverse_complement
from meta_spliceai.splice_engine.variants.audit import audit_split, audit_splits
from meta_spliceai.splice_engine.variants.families import canonical_kmers, exon_families, exon_groups, gene_families
from meta_spliceai.splice_engine.variants.splits import gene_folds, group_split, make_split
from meta_spliceai.splice_engine.variants.table import Coverage

Make = Callable[..., pd.DataFrame]
RNG = np.random.default_rng(0)


def bases(length: int) -> np.ndarray:
    return RNG.integers(0, 4, length).astype(np.uint8)


def mutated(codes: np.ndarray, every: int) -> np.ndarray:
    copy = codes.copy()
    copy[::every] = (copy[::every] + 1) % 4
    return copy


def test_kmers_are_the_same_on_both_strands() -> None:
    codes = bases(80)[None]
    forward, _ = canonical_kmers(codes)
    backward, _ = canonical_kmers(reverse_complement(codes))
    assert len(forward) == 80 - 21 + 1
    np.testing.assert_array_equal(np.sort(forward), np.sort(backward))
    assert len(np.unique(forward)) == len(forward)


def test_kmers_skip_n_and_name_their_row() -> None:
    codes = np.stack([bases(30), encode("ACGTN" * 6), bases(30)])
    _, rows = canonical_kmers(codes)
    assert np.bincount(rows, minlength=3).tolist() == [10, 0, 10]
    assert len(canonical_kmers(bases(20)[None])[0]) == 0


def test_relatives_on_either_strand_stay_together(variants: Make) -> None:
    ancestor = bases(1200)
    genome = MemoryGenome(
        {
            "1": ancestor,
            "2": reverse_complement(mutated(ancestor, 40)),  # 97.5 % alike, other strand
            "3": mutated(ancestor, 4),  # 75 % alike: no word in common
            "4": bases(1200),
        },
        build="toy",
        name="toy",
    )
    rows = [
        (
            contig,
            600,
            "ACGT"[genome.fetch(contig, 599, 600)[0]],
            "ACGT"[(genome.fetch(contig, 599, 600)[0] + 1) % 4],
            "+",
        )
        for contig in "1234"
    ]
    table = variants(rows, group=["A", "B", "C", "D"])
    assert gene_families(table, genome, 501).tolist() == ["A", "A", "C", "D"]


def test_kinship_is_passed_on_and_neighbours_count(variants: Make) -> None:
    genome = MemoryGenome({"1": bases(6000)}, build="toy", name="toy")
    places = [1000, 1400, 1800, 4000]
    table = variants([("1", pos, "A", "C", "+") for pos in places], group=["C", "B", "A", "D"])
    assert gene_families(table, genome, 501).tolist() == ["A", "A", "A", "D"]
    assert gene_families(table, genome, 101).tolist() == ["C", "B", "A", "D"]


def test_repeats_do_not_make_kin(variants: Make) -> None:
    repeat = bases(300)
    contigs = {str(number): np.concatenate([bases(150), repeat, bases(150)]) for number in range(1, 13)}
    genome = MemoryGenome(contigs, build="toy", name="toy")
    table = variants([(contig, 300, "A", "C", "+") for contig in contigs], group=[f"g{contig}" for contig in contigs])
    assert len(set(gene_families(table, genome, 501))) == 12
    two = table.iloc[:2].reset_index(drop=True)
    assert len(set(gene_families(two, genome, 501))) == 1  # shared by two genes only: kinship


def test_variants_in_constructs_are_near_by_their_genomic_place(variants: Make) -> None:
    genome = MemoryGenome({"x": bases(170), "y": bases(170)}, build="toy", name="toy")
    table = variants([("x", 50, "A", "C", "+"), ("y", 60, "A", "C", "+")], group=["X", "Y"])
    far = table.assign(genome_chrom=["1", "chr1"], genome_pos=[1000, 9000])
    near = table.assign(genome_chrom=["1", "chr1"], genome_pos=[1000, 1100])
    assert len(set(gene_families(far, genome, 201))) == 2
    assert len(set(gene_families(near, genome, 201))) == 1


def test_one_group_is_its_own_family(variants: Make) -> None:
    genome = MemoryGenome({"1": bases(100)}, build="toy", name="toy")
    assert gene_families(variants([("1", 50, "A", "C", "+")], group="g"), genome, 51).tolist() == ["g"]


def test_genes_of_one_exon_or_one_construct_stay_together(variants: Make) -> None:
    genome = MemoryGenome({name: bases(2000) for name in ("1", "x", "y")}, build="toy", name="toy")
    rows = [("1", 100, "A", "C", "+"), ("1", 1500, "A", "C", "+"), ("1", 1900, "A", "C", "+")]
    table = variants(rows, group=["A", "B", "C"], acceptor_pos=[800, 800, 1850], donor_pos=[900, 900, 1880])
    assert gene_families(table, genome, 51).tolist() == ["A", "A", "C"]
    in_construct = variants(
        [("x", 30, "A", "C", "+"), ("x", 160, "A", "C", "+"), ("y", 30, "A", "C", "+")],
        group=["A", "B", "C"],
        genome_chrom=["1", "1", "2"],
        genome_pos=[100, 230, 100],
    )
    assert gene_families(in_construct, genome, 51).tolist() == ["A", "A", "C"]


def test_no_window_is_known_from_the_other_families_together(variants: Make) -> None:
    repeat = bases(300)
    contigs = {str(number): np.concatenate([bases(150), repeat, bases(150)]) for number in range(1, 13)}
    contigs |= {str(number): bases(600) for number in range(13, 25)}
    genome = MemoryGenome(contigs, build="toy", name="toy")
    rows = [(contig, 300, "A", "C", "+") for contig in contigs]
    labels = ["Normal", "Splice-altering"] * 12
    table = variants(rows, group=[f"g{contig}" for contig in contigs], gene="", classification=labels)
    # within 101 bases nothing but the repeat is seen, which stands in too many genes to be kinship
    families = gene_families(table, genome, 101)
    assert len(set(families[:12])) == 1
    assert len(set(families)) == 13
    # the groups by themselves leak, the families do not
    by_group = audit_splits(table, gene_folds(table, 3, 0, table["group"]), genome, 101)
    assert all("near-identical windows" in {leak.check for leak in audit.leaks} for audit in by_group)
    assert not any(audit.leaks for audit in audit_splits(table, gene_folds(table, 3, 0, families), genome, 101))


def test_exons_in_constructs_go_by_their_place_on_the_genome(variants: Make) -> None:
    genome = MemoryGenome({name: bases(170) for name in "vwxyz"}, build="toy", name="toy")
    table = variants(
        [(name, 60, "A", "C", "+") for name in "vwxyz"],
        group="one gene",
        acceptor_pos=40,
        donor_pos=120,
        genome_chrom="chr1",
        genome_pos=[1000, 1020, 9000, 9050, 20000],  # v and w, x and y: two constructs of one exon
    )
    assert exon_groups(table).tolist() == ["1:940", "1:940", "1:8940", "1:8940", "1:19940"]
    families = exon_families(table, genome, 101)
    assert families.nunique() == 3
    split = group_split(table, {"train": 0.5, "test": 0.5}, 0, "exon", families, "exon")
    assert not audit_split(table, split, genome, 101).leaks
    parts = np.array(["train", "test", "train", "test", "train"], dtype=object)
    by_construct = make_split(table, parts, "toy", "by construct", Coverage(len(table)), unit="exon")
    (leak,) = audit_split(table, by_construct, genome, 101).leaks
    assert (leak.check, leak.count) == ("overlapping windows", 2)
