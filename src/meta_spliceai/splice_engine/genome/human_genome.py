"""Chooses the reference sequence of a human build (the one named, or the best available), and downloads one: verified
by its content, bgzipped and indexed."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from meta_spliceai import resources
from meta_spliceai.errors import InputError, IntegrityError, MissingPackageError, MissingResourceError, RunError
from meta_spliceai.files import cache_dir
from meta_spliceai.read_hostile import one_error
from meta_spliceai.resources.resolve import download, find_here, mirror_addresses, mirror_folders, progress_bar
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.genome.fasta import IndexedFasta
from meta_spliceai.splice_engine.genome.packed import PackagedGenes, RegionFasta, SparseGenome, holds_regions
from meta_spliceai.splice_engine.genome.sequence import (
    CHROMOSOME_LENGTHS,
    GRCH37,
    GRCH38,
    N_CODE,
    SequenceSource,
    build_name,
    decode,
    reverse_complement,
)

AUTO, REGIONS, PACKAGED_GENES = "auto", "regions", "packaged-genes"
"""Values of the option `genome` beside a FASTA file: the best at hand, the sparse regions of the resource
human-regions, whole genes that a Python package carries (GRCh37)."""

UCSC_NAMES = {GRCH37: "hg19", GRCH38: "hg38"}
_UCSC = "https://hgdownload.soe.ucsc.edu/goldenPath"
_REGIONS = resources.get("human-regions")
_REGION_FILES = {build: f"genome/{name}_regions.fa.gz" for build, name in UCSC_NAMES.items()}

BYTES = {GRCH37: 948_731_419, GRCH38: 983_659_424}
"""Of UCSC's files, to say how much there is to download; the content is what is checked."""

LEAST_SHARE = 0.98
"""Of an annotation's introns' ends that read GT and AG: 0.99 in the right build, about 0.06 by chance."""
MOST_SITES = 4000


class NoGenome(SequenceSource):
    """A build of which no base is at hand: its chromosomes, N everywhere."""

    def __init__(self, build: str) -> None:
        super().__init__("no genome", build, CHROMOSOME_LENGTHS[build])
        self.digest = hashlib.sha256(f"{build} no genome".encode()).hexdigest()

    def _within(self, contig: str, start: int, end: int) -> UInt8[np.ndarray, " length"]:
        return np.full(end - start, N_CODE, dtype=np.uint8)


def variable_of(build: str) -> str:
    return f"META_SPLICEAI_GENOME_{build.upper()}"


def cached_genome(build: str) -> Path:
    return cache_dir() / "genomes" / build / f"{UCSC_NAMES[build]}.fa.gz"


def whole_genome(build: str) -> Path | None:
    """A build's FASTA file: that of META_SPLICEAI_GENOME_GRCH38 (or _GRCH37), then that of `data get`; None without.
    InputError where the variable names no file."""
    build = build_name(build)
    named = os.environ.get(variable_of(build))
    if named and not Path(named).is_file():
        raise InputError(f"{variable_of(build)} names {named}, where no file is; correct or unset it")
    cached = cached_genome(build)
    return Path(named) if named else cached if cached.is_file() else None


def needed_genome(build: str) -> Path:
    """As `whole_genome`, for a command that cannot do without: MissingResourceError where there is none."""
    build = build_name(build)
    found = whole_genome(build)
    if found is None:
        raise MissingResourceError(
            f"no genome of {build} at hand: give a FASTA file with -R, or set {variable_of(build)}=FILE, or bring one "
            f"with: meta-spliceai data get {build.lower()}"
        )
    return found


def human_genome(build: str, genome: str | Path = AUTO) -> SequenceSource:
    """The reference sequence of a build (in any spelling).

    Args:
        genome: "auto" (`whole_genome`, else the sparse regions where they are at hand, else `NoGenome`), "regions",
            "packaged-genes", or a FASTA file: a whole genome, or one whose records are regions.
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


def whole_fasta(path: Path, build: str) -> IndexedFasta:
    """A FASTA file of whole chromosomes, for what needs the bases around every variant.

    Raises:
        InputError: no such file, or its records are regions of chromosomes.
    """
    if holds_regions(path):
        raise InputError(
            f"{path} holds regions of chromosomes, around which the networks would see nothing: give a FASTA file of "
            "whole chromosomes ('predict' reads regions)"
        )
    return IndexedFasta(path, build)


def genome_in_words(genome: SequenceSource) -> str:
    """What a result says of the genome that was read; no folders."""
    if isinstance(genome, NoGenome):
        return f"no genome of {genome.build} at hand (meta-spliceai data get {genome.build.lower()} brings one)"
    kind = "regions" if isinstance(genome, SparseGenome) else "whole genome" if isinstance(genome, IndexedFasta) else ""
    return f"{kind} {Path(genome.name).name}".strip()


def genome_addresses(build: str) -> list[str]:
    """Where a build's gzipped FASTA file is asked for: mirrors that are web addresses, then UCSC."""
    name = UCSC_NAMES[build_name(build)]
    mirrors = [f"{mirror}/genome/{name}.fa.gz" for mirror in mirror_addresses()]
    return [*mirrors, f"{_UCSC}/{name}/bigZips/{name}.fa.gz"]


def get_genome(build: str, annotation: Callable[[], GeneAnnotation]) -> Path:
    """The genome's file in the cache, made if it is not there yet; `annotation` gives the genes of that build.

    The gzipped FASTA file comes from `<mirror>/genome/hg38.fa.gz` (or hg19) or from UCSC. It is kept only when its
    chromosomes have the build's lengths and the genes' introns begin with GT and end with AG.

    Raises:
        InputError: another build, or no whole genome.
        MissingResourceError: it cannot be downloaded.
    """
    build = build_name(build)
    target = cached_genome(build)
    if target.is_file():
        return target
    try:
        import filelock
        import pysam  # noqa: F401 - before a gigabyte is downloaded, not after
    except ImportError as error:
        raise MissingPackageError("getting a genome", str(error.name)) from error
    genes = annotation()
    target.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{target}.lock"):
        if target.is_file():
            return target
        own = [folder / "genome" / target.name for folder in mirror_folders()]
        source = next((path for path in own if path.is_file()), None) or _downloaded(build, target)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="making-") as folder:
            made = Path(folder) / target.name
            try:
                _bgzip(source, made)
                _check(IndexedFasta(made, build), genes)
            except (InputError, IntegrityError) as error:
                if source not in own:
                    source.unlink()
                raise type(error)(str(error).replace(str(made), str(source))) from error
            for suffix in (".fai", ".gzi", ""):  # the file last: with it there, everything is
                os.replace(f"{made}{suffix}", f"{target}{suffix}")
        if source not in own:
            source.unlink()
    return target


def _downloaded(build: str, target: Path) -> Path:
    why = []
    for address in genome_addresses(build):
        try:
            return download(address, target.with_name("download.gz"), build)
        except MissingResourceError as error:
            why.append(str(error))
    raise MissingResourceError(
        f"{'; '.join(why)}; go on with: meta-spliceai data get {build.lower()}, or give your own FASTA file"
    )


def _bgzip(source: Path, target: Path) -> None:
    import pysam

    size, free = source.stat().st_size, shutil.disk_usage(target.parent).free
    if free < 1.2 * size:
        raise RunError(
            f"no space to pack the genome: {target.parent.parent} has {free:,} bytes free, needed are "
            f"{int(1.2 * size):,}; free some and run the same command again, the download is kept"
        )
    with (
        one_error(target, "run the same command again"),
        source.open("rb") as raw,
        gzip.open(raw) as text,
        pysam.BGZFile(str(target), "wb", None) as packed,
        progress_bar("packing") as report,
    ):
        while block := text.read(1 << 22):
            packed.write(block)
            report(raw.tell(), size)


def _check(genome: IndexedFasta, genes: GeneAnnotation) -> None:
    """Whole chromosomes of the build, with splice sites where its genes have them."""
    lengths = genome.contigs()
    for chromosome, expected in CHROMOSOME_LENGTHS[genome.build].items():
        found = lengths.get(genome.find(chromosome) or "", 0)
        if found != expected:
            raise InputError(
                f"{genome.name} is not {genome.build}: chromosome {chromosome} has {found:,} bases there, "
                f"{genome.build} has {expected:,}"
            )
    right, known = splice_sites_read(genome, genes)
    if right < LEAST_SHARE * max(known, 1):
        raise InputError(
            f"{genome.name} is not {genome.build}: {right:,} of {known:,} introns' ends in {Path(genes.name).name} "
            f"read GT and AG, expected are at least {LEAST_SHARE:.0%}"
        )


def splice_sites_read(genome: SequenceSource, genes: GeneAnnotation, most: int = MOST_SITES) -> tuple[int, int]:
    """How many of an annotation's donors are followed by GT and acceptors preceded by AG, and of how many the bases are
    known; of a large annotation about so many are looked at, those of genes spread evenly over it."""
    sites = sum(2 * (len(gene.exons) - 1) for gene in genes.genes)
    known = right = 0
    for gene in genes.genes[:: max(1, sites // most)]:
        if genome.find(gene.chrom) is None:
            continue
        for motif, places in (("GT", gene.donors()), ("AG", gene.acceptors())):
            behind = (motif == "GT") == (gene.strand == "+")  # the intron's two bases lie above the exon's edge
            for site in places:
                codes = genome.fetch(gene.chrom, site if behind else site - 3, site + 2 if behind else site - 1)
                if (codes != N_CODE).all():
                    known += 1
                    right += decode(codes if gene.strand == "+" else reverse_complement(codes)) == motif
    return right, known


def check_annotation(annotation: GeneAnnotation, genome: SequenceSource) -> None:
    """Compare the annotation's splice sites with the genome, more of them where few are known; nothing is said about
    fewer than 100.

    Raises:
        InputError: fewer than half fit: annotation and genome are of different builds.
    """
    for most in (1000, 10_000, 100_000, 1_000_000):  # few are known of a genome that is mostly N, as one of regions
        right, known = splice_sites_read(genome, annotation, most)
        if known >= 100:
            break
    if known >= 100 and right < 0.5 * known:
        raise InputError(
            f"{annotation.name} ({annotation.build}) does not fit {genome.name}: {right} of {known} splice sites have "
            "the bases that introns begin and end with; give an annotation and a FASTA of the same build"
        )
