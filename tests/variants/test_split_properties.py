"""Splits of random tables: what must stay together does, every row is accounted for, and order does not count."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.variants.families import canonical_kmers, exon_groups
from meta_spliceai.splice_engine.variants.splits import (
    LEFT_OUT,
    PARTS,
    TEST,
    TRAIN,
    VALIDATION,
    Split,
    chromosome_folds,
    chromosome_split,
    gene_folds,
    group_split,
    leave_one_chromosome_out,
    position_block_split,
    read_split,
    split_digest,
    write_split,
)
from meta_spliceai.splice_engine.variants.table import as_variant_table
from tests.properties import quick

QUICK = quick(15)
FRACTIONS = st.sampled_from(
    [{TRAIN: 0.6, VALIDATION: 0.2, TEST: 0.2}, {TRAIN: 0.5, TEST: 0.5}, {TRAIN: 1, VALIDATION: 9, TEST: 5}]
)


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Variants of both classes on some chromosomes, in groups of unlike size of which one reaches over chromosomes."""
    row = st.tuples(st.integers(1, 6), st.integers(0, 9), st.integers(1, 99))
    rows = draw(st.lists(row, min_size=40, max_size=80))
    frame = pd.DataFrame(rows, columns=["chrom", "group", "pos"])
    frame["chrom"] = [f"chr{number}" if number % 2 else str(number) for number in frame["chrom"]]
    near = frame["chrom"].str.removeprefix("chr") + "-" + (frame["group"] % 3).astype(str)
    frame["group"] = near.where(frame["group"] > 0, "over all")
    frame["variant_id"] = [f"v{at} é" for at in range(len(frame))]
    frame["classification"] = ["Normal" if at % 2 else "Splice-altering" for at in range(len(frame))]
    return as_variant_table(
        frame.assign(ref="A", alt="C", strand="+", gene="", source="toy", method="toy", effect=0.5), "toy"
    )


def shuffled(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    return table.sample(frac=1, random_state=seed).reset_index(drop=True)


def parts_of(table: pd.DataFrame, split: Split) -> dict[str, str]:
    return dict(zip(table["variant_id"], split.parts, strict=True))


def check(table: pd.DataFrame, split: Split, kept_together: pd.Series) -> None:
    """No unit in two parts, and an account that adds up."""
    used = split.parts != LEFT_OUT
    assert set(split.parts) <= {*PARTS, LEFT_OUT}
    of_unit = pd.Series(split.parts)[used].groupby(kept_together.to_numpy()[used]).nunique()
    assert of_unit.max() == 1
    assert split.coverage.read == len(table)
    assert split.coverage.used == used.sum()
    assert split.digest == split_digest(table, split.parts)
    for part in PARTS:
        assert (split.parts[split.indices(part)] == part).all()


def made(make: Callable[[], object]) -> object | None:
    """What is made, or None where the table cannot be split so, which is said in one line."""
    try:
        return make()
    except InputError as error:
        if not str(error).startswith("split "):
            raise
        return None


@QUICK
@given(tables(), FRACTIONS, st.integers(0, 5))
def test_groups_stay_whole_and_the_order_of_rows_does_not_count(
    table: pd.DataFrame, fractions: dict[str, float], seed: int
) -> None:
    split = made(lambda: group_split(table, fractions, seed, "toy"))
    other = shuffled(table, seed)
    again = made(lambda: group_split(other, fractions, seed, "toy"))
    if not isinstance(split, Split):
        assert again is None
        return
    assert isinstance(again, Split)
    check(table, split, table["group"])
    assert set(split.parts) == set(fractions)
    assert again.digest == split.digest
    assert parts_of(other, again) == parts_of(table, split)
    # No single group could move and bring all parts nearer to their shares.
    total = sum(fractions.values())
    target = {part: share / total * len(table) for part, share in fractions.items()}
    sizes = {part: int((split.parts == part).sum()) for part in fractions}
    worth = sum((sizes[part] - target[part]) ** 2 / target[part] for part in fractions)
    for group, size in table["group"].value_counts().items():
        here = split.parts[(table["group"] == group).to_numpy()][0]
        if set(table["group"][split.parts == here]) == {group}:
            continue
        for there in set(fractions) - {here}:
            moved = sizes | {here: sizes[here] - size, there: sizes[there] + size}
            assert sum((moved[part] - target[part]) ** 2 / target[part] for part in fractions) >= worth - 1e-6


@QUICK
@given(tables(), st.integers(0, 5), st.sets(st.sampled_from("123456"), min_size=1, max_size=2))
def test_chromosomes_are_held_out_with_all_relatives(table: pd.DataFrame, seed: int, test: set[str]) -> None:
    split = made(lambda: chromosome_split(table, sorted(test), seed))
    if not isinstance(split, Split):
        return
    check(table, split, table["group"])
    chrom = table["chrom"].str.removeprefix("chr")
    assert set(chrom[split.parts == TEST]) <= test
    assert ((split.parts == TEST) == chrom.isin(test)).all()
    check(table, split, chrom)
    left = table[split.parts == LEFT_OUT]
    assert left["group"].isin(table["group"][np.isin(split.parts, [TEST, VALIDATION])]).all()


@QUICK
@given(tables(), st.integers(3, 4), st.integers(0, 5), st.booleans())
def test_folds_test_every_group_once(table: pd.DataFrame, folds: int, seed: int, by_gene: bool) -> None:
    splits = made(lambda: (gene_folds if by_gene else chromosome_folds)(table, folds, seed))
    if not isinstance(splits, list):
        return
    assert len(splits) == folds
    for split in splits:
        check(table, split, table["group"])
    tested = np.sum([split.parts == TEST for split in splits], axis=0)
    assert (tested == 1).all()
    if by_gene:
        assert all((split.parts != LEFT_OUT).all() for split in splits)


@QUICK
@given(tables(), st.integers(0, 5))
def test_each_chromosome_is_left_out_once(table: pd.DataFrame, seed: int) -> None:
    splits = made(lambda: leave_one_chromosome_out(table, seed))
    if not isinstance(splits, list):
        return
    chrom = table["chrom"].str.removeprefix("chr")
    assert [split.name for split in splits] == [f"leave-out-{one}" for one in sorted(set(chrom), key=int)]
    for split in splits:
        check(table, split, table["group"])
        assert set(chrom[split.parts == TEST]) == {split.name.removeprefix("leave-out-")}


@QUICK
@given(tables(), FRACTIONS, st.integers(0, 5), st.data())
def test_no_mutated_site_is_in_two_parts_whatever_rows_share(
    table: pd.DataFrame, fractions: dict[str, float], seed: int, data: st.DataObject
) -> None:
    sites = [sorted(data.draw(st.sets(st.integers(1, 40), min_size=1, max_size=2))) for _ in range(len(table))]
    table = table.assign(sites_mutated=[";".join(map(str, one)) for one in sites])
    split = made(lambda: position_block_split(table, fractions, seed))
    if not isinstance(split, Split):
        return
    parts: dict[int, set[str]] = {}
    for one, part in zip(sites, split.parts, strict=True):
        for site in one if part != LEFT_OUT else ():
            parts.setdefault(site, set()).add(part)
    assert all(len(found) == 1 for found in parts.values())
    check(table, split, pd.Series([one[0] for one in sites]))


@QUICK
@given(tables(), st.integers(0, 5))
def test_a_split_comes_back_from_its_file(
    tmp_path_factory: pytest.TempPathFactory, table: pd.DataFrame, seed: int
) -> None:
    split = made(lambda: group_split(table, {TRAIN: 1, TEST: 1}, seed, "toy Δ"))
    if not isinstance(split, Split):
        return
    path = tmp_path_factory.mktemp("split") / "split.parquet"
    write_split(path, split, table, {"name": "toy", "options": {"context": "genome"}})
    found = read_split(path)
    np.testing.assert_array_equal(found.split.parts, split.parts)
    assert (found.split.name, found.split.digest, found.split.unit) == ("toy Δ", split.digest, split.unit)
    assert found.split.coverage == split.coverage
    assert found.data == {"name": "toy", "options": {"context": "genome"}}
    pd.testing.assert_frame_equal(found.table, table)


@QUICK
@given(tables(), st.integers(1, 60))
def test_exons_of_one_group_reach_as_far_as_their_neighbours_are_near(table: pd.DataFrame, apart: int) -> None:
    """Variants without an exon: those nearer than `apart` to each other share a group, along a chain of such."""
    groups = exon_groups(table, apart)
    chrom = table["chrom"].str.removeprefix("chr")
    for one in set(chrom):
        places = table["pos"][chrom == one].sort_values()
        names = groups[places.index].to_numpy()
        near = np.diff(places.to_numpy()) < apart
        assert ((names[1:] == names[:-1]) == near).all()
    assert groups.groupby(chrom.to_numpy()).unique().explode().is_unique


@QUICK
@given(st.lists(st.text("ACGTN", min_size=25, max_size=25), min_size=1, max_size=5))
def test_kmers_are_those_of_the_text_on_either_strand(windows: list[str]) -> None:
    codes = np.array([["ACGTN".index(base) for base in window] for window in windows], dtype=np.uint8)
    found = canonical_kmers(codes)
    expected = []
    for row, window in enumerate(windows):
        for at in range(25 - 21 + 1):
            kmer = window[at : at + 21]
            turned = kmer.translate(str.maketrans("ACGT", "TGCA"))[::-1]
            if "N" not in kmer:
                expected.append((row, min(int("".join(map(str, map("ACGT".index, one))), 4) for one in (kmer, turned))))
    assert list(zip(found.rows.tolist(), found.kmers.tolist(), strict=True)) == expected
