from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meta_spliceai.datasets.allowlisted_pickle import read_arrays
from meta_spliceai.errors import IntegrityError


def test_arrays_and_scalars_come_through(tmp_path: Path) -> None:
    path = tmp_path / "arrays.pkl"
    path.write_bytes(pickle.dumps({"x": np.eye(3, dtype=np.int64), "at": np.int64(7), "name": "toy"}))
    content = read_arrays(path)
    np.testing.assert_array_equal(content["x"], np.eye(3))
    assert (content["at"], content["name"]) == (7, "toy")


class Runs:
    """A pickle of this makes a folder when it is loaded carelessly."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.mkdir, (self.folder,))


def test_nothing_else_is_run(tmp_path: Path) -> None:
    path = tmp_path / "hostile.pkl"
    path.write_bytes(pickle.dumps({"x": Runs(tmp_path / "made")}))
    with pytest.raises(IntegrityError, match="it names"):
        read_arrays(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [b"", b"hello", pickle.dumps({"x": np.zeros(50)})[:-20], pickle.dumps([1, 2])])
def test_damaged_files_are_an_integrity_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.pkl"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"damaged\.pkl"):
        read_arrays(path)
