"""Bases as bytes: the one encoding used everywhere."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from meta_spliceai.errors import InputError

ALPHABET = "ACGTN"
"""Letter of each code: A 0, C 1, G 2, T 3, N 4."""

N_CODE = 4

_NO_BASE = 255
_ENCODE = bytearray([_NO_BASE] * 256)
for _code, _letter in enumerate(ALPHABET):
    _ENCODE[ord(_letter)] = _ENCODE[ord(_letter.lower())] = _code
# The remaining IUPAC letters say "one of several bases": the networks were trained with N in their place.
for _letter in "RYSWKMBDHVU":
    _ENCODE[ord(_letter)] = _ENCODE[ord(_letter.lower())] = N_CODE
_ENCODE[ord("U")] = _ENCODE[ord("u")] = ALPHABET.index("T")

_DECODE = np.frombuffer(ALPHABET.encode(), dtype=np.uint8)
_COMPLEMENT = np.array([3, 2, 1, 0, 4], dtype=np.uint8)


def encode(sequence: str) -> UInt8[np.ndarray, " length"]:
    """Bases as codes (A 0, C 1, G 2, T 3, N 4); lower case is read as upper, IUPAC ambiguity as N. InputError: a letter
    that is no nucleotide, with its 0-based place."""
    # A bytearray, so that the codes can be written to; its translation is quicker than a look-up by NumPy.
    codes = np.frombuffer(bytearray(sequence.encode("latin-1", "replace")).translate(_ENCODE), dtype=np.uint8)
    if codes.size and codes.max() == _NO_BASE:
        at = int(codes.argmax())
        raise InputError(f"'{sequence[at]}' at position {at} of a sequence is not a nucleotide (A, C, G, T or N)")
    return codes


def decode(codes: UInt8[np.ndarray, " length"]) -> str:
    return _DECODE[codes].tobytes().decode("ascii")


def reverse_complement(codes: UInt8[np.ndarray, "*batch length"]) -> UInt8[np.ndarray, "*batch length"]:
    """The other strand, read 5' to 3', along the last axis."""
    return np.ascontiguousarray(_COMPLEMENT[codes][..., ::-1])
