"""What a variant does to the words of the sequence around it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
from jaxtyping import Int, UInt8

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.sequence import N_CODE
from meta_spliceai.splice_engine.variants.windows import Windows

BASES = "ACGT"


def count_words(codes: UInt8[np.ndarray, "rows length"], k: int) -> Int[np.ndarray, "rows words"]:
    """How often each word of k bases stands in each row (words with an N are not counted), in alphabetical order."""
    rows, length = codes.shape
    if not 1 <= k <= 6:
        raise InputError(f"words of {k} bases; 1 to 6 are possible")
    words = 4**k
    if length < k:
        return np.zeros((rows, words), dtype=np.int64)
    index = np.zeros((rows, length - k + 1), dtype=np.int64)
    real = np.ones_like(index, dtype=bool)
    for offset in range(k):
        piece = codes[:, offset : length - k + 1 + offset]
        index = index * 4 + np.minimum(piece, 3)
        real &= piece < N_CODE
    index += words * np.arange(rows)[:, None]
    return np.bincount(index[real], minlength=rows * words).reshape(rows, words)


def word_changes(windows: Windows, longest: int = 3, reach: int = 10) -> pd.DataFrame:
    """Counts of each word in the alternative minus the reference window, and of bases and pairs in the reference.

    Only the `reach` bases to either side of the variant are looked at: farther bases are the same in both.

    Returns:
        Columns `Δ{word}` for words of 1 to `longest` bases, `near {word}` for words of 1 and 2 bases in the reference.
    """
    centre = windows.length // 2
    near = slice(max(0, centre - reach), min(windows.length, centre + reach + 1))
    columns: dict[str, np.ndarray] = {}
    for k in range(1, longest + 1):
        ref, alt = count_words(windows.ref[:, near], k), count_words(windows.alt[:, near], k)
        for number, letters in enumerate(product(BASES, repeat=k)):
            columns[f"Δ{''.join(letters)}"] = (alt - ref)[:, number].astype(np.float64)
            if k <= 2:
                columns[f"near {''.join(letters)}"] = ref[:, number].astype(np.float64)
    return pd.DataFrame(columns)
