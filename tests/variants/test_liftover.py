from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.splice_engine.variants.liftover import Chain, lift_over

Make = Callable[..., pd.DataFrame]

# chr1 [100,200) -> chr1 [1100,1200), a gap of 10 (old) and 5 (new), then 50 more; chr2 [0,40) -> chr9 minus strand
TEXT = """chain 1000 chr1 1000 + 100 260 chr1 5000 + 1100 1255 1
100 10 5
50

chain 500 chr2 500 + 0 40 chr9 300 - 60 100 2
40

chain 10 chr1 1000 + 150 160 chr7 5000 + 0 10 3
10
"""


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    path = tmp_path / "toy.chain.gz"
    path.write_bytes(gzip.compress(TEXT.encode()))
    return Chain(path)


@pytest.mark.parametrize(
    ("chrom", "pos", "lifted"),
    [
        ("chr1", 101, ("1", 1101, "+")),
        ("1", 200, ("1", 1200, "+")),
        ("1", 201, None),  # in the gap
        ("1", 211, ("1", 1206, "+")),
        ("1", 260, ("1", 1255, "+")),
        ("1", 261, None),
        ("1", 155, ("1", 1155, "+")),  # covered twice: the better chain
        ("2", 1, ("9", 240, "-")),
        ("2", 40, ("9", 201, "-")),
        ("3", 5, None),
    ],
)
def test_positions(chain: Chain, chrom: str, pos: int, lifted: tuple[str, int, str] | None) -> None:
    assert chain.lift(chrom, pos) == lifted


def test_variants_with_sites_and_strands(chain: Chain, variants: Make) -> None:
    table = variants(
        [
            ("1", 150, "AC", "A", "+"),
            ("2", 10, "AC", "G", "+"),
            ("1", 199, "ACG", "A", "+"),
            ("1", 205, "A", "C", "+"),
        ],
        acceptor_pos=[120, 5, pd.NA, pd.NA],
        donor_pos=[205, 30, pd.NA, pd.NA],
    )
    moved, coverage = lift_over(table, chain)
    assert moved[["chrom", "pos", "ref", "alt", "strand"]].to_numpy().tolist() == [
        ["1", 1150, "AC", "A", "+"],
        ["9", 230, "GT", "C", "-"],
    ]
    assert moved["acceptor_pos"].tolist() == [1120, 236]
    assert moved["donor_pos"].isna().tolist() == [True, False]
    assert coverage.left_out == {"no place in the other build": 2}


def test_an_allele_across_a_gap_is_not_lifted(chain: Chain, variants: Make) -> None:
    table = variants([("1", 195, "ACGTACGTACGTACGTAC", "A", "+")])
    moved, coverage = lift_over(table, chain)
    assert moved.empty
    assert coverage.left_out == {"reference allele is broken up in the other build": 1}


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", InputError, "holds no chain"),
        ("chrom pos\n1 2\n", InputError, "line 1: 'chrom pos' is no line of a chain file"),
        (TEXT.splitlines()[0] + "\n100 10\n", InputError, "line 2: '100 10'"),
        ("\n".join(TEXT.splitlines()[:2]) + "\n", IntegrityError, "ends within a chain"),
        (TEXT.replace("\n50\n", "\n49\n"), IntegrityError, "line 3: the blocks of this chain do not add up"),
    ],
)
def test_files_that_cannot_be_right(tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    path = tmp_path / "bad.chain"
    path.write_text(text)
    with pytest.raises(error, match=message):
        Chain(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no chain file at"):
        Chain(tmp_path / "absent.chain")


def test_every_open_variant_lands_where_its_source_says(mirror: Path) -> None:
    chain = Chain(mirror / "data" / "genome" / "hg19ToHg38.over.chain")
    rows = pd.read_csv(mirror / "data" / "splicevardb_format" / "open_sources.tsv", sep="\t", dtype=str).iloc[::10]
    for old, new in zip(rows["hg19"].str.split("-"), rows["hg38"].str.split("-"), strict=True):
        found = chain.lift(old[0], int(old[1]))
        assert found is not None
        assert found[:2] == (new[0], int(new[1]))
