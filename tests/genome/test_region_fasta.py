"""Sparse genomes: FASTA files of regions, and packaged genes."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import numpy as np
import pytest

from meta_spliceai.errors import InputError, IntegrityError, MissingExtraError
from meta_spliceai.files import cache_dir
from meta_spliceai.splice_engine.genome import packed
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.genome.packed import PackagedGenes, RegionFasta, holds_regions
from meta_spliceai.splice_engine.genome.sequence import SequenceSource, decode

# 1-based: chr1 5-8 ACGT, 9-10 GG (touches), 20-23 TTTT and 22-25 TTAA (overlap), 20-21 TT (inside)
TEXT = ">chr1:20-23\nTTTT\n>chr1:5-8\nAC\nGT\n>chr1:9-10\nGG\n>chr1:22-25\nTTAA\n>chr1:20-21\nTT\n>chrX:1-3\nCCC\n"


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path / "cache"))


def put(tmp_path: Path, text: str = TEXT) -> Path:
    path = tmp_path / "regions.fa.gz"
    path.write_bytes(gzip.compress(text.encode()))
    return path


@pytest.mark.parametrize("opening", [1, 2])
def test_known_bases_and_n_between(tmp_path: Path, opening: int) -> None:
    for _ in range(opening):
        genome = RegionFasta(put(tmp_path), "toy")
    assert isinstance(genome, SequenceSource)
    assert genome.contigs() == {"chr1": 25, "chrX": 3}
    assert genome.regions("1") == [(4, 10), (19, 25)]
    assert decode(genome.fetch("1", -1, 30)) == "N" * 5 + "ACGTGG" + "N" * 9 + "TTTTAA" + "N" * 5
    assert decode(genome.fetch("chr1", 6, 9)) == "GTG"
    assert decode(genome.fetch("chr1", 12, 15)) == "NNN"
    assert decode(genome.fetch("X", 0, 5)) == "CCCNN"
    assert len(genome.fetch("X", 2, 2)) == 0


def test_plain_text_has_the_same_digest_and_another_build_has_not(tmp_path: Path) -> None:
    plain = tmp_path / "regions.fa"
    plain.write_text(TEXT)
    assert RegionFasta(plain, "toy").digest == RegionFasta(put(tmp_path), "toy").digest
    assert RegionFasta(plain, "toy").digest != RegionFasta(plain, "other").digest


def test_a_damaged_cache_is_noticed_and_made_anew(tmp_path: Path) -> None:
    path = put(tmp_path)
    genuine = RegionFasta(path, "toy")
    content = bytearray(genuine.path.read_bytes())
    content[len(content) // 2] ^= 1
    genuine.path.write_bytes(content)
    again = RegionFasta(path, "toy")
    assert (decode(again.fetch("chr1", 4, 8)), again.digest) == ("ACGT", genuine.digest)


@pytest.mark.parametrize(("name", "change"), [("start", 1), ("end", -1), ("start", -1), ("bases", 1)])
def test_an_edited_cache_gives_another_digest(tmp_path: Path, name: str, change: int) -> None:
    """Where bases lie is as much of the genome's identity as the bases."""
    path = put(tmp_path)
    genuine = RegionFasta(path, "toy")
    with np.load(genuine.path) as content:
        arrays = dict(content)
    edited = arrays[name].copy()
    edited[:1] += np.array(change, edited.dtype)
    np.savez(genuine.path, **{**arrays, name: edited})
    again = RegionFasta(path, "toy")
    bases = decode(again.fetch("chr1", 0, 30)) == decode(genuine.fetch("chr1", 0, 30))
    assert bases == (again.digest == genuine.digest)


def test_another_content_gets_another_cache(tmp_path: Path) -> None:
    first = RegionFasta(put(tmp_path), "toy").digest
    second = RegionFasta(put(tmp_path, TEXT.replace("CCC", "CCG")), "toy")
    assert second.digest != first
    assert decode(second.fetch("X", 0, 3)) == "CCG"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (">chr1:5-8\nACG\n", IntegrityError, r"record 1 \(chr1:5-8\) has 3 bases, its name says 4"),
        (">chr1:5-8\nACGT\n>chr2\nACGT\n", InputError, "record 2 is named 'chr2', expected a region"),
        (">chr1:0-3\nACGT\n", InputError, "record 1 is named 'chr1:0-3'"),
        (">chr1:5-8\nACGT\n>chr1:7-9\nGAA\n", IntegrityError, "overlapping regions disagree at chr1:8"),
        ("", InputError, "holds no sequence"),
        ("ACGT\n", InputError, "it begins with 'ACGT'"),
        (">chr1:5-8\nAC!T\n", InputError, r"record 1 \(chr1:5-8\): '!' at position 2"),
    ],
)
def test_files_that_cannot_be_right(tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        RegionFasta(put(tmp_path, text), "toy")
    assert not list(cache_dir().glob("genomes/*.npz"))


def test_overlapping_records_take_time_in_proportion() -> None:
    records = ((f"chr{1 + at % 2}", at, bytes(50)) for at in range(150_000))
    began = time.process_time()
    codes, regions = packed._join(records, "toy")
    assert time.process_time() - began < 3  # a copy of what is joined for each record would take a minute
    assert [end - start for parts in regions.values() for start, end, _ in parts] == [150_048, 150_048]
    assert len(codes) == 2 * 150_048


def test_records_apart_take_time_in_proportion() -> None:
    records = (("chr1", 100 * at, bytes(50)) for at in range(60_000))
    began = time.process_time()
    _, regions = packed._join(records, "toy")
    assert time.process_time() - began < 3  # an array of all starts for each record would take minutes
    assert len(regions["chr1"]) == 60_000


def test_truncated_gzip(tmp_path: Path) -> None:
    path = put(tmp_path)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(IntegrityError, match="truncated or damaged"):
        RegionFasta(path, "toy")


def test_damaged_gzip_head(tmp_path: Path) -> None:
    path = tmp_path / "regions.fa"
    path.write_bytes(b"\x1f\x8b\x08\xff" + b"no gzip" * 9)
    with pytest.raises(IntegrityError, match=r"regions\.fa.* is truncated or damaged"):
        holds_regions(path)


def test_missing_file_and_missing_chromosome(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no FASTA file at"):
        RegionFasta(tmp_path / "absent.fa.gz", "toy")
    with pytest.raises(InputError, match="no contig 'chr7' in"):
        RegionFasta(put(tmp_path), "toy").fetch("chr7", 0, 1)


def test_real_regions_open_fast_the_second_time(mirror: Path) -> None:
    path = mirror / "data" / "genome" / "hg19_regions.fa.gz"
    first = RegionFasta(path, "GRCh37")
    begin = time.perf_counter()
    genome = RegionFasta(path, "GRCh37")
    assert time.perf_counter() - begin < 2.0
    assert genome.digest == first.digest
    # WT1 exon 5 (minus strand) begins behind the AG at chr11:32438087-32438088: CT on the plus strand
    assert decode(genome.fetch("11", 32438086, 32438088)) == "CT"


pytestmark = pytest.mark.quickstart


@pytest.fixture(scope="module")
def genes() -> PackagedGenes:
    try:
        return PackagedGenes("hg19")
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("strand", "intron_start", "intron_end"), [("+", "GT", "AG"), ("-", "CT", "AC")])
def test_introns_begin_and_end_as_introns_do(
    genes: PackagedGenes, strand: str, intron_start: str, intron_end: str
) -> None:
    assert isinstance(genes, SequenceSource)
    usual = seen = 0
    for gene in GeneAnnotation.named("grch37").genes:
        if gene.strand != strand or gene.chrom != "3":
            continue
        for (_, end), (start, _) in zip(gene.exons, gene.exons[1:], strict=False):
            bases = decode(genes.fetch("3", end, end + 2)), decode(genes.fetch("3", start - 2, start))
            if "N" not in "".join(bases):
                seen += 1
                usual += bases == (intron_start, intron_end)
    assert seen > 500
    assert usual / seen > 0.95


def test_agrees_with_the_regions_of_the_same_build(genes: PackagedGenes, mirror: Path) -> None:
    regions = RegionFasta(mirror / "data" / "genome" / "hg19_regions.fa.gz", "GRCh37")
    both = 0
    for start, end in genes.regions("chr3")[:10]:
        one, two = genes.fetch("chr3", start, end), regions.fetch("chr3", start, end)
        known = (one < 4) & (two < 4)
        np.testing.assert_array_equal(one[known], two[known])
        both += int(known.sum())
    assert both > 100_000


def test_another_build_is_refused() -> None:
    with pytest.raises(InputError, match="sequence of GRCh37, not of hg38"):
        PackagedGenes("hg38")
