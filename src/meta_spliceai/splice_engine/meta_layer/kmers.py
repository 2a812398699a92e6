"""What a variant does to the k-mers of the sequence around it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
from jaxtyping import Int, UInt8

from meta_spliceai.splice_engine.genome.sequence import N_CODE
from meta_spliceai.splice_engine.variants.windows import Windows

LONGEST, REACH = 3, 10
"""Longest k-mer that is counted, and bases to either side of the variant: farther ones are the same in both alleles."""


def count_kmers(codes: UInt8[np.ndarray, "rows length"], k: int) -> Int[np.ndarray, "rows kmers"]:
    """How often each k-mer stands in each row (those with an N are not counted), in alphabetical order."""
    rows, length = codes.shape
    if length < k:
        return np.zeros((rows, 4**k), dtype=np.int64)
    pieces = np.lib.stride_tricks.sliding_window_view(codes, k, axis=1)
    index = np.minimum(pieces, 3) @ 4 ** np.arange(k)[::-1] + 4**k * np.arange(rows)[:, None]
    real = (pieces < N_CODE).all(axis=2)
    return np.bincount(index[real], minlength=rows * 4**k).reshape(rows, 4**k)


def kmer_changes(windows: Windows) -> pd.DataFrame:
    """Counts of each k-mer in the alternative minus the reference window, and of bases and pairs in the reference.

    Returns:
        Columns `Δ{k-mer}` for k-mers of 1 to LONGEST bases, `near {k-mer}` for those of 1 and 2 bases in the reference.
    """
    centre = windows.length // 2
    near = slice(max(0, centre - REACH), min(windows.length, centre + REACH + 1))
    columns: dict[str, np.ndarray] = {}
    for k in range(1, LONGEST + 1):
        ref, alt = count_kmers(windows.ref[:, near], k), count_kmers(windows.alt[:, near], k)
        for number, letters in enumerate(product("ACGT", repeat=k)):
            columns[f"Δ{''.join(letters)}"] = (alt - ref)[:, number].astype(np.float64)
            if k <= 2:
                columns[f"near {''.join(letters)}"] = ref[:, number].astype(np.float64)
    return pd.DataFrame(columns)
