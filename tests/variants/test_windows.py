from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome, decode, encode, reverse_complement
from meta_spliceai.splice_engine.variants.table import build_windows

Make = Callable[..., pd.DataFrame]
GENOME = MemoryGenome({"chr1": "AACCGGTTACGT"}, build="toy", name="toy")


@pytest.mark.parametrize(
    ("row", "length", "ref", "alt"),
    [
        (("chr1", 6, "G", "T", "+"), 5, "CGGTT", "CGTTT"),
        (("chr1", 6, "G", "T", "-"), 5, "AACCG", "AAACG"),
        (("chr1", 6, "GT", "G", "+"), 5, "CGGTT", "CGGTA"),  # a deletion pulls in the next base
        (("chr1", 6, "GT", "G", "-"), 5, "AACCG", "TACCG"),
        (("chr1", 6, "G", "GAA", "+"), 5, "CGGTT", "CGGAA"),  # an insertion pushes bases out
        (("chr1", 6, "G", "GAAAAAAA", "+"), 5, "CGGTT", "CGGAA"),  # even one longer than the window
        (("chr1", 5, "GG", "TC", "+"), 5, "CCGGT", "CCTCT"),
        (("chr1", 1, "A", "T", "+"), 5, "NNAAC", "NNTAC"),
        (("chr1", 12, "T", "C", "-"), 7, "NNNACGT", "NNNGCGT"),
        (("chr1", 6, "G", "T", "+"), 1, "G", "T"),
    ],
)
def test_window_of_one_variant(
    variants: Make, row: tuple[str, int, str, str, str], length: int, ref: str, alt: str
) -> None:
    windows = build_windows(variants([row]), GENOME, length)
    assert (decode(windows.ref[0]), decode(windows.alt[0])) == (ref, alt)
    assert windows.real_bases[0] == len(ref) - ref.count("N")
    assert windows.length == length


def test_centre_is_the_base_at_pos_on_both_strands(variants: Make) -> None:
    rows = [
        ("chr1", pos, base, "A" if base != "A" else "C", strand)
        for strand in "+-"
        for pos, base in enumerate("AACCGGTTACGT", start=1)
    ]
    table = variants(rows)
    windows = build_windows(table, GENOME, 9)
    for at, (_, _, ref, alt, strand) in enumerate(rows):
        for codes, allele in ((windows.ref[at], ref), (windows.alt[at], alt)):
            expected = encode(allele) if strand == "+" else reverse_complement(encode(allele))
            assert codes[4] == expected[0]


def test_snv_windows_of_the_reverse_complemented_genome_are_the_same(variants: Make) -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 4, 300).astype(np.uint8)
    here = MemoryGenome({"c": codes}, build="toy", name="here")
    there = MemoryGenome({"c": reverse_complement(codes)}, build="toy", name="there")
    rows, mirrored = [], []
    for pos in (1, 40, 150, 299, 300):
        ref, alt = int(codes[pos - 1]), (int(codes[pos - 1]) + 1) % 4
        rows.append(("c", pos, "ACGT"[ref], "ACGT"[alt], "+"))
        mirrored.append(("c", 301 - pos, "ACGT"[3 - ref], "ACGT"[3 - alt], "-"))
    one, two = build_windows(variants(rows), here, 101), build_windows(variants(mirrored), there, 101)
    np.testing.assert_array_equal(one.ref, two.ref)
    np.testing.assert_array_equal(one.alt, two.alt)
    np.testing.assert_array_equal(one.real_bases, two.real_bases)
    assert (one.real_bases < 101).any()


@pytest.mark.parametrize("length", [0, -1, 100])
def test_even_or_empty_windows_are_refused(variants: Make, length: int) -> None:
    with pytest.raises(InputError, match=f"odd and positive.*{length}"):
        build_windows(variants([("chr1", 6, "G", "T", "+")]), GENOME, length)


def test_unknown_contig_is_refused(variants: Make) -> None:
    with pytest.raises(InputError, match="no contig 'chr9'"):
        build_windows(variants([("chr9", 6, "G", "T", "+")]), GENOME, 5)
