"""BCF is read as bcftools writes it as text; what is truncated, damaged or too large is refused."""

from __future__ import annotations

import io
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pysam.bcftools
import pytest

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.splice_engine.base_layer.vcf import reader
from meta_spliceai.splice_engine.base_layer.vcf.bgzf import read_blocks
from meta_spliceai.splice_engine.base_layer.vcf.reader import open_variants

VCF = """##fileformat=VCFv4.2
##FILTER=<ID=PASS,Description="All filters passed">
##contig=<ID=chr1,length=6000>
##contig=<ID=chr2,length=6000>
##FILTER=<ID=q10,Description="low">
##INFO=<ID=DP,Number=1,Type=Integer,Description="depth">
##INFO=<ID=AF,Number=A,Type=Float,Description="frequency">
##INFO=<ID=END,Number=1,Type=Integer,Description="end">
##INFO=<ID=KEY,Number=.,Type=String,Description="old">
##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\ts2
chr1\t5\trs1\tA\tC,<DEL>\t12.3457\tq10\tDP=300;AF=0.123457,1e-05;END=5\tGT\t0/1\t1|1
chr2\t70000\t.\tACGTACGTACGTACGTACGT\tA\t.\tPASS\tKEY=a,b;DP=70000\tGT\t./.\t0/0
chr2\t70001\t.\tA\t.\t.\t.\t.\tGT\t0/0\t0/0
"""


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The BCF that bcftools makes of VCF."""
    folder = tmp_path_factory.mktemp("bcf")
    (folder / "in.vcf").write_text(VCF)
    pysam.bcftools.view(
        "--no-version", "-O", "b", "-o", str(folder / "in.bcf"), str(folder / "in.vcf"), catch_stdout=False
    )
    return (folder / "in.bcf").read_bytes()


@pytest.fixture(scope="module")
def plain(packed: bytes) -> bytes:
    return b"".join(read_blocks(io.BytesIO(packed), "in.bcf"))


def text_of(data: bytes, piece: int = 4096) -> bytes:
    pieces = (data[at : at + piece] for at in range(0, len(data), piece))
    return b"".join(reader.as_text(pieces, "in.bcf"))


@pytest.mark.parametrize("form", ["packed", "plain"])
def test_a_bcf_is_read_as_its_text(form: str, request: pytest.FixtureRequest) -> None:
    variants = open_variants(io.BytesIO(request.getfixturevalue(form)), "in.bcf")
    assert variants.binary
    records = list(variants)
    assert [(record.chrom, record.pos, record.ref, record.alts) for record in records] == [
        ("chr1", 5, "A", ("C", "<DEL>")),
        ("chr2", 70000, "ACGTACGTACGTACGTACGT", ("A",)),
        ("chr2", 70001, "A", ()),
    ]
    assert b"".join([*variants.header, *(record.raw for record in records)]).decode() == VCF


def test_cuts_are_refused(plain: bytes, packed: bytes) -> None:
    for length in (5, 8, 200, len(plain) - 1, len(plain) - 60):
        with pytest.raises(IntegrityError, match=r"in\.bcf is truncated within"):
            text_of(plain[:length])
    with pytest.raises(IntegrityError, match="truncated"):
        list(open_variants(io.BytesIO(packed[:-28]), "in.bcf"))


def test_damaged_bytes_are_refused_or_read(plain: bytes) -> None:
    generator = np.random.default_rng(0)
    start = 9 + int.from_bytes(plain[5:9], "little")
    refused = 0
    for _ in range(12):
        damaged = bytearray(plain)
        for place in generator.integers(start, len(plain), 3):
            damaged[place] = generator.integers(0, 256)
        try:
            list(open_variants(io.BytesIO(bytes(damaged)), "in.bcf"))
        except (IntegrityError, InputError):
            refused += 1
    assert refused > 3


def test_another_version_is_refused(plain: bytes) -> None:
    with pytest.raises(IntegrityError, match="cannot be read as BCF"):
        text_of(b"BCF\2\7" + plain[5:])


def test_headers_and_records_have_bounds(plain: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="the header has more than"):
        text_of(plain[:5] + struct.pack("<I", 2**31) + plain[9:])
    with pytest.raises(InputError, match="there is no header"):
        text_of(plain[:5] + bytes(4) + plain[9:])
    monkeypatch.setenv("META_SPLICEAI_LONGEST_RECORD", "40")
    with pytest.raises(IntegrityError, match=r"record 1 claims .* set META_SPLICEAI_LONGEST_RECORD"):
        text_of(plain)


def test_an_input_that_breaks_off_is_no_shorter_file(plain: bytes) -> None:
    def pieces() -> Iterator[bytes]:
        yield plain[:-60]
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        list(reader.as_text(pieces(), "in.bcf"))


def test_who_stops_reading_leaves_no_process(plain: bytes) -> None:
    record = plain[9 + int.from_bytes(plain[5:9], "little") :]
    many = reader.as_text([plain, *[record] * 100_000], "in.bcf")
    next(many)
    began = time.monotonic()
    many.close()
    assert time.monotonic() - began < 5


def test_a_module_in_the_users_folder_is_not_run(plain: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pysam.py").write_text("raise SystemExit('taken over')")
    monkeypatch.chdir(tmp_path)
    assert text_of(plain).decode() == VCF
    assert sys.path[0] != str(tmp_path)
