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
        chunks, head = read_blocks(stream, name, head), b""
        while len(head) < len(MAGIC) and (more := next(chunks, b"")):  # a block may be shorter than that
            head += more
    else:
        chunks = iter(lambda: stream.read(_PIECE), b"")
    if not head:
        raise InputError(f"{name} is empty; expected a VCF or BCF")
    whole = chain([head], chunks)
    return TextVariants(as_text(whole, name) if head.startswith(MAGIC) else whole, name, head.startswith(MAGIC))


def reopened(path: str) -> TextVariants:
    """The records of a file, once more from its beginning."""
    return open_variants(Path(path).open("rb"), path)


def as_text(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    """The text of a BCF as `bcftools view` writes it, in pieces.

    Args:
        chunks: the bytes, decompressed, in pieces of any size.
        name: file name for messages.

    Raises:
        InputError: a header larger than any.
        IntegrityError: truncated, damaged, or a record longer than any.
    """
    command = (*_VIEW, "-O", "v", "-")
    with (
        tempfile.TemporaryFile() as said,
        ThreadPoolExecutor(1) as feeder,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said) as bcftools,
    ):
        if bcftools.stdin is None or bcftools.stdout is None:
            raise RuntimeError("no pipes to bcftools")
        try:
            fed = feeder.submit(_feed, _bounded(iter(chunks), name), bcftools.stdin)
            while text := cast(io.BufferedReader, bcftools.stdout).read1(_PIECE):
                yield text
            fed.result()
            if bcftools.wait():
                raise IntegrityError(f"{name} cannot be read as BCF ({_complaint(said)}); fetch it again")
        finally:
            bcftools.kill()
            with suppress(BrokenPipeError):  # what was not taken yet is not wanted any more
                bcftools.stdin.close()


def _feed(pieces: Iterator[bytes], sink: IO[bytes]) -> None:
    try:
        with sink:
            for piece in pieces:
                sink.write(piece)
    except BrokenPipeError:  # bcftools has ended; how, its reader finds out
        pass


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
    """Whether a VCF can be written as BCF, found out by doing it, before hours of scoring.

    Raises:
        InputError: the header does not declare every contig and key that its records use.
    """
    if said := _bcftools_view("-O", "u", "-o", os.devnull, str(source)):
        raise InputError(
            f"{source} cannot be written as BCF: {said}; declare every contig and key in its header (bcftools "
            "reheader), or write a VCF: -o NAME.vcf.gz"
        )


def to_bcf(source: Path, out: Path) -> None:
    """Write a finished VCF as BCF, atomically.

    Raises:
        RunError: it could not be written: a full disk, or a contig or key that the header does not declare.
        OSError: the folder cannot be written to.
    """
    # Not pysam's own record writer: it adds END to records of symbolic alleles behind the header's back.
    with whole_file(out) as temporary:
        if said := _bcftools_view("-O", "b", "-o", str(temporary), str(source)):
            raise RunError(
                f"{out} could not be written as BCF ({said}): the disk is full, or the header does not declare every "
                f"contig and key; all scores are kept in {source.name}: the same command with --resume goes on"
            )


def _bcftools_view(*arguments: str) -> str:
    """Run `bcftools view`; what it complained of, "" where it was done."""
    with tempfile.TemporaryFile() as said:
        if not subprocess.run([*_VIEW, *arguments], stderr=said, check=False).returncode:
            return ""
        return _complaint(said)


def _complaint(said: IO[bytes]) -> str:
    """Of what bcftools wrote: the tag or contig that is not declared, else its last line."""
    said.seek(0)
    lines = said.read(_PIECE).decode("utf-8", "replace").strip().splitlines()
    for line in lines:
        if " is not defined in the header" in line:
            return line.partition("] ")[2].partition(" in the header")[0] + " in the header"
    return lines[-1] if lines else "no message"
