from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.variants.families import exon_groups
from meta_spliceai.splice_engine.variants.splits import (
    Split,
    chromosome_folds,
    chromosome_split,
    gene_folds,
    group_split,
    leave_one_chromosome_out,
    spliceai_clean_split,
)

Make = Callable[..., pd.DataFrame]
CHROMOSOMES = ["2", "3", "4", "7", "21", "22", "X", "chr8"]


@pytest.fixture
def table(variants: Make) -> pd.DataFrame:
    """20 variants on each of eight chromosomes, five genes each, both classes in every gene."""
    rows = [(chrom, 1000 + 10 * at, "A", "C", "+") for chrom in CHROMOSOMES for at in range(20)]
    return variants(
        rows,
        group=[f"{row[0]}-gene{at // 4 % 5}" for at, row in enumerate(rows)],
        classification=["Normal" if at % 2 else "Splice-altering" for at in range(len(rows))],
    )


def parts_of(split: Split, keys: pd.Series) -> pd.Series:
    used = split.parts != ""
    return pd.Series(split.parts[used]).groupby(keys[used].to_numpy()).nunique()


def test_test_chromosomes_are_held_out_and_validation_is_other_whole_chromosomes(table: pd.DataFrame) -> None:
    split = chromosome_split(table, ["chr21", "22"], seed=0, validation=0.2)
    assert set(table["chrom"].iloc[split.indices("test")]) == {"21", "22"}
    assert parts_of(split, table["chrom"]).max() == 1
    assert len(split.indices("validation")) in (20, 40)
    assert split.unit == "chromosome"
    assert "test chr 21, 22" in split.description


def test_relatives_of_test_genes_are_left_out_and_counted(table: pd.DataFrame) -> None:
    families = table["group"].replace({"2-gene1": "21-gene0", "3-gene2": "4-gene2"})
    split = chromosome_split(table, ["21"], seed=8, validation=0.15, families=families)  # validation is chr 4
    lost = table["group"][split.parts == ""]
    assert set(lost) == {"2-gene1", "3-gene2"}
    assert split.coverage.left_out == {"of a gene whose relative is in validation or test (paralog or neighbour)": 8}
    assert parts_of(split, families).max() == 1


def test_constructs_go_by_their_genomic_chromosome(table: pd.DataFrame) -> None:
    constructs = table.assign(genome_chrom=table["chrom"], genome_pos=table["pos"], chrom="construct")
    split = chromosome_split(constructs, ["21"], seed=0)
    assert set(constructs["genome_chrom"].iloc[split.indices("test")]) == {"21"}


def test_spliceai_clean_tests_only_what_the_networks_never_saw(table: pd.DataFrame) -> None:
    split = spliceai_clean_split(table, seed=0)
    assert set(table["chrom"].iloc[split.indices("test")]) == {"3", "7"}
    assert split.name == "spliceai-clean"
    with pytest.raises(InputError, match="no variant on chromosomes 1, 3, 5, 7 or 9"):
        spliceai_clean_split(table[~table["chrom"].isin(["3", "7"])].reset_index(drop=True), seed=0)


@pytest.mark.parametrize("seed", [0, 1])
def test_chromosome_folds_test_every_row_once(table: pd.DataFrame, seed: int) -> None:
    splits = chromosome_folds(table, 4, seed)
    tested = np.concatenate([split.indices("test") for split in splits])
    np.testing.assert_array_equal(np.sort(tested), np.arange(len(table)))
    for split in splits:
        assert parts_of(split, table["chrom"]).max() == 1
        assert len(split.indices("validation")) == len(split.indices("test")) == 40
    assert len({split.name for split in splits}) == len({split.digest for split in splits}) == 4


def test_gene_folds_keep_families_whole(table: pd.DataFrame) -> None:
    families = table["group"].replace({"2-gene1": "21-gene0"})
    splits = gene_folds(table, 5, 0, families)
    assert np.sort(np.concatenate([split.indices("test") for split in splits])).tolist() == list(range(len(table)))
    for split in splits:
        assert parts_of(split, families).max() == 1
        assert split.unit == "gene"


def test_leave_one_chromosome_out(table: pd.DataFrame) -> None:
    lonely = table.copy()
    lonely.loc[lonely["chrom"] == "X", "classification"] = "Normal"
    splits = leave_one_chromosome_out(lonely, seed=0)
    assert [split.name for split in splits] == [
        "leave-out-2",
        "leave-out-3",
        "leave-out-4",
        "leave-out-7",
        "leave-out-8",
        "leave-out-21",
        "leave-out-22",
        "leave-out-X",
    ]
    for split in splits:
        assert parts_of(split, table["chrom"]).max() == 1
        assert all(len(split.indices(part)) for part in ("train", "validation", "test"))


def test_a_fold_without_a_class_is_named(table: pd.DataFrame) -> None:
    lonely = table.copy()
    lonely.loc[lonely["chrom"].isin(["2", "3"]), "classification"] = "Normal"
    with pytest.raises(InputError, match=r"chromosome-folds-\dof8: its (test|validation) part .*Splice-altering"):
        chromosome_folds(lonely, 8, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda table: chromosome_split(table, ["19"], 0), "no variant is on chromosome '19'; there are 2, 3, 4, 7, 8"),
        (lambda table: chromosome_split(table, [], 0), "give a list, like 21, 22"),
        (lambda table: chromosome_folds(table, 9, 0), "8 chromosomes cannot fill 9 folds"),
        (lambda table: gene_folds(table.assign(group=""), 5, 0), "160 rows have no group"),
    ],
)
def test_what_cannot_be_split(table: pd.DataFrame, call: Callable[[pd.DataFrame], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(table)


def test_exons_stay_whole_and_near_ones_together(variants: Make) -> None:
    places = [(100, 100, 200), (260, 250, 300), (5000, 4900, 5100), (9000, pd.NA, pd.NA), (9500, pd.NA, pd.NA)]
    table = variants(
        [("1", pos, "A", "C", "+") for pos, _, _ in places],
        acceptor_pos=[acceptor for _, acceptor, _ in places],
        donor_pos=[donor for _, _, donor in places],
    )
    groups = exon_groups(table)
    assert groups.tolist() == ["1:100", "1:100", "1:4900", "1:9000", "1:9000"]
    split = group_split(table, {"train": 0.5, "validation": 0.25, "test": 0.25}, 0, "exon", groups, "exon")
    assert split.unit == "exon"
    assert parts_of(split, groups).max() == 1
    assert set(split.parts) == {"train", "validation", "test"}
