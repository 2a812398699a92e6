"""A human genome for this machine: downloaded, checked by what it holds, bgzipped and indexed."""

from __future__ import annotations

import gzip
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from meta_spliceai.errors import InputError, IntegrityError, MissingPackageError, MissingResourceError, RunError
from meta_spliceai.resources.download import download, progress_bar
from meta_spliceai.resources.resolve import mirror_addresses, mirror_folders
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.genome.builds import CHROMOSOME_LENGTHS, build_name
from meta_spliceai.splice_engine.genome.fasta import IndexedFasta
from meta_spliceai.splice_engine.genome.human_genome import UCSC_NAMES, cached_genome
from meta_spliceai.splice_engine.genome.sequence import N_CODE, decode, reverse_complement
from meta_spliceai.splice_engine.genome.source import SequenceSource

LEAST_SHARE = 0.98
"""Of an annotation's introns' ends that read GT and AG: 0.99 in the right build, about 0.06 by chance."""
MOST_SITES = 4000

_UCSC = "https://hgdownload.soe.ucsc.edu/goldenPath"
BYTES = {"GRCh37": 948_731_419, "GRCh38": 983_659_424}
"""Of UCSC's files, to say how much there is to download; the content is what is checked."""


def genome_addresses(build: str) -> list[str]:
    """Where a build's gzipped FASTA file is asked for: mirrors that are web addresses, then UCSC."""
    name = UCSC_NAMES[build_name(build)]
    mirrors = [f"{mirror}/genome/{name}.fa.gz" for mirror in mirror_addresses()]
    return [*mirrors, f"{_UCSC}/{name}/bigZips/{name}.fa.gz"]


def get_genome(build: str, annotation: Callable[[], GeneAnnotation]) -> Path:
    """The genome's file in the cache, made if it is not there yet.

    The gzipped FASTA file comes from `<mirror>/genome/hg38.fa.gz` (or hg19) or from UCSC. It is kept only when its
    chromosomes have the build's lengths and the genes' introns begin with GT and end with AG.

    Args:
        build: any spelling of GRCh37 or GRCh38.
        annotation: gives the genes of that build.

    Raises:
        InputError: another build, or no whole genome.
        IntegrityError: a damaged file, or no FASTA file.
        MissingResourceError: it cannot be downloaded.
        RunError: the disk is full.
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
        source = next((path for path in own if path.is_file()), None)
        downloaded = None if source else _downloaded(build, target)
        making = target.parent / "making"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        try:
            made = _bgzipped(source or target.with_name("download.gz"), making / target.name)
            _check(IndexedFasta(made, build), genes)
            for suffix in (".fai", ".gzi", ""):  # the file last: with it there, everything is
                os.replace(f"{made}{suffix}", f"{target}{suffix}")
        except (InputError, IntegrityError) as error:
            if downloaded is not None:
                downloaded.unlink()
            raise type(error)(str(error).replace(str(making / target.name), str(source or "the download"))) from error
        finally:
            shutil.rmtree(making, ignore_errors=True)
        if downloaded is not None:
            downloaded.unlink()
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


def _bgzipped(source: Path, target: Path) -> Path:
    """The gzipped FASTA file in blocks, with its two indices beside it."""
    import pysam

    size = source.stat().st_size
    free = shutil.disk_usage(target.parent).free
    if free < 1.2 * size:
        raise RunError(
            f"no space to pack the genome: {target.parent.parent} has {free:,} bytes free, needed are "
            f"{int(1.2 * size):,}; free some and run the same command again, the download is kept"
        )
    try:
        with (
            source.open("rb") as raw,
            gzip.open(raw) as text,
            pysam.BGZFile(str(target), "wb", None) as packed,
            progress_bar("packing") as report,
        ):
            block = text.read(1 << 22)
            if block[:1] != b">":
                raise IntegrityError(f"{target} is no FASTA file: it begins with {block[:20]!r}, expected '>'")
            while block:
                packed.write(block)
                report(raw.tell(), size)
                block = text.read(1 << 22)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise IntegrityError(f"{target} is no whole gzip file ({error}); run the same command again") from error
    pysam.faidx(str(target))
    return target


def _check(genome: IndexedFasta, genes: GeneAnnotation) -> None:
    """Whole chromosomes of the build, with splice sites where its genes have them."""
    lengths = genome.contigs()
    for chromosome, expected in CHROMOSOME_LENGTHS[genome.build].items():
        found = lengths.get(f"chr{chromosome}", lengths.get(chromosome))
        if found != expected:
            has = "is missing" if found is None else f"has {found:,} bases"
            raise InputError(
                f"{genome.name} is not {genome.build}: chromosome {chromosome} {has}, {genome.build} has {expected:,}"
            )
    share = splice_site_share(genome, genes)
    if share < LEAST_SHARE:
        raise InputError(
            f"{genome.name} is not {genome.build}: {share:.1%} of the introns' ends in {Path(genes.name).name} read GT "
            f"and AG, expected at least {LEAST_SHARE:.0%}"
        )


def splice_site_share(genome: SequenceSource, genes: GeneAnnotation, most: int = MOST_SITES) -> float:
    """Share of an annotation's donors that are followed by GT and acceptors that AG precedes, where bases are known.

    Args:
        most: sites to look at, evenly over the annotation.
    """
    sites = [
        (gene, site, motif)
        for gene in genes.genes
        for motif, places in (("GT", gene.donors()), ("AG", gene.acceptors()))
        for site in places
    ]
    known = right = 0
    for gene, site, motif in sites[:: max(1, len(sites) // most)]:
        behind = (motif == "GT") == (gene.strand == "+")  # the intron's two bases lie above the exon's edge
        codes = genome.fetch(gene.chrom, site if behind else site - 3, site + 2 if behind else site - 1)
        if (codes == N_CODE).any():
            continue
        known += 1
        right += decode(codes if gene.strand == "+" else np.asarray(reverse_complement(codes))) == motif
    return right / known if known else 0.0
