from __future__ import annotations

import gzip
import os
import pickle
from pathlib import Path

import numpy as np
import pysam
import pytest

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.splice_engine.genome import fasta as fasta_module
from meta_spliceai.splice_engine.genome.fasta import IndexedFasta
from meta_spliceai.splice_engine.genome.sequence import SequenceSource, decode

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


def test_single_bases_are_those_of_fetched_stretches(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    path = tmp_path / "many.fa"
    bases = {name: "".join(random.choice(list("ACGTacgtNR"), size)) for name, size in (("1", 30_011), ("2", 60))}
    lines = {name: "\n".join(text[at : at + 50] for at in range(0, len(text), 50)) for name, text in bases.items()}
    path.write_text("".join(f">{name}\n{text}\n" for name, text in lines.items()))
    pysam.tabix_compress(str(path), f"{path}.gz")
    for genome in (IndexedFasta(path, "toy"), IndexedFasta(Path(f"{path}.gz"), "toy")):
        for name, text in bases.items():
            places = random.integers(0, len(text), 200)
            assert np.array_equal(genome.bases_at(f"chr{name}", places), genome.fetch(name, 0, len(text))[places])
            assert genome.bases_at(name, places[:0]).size == 0


def test_single_bases_of_a_file_that_was_changed_are_an_error(fasta: Path) -> None:
    genome = IndexedFasta(fasta, "toy")
    fasta.write_text(TEXT.replace("acgtR", "ac-tR"))
    with pytest.raises(IntegrityError, match="no bases where its index has them"):
        genome.bases_at("chr1", np.array([0, 7]))


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


@pytest.fixture
def read_only(fasta: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The FASTA in a folder that cannot be written to, whoever runs the test."""
    monkeypatch.setattr(fasta_module.os, "access", lambda path, mode: Path(path) != fasta.parent)
    return fasta


def test_read_only_folder_without_an_index(read_only: Path) -> None:
    assert decode(IndexedFasta(read_only, "toy").fetch("2", 0, 4)) == "GGGG"
    assert not Path(f"{read_only}.fai").exists()


def all_bases(path: Path) -> dict[str, str]:
    genome = IndexedFasta(path, "toy")
    return {contig: decode(genome.fetch(contig, 0, length)) for contig, length in genome.contigs().items()}


LONGER = ">chr1 a toy\nACGTN\nacgtR\nTTTTT\n>2\nGCGC\n"


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("later", [True, False])
def test_an_index_of_another_state_is_made_anew(fasta: Path, zipped: bool, later: bool) -> None:
    """Bases were added to chr1 after the index was made; the clock may not say so."""
    path = Path(f"{fasta}.gz") if zipped else fasta
    for text in (TEXT, LONGER):
        fasta.write_text(text)
        if zipped:
            pysam.tabix_compress(str(fasta), str(path), force=True)
        if text == LONGER:
            ahead = 10**9 * (1 if later else -1)
            made = Path(f"{path}.fai").stat().st_mtime_ns
            os.utime(path, ns=(made + ahead, made + ahead))
        found = all_bases(path)
    assert found == {"chr1": "ACGTNACGTNTTTTT", "2": "GCGC"}


def test_equal_places_but_a_later_change(fasta: Path) -> None:
    """No line ends elsewhere, so that only the time says that the index is not of this file."""
    fasta.write_text(">chr1\nAC\nGT\nA\n")
    IndexedFasta(fasta, "toy")
    fasta.write_text(">chr1\nACGTAA\n")
    made = Path(f"{fasta}.fai").stat().st_mtime_ns
    os.utime(fasta, ns=(made + 1, made + 1))
    assert all_bases(fasta) == {"chr1": "ACGTAA"}


def test_stale_index_in_a_folder_that_cannot_be_written_to(read_only: Path) -> None:
    Path(f"{read_only}.fai").write_text("chr1\t12\t12\t5\t6\n2\t3\t27\t4\t5\n")
    before = Path(f"{read_only}.fai").read_bytes()
    assert all_bases(read_only) == {"chr1": "ACGTNACGTN", "2": "GGGG"}
    assert Path(f"{read_only}.fai").read_bytes() == before


@pytest.mark.parametrize(
    "index", ["", "\n", "chr1\tx\t4\t4\t5\n", "chr1\t10\t12\t0\t0\n", "chr1\n", "\xff\t1\t1\t1\t2"]
)
def test_a_damaged_index_is_made_anew(fasta: Path, index: str) -> None:
    Path(f"{fasta}.fai").write_text(index, encoding="latin-1")
    assert all_bases(fasta) == {"chr1": "ACGTNACGTN", "2": "GGGG"}


@pytest.mark.parametrize("kept", [len(TEXT) - 2, len(TEXT) - 5, len(TEXT) - 7, len(TEXT) - 14])
def test_truncated(fasta: Path, kept: int) -> None:
    IndexedFasta(fasta, "toy")
    os.truncate(fasta, kept)
    with pytest.raises(IntegrityError, match=r"toy\.fa is truncated: it ends at byte \d+, and its index"):
        IndexedFasta(fasta, "toy")


def test_truncated_bgzip(fasta: Path) -> None:
    path = Path(f"{fasta}.gz")
    pysam.tabix_compress(str(fasta), str(path))
    os.truncate(path, path.stat().st_size - 28)
    with pytest.raises(IntegrityError, match="truncated: it does not end with bgzip's last block"):
        IndexedFasta(path, "toy")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b">c1\n", "cannot be indexed"),
        (b">c1\nACGT\n>c2\n", "cannot be indexed"),
        (b">c1\nACGT\nACGTAC\n", "cannot be indexed"),
        (b">c1\nACGT\nAC\nACGT\n", "cannot be indexed"),
        (b">c1\nACGT\n\nACGT\n", "cannot be indexed"),
        (b">c1\r\nACGT\r\nACGT\nACGT\r\nAC\r\n", "end in two ways"),
        (b">c1\nACGT\n>c1\nAC\n", "another one's name"),
        (b">\nACGT\n", "a sequence has no name"),
        (b">c1\nAC\xffT\n>c2\nACGT\n", "cannot be indexed|no bases there"),
        (b">c1\nACGT\nAC\0T\n", "cannot be indexed"),
        (b">c1\nMVLE\n", "c1:1-4: no bases there .*'L' at position 2"),
    ],
)
def test_what_is_no_fasta_is_said(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "odd.fa"
    path.write_bytes(content)
    with pytest.raises((InputError, IntegrityError), match=words):
        all_bases(path)


@pytest.mark.parametrize(
    ("content", "bases"),
    [
        (b">c1\r\nACGT\r\nAC\r\n>c2\r\nGG\r\n", {"c1": "ACGTAC", "c2": "GG"}),
        (b">c1\nACGT\n\n\n>c2\nAC\n\n", {"c1": "ACGT", "c2": "AC"}),
        (b">c1\nACGT", {"c1": "ACGT"}),
        (b"\n>c1\nACGT\n", {"c1": "ACGT"}),
    ],
)
def test_odd_but_clear(tmp_path: Path, content: bytes, bases: dict[str, str]) -> None:
    path = tmp_path / "odd.fa"
    path.write_bytes(content)
    assert all_bases(path) == all_bases(path) == bases


def test_a_sound_index_is_left_alone(fasta: Path) -> None:
    IndexedFasta(fasta, "toy")
    made = Path(f"{fasta}.fai").stat()
    IndexedFasta(fasta, "toy")
    again = Path(f"{fasta}.fai").stat()
    assert (again.st_ino, again.st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
