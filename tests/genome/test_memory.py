from __future__ import annotations

import numpy as np
import pytest

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.memory import MemoryGenome
from meta_spliceai.splice_engine.genome.sequence import decode, encode
from meta_spliceai.splice_engine.genome.source import SequenceSource


@pytest.fixture
def genome() -> MemoryGenome:
    return MemoryGenome({"chr1": "ACGTACGTAA", "2": "GGGG", "MT": "TTT"}, build="toy", name="toy genome")


def test_is_a_sequence_source(genome: MemoryGenome) -> None:
    assert isinstance(genome, SequenceSource)
    assert genome.contigs() == {"chr1": 10, "2": 4, "MT": 3}


@pytest.mark.parametrize(
    ("start", "end", "bases"),
    [
        (0, 4, "ACGT"),
        (-2, 3, "NNACG"),
        (8, 12, "AANN"),
        (-5, -2, "NNN"),
        (20, 22, "NN"),
        (3, 3, ""),
        (-1, 11, "NACGTACGTAAN"),
    ],
)
def test_fetch_pads_with_n(genome: MemoryGenome, start: int, end: int, bases: str) -> None:
    assert decode(genome.fetch("chr1", start, end)) == bases


def test_fetch_refuses_an_interval_that_ends_before_it_starts(genome: MemoryGenome) -> None:
    with pytest.raises(InputError, match=r"\[4, 2\)"):
        genome.fetch("chr1", 4, 2)


@pytest.mark.parametrize(("asked", "found"), [("1", "chr1"), ("chr2", "2"), ("chrM", "MT"), ("chr1", "chr1")])
def test_chr_prefix_is_tolerated(genome: MemoryGenome, asked: str, found: str) -> None:
    assert genome.resolve(asked) == found


def test_unknown_contig_names_the_nearest(genome: MemoryGenome) -> None:
    with pytest.raises(InputError, match=r"no contig 'chr11' in toy genome \(toy\); .*chr1"):
        genome.resolve("chr11")


def test_digest_follows_content(genome: MemoryGenome) -> None:
    same = MemoryGenome({"chr1": encode("ACGTACGTAA"), "2": "gggg", "MT": "TTT"}, build="toy", name="another name")
    other = MemoryGenome({"chr1": "ACGTACGTAC", "2": "GGGG", "MT": "TTT"}, build="toy", name="toy genome")
    assert same.digest == genome.digest
    assert other.digest != genome.digest


def test_a_caller_cannot_change_the_genome(genome: MemoryGenome) -> None:
    genome.fetch("2", 0, 4)[:] = 0
    assert decode(genome.fetch("2", 0, 4)) == "GGGG"
    mine = np.zeros(4, dtype=np.uint8)
    held = MemoryGenome({"x": mine}, build="toy", name="toy")
    mine[:] = 3
    assert decode(held.fetch("x", 0, 4)) == "AAAA"


def test_bad_codes_are_refused() -> None:
    with pytest.raises(InputError, match="contig 'x' of toy"):
        MemoryGenome({"x": np.array([0, 7], dtype=np.uint8)}, build="toy", name="toy")
