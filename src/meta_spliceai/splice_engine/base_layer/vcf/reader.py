"""Opening a file of variants, whatever its kind: VCF, gzipped or bgzipped VCF, BCF; from a path or a stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.base_layer.vcf.bcf import MAGIC, as_text
from meta_spliceai.splice_engine.base_layer.vcf.bgzf import GZIP_MAGIC, read_blocks
from meta_spliceai.splice_engine.base_layer.vcf.text import TextVariants

_PIECE = 1 << 20


def open_variants(stream: IO[bytes], name: str) -> TextVariants:
    """The records of a stream whose kind is seen from its first bytes.

    Args:
        stream: opened for reading bytes; need not be seekable.
        name: for messages.

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
    return TextVariants(as_text(whole, name) if head.startswith(MAGIC) else whole, name, head.startswith(MAGIC))


def _after(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from chunks
