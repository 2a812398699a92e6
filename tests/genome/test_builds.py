from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.builds import CHROMOSOME_LENGTHS, build_name, check_lengths


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
