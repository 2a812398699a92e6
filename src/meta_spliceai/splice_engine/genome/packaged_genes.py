"""Whole human genes that a Python package carries, as a sparse genome: real sequence without a download."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator

import numpy as np

from meta_spliceai import resources
from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.resources import Resource, ResourceFile
from meta_spliceai.splice_engine.genome.builds import GRCH37, build_name
from meta_spliceai.splice_engine.genome.region_fasta import Record, SparseGenome
from meta_spliceai.splice_engine.genome.sequence import N_CODE, reverse_complement

SEQUENCE_FILE = "frame_alignment_checks/data/relevant_validation_genes.npz"
PLACES_FILE = "frame_alignment_checks/data/relevant_validation_genes_transcript_coords.json"

RESOURCE = resources.register(
    Resource(
        name="packaged-genes",
        title="Whole human genes of chromosomes 1 and 3, exons and introns, GRCh37",
        source="PyPI frame-alignment-checks 0.0.74",
        licence="none stated",
        citation="the package frame-alignment-checks",
        files=(
            ResourceFile(SEQUENCE_FILE, "efc76425ff1a9babfa27b78528967a11ed39f8d78b54d758e62e83b4420a8382", 24_726_279),
            ResourceFile(PLACES_FILE, "253d8efc7f580ddd8b1830fb7c8d64ba2f6c7230a7aadb37d22b81c03441c0a2", 131_395),
        ),
        package="frame-alignment-checks",
        extra="quickstart",
    )
)


class PackagedGenes(SparseGenome):
    """The genes with known coordinates as a genome in GRCh37, N between them.

    Args:
        build: any spelling of GRCh37, the build of the sequence.

    Raises:
        InputError: another build.
        MissingExtraError, IntegrityError: the package is absent, or its files are others.
    """

    def __init__(self, build: str = GRCH37) -> None:
        if build_name(build) != GRCH37:
            raise InputError(f"the packaged genes are sequence of GRCh37, not of {build}; use build=GRCh37 for them")
        sequence = resources.resolve_file(RESOURCE.name, SEQUENCE_FILE)
        places = resources.resolve_file(RESOURCE.name, PLACES_FILE)
        key = RESOURCE.file(SEQUENCE_FILE).sha256[:16] + RESOURCE.file(PLACES_FILE).sha256[:16]

        def records() -> Iterator[Record]:
            """Arrays run along the transcript: the first base is `hg19_start` on + and `hg19_end` on - (1-based)."""
            placed = json.loads(places.read_text(encoding="utf-8"))
            try:
                with np.load(sequence, allow_pickle=False) as arrays:
                    for number, place in placed.items():
                        bases = arrays[f"x{number}"]
                        codes = bases.argmax(axis=1).astype(np.uint8)
                        codes[bases.sum(axis=1) == 0] = N_CODE
                        start, end = int(place["hg19_start"]) - 1, int(place["hg19_end"])
                        if len(codes) != end - start:
                            raise IntegrityError(f"{place['gene']} has {len(codes)} bases, its place {end - start}")
                        yield place["chrom"], start, end, reverse_complement(codes) if place["strand"] == "-" else codes
            except (KeyError, ValueError, zipfile.BadZipFile) as error:
                raise IntegrityError(f"{sequence} cannot be read ({error}); install the package again") from error

        super().__init__("packaged genes", GRCH37, key, records)

    def __reduce__(self) -> tuple[type[PackagedGenes], tuple[str]]:
        """Another process maps the cached array itself."""
        return type(self), (self.build,)
