"""VCF as text: a header and lines, of which only the header's end and the INFO column are ever changed."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from urllib.parse import quote

import numpy as np
from jaxtyping import Int64

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.read_hostile import limit

COLUMNS = (b"#CHROM", b"POS", b"ID", b"REF", b"ALT", b"QUAL", b"FILTER", b"INFO")
INFO = 7
"""Place of the INFO column, 0-based."""
LONGEST_RECORD = "META_SPLICEAI_LONGEST_RECORD", 2**26
"""Bytes of a line of a VCF, or of a record of a BCF; a line that never ends is no record."""
LARGEST_HEADER = 2**25
"""Bytes of a header; those of 3,000 contigs and 500,000 samples have a fifth of it."""
MOST_HEADER_LINES = 500_000
HEADER_TOO_LARGE = f"the header has more than {LARGEST_HEADER:,} bytes or {MOST_HEADER_LINES:,} lines"
BLOCK_RECORDS = 1000
BLOCK_BYTES = 1 << 25
"""What is scored together has so many records, or takes so many bytes and up to _LOOKED_AT records more."""
_LOOKED_AT = 50
"""Records after which a block's bytes are counted."""
MOST_ALTERNATIVES = 2**16 - 2
"""Alternative alleles of a record: as many as a BCF can hold beside the reference."""


Line = tuple[int, bytes]
"""Number of a line in its file, 1-based, and the line as it stands there, line end included."""

_PLACE = re.compile(rb"([^\t]*+)\t([0-9]{1,10}+)\t[^\t]*+\t[^\t]*+\t([^\t]*+)\t")
"""CHROM, POS and ALT."""


@dataclass(frozen=True)
class TextRecord:
    """One line of a VCF.

    Attributes:
        raw: the line as it stands in the file, line end included.
        number: line number in the file, 1-based.
    """

    raw: bytes
    number: int
    chrom: str
    pos: int
    ref: str
    alts: tuple[str, ...]

    def has_info(self, keys: Collection[str]) -> bool:
        """Whether INFO holds one of the keys."""
        info = self.raw.split(b"\t", INFO + 1)[INFO].rstrip(b"\r\n")
        return any(_key(entry) in keys for entry in info.split(b";"))

    def with_info(self, additions: Sequence[tuple[str, str]], without: Collection[str] = ()) -> bytes:
        """The line with entries added at the end of INFO, and those under the keys `without` taken out."""
        if not additions and not without:
            return self.raw
        body = self.raw.rstrip(b"\r\n")
        fields = body.split(b"\t", INFO + 1)
        info = fields[INFO].rstrip(b";")  # one that ends in a separator would get an empty entry
        kept = [] if info in (b".", b"") else info.split(b";")
        if without:
            kept = [entry for entry in kept if _key(entry) not in without]
        kept += [f"{key}={value}".encode() for key, value in additions]
        fields[INFO] = b";".join(kept) or b"."
        return b"\t".join(fields) + self.raw[len(body) :]


def text_of(field: bytes) -> str:
    """A column's text: UTF-8 (VCF 4.3, section 1.1), and what is none with its bytes as \\xNN."""
    return field.decode("utf-8", "backslashreplace")


def _key(entry: bytes) -> str:
    return entry.split(b"=", 1)[0].decode("latin-1")


@dataclass(frozen=True)
class Block:
    """Records that are scored together: their lines, and the numbers of these."""

    variants: TextVariants
    raws: list[bytes]
    numbers: list[int]

    def __len__(self) -> int:
        return len(self.raws)

    @cached_property
    def text(self) -> bytes:
        """All lines."""
        return b"".join(self.raws)

    @cached_property
    def bounds(self) -> Int64[np.ndarray, " ends"]:
        """Where in the text each line begins, and where the last one ends."""
        return np.cumsum([0, *map(len, self.raws)])

    def __iter__(self) -> Iterator[TextRecord]:
        return map(self.record, range(len(self)))

    def record(self, place: int) -> TextRecord:
        """The record at a place (0-based) in the block, read."""
        return self.variants.record(self.raws[place], self.numbers[place])


class TextVariants:
    """The records of a VCF text stream.

    Args:
        chunks: the text, in pieces of any size.
        name: of the file, for messages.
        binary: the text is that of a BCF.

    Attributes:
        header: the header's lines as they stand in the file, the column line last.
        rows: lines of records that are still to be read; fewer may be put in their place.
    """

    def __init__(self, chunks: Iterable[bytes], name: str, binary: bool = False) -> None:
        self.name = name
        self.binary = binary
        lines = chain.from_iterable(split_lines(chunks, name))
        self.header = self._read_header(lines)
        self.width = self.header[-1].count(b"\t") + 1
        self.rows: Iterator[Line] = enumerate(lines, start=len(self.header) + 1)

    def _read_header(self, lines: Iterator[bytes]) -> list[bytes]:
        header: list[bytes] = []
        held = 0
        for line in lines:
            header.append(line)
            held += len(line)
            where = f"{self.name}, line {len(header)}"
            if held > LARGEST_HEADER or len(header) > MOST_HEADER_LINES:
                raise InputError(f"{where}: {HEADER_TOO_LARGE}")
            if len(header) == 1 and not line.startswith(b"##fileformat=VCF"):
                raise InputError(
                    f"{self.name} has no VCF header: line 1 is '{line[:40].decode('latin-1').rstrip()}', expected "
                    "'##fileformat=VCFv4.x'; give a VCF with its header, a bgzipped VCF or a BCF"
                )
            if line.startswith(b"##"):
                continue
            if line.rstrip(b"\r\n").split(b"\t")[: len(COLUMNS)] != list(COLUMNS):
                raise InputError(
                    f"{where}: the header must end with the line of column names ({b' '.join(COLUMNS).decode()})"
                )
            return header
        if not header:
            raise InputError(f"{self.name} is empty; expected a VCF or BCF")
        raise InputError(f"{self.name} ends within its header (no #CHROM line); the file is truncated")

    def __iter__(self) -> Iterator[TextRecord]:
        return (self.record(line, number) for number, line in self.rows)

    def placed(self, rows: Iterator[Line]) -> Iterator[tuple[Line, str, int, int]]:
        """Each of some lines, its contig and position, and how many alternative alleles made of bases it has."""
        for number, line in rows:
            found = _PLACE.match(line)
            if found is None:
                self.record(line, number)
                raise RuntimeError(f"line {number} is a record without a place")
            alt = found[3]
            alleles = 0 if alt == b"." else max(0, alt.count(b",") + 1 - alt.count(b"<"))
            yield (number, line), text_of(found[1]), int(found[2]), alleles

    def blocks(self) -> Iterator[Block]:
        """Records in blocks; where a block ends depends on the records alone."""
        raws: list[bytes] = []
        numbers: list[int] = []
        size = 0
        while some := list(islice(self.rows, min(_LOOKED_AT, BLOCK_RECORDS - len(raws)))):
            some_numbers, some_raws = zip(*some, strict=True)
            numbers += some_numbers
            raws += some_raws
            size += sum(map(len, some_raws))
            if len(raws) >= BLOCK_RECORDS or size >= BLOCK_BYTES:
                yield Block(self, raws, numbers)
                raws, numbers, size = [], [], 0
        if raws:
            yield Block(self, raws, numbers)

    def record(self, line: bytes, number: int) -> TextRecord:
        """One line, read."""
        if not line.strip():
            raise InputError(f"{self.name}, line {number} is empty; a VCF has a record on every line")
        width = line.count(b"\t") + 1
        if width != self.width:
            raise InputError(
                f"{self.name}, line {number}: {width} tab-separated fields where the header has {self.width}"
            )
        chrom, pos, _, ref, alt, _ = line.split(b"\t", 5)
        if not re.fullmatch(rb"\d{1,10}", pos):
            raise InputError(f"{self.name}, line {number}: position '{pos[:20].decode('latin-1')}' is not a number")
        if alt.count(b",") >= MOST_ALTERNATIVES:
            raise InputError(
                f"{self.name}, line {number}: {alt.count(b',') + 1:,} alternative alleles; a record holds at most "
                f"{MOST_ALTERNATIVES:,}: split it, for example with 'bcftools norm -m -'"
            )
        alts = () if alt == b"." else tuple(text_of(alt).split(","))
        return TextRecord(line, number, text_of(chrom), int(pos), text_of(ref), alts)

    def header_with(self, info: dict[str, str], extra: Sequence[str]) -> bytes:
        """The header with INFO definitions: each in place of an old one of the same ID, else before the column line.

        Args:
            info: ID: the whole definition line, without line end.
            extra: further lines (without line end), put before the column line unless the very same line is there.
        """
        line_end = b"\r\n" if self.header[-1].endswith(b"\r\n") else b"\n"
        lines = list(self.header)
        known = declared(lines)
        new = []
        for key, definition in info.items():
            line = definition.encode() + line_end
            if key in known:
                lines[known[key]] = line
            else:
                new.append(line)
        new += [line.encode() + line_end for line in extra if line.encode() + line_end not in lines]
        return b"".join([*lines[:-1], *new, lines[-1]])


def split_lines(chunks: Iterable[bytes], name: str) -> Iterator[list[bytes]]:
    """Lines, each with its line end, from pieces of text: those that end in a piece together."""
    pieces: list[bytes] = []
    held, longest = 0, limit(LONGEST_RECORD)
    for chunk in chunks:
        lines = io.BytesIO(chunk).readlines()
        last = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        if lines:
            lines[0] = b"".join([*pieces, lines[0]])
            yield lines
            pieces, held = [], 0
        if last:
            pieces.append(last)
            held += len(last)
        if held > longest:
            raise IntegrityError(f"{name} has a line of more than {longest:,} bytes; {LONGEST_RECORD[0]} allows more")
    if pieces:
        yield [b"".join(pieces)]


def info_safe(text: str) -> str:
    """The text with what INFO or our own separators cannot hold written as %XX (VCF 4.3, section 1.2)."""
    return re.sub(r"[%;=,|\s]", lambda found: quote(found.group(), safe=""), text)


def declared(header: Sequence[bytes]) -> dict[str, int]:
    """IDs that a header declares (##INFO=<ID=…>): the index of their line."""
    found: dict[str, int] = {}
    for index, line in enumerate(header):
        match = re.match(rb"##INFO=<(?:[^\"]*?,)?ID=([^,>]+)", line)
        if match:
            found[match.group(1).decode("latin-1")] = index
    return found
