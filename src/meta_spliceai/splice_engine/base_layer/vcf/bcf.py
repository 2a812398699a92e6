"""BCF, the binary form of VCF (VCF specification section 6.3): records passed through byte for byte, INFO extended.

A record is two lengths and two parts. The shared part holds, little-endian: CHROM index, POS (0-based), length, QUAL,
counts (INFO entries in the low 16 bits, alleles in the high 16), counts of samples and formats; then typed values: ID,
alleles, FILTER, and INFO as pairs of key and value. A typed value starts with a byte, type in the low four bits (1, 2,
3: integers of 1, 2, 4 bytes; 5: float; 7: characters; 0: none) and number of values in the high four; 15 there means
that the number follows as a typed integer. Keys are places in the header's dictionary of strings.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.read_hostile import limit
from meta_spliceai.splice_engine.base_layer.vcf.text import (
    HEADER_TOO_LARGE,
    LARGEST_HEADER,
    LONGEST_RECORD,
    MOST_HEADER_LINES,
    header_with,
)

MAGIC = b"BCF\2"
_SIZES = {0: 0, 1: 1, 2: 2, 3: 4, 5: 4, 7: 1}
_INTEGERS = {1: "<b", 2: "<h", 3: "<i"}
_FIXED = struct.Struct("<iiifII")
_CHARACTERS = 7


@dataclass(frozen=True)
class BcfRecord:
    """One record of a BCF.

    Attributes:
        raw: the record's bytes, lengths included.
        number: place in the file, 1-based.
        keys: place of each INFO key in the dictionary.
    """

    raw: bytes
    number: int
    chrom: str
    pos: int
    ref: str
    alts: tuple[str, ...]
    info_start: int
    keys: dict[str, int]
    name: str

    def has_info(self, keys: Collection[str]) -> bool:
        """Whether INFO holds one of the keys."""
        places = {self.keys[key] for key in keys if key in self.keys}
        return any(place in places for place, _, _ in self._entries())

    def _entries(self) -> Iterator[tuple[int, int, int]]:
        """(key's place, start, end) of each INFO entry; offsets into the shared part."""
        shared = _Cursor(self.raw, 8, 8 + struct.unpack_from("<I", self.raw)[0], self.name)
        shared.at = self.info_start
        count = struct.unpack_from("<I", self.raw, 8 + 16)[0] & 0xFFFF
        for _ in range(count):
            start = shared.at
            place = shared.integer()
            shared.skip_value()
            yield place, start, shared.at

    def with_info(self, additions: Sequence[tuple[str, str]], without: Collection[str] = ()) -> bytes:
        """The record with entries added at the end of INFO, and those under the keys `without` taken out."""
        places = {self.keys[key] for key in without if key in self.keys}
        if not additions and not places:
            return self.raw
        shared_length, _ = struct.unpack_from("<II", self.raw)
        shared, rest = self.raw[8 : 8 + shared_length], self.raw[8 + shared_length :]
        counts = struct.unpack_from("<I", shared, 16)[0]
        entries, alleles = counts & 0xFFFF, counts >> 16
        if places:
            gone = [(start - 8, end - 8) for place, start, end in self._entries() if place in places]
            for start, end in reversed(gone):
                shared = shared[:start] + shared[end:]
            entries -= len(gone)
        shared += b"".join(_typed_integer(self.keys[key]) + _typed_text(value) for key, value in additions)
        entries += len(additions)
        if entries > 0xFFFF:
            raise IntegrityError(f"{self.name}, record {self.number}: more INFO entries than a BCF record can hold")
        shared = shared[:16] + struct.pack("<I", alleles << 16 | entries) + shared[20:]
        return struct.pack("<I", len(shared)) + self.raw[4:8] + shared + rest


class BcfVariants:
    """The records of a BCF stream (after decompression).

    Args:
        chunks: the bytes, in pieces of any size.
        name: file name for messages.
        new_keys: INFO keys that will be added, in the order in which they are declared.

    Attributes:
        header: the header's text lines, the column line last.
    """

    kind = "bcf"
    first = 1

    def __init__(self, chunks: Iterable[bytes], name: str, new_keys: Sequence[str]) -> None:
        self.name = name
        self._bytes = _Stream(chunks, name)
        start = self._bytes.take(9, "its head")
        if start[:4] != MAGIC:
            raise IntegrityError(f"{name} is not a BCF of version 2")
        self._version = start[:5]
        size = int.from_bytes(start[5:9], "little")
        text = self._bytes.take(size, "its header") if size <= LARGEST_HEADER else b""
        if not text or text.count(b"\n") > MOST_HEADER_LINES:
            raise InputError(f"{name}: {HEADER_TOO_LARGE if size else 'there is no header'}")
        lines = text.rstrip(b"\0").splitlines(keepends=True)
        if not lines or not lines[-1].startswith(b"#CHROM"):
            raise IntegrityError(f"{name}: the header has no #CHROM line; the file is damaged")
        self.header = lines
        self._contigs = _dictionary(lines, rb"contig", {})
        self._strings = _dictionary(lines, rb"(?:INFO|FILTER|FORMAT)", {"PASS": 0})
        self._explicit = any(re.search(rb",IDX=\d+>\s*$", line) for line in lines)
        for key in new_keys:
            self._strings.setdefault(key, max(self._strings.values()) + 1)
        self._contig_names = {place: contig for contig, place in self._contigs.items()}

    def __iter__(self) -> Iterator[BcfRecord]:
        return map(self.record, self.raws(), itertools.count(self.first))

    def raws(self) -> Iterator[bytes]:
        """The records' bytes, lengths included.

        Raises:
            IntegrityError: truncated, or a record longer than any.
        """
        number, longest = 0, limit(LONGEST_RECORD)
        while True:
            number += 1
            lengths = self._bytes.take(8, f"record {number}", may_end=True)
            if not lengths:
                return
            shared, samples = struct.unpack("<II", lengths)
            if shared + samples > longest:
                raise IntegrityError(
                    f"{self.name}: record {number} claims {shared + samples:,} bytes; if that is right, set "
                    f"{LONGEST_RECORD[0]} to allow more than {longest:,}"
                )
            yield lengths + self._bytes.take(shared + samples, f"record {number}")

    def record(self, raw: bytes, number: int) -> BcfRecord:
        """One record, read.

        Raises:
            IntegrityError: damaged.
        """
        where = f"{self.name}, record {number}"
        cursor = _Cursor(raw, 8, 8 + struct.unpack_from("<I", raw)[0], where)
        chrom, pos, _, _, counts, _ = _FIXED.unpack(cursor.take(_FIXED.size))
        if chrom not in self._contig_names:
            raise IntegrityError(f"{where}: contig number {chrom} is not in the header")
        cursor.skip_value()
        alleles = [cursor.text() for _ in range(counts >> 16)]
        cursor.skip_value()
        return BcfRecord(
            raw,
            number,
            self._contig_names[chrom],
            pos + 1,
            alleles[0] if alleles else "",
            tuple(alleles[1:]),
            cursor.at,
            self._strings,
            self.name,
        )

    def header_with(self, info: dict[str, str], extra: Sequence[str]) -> bytes:
        """The header's bytes with INFO definitions put in; see `text.header_with`."""
        numbered = {}
        for key, definition in info.items():
            place = f",IDX={self._strings[key]}>" if self._explicit else ">"
            numbered[key] = definition.removesuffix(">") + place
        text = b"".join(header_with(self.header, numbered, extra)) + b"\0"
        return self._version + struct.pack("<I", len(text)) + text

    def end(self) -> bytes:
        """What stands behind the last record in a stream of this kind."""
        return b""


class _Stream:
    """Exact numbers of bytes from pieces."""

    def __init__(self, chunks: Iterable[bytes], name: str) -> None:
        self._chunks = iter(chunks)
        self._held = bytearray()
        self._name = name

    def take(self, size: int, what: str, may_end: bool = False) -> bytes:
        while len(self._held) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                if may_end and not self._held:
                    return b""
                raise IntegrityError(f"{self._name} is truncated within {what}; fetch it again")
            self._held += chunk
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken


class _Cursor:
    """Typed values one after the other, never read past the end of the shared part."""

    def __init__(self, raw: bytes, at: int, end: int, where: str) -> None:
        self.at = at
        self._raw, self._end, self._where = raw, end, where

    def take(self, size: int) -> bytes:
        if size > self._end - self.at:
            raise IntegrityError(f"{self._where}: a value runs past the record's end; the file is damaged")
        self.at += size
        return self._raw[self.at - size : self.at]

    def _descriptor(self) -> tuple[int, int]:
        byte = self.take(1)[0]
        kind, count = byte & 15, byte >> 4
        if kind not in _SIZES:
            raise IntegrityError(f"{self._where}: a value of unknown type {kind}; the file is damaged")
        return kind, self.integer() if count == 15 else count

    def integer(self) -> int:
        byte = self.take(1)[0]
        kind = byte & 15
        if kind not in _INTEGERS or byte >> 4 != 1:
            raise IntegrityError(f"{self._where}: something else stands where a whole number must; the file is damaged")
        value = struct.unpack(_INTEGERS[kind], self.take(_SIZES[kind]))[0]
        if value < 0:
            raise IntegrityError(f"{self._where}: a count or key is negative; the file is damaged")
        return int(value)

    def skip_value(self) -> None:
        kind, count = self._descriptor()
        self.take(_SIZES[kind] * count)

    def text(self) -> str:
        kind, count = self._descriptor()
        if kind not in (0, _CHARACTERS):
            raise IntegrityError(f"{self._where}: an allele is not text; the file is damaged")
        return self.take(_SIZES[kind] * count).rstrip(b"\0").decode("latin-1")


def _dictionary(lines: Sequence[bytes], kind: bytes, start: dict[str, int]) -> dict[str, int]:
    """ID: place in the dictionary, given as IDX or else by order of first appearance."""
    places = dict(start)
    for line in lines:
        match = re.match(rb"##" + kind + rb"=<(?:[^\"]*?,)?ID=([^,>]+)", line)
        if not match:
            continue
        key = match.group(1).decode("latin-1")
        explicit = re.search(rb",IDX=(\d{1,9})>\s*$", line)
        if explicit:
            places[key] = int(explicit.group(1))
        else:
            places.setdefault(key, max(places.values(), default=-1) + 1)
    return places


def _typed_integer(value: int) -> bytes:
    for kind, above in ((1, 1 << 7), (2, 1 << 15), (3, 1 << 31)):
        if value < above:
            return bytes([0x10 | kind]) + struct.pack(_INTEGERS[kind], value)
    raise ValueError(f"{value} does not fit into a BCF integer")


def _typed_text(value: str) -> bytes:
    data = value.encode()
    if len(data) < 15:
        return bytes([len(data) << 4 | _CHARACTERS]) + data
    return bytes([0xF0 | _CHARACTERS]) + _typed_integer(len(data)) + data
