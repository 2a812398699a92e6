"""Sequence in memory, and the human builds."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.sequence import (
    CHROMOSOME_LENGTHS,
    MemoryGenome,
    SequenceSource,
    build_name,
    check_lengths,
    decode,
    encode,
)


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


@pytest.mark.parametrize(
    ("spelling", "build"), [("hg19", "GRCh37"), ("GRCh37", "GRCh37"), ("HG38", "GRCh38"), ("38", "GRCh38")]
)
def test_spellings(spelling: str, build: str) -> None:
    assert build_name(spelling) == build


def test_unknown_build() -> None:
    with pytest.raises(InputError, match="unknown genome build 'hg18'; did you mean"):
        build_name("hg18")


def test_the_other_builds_chromosome_is_recognised() -> None:
    with pytest.raises(InputError, match=r"toy\.fa is not GRCh38: .* length in GRCh37, so name that build"):
        check_lengths({"chr2": CHROMOSOME_LENGTHS["GRCh37"]["2"]}, "GRCh38", "toy.fa", whole=True)
    check_lengths({"chr2": CHROMOSOME_LENGTHS["GRCh37"]["2"]}, "GRCh37", "toy.fa", whole=True)


def test_a_region_beyond_the_chromosomes_end_is_refused() -> None:
    length = CHROMOSOME_LENGTHS["GRCh37"]["21"]
    check_lengths({"21": length - 5}, "GRCh37", "toy.fa", whole=False)
    with pytest.raises(InputError, match="name the right build"):
        check_lengths({"21": length + 5}, "GRCh37", "toy.fa", whole=False)


def test_toys_and_constructs_are_not_checked() -> None:
    check_lengths({"chr1": 100, "scaffold7": 5}, "GRCh38", "toy.fa", whole=True)
    check_lengths({"chr1": 10**9}, "a construct", "toy.fa", whole=False)


def test_lengths_agree_with_the_lift_over_chain(mirror: Path) -> None:
    chain = mirror / "data" / "genome" / "hg19ToHg38.over.chain"
    text = gzip.decompress(chain.read_bytes()).decode() if chain.suffix == ".gz" else chain.read_text()
    seen = 0
    for line in text.splitlines():
        if line.startswith("chain"):
            fields = line.split()
            for build, name, length in (("GRCh37", fields[2], fields[3]), ("GRCh38", fields[7], fields[8])):
                if name[3:] in CHROMOSOME_LENGTHS[build]:
                    assert CHROMOSOME_LENGTHS[build][name[3:]] == int(length)
                    seen += 1
    assert seen > 48
