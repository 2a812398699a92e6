"""Splits by group and by site, and their files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.splice_engine.variants.splits import (
    HEADER,
    group_split,
    position_block_split,
    read_split,
    write_split,
)

Make = Callable[..., pd.DataFrame]
THIRDS = {"train": 0.6, "validation": 0.2, "test": 0.2}


@pytest.fixture
def many(variants: Make) -> pd.DataFrame:
    """300 variants in 30 groups of unlike size, two classes in turn."""
    rng = np.random.default_rng(0)
    groups = np.concatenate([np.arange(30), rng.integers(0, 30, 270)])
    rows = [("chr1", pos + 1, "A", "C", "+") for pos in range(300)]
    return variants(
        rows,
        group=[f"gene{group}" for group in groups],
        classification=["Normal" if at % 2 else "Splice-altering" for at in range(300)],
    )


@pytest.fixture
def sites(variants: Make) -> pd.DataFrame:
    """Three singles at each of sites 2 to 31 and a double at each pair of neighbours, both classes everywhere."""
    listed = [str(site) for site in range(2, 32) for _ in range(3)] + [f"{site};{site + 1}" for site in range(2, 31)]
    rows = [("chr1", at + 1, "A", "C", "+") for at in range(len(listed))]
    labels = ["Normal" if at % 2 else "Splice-altering" for at in range(len(listed))]
    return variants(rows, sites_mutated=listed, classification=labels)


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_in_two_parts_and_shares_are_near(many: pd.DataFrame, seed: int) -> None:
    split = group_split(many, THIRDS, seed, "toy")
    parts = pd.Series(split.parts)
    assert parts.groupby(many["group"]).nunique().max() == 1
    assert set(parts) == set(THIRDS)
    for part, share in THIRDS.items():
        assert abs((parts == part).mean() - share) < 0.08
    np.testing.assert_array_equal(split.indices("test"), np.flatnonzero(parts == "test"))


def test_seed_and_content_make_the_digest(many: pd.DataFrame) -> None:
    first, again, other = (group_split(many, THIRDS, seed, "toy") for seed in (1, 1, 2))
    assert first.digest == again.digest != other.digest
    shuffled = many.sample(frac=1, random_state=3).reset_index(drop=True)
    assert group_split(shuffled, THIRDS, 1, "another name").digest == first.digest
    changed = many.assign(alt=["G", *many["alt"][1:]])
    assert group_split(changed, THIRDS, 1, "toy").digest != first.digest


@pytest.mark.parametrize("seed", range(5))
def test_no_mutated_site_is_in_two_parts(sites: pd.DataFrame, seed: int) -> None:
    split = position_block_split(sites, THIRDS, seed)
    seen: dict[str, set[str]] = {}
    for part, listed in zip(split.parts, sites["sites_mutated"], strict=True):
        if part:
            for site in listed.split(";"):
                seen.setdefault(site, set()).add(part)
    assert all(len(parts) == 1 for parts in seen.values())
    assert len(seen) == 30
    left_out = sites["sites_mutated"][split.parts == ""]
    assert len(left_out) > 0
    assert left_out.str.contains(";").all()
    assert split.coverage.left_out == {"straddles a border between two parts": len(left_out)}
    assert split.coverage.used == len(sites) - len(left_out)


def test_missing_sites_column(many: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="no column 'sites_mutated'"):
        position_block_split(many, THIRDS, 0)


def test_a_part_without_a_class_is_named(many: pd.DataFrame) -> None:
    lonely = many.assign(
        classification=["Splice-altering" if group == "gene7" else "Normal" for group in many["group"]]
    )
    with pytest.raises(InputError, match="has no variant of class Splice-altering; use another seed"):
        group_split(lonely, THIRDS, 0, "toy")


def test_fewer_groups_than_parts(variants: Make) -> None:
    table = variants([("chr1", 1, "A", "C", "+"), ("chr1", 2, "A", "C", "+")], group=["a", "b"])
    with pytest.raises(InputError, match="2 groups cannot fill 3 parts"):
        group_split(table, THIRDS, 0, "toy")
    halves = group_split(table, {"train": 0.999, "test": 0.001}, 0, "toy")
    assert sorted(halves.parts) == ["test", "train"]


def test_rows_without_a_group_are_named(variants: Make) -> None:
    table = variants([("chr1", 1, "A", "C", "+"), ("chr1", 2, "A", "C", "+")], group=["a", ""])
    with pytest.raises(InputError, match="1 rows have no group, first v1"):
        group_split(table, THIRDS, 0, "toy")


@pytest.fixture
def table(variants: Make) -> pd.DataFrame:
    rows = [("chr1", pos + 1, "A", "C", "+") for pos in range(60)]
    return variants(rows, group=[f"g{pos % 12}" for pos in range(60)], acceptor_pos=[pd.NA, *range(1, 60)])


def test_comes_back_as_it_was(tmp_path: Path, table: pd.DataFrame) -> None:
    split = group_split(table, {"train": 0.5, "validation": 0.25, "test": 0.25}, 0, "toy", unit="gene")
    path = tmp_path / "split.parquet"
    write_split(path, split, table.assign(sites_mutated="7"), {"name": "toy", "options": {"context": "genome"}})
    again = read_split(path)
    np.testing.assert_array_equal(again.split.parts, split.parts)
    assert (again.split.digest, again.split.unit, again.split.name) == (split.digest, "gene", "toy")
    assert again.split.coverage.used == 60
    assert again.data["options"] == {"context": "genome"}
    pd.testing.assert_frame_equal(again.table[table.columns], table)
    assert set(again.table["sites_mutated"]) == {"7"}


def test_an_altered_file_is_noticed(tmp_path: Path, table: pd.DataFrame) -> None:
    split = group_split(table, {"train": 0.5, "test": 0.5}, 0, "toy")
    path = tmp_path / "split.parquet"
    write_split(path, split, table)
    stored = pq.read_table(path)
    frame = stored.to_pandas()
    frame.loc[0, "part"] = "test" if frame.loc[0, "part"] == "train" else "train"
    altered = stored.from_pandas(frame, preserve_index=False).replace_schema_metadata(
        {HEADER: stored.schema.metadata[HEADER]}
    )
    pq.write_table(altered, path)
    with pytest.raises(IntegrityError, match="its rows are not those of its hash"):
        read_split(path)


def test_files_that_are_no_split(tmp_path: Path, table: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="no split at"):
        read_split(tmp_path / "absent.parquet")
    text = tmp_path / "text.parquet"
    text.write_text("hello")
    with pytest.raises(IntegrityError, match="read as a split, is truncated or damaged"):
        read_split(text)
    plain = tmp_path / "plain.parquet"
    table.to_parquet(plain)
    with pytest.raises(IntegrityError, match="read as a split"):
        read_split(plain)
