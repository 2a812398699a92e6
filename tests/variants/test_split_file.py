from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.splice_engine.variants.split_file import HEADER, read_split, write_split
from meta_spliceai.splice_engine.variants.splits import group_split

Make = Callable[..., pd.DataFrame]


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


def test_a_split_of_other_variants_is_not_written(tmp_path: Path, table: pd.DataFrame) -> None:
    split = group_split(table, {"train": 0.5, "test": 0.5}, 0, "toy")
    with pytest.raises(InputError, match="was not made of these 60 variants"):
        write_split(tmp_path / "split.parquet", split, table.assign(alt="G"))
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_split(tmp_path: Path, table: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="no split at"):
        read_split(tmp_path / "absent.parquet")
    text = tmp_path / "text.parquet"
    text.write_text("hello")
    with pytest.raises(IntegrityError, match="read as a split, is truncated or damaged"):
        read_split(text)
    plain = tmp_path / "plain.parquet"
    table.to_parquet(plain)
    with pytest.raises(InputError, match="without a split's header"):
        read_split(plain)
