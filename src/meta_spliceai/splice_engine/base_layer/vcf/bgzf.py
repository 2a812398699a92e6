"""Blocked gzip (BGZF, SAM specification section 4.1): read with every check, written so that it can be continued.

Python's own gzip reader takes a file that was cut between two blocks for a whole one. This reader knows the empty block
that every BGZF file ends with, and says when it is missing.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import IO

from meta_spliceai.errors import IntegrityError

GZIP_MAGIC = b"\x1f\x8b"
END_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""The empty block at the end of every BGZF file."""

_FIXED = struct.Struct("<4BI2BH")
_MAX_TEXT = 0xFF00
"""Bytes of text in one block; below 65,280 a block cannot grow past 64 KiB even if its text does not compress."""


def read_blocks(stream: IO[bytes], name: str, head: bytes = b"") -> Iterator[bytes]:
    """The text of a gzip stream, block by block; plain gzip files (not blocked) are read as well.

    Args:
        stream: what follows `head`.
        name: file name for messages.
        head: bytes already taken from the stream.

    Raises:
        IntegrityError: truncated (within a block, or the end block is missing), or a damaged block.
    """
    buffer = _Buffer(stream, head)
    last_text: bytes | None = None
    blocked = True
    while True:
        fixed = buffer.peek(_FIXED.size)
        if not fixed:
            break
        size = _block_size(buffer, fixed, name)
        if size is None:
            blocked = False
            yield from _plain_member(buffer, name)
            continue
        block = buffer.take(size)
        if len(block) < size:
            raise IntegrityError(f"{name}: truncated within a compressed block; the file is not whole, fetch it again")
        last_text = inflate(block, name)
        if last_text:
            yield last_text
    if blocked and last_text != b"":
        raise IntegrityError(f"{name}: the block that ends a bgzipped file is missing; the file is truncated")


class _Buffer:
    """A stream that can be looked ahead into."""

    def __init__(self, stream: IO[bytes], head: bytes) -> None:
        self._stream = stream
        self._held = head

    def peek(self, size: int) -> bytes:
        while len(self._held) < size:
            more = self._stream.read(max(size - len(self._held), 1 << 18))
            if not more:
                break
            self._held += more
        return self._held[:size]

    def take(self, size: int) -> bytes:
        taken = self.peek(size)
        self._held = self._held[len(taken) :]
        return taken

    def give_back(self, data: bytes) -> None:
        self._held = data + self._held


def _block_size(buffer: _Buffer, fixed: bytes, name: str) -> int | None:
    """Bytes of the block at hand, or None for a gzip member that is not blocked."""
    if len(fixed) < _FIXED.size:
        raise IntegrityError(f"{name}: truncated within the head of a compressed block; fetch the file again")
    first, second, method, flags, _, _, _, extra = _FIXED.unpack(fixed)
    if (first, second, method) != (0x1F, 0x8B, 8):
        raise IntegrityError(f"{name}: what follows a compressed block is not another one; the file is damaged")
    if not flags & 4:
        return None
    fields = buffer.peek(_FIXED.size + extra)[_FIXED.size :]
    if len(fields) < extra:
        raise IntegrityError(f"{name}: truncated within the head of a compressed block; fetch the file again")
    at = 0
    while at + 4 <= extra:
        tag, length = fields[at : at + 2], int.from_bytes(fields[at + 2 : at + 4], "little")
        if tag == b"BC" and length == 2 and at + 6 <= extra:
            size = int.from_bytes(fields[at + 4 : at + 6], "little") + 1
            if size < _FIXED.size + extra + 8:
                raise IntegrityError(f"{name}: a compressed block gives an impossible size ({size} bytes)")
            return size
        at += 4 + length
    return None


def inflate(block: bytes, name: str) -> bytes:
    """Text of one whole block, its checksum compared."""
    extra = int.from_bytes(block[10:12], "little")
    try:
        text = zlib.decompress(block[_FIXED.size + extra : -8], wbits=-15, bufsize=_MAX_TEXT)
    except zlib.error as error:
        raise IntegrityError(f"{name}: a compressed block is damaged ({error}); fetch the file again") from error
    crc, length = struct.unpack("<II", block[-8:])
    if len(text) != length or zlib.crc32(text) != crc:
        raise IntegrityError(f"{name}: a compressed block does not have its own checksum; fetch the file again")
    return text


def _plain_member(buffer: _Buffer, name: str) -> Iterator[bytes]:
    """Text of one ordinary gzip member."""
    inflater = zlib.decompressobj(wbits=31)
    while not inflater.eof:
        data = buffer.take(1 << 16)
        if not data:
            raise IntegrityError(f"{name}: the gzip stream is truncated; the file is not whole, fetch it again")
        try:
            # Bounded output: a few bytes that unpack to gigabytes come out piece by piece.
            text = inflater.decompress(data, 1 << 20)
            while text:
                yield text
                text = inflater.decompress(inflater.unconsumed_tail, 1 << 20) if inflater.unconsumed_tail else b""
        except zlib.error as error:
            raise IntegrityError(f"{name}: the gzip stream is damaged ({error}); fetch the file again") from error
    buffer.give_back(inflater.unused_data)


def compress(text: bytes) -> bytes:
    """The text as whole BGZF blocks, without the end block, so that more can follow."""
    blocks = []
    for start in range(0, len(text), _MAX_TEXT):
        piece = text[start : start + _MAX_TEXT]
        deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
        body = deflater.compress(piece) + deflater.flush()
        size = len(body) + 26
        head = _FIXED.pack(0x1F, 0x8B, 8, 4, 0, 0, 255, 6) + b"BC\x02\x00" + struct.pack("<H", size - 1)
        blocks.append(head + body + struct.pack("<II", zlib.crc32(piece), len(piece)))
    return b"".join(blocks)
