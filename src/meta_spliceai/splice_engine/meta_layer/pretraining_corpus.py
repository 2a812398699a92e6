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
from meta_spliceai.splice_engine.genome.annotation import bare_contig
from meta_spliceai.splice_engine.genome.packed import RegionFasta
from meta_spliceai.splice_engine.genome.sequence import N_CODE
from meta_spliceai.splice_engine.genome.source import SequenceSource

Stretch = tuple[str, UInt8[np.ndarray, " length"]]
"""Chromosome and bases."""

PACKAGE = "frame-alignment-checks"
GENES_FILE = "frame_alignment_checks/data/relevant_validation_genes.npz"
COORDINATES_FILE = "frame_alignment_checks/data/relevant_validation_genes_transcript_coords.json"

_COUNTED_AT_ONCE = 2**22
"""K-mers that are counted together: counting takes some eight bytes for each."""


@dataclass(frozen=True)
class Corpus:
    """Stretches of bases (codes 0 to 4), end to end in one array: first base and length of each, which are held out,
    the held-out chromosomes as they were asked for, and SHA-256 of all but the name."""

    name: str
    codes: UInt8[np.ndarray, " bases"]
    starts: Int[np.ndarray, " stretches"]
    lengths: Int[np.ndarray, " stretches"]
    held_out: Bool[np.ndarray, " stretches"]
    held_out_names: tuple[str, ...]
    digest: str

    def bases(self, held_out: bool) -> int:
        """Known bases (no N) of the held-out stretches, or of the others."""
        which = np.flatnonzero(self.held_out == held_out)
        stretches = (self.codes[self.starts[i] : self.starts[i] + self.lengths[i]] for i in which)
        return sum(int(np.count_nonzero(codes != N_CODE)) for codes in stretches)

    def kmers(self, k: int) -> Int[np.ndarray, "*bases"]:
        """How often each k-mer occurs in the stretches that are not held out, on both strands: k axes of four bases."""
        counted = np.repeat(~self.held_out, self.lengths)
        ends = (self.starts + self.lengths)[:, None]
        # A k-mer that begins in a stretch's last bases would run into the next stretch.
        counted[np.maximum(ends - np.arange(1, k), self.starts[:, None])] = False
        counts = np.zeros(4**k, np.int64)
        for start in range(0, len(self.codes) - k + 1, _COUNTED_AT_ONCE):
            begins = counted[start : min(start + _COUNTED_AT_ONCE, len(self.codes) - k + 1)].copy()
            number = np.zeros(len(begins), np.int64)
            for at in range(start, start + k):
                base = self.codes[at : at + len(begins)]
                number = 4 * number + base
                begins &= base != N_CODE
            counts += np.bincount(number[begins], minlength=4**k)
        forward = counts.reshape((4,) * k)
        return forward + np.flip(forward.T)


class MarkovModel:
    """The chance of each base after the `order` bases before it, or after as many as are known (add-one smoothing),
    from counts of longer k-mers (`Corpus.kmers`)."""

    def __init__(self, kmers: Int[np.ndarray, "*bases"], order: int) -> None:
        counts = kmers.sum(axis=tuple(range(kmers.ndim - order - 1))) + 1
        self._chances = []  # after `order` bases, one fewer …, none
        for _ in range(order + 1):
            self._chances.append(counts / counts.sum(axis=-1, keepdims=True))
            counts = counts.sum(axis=0)

    def bits(self, codes: UInt8[np.ndarray, "batch length"]) -> float:
        """Mean bits a base of sequences whose first base and whose N are not asked for."""
        order, asked = len(self._chances) - 1, codes != N_CODE
        known = np.zeros(codes.shape, np.int64)  # bases before each one without an N or the sequence's beginning
        for at in range(1, codes.shape[1]):
            known[:, at] = np.where(asked[:, at - 1], np.minimum(known[:, at - 1] + 1, order), 0)
        asked[:, 0] = False
        total = 0.0
        for back in range(order + 1):
            rows, places = np.nonzero(asked & (known == back))
            kmers = tuple(codes[rows, places - one] for one in range(back, -1, -1))
            total -= float(np.log2(self._chances[order - back][kmers]).sum())
        return total / max(1, int(asked.sum()))


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
    bare = {bare_contig(chrom) for chrom in hold_out}
    kept = [(bare_contig(chrom), codes) for chrom, codes in stretches if len(codes)]
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
    corpus = Corpus(name, codes, np.cumsum(lengths) - lengths, lengths, held_out, tuple(hold_out), digest.hexdigest())
    for part, words in ((False, "to train on"), (True, "held out")):
        if not corpus.bases(part):
            raise InputError(f"{name}: what is {words} has no known base, only N; hold out other chromosomes")
    return corpus
