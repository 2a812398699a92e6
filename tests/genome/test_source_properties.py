"""Every kind of genome gives the bases that its text has, wherever they are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pysam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.fasta import IndexedFasta
from meta_spliceai.splice_engine.genome.packed import PackedGenome, RegionFasta, joined, write_packed
from meta_spliceai.splice_engine.genome.sequence import (
    JoinedSources,
    MemoryGenome,
    SequenceSource,
    decode,
    encode,
    read_region,
    reverse_complement,
)
from tests.properties import quick

QUICK = quick(40)
LETTERS = "ACGTacgtNnRYSWKMBDHVUu"
MEANT = str.maketrans({**dict.fromkeys("RYSWKMBDHV", "N"), "U": "T"})
COMPLEMENT = str.maketrans("ACGT", "TGCA")
SEQUENCE = st.text(LETTERS, min_size=1, max_size=90)
ENDS = ["\n", "\r\n"]


def meant(text: str) -> str:
    """The letters as the networks know them."""
    return text.upper().translate(MEANT)


def around(text: str, start: int, end: int) -> str:
    """The bases of an interval, N where there are none."""
    return "".join(meant(text)[at] if 0 <= at < len(text) else "N" for at in range(start, end))


def fasta(folder: Path, contigs: dict[str, str], width: int, line_end: str, packed: bool) -> IndexedFasta:
    path = folder / "toy.fa"
    text = ""
    for name, bases in contigs.items():
        lines = [bases[at : at + width] for at in range(0, len(bases), width)]
        text += line_end.join([f">{name} a toy", *lines, ""])
    path.write_bytes(text.encode())
    if packed:
        pysam.tabix_compress(str(path), f"{path}.gz")
        path = Path(f"{path}.gz")
    return IndexedFasta(path, "toy")


@st.composite
def intervals(draw: st.DrawFn) -> tuple[int, int]:
    start = draw(st.integers(-20, 110))
    return start, start + draw(st.integers(0, 60))


@QUICK
@given(SEQUENCE)
def test_codes_and_strands_against_text(text: str) -> None:
    codes = encode(text)
    assert decode(codes) == meant(text)
    assert decode(reverse_complement(codes)) == meant(text).translate(COMPLEMENT)[::-1]
    assert (reverse_complement(reverse_complement(codes)) == codes).all()
    stacked = np.stack([codes, codes[::-1]])
    assert (reverse_complement(stacked)[0] == reverse_complement(codes)).all()
    codes[:] = 4  # the caller's own
    assert decode(encode(text)) == meant(text)


@quick(15)
@given(
    st.lists(SEQUENCE, min_size=1, max_size=3),
    st.integers(1, 25),
    st.sampled_from(ENDS),
    st.booleans(),
    st.lists(intervals(), min_size=1, max_size=5),
)
def test_a_fasta_gives_what_stands_in_it_whatever_its_lines(
    tmp_path_factory: pytest.TempPathFactory,
    sequences: list[str],
    width: int,
    line_end: str,
    packed: bool,
    asked: list[tuple[int, int]],
) -> None:
    contigs = {f"chr{number}": bases for number, bases in enumerate(sequences, start=1)}
    read = fasta(tmp_path_factory.mktemp("fasta"), contigs, width, line_end, packed)
    held = MemoryGenome(contigs, "toy", "toy.fa")
    assert read.contigs() == held.contigs() == {name: len(bases) for name, bases in contigs.items()}
    for genome in (read, held):
        for number, bases in enumerate(sequences, start=1):
            for start, end in asked:
                assert decode(genome.fetch(str(number), start, end)) == around(bases, start, end)
            places = np.array([place for pair in asked for place in pair])
            assert decode(genome.bases_at(f"chr{number}", places)) == "".join(
                around(bases, place, place + 1) for place in places
            )


@QUICK
@given(SEQUENCE, st.lists(st.tuples(st.integers(0, 89), st.integers(1, 30)), min_size=1, max_size=4), intervals())
def test_a_packed_genome_has_the_genomes_bases_where_it_has_any(
    tmp_path_factory: pytest.TempPathFactory, text: str, kept: list[tuple[int, int]], asked: tuple[int, int]
) -> None:
    genome = MemoryGenome({"chr1": text}, "toy", "toy.fa")
    spans = [("chr1", start, min(start + size, len(text))) for start, size in kept if start < len(text)]
    if not spans:
        return
    path = tmp_path_factory.mktemp("packed") / "toy.npz"
    write_packed(genome, spans, path)
    sparse = PackedGenome(path, "toy", "toy", "0" * 64, sparse=True)
    held = {at for _, start, end in spans for at in range(start, end)}
    expected = "".join(around(text, at, at + 1) if at in held else "N" for at in range(*asked))
    assert decode(sparse.fetch("1", *asked)) == expected


@QUICK
@given(SEQUENCE, st.lists(st.tuples(st.integers(0, 80), st.integers(1, 30)), min_size=1, max_size=4), intervals())
def test_regions_of_a_genome_have_its_bases_and_n_between(
    tmp_path_factory: pytest.TempPathFactory, text: str, kept: list[tuple[int, int]], asked: tuple[int, int]
) -> None:
    spans = [(start, min(start + size, len(text))) for start, size in kept if start < len(text)]
    if not spans:
        return
    path = tmp_path_factory.mktemp("regions") / "regions.fa"
    path.write_text("".join(f">chr1:{start + 1}-{end}\n{text[start:end]}\n" for start, end in spans))
    held = {at for start, end in spans for at in range(start, end)}
    expected = "".join(around(text, at, at + 1) if at in held else "N" for at in range(*asked))
    assert decode(RegionFasta(path, "toy").fetch("chr1", *asked)) == expected


@QUICK
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(1, 9)), max_size=8))
def test_joined_intervals_hold_the_same_places_in_fewest_pieces(spans: list[tuple[str, int, int]]) -> None:
    made = [(contig, start, start + size) for contig, start, size in spans]
    held = {(contig, at) for contig, start, end in made for at in range(start, end)}
    found = joined(made)
    assert {(contig, at) for contig, start, end in found for at in range(start, end)} == held
    assert len(found) == sum((contig, at - 1) not in held for contig, at in held)
    assert joined(reversed(found)) == found == sorted(found)


def test_joined_sources_are_each_of_them() -> None:
    one, two = (MemoryGenome({name: bases}, "toy", f"{name}.fa") for name, bases in (("chr1", "ACGT"), ("x", "GGA")))
    both: SequenceSource = JoinedSources([one, two], "toy")
    assert both.contigs() == {"chr1": 4, "x": 3}
    assert decode(both.fetch("1", -1, 5)) == "NACGTN"
    assert decode(both.bases_at("x", np.array([2, 0, 7]))) == "AGN"
    assert both.digest != JoinedSources([two, one], "toy").digest
    with pytest.raises(InputError, match="both have contig 1"):
        JoinedSources([one, MemoryGenome({"1": "A"}, "toy", "other.fa")], "toy")


@QUICK
@given(st.text("abHLA*:_.-|", min_size=1, max_size=8), st.integers(1, 10**10), st.integers(0, 10**6))
def test_a_region_is_read_as_it_is_written(contig: str, start: int, more: int) -> None:
    end = start + more
    assert read_region(f"{contig}:{start}-{end}") == (contig, start, end)
    assert read_region(f"{contig}:{start:,}-{end:,}") == (contig, start, end)
    if more:
        with pytest.raises(InputError, match="empty or begins before base 1"):
            read_region(f"{contig}:{end}-{start}")


@pytest.mark.parametrize("text", ["chr1", "chr1:5", "chr1:5-", "chr1:-5", "chr1:5-6-7", "chr1:a-b", "chr 1:5-6", ""])
def test_what_is_no_region_is_left_to_others(text: str) -> None:
    assert read_region(text) is None
