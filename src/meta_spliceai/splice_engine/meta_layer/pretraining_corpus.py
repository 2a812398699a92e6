"""Sequence to pre-train an encoder on: stretches of known bases, some of them held out by chromosome."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, UInt8

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.resources.resolve import packaged_file
from meta_spliceai.splice_engine.genome.region_fasta import RegionFasta
from meta_spliceai.splice_engine.genome.sequence import N_CODE
from meta_spliceai.splice_engine.genome.source import SequenceSource

Stretch = tuple[str, UInt8[np.ndarray, " length"]]
"""Chromosome and bases."""

PACKAGE = "frame-alignment-checks"
GENES_FILE = "frame_alignment_checks/data/relevant_validation_genes.npz"
COORDINATES_FILE = "frame_alignment_checks/data/relevant_validation_genes_transcript_coords.json"

_COUNTED_AT_ONCE = 2**24
"""Bases that are counted together: counting takes eight bytes for each, which a chromosome's would fill memory with."""


@dataclass(frozen=True)
class Corpus:
    """Stretches of bases, end to end in one array.

    Attributes:
        codes: all bases (codes 0 to 4).
        starts, lengths: first base of each stretch in `codes`, and its bases.
        held_out: stretches kept for validation.
        digest: SHA-256 of all but the name.
    """

    name: str
    codes: UInt8[np.ndarray, " bases"]
    starts: Int[np.ndarray, " stretches"]
    lengths: Int[np.ndarray, " stretches"]
    held_out: Bool[np.ndarray, " stretches"]
    digest: str

    def bases(self, held_out: bool) -> int:
        """Known bases (no N) of the held-out stretches, or of the others."""
        return int(self._counts(held_out).sum())

    def _counts(self, held_out: bool) -> Int[np.ndarray, " 4"]:
        counts = np.zeros(N_CODE + 1, np.int64)
        for i in np.flatnonzero(self.held_out == held_out):
            for start in range(self.starts[i], self.starts[i] + self.lengths[i], _COUNTED_AT_ONCE):
                end = min(start + _COUNTED_AT_ONCE, self.starts[i] + self.lengths[i])
                counts += np.bincount(self.codes[start:end], minlength=N_CODE + 1)
        return counts[:N_CODE]

    def composition_bits(self) -> float:
        """Bits a held-out base for somebody who knows nothing but how often each base occurs in the other stretches, on
        both strands: what any model has to get below."""
        trained, held_out = (counts + counts[::-1] for counts in (self._counts(False), self._counts(True)))
        share = trained / trained.sum()
        seen = held_out > 0
        return float(-(held_out[seen] * np.log2(share[seen])).sum() / held_out.sum())


def corpus_of(source: SequenceSource, hold_out: Sequence[str]) -> Corpus:
    """A genome's contigs, or a sparse genome's regions; the chromosomes named are held out."""
    return _join(source.name, _stretches(source), hold_out)


def _stretches(source: SequenceSource) -> Iterator[Stretch]:
    for contig, length in source.contigs().items():
        parts = source.regions(contig) if isinstance(source, RegionFasta) else [(0, length)]
        for start, end in parts:
            yield contig, source.fetch(contig, start, end)


def packaged_genes(hold_out: Sequence[str]) -> Corpus:
    """The whole human genes (exons and introns, transcript orientation) of PyPI's frame-alignment-checks.

    Genes without coordinates are left out: it is not known which side of the hold-out they belong to.
    """
    return _join(f"genes of {PACKAGE}", _genes(), hold_out)


def _genes() -> Iterator[Stretch]:
    path = packaged_file(PACKAGE, GENES_FILE)
    coordinates = packaged_file(PACKAGE, COORDINATES_FILE)
    try:
        placed = json.loads(coordinates.read_text(encoding="utf-8"))
        with np.load(path, allow_pickle=False) as arrays:
            for key in sorted(placed, key=int):
                onehot = arrays[f"x{key}"]
                codes = onehot.argmax(axis=1).astype(np.uint8)
                codes[onehot.sum(axis=1) == 0] = N_CODE
                yield str(placed[key]["chrom"]), codes
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise IntegrityError(f"{path.name} of {PACKAGE} cannot be read ({error}); install the package again") from error


def _join(name: str, stretches: Iterable[Stretch], hold_out: Sequence[str]) -> Corpus:
    bare = {_bare(chrom) for chrom in hold_out}
    kept = [(_bare(chrom), codes) for chrom, codes in stretches if len(codes)]
    unknown = bare - {chrom for chrom, _ in kept}
    if unknown:
        there = ", ".join(sorted({chrom for chrom, _ in kept})[:30])
        raise InputError(f"chromosome '{sorted(unknown)[0]}' to hold out is not in {name}; it has {there}")
    held_out = np.array([chrom in bare for chrom, _ in kept], dtype=bool)
    if not held_out.any() or held_out.all():
        raise InputError(
            f"{name}: hold out some chromosomes and keep others; held out: {', '.join(hold_out) or 'none'}"
        )
    lengths = np.array([len(codes) for _, codes in kept], dtype=np.int64)
    codes = np.concatenate([codes for _, codes in kept])
    digest = hashlib.sha256(lengths.tobytes() + held_out.tobytes())
    digest.update(codes.data)
    corpus = Corpus(name, codes, np.cumsum(lengths) - lengths, lengths, held_out, digest.hexdigest())
    for part, words in ((False, "to train on"), (True, "held out")):
        if not corpus.bases(part):
            raise InputError(f"{name}: what is {words} has no known base, only N; hold out other chromosomes")
    return corpus


def _bare(chrom: str) -> str:
    return chrom[3:] if chrom.lower().startswith("chr") else chrom
