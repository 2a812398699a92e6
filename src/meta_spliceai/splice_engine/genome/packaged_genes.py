"""Whole human genes that a Python package carries, as a sparse genome: real sequence without a download."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from meta_spliceai import resources
from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.builds import GRCH37, build_name
from meta_spliceai.splice_engine.genome.region_fasta import Record, SparseGenome
from meta_spliceai.splice_engine.genome.sequence import N_CODE, reverse_complement

SEQUENCE_FILE = "frame_alignment_checks/data/relevant_validation_genes.npz"
PLACES_FILE = "frame_alignment_checks/data/relevant_validation_genes_transcript_coords.json"

RESOURCE = resources.get("packaged-genes")


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
        super().__init__("packaged genes", GRCH37, key, lambda: _records(sequence, places))

    def __reduce__(self) -> tuple[type[PackagedGenes], tuple[str]]:
        """Another process maps the cached array itself."""
        return type(self), (self.build,)


def _records(sequence: Path, places: Path) -> Iterator[Record]:
    """Arrays run along the transcript: the first base is `hg19_start` on + and `hg19_end` on - (1-based)."""
    with np.load(sequence, allow_pickle=False) as arrays:
        for number, place in json.loads(places.read_text(encoding="utf-8")).items():
            bases = arrays[f"x{number}"]
            codes = bases.argmax(axis=1).astype(np.uint8)
            codes[bases.sum(axis=1) == 0] = N_CODE
            start, end = int(place["hg19_start"]) - 1, int(place["hg19_end"])
            yield place["chrom"], start, end, reverse_complement(codes) if place["strand"] == "-" else codes
