"""A split as a file: one Parquet with every variant's part, and in its header what it is and its hash."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.files import atomic_write
from meta_spliceai.read_hostile import one_error
from meta_spliceai.splice_engine.variants.coverage import Coverage
from meta_spliceai.splice_engine.variants.splits import LEFT_OUT, PARTS, Split, split_digest
from meta_spliceai.splice_engine.variants.table import SCHEMA, as_variant_table

HEADER = b"meta_spliceai.split"

_ALSO_KEPT = ("genome_chrom", "genome_pos", "sites_mutated", "sequence")
"""Columns beside the schema's that an audit reads."""


@dataclass(frozen=True)
class StoredSplit:
    """A split read from a file.

    Attributes:
        split: the split.
        table: its variants.
        data: data set, options and digest it was made for, so that the sequence can be loaded again; may be empty.
    """

    split: Split
    table: pd.DataFrame
    data: dict[str, object]


def write_split(path: Path, split: Split, table: pd.DataFrame, data: Mapping[str, object] | None = None) -> None:
    """Write a split, whole or not at all.

    Args:
        path: a `.parquet` file.
        split: of the table.
        table: the variants, in the split's order.
        data: {"name": data set, "options": {...}, "digest": ...}, for an audit.

    Raises:
        InputError: the split is of another table.
    """
    if split_digest(table, split.parts) != split.digest:
        raise InputError(f"split {split.name} was not made of these {len(table)} variants")
    columns = [*SCHEMA, *[column for column in _ALSO_KEPT if column in table]]
    frame = table[columns].assign(part=split.parts)
    header = {
        "name": split.name,
        "digest": split.digest,
        "description": split.description,
        "unit": split.unit,
        "coverage": split.coverage.to_json(),
        "data": dict(data or {}),
    }
    stored = pa.Table.from_pandas(frame, preserve_index=False)
    stored = stored.replace_schema_metadata({**(stored.schema.metadata or {}), HEADER: json.dumps(header).encode()})
    buffer = io.BytesIO()
    pq.write_table(stored, buffer)
    with atomic_write(Path(path), "wb") as handle:
        handle.write(buffer.getvalue())


def read_split(path: Path) -> StoredSplit:
    """Read a split and compare its hash.

    Raises:
        InputError: no such file, or no split.
        IntegrityError: the rows are not those the hash was made of.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no split at {path}; give a .parquet file written with a run or by write_split")
    with one_error(f"{path}, read as a split,", "make the split anew", also=(pa.ArrowException,)):
        return _split_of(pq.read_table(path), path)


def _split_of(stored: pa.Table, path: Path) -> StoredSplit:
    metadata = stored.schema.metadata or {}
    if HEADER not in metadata:
        raise InputError(f"{path} is a Parquet file without a split's header; splits are written by write_split")
    header = json.loads(metadata[HEADER])
    frame = stored.to_pandas()
    parts = frame["part"].to_numpy(dtype=object)
    table = as_variant_table(frame.drop(columns="part"), str(path))
    if split_digest(table, parts) != header["digest"]:
        raise IntegrityError(
            f"{path}: its rows are not those of its hash {header['digest'][:12]}…; make the split anew"
        )
    if not set(np.unique(parts.astype(str))) <= {*PARTS, LEFT_OUT}:
        raise IntegrityError(f"{path}: column 'part' holds other words than {', '.join(PARTS)}")
    coverage = Coverage.from_json(header["coverage"])
    split = Split(header["name"], parts, header["digest"], header["description"], coverage, header["unit"])
    return StoredSplit(split, table, dict(header["data"]))
