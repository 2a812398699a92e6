"""BCF: records pass byte for byte, entries are added so that pysam reads them, and damaged bytes are refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pysam
import pytest

from meta_spliceai.errors import IntegrityError
from meta_spliceai.splice_engine.base_layer.vcf.bcf import BcfVariants
from meta_spliceai.splice_engine.base_layer.vcf.bgzf import END_BLOCK, compress, read_blocks

VCF = """##fileformat=VCFv4.2
##contig=<ID=chr1,length=6000>
##contig=<ID=chr2,length=6000>
##FILTER=<ID=q10,Description="low">
##INFO=<ID=DP,Number=1,Type=Integer,Description="depth">
##INFO=<ID=AF,Number=A,Type=Float,Description="frequency">
##INFO=<ID=END,Number=1,Type=Integer,Description="end">
##INFO=<ID=KEY,Number=.,Type=String,Description="old">
##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\ts2
chr1\t5\trs1\tA\tC,<DEL>\t12.3456789\tq10\tDP=300;AF=0.123456789,1e-05;END=5\tGT\t0/1\t1|1
chr2\t70000\t.\tACGTACGTACGTACGTACGT\tA\t.\tPASS\tKEY=a,b;DP=70000\tGT\t./.\t0/0
chr2\t70001\t.\tA\t.\t.\t.\t.\tGT\t0/0\t0/0
"""
DEFINITIONS = {
    "NEW": '##INFO=<ID=NEW,Number=.,Type=String,Description="new">',
    "KEY": '##INFO=<ID=KEY,Number=.,Type=String,Description="replaced">',
}
LONG = "x" * 200


@pytest.fixture
def plain(tmp_path: Path) -> bytes:
    """The decompressed bytes of the BCF that pysam makes of VCF."""
    text, path = tmp_path / "in.vcf", tmp_path / "in.bcf"
    text.write_text(VCF)
    with pysam.VariantFile(str(text)) as source, pysam.VariantFile(str(path), "wb", header=source.header) as sink:
        for record in source:
            sink.write(record)
    return b"".join(read_blocks(io.BytesIO(path.read_bytes()), "in.bcf"))


def variants(data: bytes, piece: int = 11) -> BcfVariants:
    return BcfVariants((data[at : at + piece] for at in range(0, len(data), piece)), "in.bcf", list(DEFINITIONS))


def test_places_and_alleles_are_read(plain: bytes) -> None:
    found = [(record.chrom, record.pos, record.ref, record.alts) for record in variants(plain)]
    assert found == [
        ("chr1", 5, "A", ("C", "<DEL>")),
        ("chr2", 70000, "ACGTACGTACGTACGTACGT", ("A",)),
        ("chr2", 70001, "A", ()),
    ]


def test_untouched_records_and_header_are_the_same_bytes(plain: bytes) -> None:
    source = variants(plain)
    assert source.header_with({}, []) + b"".join(record.with_info([]) for record in source) == plain


def test_pysam_reads_what_was_added_and_all_the_rest(plain: bytes, tmp_path: Path) -> None:
    source = variants(plain)
    data = source.header_with(DEFINITIONS, ["##made=here"])
    for record in source:
        data += record.with_info([("NEW", f"{LONG},b"), ("KEY", "k")], ["KEY"])
    path = tmp_path / "out.bcf"
    path.write_bytes(compress(data) + END_BLOCK)
    with pysam.VariantFile(str(path)) as written:
        header = str(written.header)
        lines = [str(record) for record in written]
    assert "##made=here" in header
    assert 'ID=KEY,Number=.,Type=String,Description="replaced"' in header
    with pysam.VariantFile(str(tmp_path / "in.vcf")) as original:
        expected = [str(record) for record in original]
    expected = [line.replace("KEY=a,b;", "") for line in expected]
    for line, before in zip(lines, expected, strict=True):
        fields = before.split("\t")
        added = f"NEW={LONG},b;KEY=k"
        fields[7] = added if fields[7] == "." else f"{fields[7]};{added}"
        assert line == "\t".join(fields)


def test_float_values_keep_all_their_bits(plain: bytes) -> None:
    # Through text, 12.3456789 would come back with six digits.
    first, *_ = variants(plain)
    quality = np.frombuffer(first.with_info([("NEW", "v")])[8 + 12 : 8 + 16], "<f4")[0]
    assert quality == np.float32(12.3456789)


def test_held_keys_are_seen(plain: bytes) -> None:
    assert [record.has_info(["KEY"]) for record in variants(plain)] == [False, True, False]


def test_truncation_is_refused_at_every_length(plain: bytes) -> None:
    whole = len(list(variants(plain)))
    borders = 0
    for length in range(len(plain)):
        try:
            borders += len(list(variants(plain[:length], piece=4096))) < whole
        except IntegrityError:
            continue
    assert borders == whole  # only cuts between records read as shorter files; the compressed layer notices those


def test_damaged_bytes_are_refused_and_never_followed(plain: bytes) -> None:
    generator = np.random.default_rng(0)
    start = len(plain) - sum(len(record.raw) for record in variants(plain))
    refused = 0
    for _ in range(500):
        damaged = bytearray(plain)
        for place in generator.integers(start, len(plain), 2):
            damaged[place] = generator.integers(0, 256)
        try:
            for record in variants(bytes(damaged), piece=4096):
                record.with_info([("NEW", "v")], ["KEY"])
        except IntegrityError:
            refused += 1
    assert refused > 50


def test_another_version_is_refused(plain: bytes) -> None:
    with pytest.raises(IntegrityError, match="not a BCF of version 2"):
        variants(b"BCF\4" + plain[4:])
