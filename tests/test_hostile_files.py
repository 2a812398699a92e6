"""Files that ended in a traceback, took minutes or filled the memory: success, or an error in one line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from meta_spliceai.errors import MetaSpliceAIError
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
    "npzscores-*": ("scores",),
    "s*.npz": ("scores", "packed scores", "packed genome"),
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
