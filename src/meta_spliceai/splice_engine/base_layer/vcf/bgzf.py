"""Blocked gzip (BGZF, SAM specification section 4.1): read with all checks, written so that writing can resume.

Python's own gzip reader takes a file that was cut between two blocks for a whole one. This reader knows the empty block
that every BGZF file ends with, and says when it is missing.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import IO, cast

from isal import isal_zlib

from meta_spliceai.errors import IntegrityError

GZIP_MAGIC = b"\x1f\x8b"
END_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""The empty block at the end of every BGZF file."""

_HEAD = bytes.fromhex("1f8b08040000000000ff060042430200")
_PIECE = 1 << 16
_MAX_TEXT = 0xFF00
"""Bytes of text in one block; up to 65,280 a block fits into 64 KiB even if its text does not compress."""
_LARGEST_BODY = 0x10000 - 26
_LEVEL = 2
"""Of 0 to 3. A VCF becomes as small as with zlib's 6, in less than a tenth of the time."""
BEGINNING = 1 << 9
_MOST_AT_ONCE = 1 << 20
"""Bytes of text that are unpacked at once: a few bytes that stand for gigabytes come out piece by piece."""


_Damaged = cast(type[Exception], isal_zlib.error)  # its stub gives an instance


def read_blocks(stream: IO[bytes], name: str, head: bytes = b"") -> Iterator[bytes]:
    """The text of a gzip stream, block by block; plain gzip files (not blocked) are read as well.

    Args:
        stream: what follows `head`, the bytes that were already taken from it.
        name: of the file, for messages.
    """
    held, blocked, ended = head, True, False
    while held or (held := stream.read(_PIECE)):
        while len(held) < len(_HEAD) and (more := stream.read(_PIECE)):
            held += more
        blocked = blocked and held[3:4] == _HEAD[3:4] and held[12:14] == _HEAD[12:14]
        inflater, ended = isal_zlib.decompressobj(wbits=31), True
        while not inflater.eof:
            if not held and not (held := stream.read(_PIECE)):
                raise IntegrityError(f"{name}: truncated within a compressed block; fetch the file again")
            text = _unpacked(name, inflater.decompress, held, _MOST_AT_ONCE)
            held = inflater.unconsumed_tail
            if text:
                ended = False
                yield text
        held = inflater.unused_data
    if blocked and not ended:
        raise IntegrityError(f"{name}: the block that ends a bgzipped file is missing; the file is truncated")


def _unpacked(name: str, unpack: Callable[..., bytes], *given: object) -> bytes:
    try:
        return unpack(*given)
    except (_Damaged, zlib.error) as error:
        raise IntegrityError(f"{name}: a compressed block is damaged ({error}); fetch the file again") from error


def inflate(block: bytes, name: str) -> bytes:
    """Text of one whole block, its checksum compared."""
    return _unpacked(name, isal_zlib.decompress, block, 31)


def beginning(block: bytes, name: str) -> bytes:
    """Some of the first bytes of a block's text, of its first BEGINNING bytes; its checksum is not compared."""
    return _unpacked(name, zlib.decompressobj(wbits=31).decompress, block, BEGINNING)  # sooner than isal's


def compress(text: bytes) -> bytes:
    """The text as whole BGZF blocks, without the end block, so that more can follow."""
    blocks = []
    for start in range(0, len(text), _MAX_TEXT):
        piece = text[start : start + _MAX_TEXT]
        body = isal_zlib.compress(piece, _LEVEL, -15)
        if len(body) > _LARGEST_BODY:  # text like noise, which it makes larger
            body = zlib.compress(piece, 0, -15)
        size = struct.pack("<H", len(body) + 25)
        blocks.append(_HEAD + size + body + struct.pack("<II", isal_zlib.crc32(piece), len(piece)))
    return b"".join(blocks)
