"""The index of a FASTA file (.fai, and .gzi where it is bgzipped): trusted only while it describes the file.

An index that was made before the file was changed last, or whose lines do not lie where it says, gives bases from other
places without a word. Such a one is made anew: beside the file, or in the cache where that folder cannot be written to.
"""

from __future__ import annotations

import bisect
import gzip
import hashlib
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.files import cache_dir

LINES_CHECKED = 16
"""Lines of a sequence, evenly spaced, whose ends must lie where the index says."""

_MOST_BETWEEN = 1 << 20
"""Bytes between two sequences (a header line and blank lines)."""

_LONGEST_LINE = 1 << 28
_BGZIP = b"\x1f\x8b\x08\x04"
_END_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


@dataclass(frozen=True)
class _Sequence:
    """One line of an index: bases, place of the first in the (uncompressed) file, bases and bytes of a line."""

    name: str
    bases: int
    offset: int
    line_bases: int
    line_bytes: int

    @property
    def end(self) -> int:
        """One past the last base, in bytes of the (uncompressed) file."""
        lines, rest = divmod(self.bases, self.line_bases)
        return self.offset + lines * self.line_bytes + (rest or self.line_bases - self.line_bytes)

    def line_ends(self) -> Iterator[int]:
        """Where some of its whole lines end, ahead of the last one."""
        lines = (self.bases - 1) // self.line_bases
        for number in sorted({1 + step * (lines - 1) // max(1, LINES_CHECKED - 1) for step in range(LINES_CHECKED)}):
            if number <= lines:
                yield self.offset + (number - 1) * self.line_bytes + self.line_bases


class _Misfit(Exception):
    """How an index does not describe its file."""


def sound_index(path: Path) -> tuple[Path, Path | None]:
    """An index that describes the file as it is, and for a bgzipped file the index of its blocks.

    Raises:
        InputError: the file is no FASTA file that can be indexed; the message says where and why.
        IntegrityError: it is truncated.
        RunError: neither its folder nor the cache can be written to.
    """
    zipped = _kind(path)
    beside = Path(f"{path}.fai"), Path(f"{path}.gzi") if zipped else None
    state = path.stat()
    key = f"{path.resolve()} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {state.st_ino}"
    stem = cache_dir() / "genomes" / f"index-{hashlib.sha256(key.encode()).hexdigest()[:32]}"
    cached = stem.with_suffix(".fai"), stem.with_suffix(".gzi") if zipped else None
    for places in (beside, cached):
        try:
            _check(path, *places)
        except _Misfit:
            continue
        return places
    places = beside if os.access(path.parent, os.W_OK) else cached
    _make(path, *places)
    try:
        _check(path, *places)
    except _Misfit as misfit:
        raise InputError(_what_is_wrong(path) or f"{path} cannot be indexed: {misfit}") from misfit
    return places


def _kind(path: Path) -> bool:
    """Whether the file is bgzipped.

    Raises:
        InputError: it is neither text that begins with '>' nor bgzipped.
        IntegrityError: a bgzipped file without the block that ends it.
    """
    with path.open("rb") as handle:
        head = handle.read(4096)
        if head[:4] == _BGZIP:
            handle.seek(-min(len(_END_BLOCK), path.stat().st_size), os.SEEK_END)
            if handle.read() != _END_BLOCK:
                raise IntegrityError(f"{path} is truncated: it does not end with bgzip's last block; get it anew")
            return True
    if head[:2] == b"\x1f\x8b":
        raise InputError(
            f"{path} is gzipped without blocks and cannot be indexed: gunzip it, or compress it with bgzip"
        )
    if not head.strip():
        raise InputError(f"{path} holds no sequence; a FASTA file begins with '>name'")
    if head.lstrip()[:1] != b">":
        raise InputError(f"{path} is no FASTA file: it begins with {head[:12]!r}, expected '>'")
    return False


def _check(path: Path, index: Path, blocks: Path | None) -> None:
    """Compare an index with its file: times, names, and where sequences and lines begin and end.

    Raises:
        _Misfit: the index is absent, or describes another state of the file.
        IntegrityError: the index knows more than the file holds, and fits until there: the file was cut off.
    """
    for one in filter(None, (index, blocks)):
        if not one.is_file():
            raise _Misfit("there is none")
    sequences = _read_index(index)
    with path.open("rb") as handle:
        text = _Text(handle, blocks)
        before = 0
        for sequence in sequences:
            _check_sequence(text, sequence, before)
            if sequence.end > text.size:
                raise IntegrityError(
                    f"{path} is truncated: it ends at byte {text.size:,}, and its index {index} knows {sequence.name} "
                    f"until byte {sequence.end:,}; get it anew, or delete the index if the file is right"
                )
            before = sequence.end
        if text.read(before, _MOST_BETWEEN).strip():
            raise _Misfit("the file goes on behind the last sequence of the index")
    changed = path.stat().st_mtime_ns
    for one in filter(None, (index, blocks)):
        if one.stat().st_mtime_ns < changed:
            raise _Misfit(f"{one.name} is older than the file")


def _check_sequence(text: _Text, sequence: _Sequence, before: int) -> None:
    """Compare a sequence's name and the ends of some lines, as far as the file goes.

    Raises:
        _Misfit: they are not where the index says.
    """
    if not 0 < sequence.offset - before <= _MOST_BETWEEN:
        raise _Misfit(f"{sequence.name} is not where the index says")
    between = text.read(before, sequence.offset - before)
    header = between.strip().split(b"\n")
    named = header[0][:1] == b">" and header[0][1:].split()[:1] == [sequence.name.encode()]
    whole = len(between) == sequence.offset - before
    if len(header) != 1 or (whole and not (named and between.endswith(b"\n"))):
        raise _Misfit(f"{sequence.name} is not where the index says")
    ending = b"\n" if sequence.line_bytes == sequence.line_bases + 1 else b"\r\n"
    for at in sequence.line_ends():
        around = text.read(at - 1, len(ending) + 2)
        if len(around) == len(ending) + 2 and (around[1:-1] != ending or around[:1].isspace() or around[-1:].isspace()):
            raise _Misfit(f"the lines of {sequence.name} are not of one length")


def _read_index(index: Path) -> list[_Sequence]:
    sequences = []
    try:
        for line in index.read_text(encoding="utf-8").splitlines():
            name, *numbers = line.split("\t")
            if not all(number.isdecimal() and len(number) < 16 for number in numbers):
                raise _Misfit(f"{index.name} is damaged")
            sequences.append(_Sequence(name, *map(int, numbers)))
    except (TypeError, UnicodeDecodeError) as error:  # TypeError: too few or too many fields
        raise _Misfit(f"{index.name} is damaged") from error
    if not sequences or any(one.line_bases < 1 or one.line_bytes - one.line_bases not in (1, 2) for one in sequences):
        raise _Misfit(f"{index.name} is damaged")
    if len({one.name for one in sequences}) < len(sequences) or any(not one.bases for one in sequences):
        raise _Misfit(f"{index.name} is damaged")
    return sequences


class _Text:
    """The uncompressed bytes of a FASTA file at any place; of a bgzipped one by the index of its blocks.

    The index of blocks (.gzi) is a count and pairs of places, compressed and uncompressed, as 64-bit little-endian
    integers; the first block, at 0 and 0, is left out.
    """

    def __init__(self, handle: IO[bytes], blocks: Path | None) -> None:
        self._handle = handle
        self._zipped = blocks is not None
        self._starts: list[tuple[int, int]] = [(0, 0)]
        if blocks is None:
            self.size = os.fstat(handle.fileno()).st_size
            return
        data = blocks.read_bytes()
        if len(data) < 8 or len(data) != 8 + 16 * struct.unpack_from("<Q", data)[0]:
            raise _Misfit(f"{blocks.name} is damaged")
        self._starts += [(inflated, packed) for packed, inflated in struct.iter_unpack("<QQ", data[8:])]
        if any(one >= other for one, other in pairwise(self._starts)):
            raise _Misfit(f"{blocks.name} is damaged")
        last = self._starts[-1][0]
        self.size = last + len(self.read(last, 1 << 17))

    def read(self, start: int, size: int) -> bytes:
        """Up to so many bytes from a place on; fewer at the end of the file."""
        if not self._zipped:
            if start >= self.size:
                return b""
            self._handle.seek(start)
            return self._handle.read(size)
        inflated, packed = self._starts[bisect.bisect(self._starts, (start, 1 << 62)) - 1]
        self._handle.seek(packed)
        try:
            with gzip.GzipFile(fileobj=self._handle, mode="rb") as stream:
                stream.read(start - inflated)
                return stream.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise _Misfit("the index of blocks does not fit") from error


def _make(path: Path, index: Path, blocks: Path | None) -> None:
    """Make the index with htslib, whole or not at all.

    Raises:
        InputError: htslib cannot; the message says why.
    """
    import pysam
    import pysam.samtools

    index.parent.mkdir(parents=True, exist_ok=True)
    loudness = pysam.set_verbosity(0)
    with tempfile.TemporaryDirectory(dir=index.parent, prefix=".index.") as folder:
        made, made_blocks = Path(folder) / "fai", Path(folder) / "gzi"
        given = ["--fai-idx", str(made), *(["--gzi-idx", str(made_blocks)] if blocks is not None else [])]
        try:
            pysam.samtools.faidx(str(path), *given)
        except pysam.SamtoolsError as error:
            raise InputError(_what_is_wrong(path) or f"{path} cannot be indexed; check that it is a FASTA file") from (
                error
            )
        finally:
            pysam.set_verbosity(loudness)
        # A file from a machine whose clock is ahead must not make its index look old for ever.
        changed = max(path.stat().st_mtime_ns, made.stat().st_mtime_ns)
        for new, place in ((made_blocks, blocks), (made, index)):
            if place is not None:
                os.utime(new, ns=(changed, changed))
                os.replace(new, place)


def _what_is_wrong(path: Path) -> str:
    """What keeps a FASTA file from being indexed, with its line; "" where nothing is seen."""
    zipped = _kind(path)
    names: set[bytes] = set()
    name, length, ended, number, ending = b"", 0, False, 0, b""
    lines_of_name = 0
    with gzip.open(path, "rb") if zipped else path.open("rb") as handle:
        try:
            while line := handle.readline(_LONGEST_LINE):
                number += 1
                bases = line.rstrip(b"\r\n")
                if bases and bases[:1] != b">" and not bases.isalpha():
                    return f"{path}, line {number}: {bases[:20]!r} is neither bases nor a name; get the file anew"
                if bases[:1] == b">":
                    if names and not lines_of_name:
                        return f"{path}, line {number - 1}: {_shown(name)} has no sequence; take its name out"
                    name = (bases[1:].split() or [b""])[0]
                    if not name:
                        return f"{path}, line {number}: a sequence without a name; write one behind '>'"
                    if name in names:
                        return f"{path}, line {number}: {_shown(name)} stands twice; give each sequence its own name"
                    names.add(name)
                    length, ended, lines_of_name = 0, False, 0
                    continue
                if bases and ended:
                    return (
                        f"{path}, line {number}: the lines of {_shown(name)} are not of one length ({length} bases, "
                        "then fewer, then more lines), so that no base can be found by its place; fold the file anew, "
                        f"for example with 'seqkit seq -w 60 {path.name}'"
                    )
                lines_of_name += bool(bases)
                if lines_of_name == 1:
                    length, ending = len(bases), line[len(bases) :]
                elif bases and (len(bases) > length or (line[len(bases) :] not in (ending, b""))):
                    if len(bases) <= length:
                        return (
                            f"{path}, line {number}, in {_shown(name)}: some lines end with CR LF and others with LF; "
                            "write the file anew with LF, for example with dos2unix"
                        )
                    return (
                        f"{path}, line {number}: the lines of {_shown(name)} are not of one length ({length} bases, "
                        f"then {len(bases)}); fold the file anew, for example with 'seqkit seq -w 60 {path.name}'"
                    )
                ended = len(bases) < length
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            return f"{path} is truncated or damaged behind line {number} ({error}); get it anew"
    if names and not lines_of_name:
        return (
            f"{path}, line {number}: {_shown(name)} has no sequence: truncated? get the file anew, or take the name out"
        )
    return ""


def _shown(name: bytes) -> str:
    return f"'{name[:60].decode('ascii', 'replace')}'"
