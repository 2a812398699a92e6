"""Opening a file of variants, whatever its kind: VCF, gzipped or bgzipped VCF, BCF; from a path or a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Protocol

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.base_layer.vcf.bcf import MAGIC, BcfVariants
from meta_spliceai.splice_engine.base_layer.vcf.bgzf import GZIP_MAGIC, read_blocks
from meta_spliceai.splice_engine.base_layer.vcf.text import TextVariants

_PIECE = 1 << 20


class VariantRecord(Protocol):
    """One record, whatever the file's kind. `pos` is 1-based; `raw` are its bytes as they stand in the file."""

    @property
    def raw(self) -> bytes: ...
    @property
    def number(self) -> int: ...
    @property
    def chrom(self) -> str: ...
    @property
    def pos(self) -> int: ...
    @property
    def ref(self) -> str: ...
    @property
    def alts(self) -> tuple[str, ...]: ...

    def has_info(self, keys: Sequence[str]) -> bool: ...

    def with_info(self, additions: Sequence[tuple[str, str]], without: Sequence[str] = ()) -> bytes: ...


Variants = TextVariants | BcfVariants
"""A header and records to iterate over."""


@dataclass(frozen=True)
class Block:
    """Records that follow one another: their bytes, and the number of the first of them."""

    variants: Variants
    raws: list[bytes]
    first: int

    def __len__(self) -> int:
        return len(self.raws)

    def record(self, place: int) -> VariantRecord:
        """The record at a place (0-based) in the block, read."""
        return self.variants.record(self.raws[place], self.first + place)


def open_variants(stream: IO[bytes], name: str, new_keys: Sequence[str]) -> Variants:
    """The records of a stream whose kind is seen from its first bytes.

    Args:
        stream: opened for reading bytes; need not be seekable.
        name: for messages.
        new_keys: INFO keys that will be added.

    Raises:
        InputError: no VCF (empty, no header).
        IntegrityError: truncated or damaged.
    """
    head = stream.read(_PIECE)
    chunks: Iterator[bytes]
    if head.startswith(GZIP_MAGIC):
        chunks = read_blocks(stream, name, head)
        head = next(chunks, b"")
        # A first block shorter than the magic number is possible; the next ones complete it.
        while len(head) < len(MAGIC):
            more = next(chunks, b"")
            if not more:
                break
            head += more
    else:
        chunks = iter(lambda: stream.read(_PIECE), b"")
    if not head:
        raise InputError(f"{name} is empty; expected a VCF or BCF")
    whole = _after(head, chunks)
    if head.startswith(MAGIC):
        return BcfVariants(whole, name, new_keys)
    return TextVariants(whole, name)


def _after(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from chunks
