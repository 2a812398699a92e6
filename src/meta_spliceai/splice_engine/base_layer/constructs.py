"""Scoring in reporter constructs: a few hundred known bases with N on either side.

A library of constructs has thousands of short contigs with a dozen variants each, and a reference costs as much as
about eight alternatives. But all constructs share one reference: the contig of N alone. Put into it, a construct's
wild type is one change and each of its mutants another, so that only what a construct's bases reach is computed.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from meta_spliceai.splice_engine.base_layer.incremental import Change
from meta_spliceai.splice_engine.genome.sequence import N_CODE, reverse_complement

LONGEST_CONSTRUCT = 512
"""Bases. Above it a wild type of its own is the cheaper reference."""


def bare(group: int, start: int, end: int) -> UInt8[np.ndarray, " length"]:
    """What constructs are put into: N wherever one looks."""
    return np.full(end - start, N_CODE, dtype=np.uint8)


def in_bare(row: int, codes: UInt8[np.ndarray, " bases"], length: int, strand: str, start: int, outputs: int) -> Change:
    """A construct as a change of N.

    Args:
        row: where its results go.
        codes: the construct's bases, plus strand, with the allele in question.
        length: bases of its wild type, whose place it takes.
        strand: of the gene.
        start: first position asked for, in the 0-based plus-strand coordinates of `codes`.
        outputs: how many are asked for.
    """
    last = start + outputs - 1
    if strand == "+":
        return Change(row, 0, 0, length, codes, (0, 1), (start, last + 1))
    # transcript coordinates are negative plus-strand ones; behind the change they are shifted by the added bases
    shift = len(codes) - length
    return Change(row, 0, 1 - length, length, reverse_complement(codes), (0, 1), (shift - last, shift - start + 1))
