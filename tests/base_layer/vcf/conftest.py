"""A toy genome with two genes, and a scorer that needs no network: its scores are a hash of the variant."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.splice_engine.base_layer.scores import BaseScores
from meta_spliceai.splice_engine.base_layer.vcf.info_field import FIELDS
from meta_spliceai.splice_engine.base_layer.vcf.score_file import FileScorer, Settings
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome

LENGTH = 6000


class HashScorer:
    """Scores that depend on the variant alone, with noise that differs from call to call.

    Attributes:
        calls: number of rows of each call.
        noise: largest noise added when a row is not scored alone.
    """

    def __init__(self, distance: int, noise: float = 0.0) -> None:
        self.distance = distance
        self.noise = noise
        self.calls: list[int] = []
        self.alone = 0
        self._random = np.random.default_rng()

    def __call__(self, table: pd.DataFrame, annotation: GeneAnnotation, alone: bool) -> BaseScores:
        self.calls.append(len(table))
        self.alone += alone
        shape = (len(table), 2 * self.distance + 1, 3)
        alt = np.zeros(shape, np.float32)
        for place, row in enumerate(table.itertuples()):
            assert annotation.gene(row.gene).strand == row.strand
            name = f"{row.chrom.removeprefix('chr')}{row.pos}{row.ref}{row.alt}{row.gene.partition('#')[0]}"
            seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
            # Small differences in most places, a large one in a few: as real scores are.
            alt[place] = np.random.default_rng(seed).standard_normal(shape[1:]) ** 5 / 1000
        if not alone and self.noise:
            alt += self._random.uniform(-self.noise, self.noise, shape).astype(np.float32)
        return BaseScores(np.zeros(shape, np.float32), alt, self.distance, "fake", "0" * 64)


@pytest.fixture(scope="session")
def sequence() -> str:
    """The bases of both toy contigs."""
    return "".join(np.random.default_rng(1).choice(list("ACGT"), LENGTH))


@pytest.fixture(scope="session")
def genome(sequence: str) -> MemoryGenome:
    """chr1 and chr2 with the same bases."""
    return MemoryGenome({"chr1": sequence, "chr2": sequence}, "toy", "toy.fa")


@pytest.fixture(scope="session")
def annotation() -> GeneAnnotation:
    """A gene on either strand of contig 1, overlapping in 3000-4000; contig 2 has none."""
    return GeneAnnotation(
        [
            Gene("UP", "1", "+", 1000, 4000, ((1000, 1200), (2000, 2150), (3800, 4000))),
            Gene("DOWN", "1", "-", 3000, 5000, ((3000, 3300), (4100, 4200), (4800, 5000))),
        ],
        "toy",
        "toy genes",
    )


@pytest.fixture
def make_scorer(genome: MemoryGenome, annotation: GeneAnnotation) -> Callable[..., FileScorer]:
    """A scorer of files with hash scores; `noise` for the scorer, the rest for Settings."""

    def make(noise: float = 0.0, base: str = "spliceai", **settings: object) -> FileScorer:
        chosen = Settings(**{"distance": 20, **settings})  # type: ignore[arg-type]
        return FileScorer(genome, annotation, HashScorer(chosen.distance, noise), FIELDS[base], chosen, flank=100)

    return make


@pytest.fixture
def write_vcf(tmp_path: Path) -> Callable[..., Path]:
    """Write records (tuples of CHROM, POS, REF, ALT and perhaps INFO) as a VCF."""

    def write(*records: tuple, name: str = "in.vcf", header: str = "") -> Path:
        lines = ["##fileformat=VCFv4.2", "##contig=<ID=chr1,length=6000>", "##contig=<ID=chr2,length=6000>"]
        lines += [header] if header else []
        lines.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO")
        for number, (chrom, pos, ref, alt, *info) in enumerate(records):
            lines.append(f"{chrom}\t{pos}\tid{number}\t{ref}\t{alt}\t.\tPASS\t{info[0] if info else '.'}")
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n")
        return path

    return write
