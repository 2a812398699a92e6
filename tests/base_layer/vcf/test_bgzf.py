"""Blocked gzip: what pysam writes is read, what is written pysam reads, and a cut file never passes for a whole one."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pysam
import pytest

from meta_spliceai.errors import IntegrityError
from meta_spliceai.splice_engine.base_layer.vcf.bgzf import END_BLOCK, compress, read_blocks

TEXT = b"".join(b"line %d of a text that fills more than one block\n" % number for number in range(6000))


def read(data: bytes) -> bytes:
    return b"".join(read_blocks(io.BytesIO(data), "x.vcf.gz"))


def test_round_trip_and_pysam_agree(tmp_path: Path) -> None:
    packed = compress(TEXT) + END_BLOCK
    assert read(packed) == TEXT
    path = tmp_path / "ours.gz"
    path.write_bytes(packed)
    with pysam.BGZFile(str(path)) as handle:
        assert handle.read() == TEXT
    with pysam.BGZFile(str(tmp_path / "theirs.gz"), "w") as handle:
        handle.write(TEXT)
    assert read((tmp_path / "theirs.gz").read_bytes()) == TEXT


def test_text_that_does_not_compress_fits_its_blocks() -> None:
    noise = np.random.default_rng(0).bytes(300_000)
    assert read(compress(noise) + END_BLOCK) == noise


def test_every_cut_is_noticed() -> None:
    packed = compress(TEXT) + END_BLOCK
    first = len(compress(TEXT[:0xFF00]))
    for cut in (1, 5, 17, 30, 500, first, first + 3, len(packed) - len(END_BLOCK), len(packed) - 1):
        with pytest.raises(IntegrityError, match="truncated"):
            read(packed[:cut])


@pytest.mark.parametrize("place", [40, 2000, -40])
def test_a_damaged_block_is_noticed(place: int) -> None:
    packed = bytearray(compress(TEXT) + END_BLOCK)
    packed[place] ^= 0x55
    with pytest.raises(IntegrityError):
        read(bytes(packed))


def test_plain_gzip_is_read_and_its_truncation_noticed() -> None:
    plain = gzip.compress(TEXT)
    assert read(plain) == TEXT
    assert read(plain + gzip.compress(b"second member\n")) == TEXT + b"second member\n"
    with pytest.raises(IntegrityError, match="truncated"):
        read(plain[:-10])


def test_a_gzip_bomb_comes_out_in_pieces() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    pieces = read_blocks(io.BytesIO(bomb), "x")
    assert max(len(piece) for piece in pieces) <= 1 << 20


@pytest.mark.parametrize(
    ("more", "message"),
    [(b"more", "truncated within a compressed block"), (b"more than a block's head", "a compressed block is damaged")],
)
def test_bytes_behind_the_last_block_are_refused(more: bytes, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        read(compress(TEXT) + END_BLOCK + more)
