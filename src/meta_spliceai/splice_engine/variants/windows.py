"""A variant becomes a window: reference and alternative bases around it, read along the transcript."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int, UInt8

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.sequence import N_CODE, encode, reverse_complement
from meta_spliceai.splice_engine.genome.source import SequenceSource


@dataclass(frozen=True)
class Windows:
    """Windows of one length, one row a variant, in the order of the table they were cut for: codes (A 0, C 1, G 2, T 3,
    N 4) in transcript orientation, the base at `pos` at index length // 2, and how many bases of the reference window
    are known (not N)."""

    ref: UInt8[np.ndarray, "variants length"]
    alt: UInt8[np.ndarray, "variants length"]
    real_bases: Int[np.ndarray, " variants"]

    def __len__(self) -> int:
        return len(self.ref)

    @property
    def length(self) -> int:
        return self.ref.shape[1]


def build_windows(table: pd.DataFrame, genome: SequenceSource, length: int) -> Windows:
    """Cut the windows (of an odd number of bases) of every variant.

    On the plus strand, with h = length // 2: the reference window is [pos - 1 - h, pos + h) (0-based, half-open); the
    alternative one is the h bases before `pos`, the alternative allele, then the bases behind the reference allele, cut
    to `length`: a deletion pulls further bases in, an insertion pushes bases out. Both are then reverse-complemented
    for genes on the minus strand, which leaves the base at `pos` at index h. N stands where the sequence runs out. The
    reference allele is not compared with the genome here: `check_reference` does that. InputError: an even or
    non-positive length, or a contig the genome lacks.
    """
    if length < 1 or length % 2 == 0:
        raise InputError(f"a window's length must be odd and positive, so that the variant is at its centre: {length}")
    half = length // 2
    ref = np.empty((len(table), length), dtype=np.uint8)
    alt = np.empty_like(ref)
    contig_of = {chrom: genome.resolve(chrom) for chrom in table["chrom"].unique()}
    alleles = {allele: encode(allele) for allele in table["alt"].unique()}
    columns = zip(table["chrom"], table["pos"], table["ref"], table["alt"], strict=True)
    for at, (chrom, pos, ref_allele, alt_allele) in enumerate(columns):
        start = pos - 1 - half
        behind = half + len(ref_allele)  # first base behind the reference allele, counted from `start`
        around = genome.fetch(contig_of[chrom], start, start + length + len(ref_allele))
        ref[at] = around[:length]
        alt[at] = np.concatenate([around[:half], alleles[alt_allele], around[behind:]])[:length]
    minus = np.flatnonzero((table["strand"] == "-").to_numpy())
    for rows in np.array_split(minus, max(1, len(minus) * length // 20_000_000)):  # bounded extra memory
        ref[rows] = reverse_complement(ref[rows])
        alt[rows] = reverse_complement(alt[rows])
    return Windows(ref, alt, (ref < N_CODE).sum(axis=1))
