"""Bases as bytes, and the one one-hot."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.base_layer.network import one_hot
from meta_spliceai.splice_engine.genome.sequence import decode, encode, reverse_complement


def test_letters_become_codes_and_codes_letters() -> None:
    assert encode("ACGTNacgtnRyU").tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 4, 4, 3]
    assert decode(encode("gattacaN")) == "GATTACAN"
    assert encode("").shape == (0,)


@pytest.mark.parametrize("letter", ["-", "*", "E", " ", "Δ"])
def test_what_is_no_nucleotide_is_refused_with_its_place(letter: str) -> None:
    with pytest.raises(InputError, match="at position 2"):
        encode(f"AC{letter}T")


def test_the_other_strand_is_read_from_its_own_start_along_the_last_axis() -> None:
    codes = np.stack([encode("AACGN"), encode("TTTTT")])
    assert [decode(row) for row in reverse_complement(codes)] == ["NCGTT", "AAAAA"]
    assert np.array_equal(reverse_complement(reverse_complement(codes)), codes)


def test_one_hot_has_channels_before_positions_and_n_is_a_column_of_zeros() -> None:
    hot = one_hot(torch.from_numpy(encode("CNT")))
    assert hot.tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert hot.dtype == torch.float32
    batch = one_hot(torch.zeros((2, 3, 7), dtype=torch.uint8))
    assert batch.shape == (2, 3, 4, 7)
    assert torch.equal(batch[..., 0, :], torch.ones(2, 3, 7))
