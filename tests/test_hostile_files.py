"""Files that ended in a traceback, took minutes or filled the memory: success, or an error in one line."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from meta_spliceai.errors import InputError, MetaSpliceAIError
from tests.conftest import SHARED
from tests.readers_of_files import READERS

SECONDS = 10
MEBIBYTES = 300

KINDS = {
    "region-*": ("regions",),
    "readvar*": ("variants",),
    "t?.tsv": ("variants",),
    "ledger-*": ("ledger",),
    "l?.jsonl": ("ledger",),
    "npzscores-*": ("packed scores",),
    "s*.npz": ("packed scores", "packed genome"),
    "packed-*": ("packed genome", "packed scores"),
    "pk.npz": ("packed genome",),
    "unpack-*": ("packed scores",),
    "split-*": ("split",),
    "anno-*": ("annotation",),
    "account-*": ("account",),
    "w*.md": ("wishlist",),
    "rundir-*": ("run",),
    "bl*.yaml": ("rows", "prices", "own prices", "run"),
    "tag.yaml": ("rows", "prices", "run"),
    "predcfg-*": ("predictor",),
    "svdb-*": ("splicevardb",),
    "sv.tsv": ("splicevardb",),
    "vcf-*": ("vcf", "scored", "variants"),
    "alts.vcf.gz": ("vcf", "scored", "variants"),
    "nl.bcf.gz": ("vcf", "variants"),
    "cache-*": ("score cache",),
}


def cases() -> Iterator[tuple[str, str]]:
    for pattern, readers in KINDS.items():
        for path in sorted((SHARED / "cases").glob(pattern)):
            yield from ((path.name, reader) for reader in readers)


def content(name: str) -> bytes:
    data = (SHARED / "cases" / name).read_bytes()
    return data.split(b"\0", 2)[2] if name.startswith("rundir-") else data  # its name in the run stands before it


def ends_well(reader: str, path: Path) -> None:
    began = time.process_time()
    with suppress(MetaSpliceAIError):
        READERS[reader](path)
    assert time.process_time() - began < SECONDS


@pytest.mark.parametrize(("name", "reader"), list(cases()))
def test_a_file_that_went_wrong_ends_well(name: str, reader: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content(name))
    ends_well(reader, path)


HEADER = b"##fileformat=VCFv4.2\n"
COLUMNS = b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
LONG = 80 * 2**20
"""Bytes that a file of a few hundred kilobytes unpacks to."""

MEASURED = """
import resource, sys
from pathlib import Path
from meta_spliceai.errors import MetaSpliceAIError
from tests.readers_of_files import READERS
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for reader, path in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        READERS[reader](Path(path))
    except MetaSpliceAIError as error:
        print(error, file=sys.stderr)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_millions_of_alternatives_on_a_line_are_refused_at_once(tmp_path: Path) -> None:
    for name, alleles in (("bases.vcf", b"C,"), ("symbols.vcf", b"<DEL>,"), ("empty.vcf", b",")):
        path = tmp_path / name
        path.write_bytes(HEADER + COLUMNS + b"chr1\t5100\t.\tA\t" + alleles * 3_000_000 + b"C\t.\t.\t.\n")
        began = time.process_time()
        for reader in ("vcf", "scored"):
            with pytest.raises(InputError, match="3,000,001 alternative alleles"):
                READERS[reader](path)
        assert time.process_time() - began < 2


@pytest.mark.skipif(sys.platform == "win32", reason="the memory of a process is measured otherwise there")
def test_what_never_ends_is_refused_in_little_memory(tmp_path: Path) -> None:
    bases, newlines = b"C" * LONG, b"\n" * LONG
    endless = {
        "lines.vcf.gz": ("vcf", HEADER + b"##\n" * (LONG // 3)),
        "newlines.bcf.gz": ("vcf", b"BCF\2\2" + LONG.to_bytes(4, "little") + newlines),
        "record.vcf.gz": ("vcf", HEADER + COLUMNS + b"chr1\t1\t.\tA\t" + bases),
        "line.csv.gz": ("variants", b"chrom,pos,ref,alt\nchr1,1,A," + bases),
        "line.txt.gz": ("annotation", b"#NAME\tCHROM" + bases),
    }
    arguments = []
    for name, (reader, content) in endless.items():
        (tmp_path / name).write_bytes(gzip.compress(content, 1))
        arguments += [reader, str(tmp_path / name)]
    root = Path(__file__).resolve().parents[1]
    ended = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments], cwd=root, capture_output=True, text=True, check=True
    )
    errors = ended.stderr.splitlines()
    assert [error for error in errors if not re.search(r"more than|longer than", error)] == []
    assert len(errors) == len(endless)
    assert int(ended.stdout) / (2**20 if sys.platform == "darwin" else 2**10) < MEBIBYTES
