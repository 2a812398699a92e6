"""A genome held in memory: packaged genes, constructs, and toys for tests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.genome.sequence import N_CODE, encode
from meta_spliceai.splice_engine.genome.source import SequenceSource


class MemoryGenome(SequenceSource):
    """Contigs as arrays of codes.

    Args:
        contigs: name: bases as a string, or as codes (uint8, A 0, C 1, G 2, T 3, N 4), plus strand.
        build: "GRCh37", "GRCh38" or a construct's name.
        name: what messages call it.

    Raises:
        InputError: a letter that is no nucleotide, or codes above 4.
    """

    def __init__(self, contigs: Mapping[str, str | UInt8[np.ndarray, " length"]], build: str, name: str) -> None:
        self._contigs: dict[str, UInt8[np.ndarray, " length"]] = {}
        hashed = hashlib.sha256(build.encode())
        for contig, bases in contigs.items():
            codes = encode(bases) if isinstance(bases, str) else np.array(bases, dtype=np.uint8)
            if codes.ndim != 1 or (codes.size and int(codes.max()) > N_CODE):
                raise InputError(f"contig '{contig}' of {name} is not one row of codes 0 to {N_CODE}")
            self._contigs[contig] = codes
            hashed.update(f"\n{contig}\t{len(codes)}\n".encode())
            hashed.update(codes.tobytes())
        super().__init__(name, build, {contig: len(codes) for contig, codes in self._contigs.items()})
        self.digest = hashed.hexdigest()

    def _within(self, contig: str, start: int, end: int) -> UInt8[np.ndarray, " length"]:
        return self._contigs[contig][start:end]
