"""Which reference sequence of a human build is read: the one that is named, or the best that is at hand."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from meta_spliceai import resources
from meta_spliceai.errors import InputError, MissingResourceError
from meta_spliceai.files import cache_dir
from meta_spliceai.resources.resolve import find_here
from meta_spliceai.splice_engine.genome.builds import CHROMOSOME_LENGTHS, GRCH37, GRCH38, build_name
from meta_spliceai.splice_engine.genome.fasta import IndexedFasta
from meta_spliceai.splice_engine.genome.packaged_genes import PackagedGenes
from meta_spliceai.splice_engine.genome.region_fasta import RegionFasta, SparseGenome, holds_regions
from meta_spliceai.splice_engine.genome.sequence import N_CODE
from meta_spliceai.splice_engine.genome.source import SequenceSource

AUTO, REGIONS, PACKAGED_GENES = "auto", "regions", "packaged-genes"
"""Values of the option `genome` beside a FASTA file: the best at hand, the sparse regions of the resource
human-regions, whole genes that a Python package carries (GRCh37)."""

UCSC_NAMES = {GRCH37: "hg19", GRCH38: "hg38"}
_REGIONS = resources.get("human-regions")
_REGION_FILES = {build: f"genome/{name}_regions.fa.gz" for build, name in UCSC_NAMES.items()}


class NoGenome(SequenceSource):
    """A build of which no base is at hand: its chromosomes, N everywhere."""

    def __init__(self, build: str) -> None:
        super().__init__("no genome", build, CHROMOSOME_LENGTHS[build])
        self.digest = hashlib.sha256(f"{build} no genome".encode()).hexdigest()

    def _within(self, contig: str, start: int, end: int) -> UInt8[np.ndarray, " length"]:
        return np.full(end - start, N_CODE, dtype=np.uint8)


def variable_of(build: str) -> str:
    """The environment variable that names a genome's file."""
    return f"META_SPLICEAI_GENOME_{build.upper()}"


def cached_genome(build: str) -> Path:
    """Where `meta-spliceai data get` puts a build's genome."""
    return cache_dir() / "genomes" / build / f"{UCSC_NAMES[build]}.fa.gz"


def whole_genome(build: str) -> Path | None:
    """A build's FASTA file: that of META_SPLICEAI_GENOME_GRCH38 (or _GRCH37), then that of `data get`; None without.

    Raises:
        InputError: the variable names no file.
    """
    named = os.environ.get(variable_of(build_name(build)), "")
    if named:
        if not Path(named).is_file():
            raise InputError(f"{variable_of(build_name(build))} names {named}, where no file is; correct or unset it")
        return Path(named)
    cached = cached_genome(build_name(build))
    return cached if cached.is_file() else None


def needed_genome(build: str) -> Path:
    """As `whole_genome`, for a command that cannot do without.

    Raises:
        InputError: the variable names no file.
        MissingResourceError: there is none.
    """
    build = build_name(build)
    found = whole_genome(build)
    if found is None:
        raise MissingResourceError(
            f"no genome of {build} at hand: give a FASTA file with -R, or set {variable_of(build)}=FILE, or bring one "
            f"with: meta-spliceai data get {build.lower()}"
        )
    return found


def human_genome(build: str, genome: str | Path = AUTO) -> SequenceSource:
    """The reference sequence of a build.

    Args:
        build: any spelling of GRCh37 or GRCh38.
        genome: "auto" (`whole_genome`, else the sparse regions where they are at hand, else `NoGenome`), "regions",
            "packaged-genes", or a FASTA file: a whole genome, or one whose records are regions.

    Raises:
        InputError, IntegrityError, MissingResourceError: the file cannot be had or cannot be right.
    """
    build = build_name(build)
    if str(genome) == REGIONS:
        return RegionFasta(resources.resolve_file(_REGIONS.name, _REGION_FILES[build]), build)
    if str(genome) == PACKAGED_GENES:
        return PackagedGenes(build)
    if str(genome) != AUTO:
        path = Path(genome)
    elif (whole := whole_genome(build)) is not None:
        path = whole
    elif find_here(_REGIONS, [_REGIONS.file(_REGION_FILES[build])]) is not None:
        return human_genome(build, REGIONS)
    else:
        return NoGenome(build)
    return RegionFasta(path, build) if holds_regions(path) else IndexedFasta(path, build)


def genome_in_words(genome: SequenceSource) -> str:
    """What a result says of the genome that was read; no folders."""
    if isinstance(genome, NoGenome):
        return f"no genome of {genome.build} at hand (meta-spliceai data get {genome.build.lower()} brings one)"
    kind = "regions" if isinstance(genome, SparseGenome) else "whole genome" if isinstance(genome, IndexedFasta) else ""
    return f"{kind} {Path(genome.name).name}".strip()
