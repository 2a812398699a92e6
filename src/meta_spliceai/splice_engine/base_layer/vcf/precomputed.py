"""Precomputed scores: published tables, looked up instead of running the networks.

A table is a VCF, bgzipped and with its tabix index (.tbi), whose INFO holds entries of the form that `score` writes:
Illumina's tables of every substitution and short indel, or an output of `score` itself. The index says where each
16,384 bases begin, which for Illumina's tables is some eighty compressed blocks; among these the right one is found by
bisection from a guess, for which the first bytes of a block are unpacked. (htslib unpacks all that stands before.)
"""

from __future__ import annotations

import mmap
import re
import struct
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt64

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.read_hostile import one_error
from meta_spliceai.splice_engine.base_layer.network import BaseModel
from meta_spliceai.splice_engine.base_layer.vcf import bgzf
from meta_spliceai.splice_engine.base_layer.vcf.info_field import InfoField
from meta_spliceai.splice_engine.base_layer.vcf.text import INFO, TextVariants, declared, text_of
from meta_spliceai.splice_engine.genome.annotation import bare_contig

PUBLISHED_DISTANCE = 50
"""Of Illumina's tables (spliceai_scores.raw.snv.hg38.vcf.gz and the like; Jaganathan et al. 2019)."""
AGREE: tuple[str, ...] = ("Base", "Weights", "Distance", "Mask", "Strict", "Genes")
"""What the header's line of a table that `score` made must share with what is asked for."""
LARGEST_INDEX = 2**28
"""Bytes of an index, decompressed; that of every substitution of the genome has some 10 MB."""
CHECKED_BEFORE_STOPPING = 100
_MOST_CHECKED = 1000
"""Places whose reference base is compared with the variant's."""
_STATISTICS = 37450
"""Number of the index's bin that holds no places."""
_WINDOW = 14
"""A tabix index has a place for each 2**14 bases."""
_NOWHERE = 2**60
"""Stands for the position of another contig's record, so that bisection finds it behind all of one contig's."""
_NEAR = 1500
"""Bytes that are searched from end to end rather than halved again."""
_LONGEST_STRETCH = 2**24
"""Bytes of the lines at one position; there are a few hundred."""
_HEAD = struct.Struct("<4s6x6sH")
"""Of a block: what it is, then its size, less 1."""
_BLOCK_BEGINS = b"\x1f\x8b\x08\x04", b"\x06\x00BC\x02\x00"
_ENTRY = re.compile(rb"(?:-?[01]\.\d\d\|)+-?\d{1,5}(?:\|-?\d{1,5})*")
"""Scores with two decimals, then positions."""


@dataclass(frozen=True, eq=False)
class _Contig:
    """Where a contig's records lie: of each window the virtual offset of its first record; where the last one ends."""

    name: bytes
    windows: UInt64[np.ndarray, " windows"]
    end: int


class ScoreTable:
    """One table, opened; refused where its scores are of another kind than those asked for.

    Args:
        path: the bgzipped VCF; its index stands beside it.
        info: the field that is looked up.
        model: the base model that would compute.
        asked: what scores are asked for, as `score` writes it into a header (see AGREE).
    """

    def __init__(self, path: Path, info: InfoField, model: BaseModel, asked: dict[str, str]) -> None:
        self.path = path
        index = path.with_name(f"{path.name}.tbi")
        if not index.is_file():
            raise InputError(f"{path} has no index {index.name} beside it; make it: tabix -p vcf {path.name}")
        with path.open("rb") as stream:
            header = TextVariants(bgzf.read_blocks(stream, str(path)), str(path)).header
            self._bytes = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        _check_kind(path, header, info, model, asked)
        self._key = f"{info.key}=".encode()
        self._bars = info.columns.count("|") - 2
        self._contigs = _read_index(index)
        self._lines = lru_cache(maxsize=1)(self._read_lines)
        self._blocks = lru_cache(maxsize=1)(self._find_blocks)
        self._first = lru_cache(maxsize=4096)(self._read_first)
        self._text = lru_cache(maxsize=4)(self._unpack)
        self._held: tuple[bytes, int, int, bytes] = b"", 0, 0, b""
        self._bases: dict[tuple[str, int], bool] = {}

    def find(self, chrom: str, pos: int, ref: str, alt: str, symbol: str) -> str | None:
        """The scores and positions of an allele (upper case) and gene; None where the table does not have them once."""
        lines = self._lines(chrom, pos)
        if lines and len(self._bases) < _MOST_CHECKED:
            self._bases.setdefault((chrom, pos), lines[0][0][:1] == ref[:1].encode())
        wanted, start = ref.encode(), f"{alt}|{symbol}|".encode()
        found = {
            entry[len(start) :]
            for reference, info in lines
            if reference == wanted
            for entry in self._entries(info, start)
        }
        text = found.pop() if len(found) == 1 else b""
        return text.decode() if text.count(b"|") == self._bars and _ENTRY.fullmatch(text) else None

    def stop_at_another_build(self) -> None:
        """End the run where most records at the variants' places have another reference base."""
        checked, mismatched = len(self._bases), list(self._bases.values()).count(False)
        if checked >= CHECKED_BEFORE_STOPPING and mismatched > checked / 2:
            raise InputError(
                f"{mismatched} of the first {checked} variants have another base in {self.path}: another build"
            )

    def _read_lines(self, chrom: str, pos: int) -> list[tuple[bytes, bytes]]:
        """Reference allele in upper case and INFO of each record at a position."""
        contig = self._contigs.get(bare_contig(chrom))
        if contig is None:
            return []
        name, first, last, text = self._held
        if name != contig.name or not first < pos < last:
            text = self._text_around(contig, pos)
            _, first, last, _ = self._held
        start = b"\n%b\t%d\t" % (contig.name, pos)
        begins = range(0, len(text), _NEAR)
        share = (pos - first) / max(last - first, 1)
        behind = _bisect(begins, pos, lambda begin: _place(text, begin, contig.name), share)
        line_end = text.find(b"\n", begins[behind]) if behind < len(begins) else -1
        end = line_end + len(start) if line_end >= 0 else len(text)
        at = text.find(start, begins[max(behind - 1, 0)] if begins else 0, end)
        found = []
        while at >= 0:
            end = text.find(b"\n", at + 1)
            fields = text[at + 1 : end if end >= 0 else len(text)].split(b"\t", INFO + 1)
            if len(fields) <= INFO:
                raise IntegrityError(f"{self.path}, {chrom}:{pos}: a record of fewer than 8 columns; get the file anew")
            found.append((fields[3].upper(), fields[INFO].rstrip()))
            at = end if text.startswith(start, end) else -1
        return found

    def _entries(self, info: bytes, start: bytes) -> list[bytes]:
        """A record's entries that begin with allele and symbol, the allele in upper case."""
        if start not in info and start.upper() not in info.upper():
            return []
        entries = [one[len(self._key) :] for one in info.split(b";") if one.startswith(self._key)]
        parted = [one.partition(b"|") for one in b",".join(entries).split(b",")]
        upper = [allele.upper() + bar + rest for allele, bar, rest in parted]
        return [one for one in upper if one.startswith(start)]

    def _text_around(self, contig: _Contig, pos: int) -> bytes:
        """Whole lines, each behind a line end, among them all records at the position."""
        number = (pos - 1) >> _WINDOW
        if number >= len(contig.windows) or not contig.windows[number]:
            return b""
        blocks = self._blocks(contig, number)
        # What stands in the first block may be another contig's.
        share = (pos - (number << _WINDOW)) / (2 << _WINDOW)
        at = _bisect(blocks[1:], pos, lambda block: self._first(block, contig.name), share)
        text, following = self._text(blocks[at])
        text = b"\n" + text[int(contig.windows[number]) & 0xFFFF :] if at == 0 else text[text.find(b"\n") :]
        while (last := _last_place(text, contig.name)) <= pos and following < len(self._bytes):
            more, following = self._text(following)
            text += more
            if len(text) > _LONGEST_STRETCH:
                raise IntegrityError(f"{self.path}, {pos}: too many records at one place, or a line without an end")
        self._held = contig.name, _place(text, 0, contig.name), last if last < _NOWHERE else 0, text
        return text

    def _find_blocks(self, contig: _Contig, number: int) -> list[int]:
        """Where the blocks begin that hold the records of a window."""
        # Windows without records repeat an offset; and a record that begins in this window may stand behind the
        # first one that reaches into the next.
        after = max(int(np.searchsorted(contig.windows, contig.windows[number], side="right")), number + 2)
        end = int(contig.windows[after]) if after < len(contig.windows) else contig.end
        found, start = [], int(contig.windows[number]) >> 16
        while start <= end >> 16 and start < len(self._bytes):
            found.append(start)
            start += self._size(start)
        if not found:
            raise IntegrityError(f"{self.path}: its index points behind its end; index it anew: tabix -f -p vcf")
        return found

    def _size(self, start: int) -> int:
        *begins, size = _HEAD.unpack(self._bytes[start : start + _HEAD.size].ljust(_HEAD.size))
        if tuple(begins) != _BLOCK_BEGINS:
            raise IntegrityError(f"{self.path}: no compressed block where its index has one; index it anew")
        return int(size) + 1

    def _read_first(self, start: int, name: bytes) -> int:
        """Position of the first line that begins in a block or behind it; _NOWHERE where that is another contig's."""
        while start < len(self._bytes):
            text = bgzf.beginning(self._bytes[start : start + bgzf.BEGINNING], str(self.path))
            if 0 <= text.find(b"\n") < len(text) - len(name) - 20:
                return _place(text, 0, name)
            text, end = self._unpack(start)
            if b"\n" in text[:-1]:
                return _place(text + self._unpack(end)[0] if end < len(self._bytes) else text, 0, name)
            start = end
        return _NOWHERE

    def _unpack(self, start: int) -> tuple[bytes, int]:
        """A block's text, and where the next block begins."""
        end = start + self._size(start)
        return bgzf.inflate(self._bytes[start:end], str(self.path)), end


def _bisect(places: Sequence[int], pos: int, position: Callable[[int], int], share: float) -> int:
    """How many of the places have a smaller position, which is looked for first near a share of them."""
    low, high = 0, len(places)
    for at in (int(share * high) - 1, int(share * high) + 1):
        if low <= at < high:
            low, high = (at + 1, high) if position(places[at]) < pos else (low, at)
    return bisect_left(places, pos, low, high, key=position)


def _place(text: bytes, begin: int, name: bytes) -> int:
    """Position of the first record behind a line end, from a place in a text on; _NOWHERE where there is none, or it is
    another contig's, or its position is not whole."""
    line = text.find(b"\n", begin) + 1
    chrom, _, rest = text[line : line + len(name) + 20].partition(b"\t")
    digits, tab, _ = rest.partition(b"\t")
    return int(digits) if line and chrom == name and tab and digits.isdigit() else _NOWHERE


def _last_place(text: bytes, name: bytes) -> int:
    """Position of the last whole line behind a line end; 0 where there is none."""
    end = text.rfind(b"\n")
    begin = text.rfind(b"\n", 0, max(end, 0))
    return _place(text, begin, name) if begin >= 0 else 0


def _check_kind(path: Path, header: Sequence[bytes], info: InfoField, model: BaseModel, asked: dict[str, str]) -> None:
    """Refuse a table whose scores are not those asked for."""
    known = declared(header)
    if info.key not in known or f"Format: {info.columns}".encode() not in header[known[info.key]]:
        raise InputError(
            f"{path} has no INFO {info.key} of the form {info.columns}; name a table of {info.tool} scores"
        )
    own = [line.decode("utf-8", "replace") for line in header if line.startswith(b"##meta_spliceai_score=")]
    kinds, names = [dict(re.findall(r"(\w+)=([^,>]*)", line.partition("<")[2])) for line in own], AGREE
    if not own:
        masked = [word for word in ("raw", "masked") if word in path.name.lower()]
        if model.name != "spliceai" or len(masked) != 1:
            raise InputError(
                f"{path} does not say how its scores were made: name a table that 'meta-spliceai score' wrote, or one "
                "of SpliceAI's published ones under its own name, with 'raw' or 'masked' in it"
            )
        kinds = [{"Distance": str(PUBLISHED_DISTANCE), "Mask": str(int(masked == ["masked"]))}]
        names = ("Distance", "Mask")
    for made in kinds:
        for name in names:
            value = made.get(name, "not given")
            if value != asked[name]:
                raise InputError(f"{path} holds scores with {name}={value}, and {name}={asked[name]} is asked for")


def _read_index(path: Path) -> dict[str, _Contig]:
    """The contigs of a tabix index, by name without "chr"."""
    raw = bytearray()
    with path.open("rb") as stream:
        for piece in bgzf.read_blocks(stream, str(path)):
            raw += piece
            if len(raw) > LARGEST_INDEX:
                raise InputError(f"{path} holds more than {LARGEST_INDEX:,} bytes; it is no index of a table of scores")
    with one_error(path, "index the table anew: tabix -f -p vcf"):
        magic, contigs, kind = struct.unpack_from("<4sii", raw)
        length = struct.unpack_from("<i", raw, 32)[0]
        names = bytes(raw[36 : 36 + length]).split(b"\0")[:-1]
        if magic != b"TBI\1" or kind & 0xFFFF != 2 or len(names) != contigs:
            raise ValueError("no tabix index of a VCF")
        found, at = {}, 36 + length
        for name in names:
            bins, at, end = struct.unpack_from("<I", raw, at)[0], at + 4, 0
            for _ in range(bins):
                number, chunks = struct.unpack_from("<II", raw, at)
                ends = np.frombuffer(raw, "<u8", 2 * chunks, at + 8)[1::2]
                if number != _STATISTICS and chunks:
                    end = max(end, int(ends.max()))
                at += 8 + 16 * chunks
            count = struct.unpack_from("<I", raw, at)[0]
            windows = np.maximum.accumulate(np.frombuffer(raw, "<u8", count, at + 4))
            found[bare_contig(text_of(name))] = _Contig(name, windows, end)
            at += 4 + 8 * count
    return found
