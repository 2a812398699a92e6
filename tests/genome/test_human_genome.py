"""Finding and getting a genome, on a toy build of two chromosomes."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import numpy as np
import pytest

from meta_spliceai.errors import InputError, IntegrityError, MissingResourceError
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.fasta import IndexedFasta
from meta_spliceai.splice_engine.genome.human_genome import (
    NoGenome,
    cached_genome,
    genome_in_words,
    get_genome,
    human_genome,
    needed_genome,
    splice_sites_read,
    whole_genome,
)
from meta_spliceai.splice_engine.genome.packed import RegionFasta
from meta_spliceai.splice_engine.genome.sequence import CHROMOSOME_LENGTHS, MemoryGenome, decode
from tests.conftest import RunCli
from tests.file_server import FileServer

LENGTHS = {"1": 3000, "2": 2000}
OTHER = {"1": 3001, "2": 2000}
EXONS = ((100, 200), (500, 600), (900, 1000))
GENES = GeneAnnotation([Gene("P", "1", "+", 100, 1000, EXONS), Gene("M", "2", "-", 100, 1000, EXONS)], "GRCh38", "toy")


@pytest.fixture(autouse=True)
def _toy_builds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(CHROMOSOME_LENGTHS, "GRCh38", LENGTHS)
    monkeypatch.setitem(CHROMOSOME_LENGTHS, "GRCh37", OTHER)
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("META_SPLICEAI_MIRROR", raising=False)
    monkeypatch.delenv("META_SPLICEAI_GENOME_GRCH38", raising=False)


@pytest.fixture
def sequence() -> dict[str, str]:
    """The toy build: every intron of GENES begins with GT and ends with AG on its gene's strand."""
    random = np.random.default_rng(0)
    found = {}
    for name, ends in (("1", ("GT", "AG")), ("2", ("CT", "AC"))):
        bases = [str(base) for base in random.choice(list("ACGT"), LENGTHS[name])]
        for (_, before), (after, _) in itertools.pairwise(EXONS):
            bases[before : before + 2], bases[after - 2 : after] = ends
        found[name] = "".join(bases)
    return found


def fasta(sequence: dict[str, str]) -> bytes:
    return gzip.compress("".join(f">chr{name}\n{bases}\n" for name, bases in sequence.items()).encode())


@pytest.fixture
def served(file_server: FileServer, sequence: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> FileServer:
    file_server.files["/genome/hg38.fa.gz"] = fasta(sequence)
    monkeypatch.setenv("META_SPLICEAI_MIRROR", file_server.address)
    return file_server


def in_cache(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_a_genome_is_packed_indexed_and_found(served: FileServer, sequence: dict[str, str], tmp_path: Path) -> None:
    path = get_genome("hg38", lambda: GENES)
    assert in_cache(tmp_path) == {"hg38.fa.gz", "hg38.fa.gz.fai", "hg38.fa.gz.gzi"}
    assert path == whole_genome("GRCh38") == needed_genome("hg38") == cached_genome("GRCh38")
    found = human_genome("GRCh38")
    assert isinstance(found, IndexedFasta)
    assert decode(found.fetch("chr2", 500, 560)) == sequence["2"][500:560]
    assert genome_in_words(found) == "whole genome hg38.fa.gz"
    asked = len(served.asked)
    assert get_genome("hg38", lambda: GENES) == path
    assert len(served.asked) == asked


def test_a_broken_download_goes_on(served: FileServer, tmp_path: Path) -> None:
    served.breaks = [700, 0]
    with pytest.raises(MissingResourceError, match=r"700 bytes, which are kept; .*meta-spliceai data get grch38"):
        get_genome("GRCh38", lambda: GENES)
    assert in_cache(tmp_path) == {"download.gz.part"}
    assert whole_genome("GRCh38") is None
    served.asked.clear()
    get_genome("GRCh38", lambda: GENES)
    assert served.asked == [("/genome/hg38.fa.gz", "bytes=700-")]


def test_what_is_not_this_build_is_refused_and_not_kept(
    served: FileServer, sequence: dict[str, str], tmp_path: Path
) -> None:
    whole = fasta(sequence)
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255
    turned = {name: bases[::-1] for name, bases in sequence.items()}
    for content, kind, message in (
        (fasta({**sequence, "1": sequence["1"] + "A"}), InputError, r"is not GRCh38: its chr1 has 3,001"),
        (fasta({"1": sequence["1"]}), InputError, "is not GRCh38: chromosome 2 has 0 bases there"),
        (fasta(turned), InputError, "introns' ends in toy read GT and AG, expected are at least 98%"),
        (whole[:-20], IntegrityError, "download.gz is truncated or damaged"),
        (bytes(damaged), IntegrityError, "download.gz is truncated or damaged"),
        (gzip.compress(b"hello"), InputError, "cannot be indexed|is no FASTA file"),
        (b"no gzip at all", IntegrityError, "download.gz is truncated or damaged"),
    ):
        served.files["/genome/hg38.fa.gz"] = content
        with pytest.raises(kind, match=message):
            get_genome("GRCh38", lambda: GENES)
        assert in_cache(tmp_path) == set()


def test_a_mirror_folder_may_hold_it(tmp_path: Path, sequence: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "mirror" / "genome" / "hg38.fa.gz"
    own.parent.mkdir(parents=True)
    own.write_bytes(fasta(sequence))
    monkeypatch.setenv("META_SPLICEAI_MIRROR", str(tmp_path / "mirror"))
    assert get_genome("GRCh38", lambda: GENES).is_relative_to(tmp_path / "cache")
    assert own.is_file()


def test_share_of_splice_sites(sequence: dict[str, str]) -> None:
    genome = MemoryGenome(sequence, build="GRCh38", name="toy")
    assert splice_sites_read(genome, GENES) == (8, 8)
    wrong = {**sequence, "1": sequence["1"][:200] + "AA" + sequence["1"][202:]}
    assert splice_sites_read(MemoryGenome(wrong, build="GRCh38", name="toy"), GENES) == (7, 8)
    assert splice_sites_read(MemoryGenome({"1": "N" * 3000, "2": "N" * 2000}, build="x", name="x"), GENES) == (0, 0)


def test_the_variable_comes_first_then_the_cache_then_regions_then_none(
    served: FileServer, sequence: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = human_genome("GRCh38")
    assert isinstance(nothing, NoGenome)
    assert decode(nothing.fetch("chr1", 0, 4)) == "NNNN"
    assert genome_in_words(nothing) == "no genome of GRCh38 at hand (meta-spliceai data get grch38 brings one)"
    with pytest.raises(MissingResourceError, match=r"META_SPLICEAI_GENOME_GRCH38=FILE.*meta-spliceai data get grch38"):
        needed_genome("GRCh38")
    cached = get_genome("GRCh38", lambda: GENES)
    own = tmp_path / "own.fa"
    own.write_text("".join(f">{name}\n{bases}\n" for name, bases in sequence.items()))
    monkeypatch.setenv("META_SPLICEAI_GENOME_GRCH38", str(own))
    assert human_genome("hg38").name == str(own)
    own.write_text(">chr1:1-4\nACGT\n")
    assert isinstance(human_genome("hg38"), RegionFasta)
    monkeypatch.setenv("META_SPLICEAI_GENOME_GRCH38", str(tmp_path / "gone.fa"))
    with pytest.raises(InputError, match=r"META_SPLICEAI_GENOME_GRCH38 names .*gone\.fa, where no file is"):
        human_genome("hg38")
    monkeypatch.delenv("META_SPLICEAI_GENOME_GRCH38")
    assert human_genome("hg38").name == str(cached)


def test_another_builds_file_in_the_variable_is_refused(
    sequence: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.fa"
    own.write_text("".join(f">{name}\n{bases}\n" for name, bases in {**sequence, "1": sequence["1"] + "A"}.items()))
    monkeypatch.setenv("META_SPLICEAI_GENOME_GRCH38", str(own))
    with pytest.raises(InputError, match=r"is not GRCh38: its 1 has 3,001 bases.*that is the length in GRCh37"):
        human_genome("GRCh38")


def test_a_command_without_a_genome_says_what_brings_one(run_cli: RunCli, tmp_path: Path) -> None:
    source = tmp_path / "in.vcf"
    source.write_text("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
    code, _, error = run_cli(["score", str(source), "-o", str(tmp_path / "out.vcf"), "-A", "grch38"])
    assert (code, error.count("\n")) == (2, 1)
    assert "no genome of GRCh38 at hand: give a FASTA file with -R" in error
    own = tmp_path / "own.gtf"
    own.touch()
    code, _, error = run_cli(["saturate", "--gene", "P", "-o", str(tmp_path / "out.parquet"), "-A", str(own)])
    assert code == 2
    assert "own.gtf is not known" in error
