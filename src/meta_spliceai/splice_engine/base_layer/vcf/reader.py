"""Opening a file of variants, whatever its kind: VCF, gzipped or bgzipped VCF, BCF; from a path or a stream.

BCF is read and written by bcftools, which pysam brings. It runs in a process of its own, and reads within bounds:
whatever a damaged file does to bcftools, it does to that process alone.
"""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import IO, cast

from meta_spliceai.errors import InputError, IntegrityError, RunError
from meta_spliceai.files import whole_file
from meta_spliceai.read_hostile import limit
from meta_spliceai.splice_engine.base_layer.vcf.bgzf import GZIP_MAGIC, read_blocks
from meta_spliceai.splice_engine.base_layer.vcf.text import (
    HEADER_TOO_LARGE,
    LARGEST_HEADER,
    LONGEST_RECORD,
    MOST_HEADER_LINES,
    TextVariants,
)

MAGIC = b"BCF\2"
_PIECE = 1 << 20
_CODE = "import sys, pysam.bcftools as b; b.view('--no-version', *sys.argv[1:], catch_stdout=False)"
_VIEW = (sys.executable, "-P", "-c", _CODE)  # -P: no module of the user's folder is taken for pysam


def open_variants(stream: IO[bytes], name: str) -> TextVariants:
    """The records of a stream, whose kind is seen from its first bytes; it need not be seekable.

    Raises:
        InputError: no VCF (empty, no header).
        IntegrityError: truncated or damaged.
    """
    head = stream.read(_PIECE)
    packed = head.startswith(GZIP_MAGIC)
    chunks = read_blocks(stream, name, head) if packed else chain([head], iter(lambda: stream.read(_PIECE), b""))
    first = next(chunks, b"")
    binary, chunks = first.startswith(MAGIC), chain([first], chunks)
    return TextVariants(as_text(chunks, name) if binary else chunks, name, binary)


def reopened(path: str) -> TextVariants:
    """The records of a file, once more from its beginning."""
    return open_variants(Path(path).open("rb"), path)


def as_text(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    """The text of a BCF as `bcftools view` writes it, from its bytes, decompressed; both in pieces of any size."""
    command = (*_VIEW, "-O", "v", "-")
    with (
        tempfile.TemporaryFile() as said,
        ThreadPoolExecutor(1) as feeder,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said) as bcftools,
    ):
        sink, source = cast(IO[bytes], bcftools.stdin), cast(io.BufferedReader, bcftools.stdout)
        try:
            fed = feeder.submit(_feed, _bounded(iter(chunks), name), sink)
            while text := source.read1(_PIECE):
                yield text
            fed.result()
            if bcftools.wait():
                raise IntegrityError(f"{name} cannot be read as BCF ({_complaint(said)}); fetch it again")
        finally:
            bcftools.kill()
            with suppress(BrokenPipeError):  # what was not taken yet is not wanted any more
                sink.close()


def _feed(chunks: Iterable[bytes], sink: IO[bytes]) -> None:
    with suppress(BrokenPipeError), sink:  # bcftools has ended; how, its reader finds out
        sink.writelines(chunks)


def _bounded(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """Header and records as they are, once it is sure that none is larger than any."""
    held = bytearray()

    def take(size: int, what: str, may_end: bool = False) -> bytes:
        while len(held) < size:
            chunk = next(chunks, None)
            if chunk is None:
                if may_end and not held:
                    return b""
                raise IntegrityError(f"{name} is truncated within {what}; fetch it again")
            held.extend(chunk)
        taken = bytes(held[:size])
        del held[:size]
        return taken

    start = take(9, "its head")
    size = int.from_bytes(start[5:], "little")
    text = take(size, "its header") if 0 < size <= LARGEST_HEADER else b""
    if not text or text.count(b"\n") > MOST_HEADER_LINES:
        raise InputError(f"{name}: {HEADER_TOO_LARGE if size else 'there is no header'}")
    yield start + text
    number, longest = 0, limit(LONGEST_RECORD)
    while lengths := take(8, f"record {number + 1}", may_end=True):
        number += 1
        size = sum(struct.unpack("<II", lengths))
        if size > longest:
            raise IntegrityError(
                f"{name}: record {number} claims {size:,} bytes; if that is right, set {LONGEST_RECORD[0]} to allow "
                f"more than {longest:,}"
            )
        yield lengths + take(size, f"record {number}")


def check_convertible(source: Path) -> None:
    """Refuse a VCF that cannot be written as BCF, as its header lacks a contig or key: before hours of scoring."""
    if said := _bcftools_view("-O", "u", "-o", os.devnull, str(source)):
        raise InputError(
            f"{source} cannot be written as BCF: {said}; declare it in the header, or write a VCF: -o NAME.vcf.gz"
        )


def to_bcf(source: Path, out: Path) -> None:
    """Write a finished VCF as BCF, atomically."""
    # Not pysam's own record writer: it adds END to records of symbolic alleles behind the header's back.
    with whole_file(out) as temporary:
        if said := _bcftools_view("-O", "b", "-o", str(temporary), str(source)):
            raise RunError(
                f"{out} could not be written as BCF ({said}); all scores are kept in {source.name} for --resume"
            )


def _bcftools_view(*arguments: str) -> str:
    """Run `bcftools view`; what it complained of, "" where it was done."""
    with tempfile.TemporaryFile() as said:
        failed = subprocess.run([*_VIEW, *arguments], stderr=said, check=False).returncode
        return _complaint(said) if failed else ""


def _complaint(said: IO[bytes]) -> str:
    said.seek(0)
    text = said.read(2000).decode("utf-8", "replace").partition("Traceback")[0]
    return " ".join(text.split()) or "no message"
