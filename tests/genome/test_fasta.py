from __future__ import annotations

import gzip
import os
import pickle
from pathlib import Path

import pysam
import pytest

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.fasta import IndexedFasta
from meta_spliceai.splice_engine.genome.sequence import decode
from meta_spliceai.splice_engine.genome.source import SequenceSource

TEXT = ">chr1 a toy\nACGTN\nacgtR\n>2\nGGGG\n"


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "toy.fa"
    path.write_text(TEXT)
    return path


def test_reads_through_an_index_it_makes(fasta: Path) -> None:
    genome = IndexedFasta(fasta, "toy")
    assert isinstance(genome, SequenceSource)
    assert genome.contigs() == {"chr1": 10, "2": 4}
    assert decode(genome.fetch("1", -2, 12)) == "NNACGTNACGTNNN"
    assert decode(genome.fetch("chr2", 1, 3)) == "GG"
    assert decode(genome.fetch("2", 9, 11)) == "NN"
    assert fasta.with_name("toy.fa.fai").is_file()


def test_bgzipped(fasta: Path) -> None:
    pysam.tabix_compress(str(fasta), f"{fasta}.gz")
    assert decode(IndexedFasta(Path(f"{fasta}.gz"), "toy").fetch("chr1", 3, 7)) == "TNAC"


def test_digest_follows_content_and_is_remembered(fasta: Path) -> None:
    digest = IndexedFasta(fasta, "toy").digest
    assert IndexedFasta(fasta, "toy").digest == digest
    fasta.write_text(TEXT.replace("GGGG", "GGGC"))
    os.utime(fasta, ns=(5, 5))
    assert IndexedFasta(fasta, "toy").digest != digest


def test_can_be_sent_to_another_process(fasta: Path) -> None:
    again = pickle.loads(pickle.dumps(IndexedFasta(fasta, "toy")))  # noqa: S301 - our own object
    assert decode(again.fetch("chr1", 0, 4)) == "ACGT"


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no FASTA file at .*absent\.fa"):
        IndexedFasta(tmp_path / "absent.fa", "toy")


def test_missing_chromosome(fasta: Path) -> None:
    with pytest.raises(InputError, match=r"no contig 'chr7' in .*toy\.fa \(toy\); nearest of its 2 contigs: chr1"):
        IndexedFasta(fasta, "toy").fetch("chr7", 0, 5)


def test_plain_gzip_is_explained(fasta: Path) -> None:
    path = fasta.with_name("toy.fa.gz")
    path.write_bytes(gzip.compress(TEXT.encode()))
    with pytest.raises(InputError, match=r"gzipped without blocks.*bgzip"):
        IndexedFasta(path, "toy")


@pytest.mark.parametrize("content", ["", "chrom\tpos\n1\t5\n"])
def test_no_fasta_at_all(tmp_path: Path, content: str) -> None:
    path = tmp_path / "table.tsv"
    path.write_text(content)
    with pytest.raises(InputError, match=r"table\.tsv (is no FASTA file|holds no sequence)"):
        IndexedFasta(path, "toy")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to read-only folders")
def test_read_only_folder_without_an_index(fasta: Path) -> None:
    fasta.parent.chmod(0o500)
    try:
        with pytest.raises(InputError, match="has no index and none could be made"):
            IndexedFasta(fasta, "toy")
    finally:
        fasta.parent.chmod(0o700)
