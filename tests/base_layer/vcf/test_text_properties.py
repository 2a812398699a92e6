"""VCF as text and as blocked gzip: whatever is in it, and however it comes in, all but INFO goes through."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterator
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.splice_engine.base_layer.vcf import bgzf, text
from meta_spliceai.splice_engine.base_layer.vcf.reader import open_variants
from meta_spliceai.splice_engine.base_layer.vcf.text import TextVariants, declared, info_safe, split_lines
from tests.properties import quick

QUICK = quick(50)
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
FIELD = st.text(st.characters(blacklist_characters="\t\r\n", blacklist_categories=("Cs",)), min_size=1, max_size=8)
INFO_KEYS = ("A", "AB", "B", "OLD", "OLDER")
ENTRY = st.tuples(st.sampled_from(INFO_KEYS), st.one_of(st.none(), st.text("xyz|,.0", max_size=4)))


@st.composite
def lines(draw: st.DrawFn, samples: int) -> bytes:
    entries = draw(st.lists(ENTRY, max_size=4))
    info = ";".join(key if value is None else f"{key}={value}" for key, value in entries) or "."
    fields = [draw(FIELD), str(draw(st.integers(0, 10**10 - 1))), *(draw(FIELD) for _ in range(5)), info]
    return "\t".join([*fields, *(draw(FIELD) for _ in range(samples))]).encode()


@st.composite
def files(draw: st.DrawFn) -> tuple[list[bytes], list[bytes], bytes]:
    """Header lines and records without their ends, and what ends a line."""
    samples = draw(st.integers(0, 2))
    names = "".join(f"\tS{number}" for number in range(samples))
    meta = [f"##{word}" for word in draw(st.lists(st.text("abc=<>,", max_size=6), max_size=3))]
    columns = COLUMNS + ("\tFORMAT" + names)[: 99 * samples]
    width = columns.count("\t") - 7
    header = ["##fileformat=VCFv4.2", *meta, columns]
    rows = draw(st.lists(lines(width), max_size=7))
    return [line.encode() for line in header], rows, draw(st.sampled_from([b"\n", b"\r\n"]))


def in_pieces(whole: bytes, size: int) -> Iterator[bytes]:
    return (whole[at : at + size] for at in range(0, len(whole), size))


@QUICK
@given(files(), st.integers(1, 60), st.booleans())
def test_whatever_is_in_a_file_comes_out_unchanged(
    file: tuple[list[bytes], list[bytes], bytes], size: int, ended: bool
) -> None:
    header, rows, end = file
    whole = end.join([*header, *rows]) + (end if ended or not rows else b"")
    variants = TextVariants(in_pieces(whole, size), "in.vcf")
    assert b"".join(variants.header) == end.join([*header, b""])
    records = list(variants)
    assert [record.raw.rstrip(b"\r\n") for record in records] == rows
    assert [record.number for record in records] == [len(header) + 1 + at for at in range(len(rows))]
    assert b"".join(variants.header) + b"".join(record.with_info([]) for record in records) == whole
    for record, row in zip(records, rows, strict=True):
        chrom, pos, _, ref, alt, *_ = row.split(b"\t")
        assert (record.chrom, record.pos, record.ref) == (chrom.decode(), int(pos), ref.decode())
        assert ",".join(record.alts) == ("" if alt == b"." else alt.decode())


@QUICK
@given(files(), st.integers(1, 60), st.integers(1, 4), st.integers(20, 300))
def test_blocks_end_where_the_records_say_and_not_where_a_piece_does(
    file: tuple[list[bytes], list[bytes], bytes], size: int, most: int, bytes_most: int
) -> None:
    header, rows, end = file
    whole = end.join([*header, *rows, b""])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK_RECORDS", most)
        patch.setattr(text, "BLOCK_BYTES", bytes_most)
        patch.setattr(text, "_LOOKED_AT", 1)
        found = list(TextVariants(in_pieces(whole, size), "in.vcf").blocks())
        again = TextVariants([whole], "in.vcf")
        again.rows = (row for row in again.rows)  # as a piece of the input puts others in their place
        chosen = list(again.blocks())
    assert b"".join(block.text for block in found) == end.join([*rows, b""] if rows else [])
    assert [block.raws for block in chosen] == [block.raws for block in found]
    assert [list(block.numbers) for block in chosen] == [list(block.numbers) for block in found]
    for block in found:
        assert 1 <= len(block) <= most
        assert sum(map(len, block.raws[:-1])) < bytes_most
        assert block.bounds.tolist() == [sum(map(len, block.raws[:at])) for at in range(len(block) + 1)]


def entries_of(info: bytes) -> list[bytes]:
    return [] if info in (b".", b"") else info.split(b";")


@QUICK
@given(
    lines(0), st.lists(ENTRY, max_size=3), st.sets(st.sampled_from(INFO_KEYS)), st.sampled_from([b"\n", b"\r\n", b""])
)
def test_entries_are_added_behind_those_that_stay(
    line: bytes, added: list[tuple[str, str | None]], without: set[str], end: bytes
) -> None:
    (record,) = TextVariants([f"##fileformat=VCFv4.2\n{COLUMNS}\n".encode(), line + end], "in.vcf")
    additions = [(key, value or "1") for key, value in added]
    *fields, info = record.with_info(additions, without).removesuffix(end).split(b"\t")
    *before, old = line.split(b"\t")
    assert fields == before
    kept = [one for one in entries_of(old) if one.split(b"=")[0].decode() not in without]
    assert entries_of(info) == kept + [f"{key}={value}".encode() for key, value in additions]
    assert record.has_info(without) == any(one.split(b"=")[0].decode() in without for one in entries_of(old))


@QUICK
@given(st.text(st.characters(blacklist_categories=("Cs",)), max_size=20))
def test_a_name_that_info_cannot_hold_comes_back_from_it(name: str) -> None:
    safe = info_safe(name)
    assert unquote(safe) == name
    assert not re.search(r"[;=,|\s]", safe)
    assert safe == name or re.search(r"[%;=,|\s]", name)


@QUICK
@given(st.sets(st.sampled_from(["DP", "AC", "KEY", "KEY2"])), st.sets(st.sampled_from(["KEY", "KEY2"]), min_size=1))
def test_a_header_is_completed_once(there: set[str], wanted: set[str]) -> None:
    """Doing it again changes nothing, and every other line stays where it is."""
    old = [f'##INFO=<ID={key},Number=1,Type=String,Description="old, ID=x">' for key in sorted(there)]
    whole = "\n".join(["##fileformat=VCFv4.2", *old, "##z", COLUMNS, ""]).encode()
    new = {key: f'##INFO=<ID={key},Number=.,Type=String,Description="new">' for key in sorted(wanted)}
    once = TextVariants([whole], "in.vcf").header_with(new, ["##by=me"])
    assert TextVariants([once], "in.vcf").header_with(new, ["##by=me"]) == once
    found = once.decode().splitlines()
    assert set(declared([line.encode() for line in found])) == there | wanted
    assert [line for line in found if line in old] == [
        line for key, line in zip(sorted(there), old, strict=True) if key not in wanted
    ]
    assert all(found.count(line) == 1 for line in new.values())
    assert (found[0], found[-1]) == ("##fileformat=VCFv4.2", COLUMNS)


@QUICK
@given(st.lists(st.binary(max_size=40), max_size=12))
def test_lines_do_not_depend_on_the_pieces_they_come_in(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    found = [line for group in split_lines(pieces, "in.vcf") for line in group]
    assert found == io.BytesIO(whole).readlines()


@QUICK
@given(st.binary(max_size=500), st.integers(1, 7), st.integers(1, 50))
def test_blocked_gzip_is_gzip_and_its_text_comes_back(content: bytes, times: int, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bgzf, "_MAX_TEXT", block)
        packed = bgzf.compress(content * times) + bgzf.END_BLOCK
    assert gzip.decompress(packed) == content * times
    assert b"".join(bgzf.read_blocks(io.BytesIO(packed), "x", b"")) == content * times
    head = packed[: len(packed) // 2]
    assert b"".join(bgzf.read_blocks(io.BytesIO(packed[len(head) :]), "x", head)) == content * times


@QUICK
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=4), st.data())
def test_a_gzip_of_several_members_is_read_to_its_end_or_refused(parts: list[bytes], data: st.DataObject) -> None:
    """As `cat a.gz b.gz` makes it. A cut between two members is the one thing that plain gzip cannot tell."""
    members = [gzip.compress(part, mtime=0) for part in parts]
    whole = b"".join(members)
    assert b"".join(bgzf.read_blocks(io.BytesIO(whole), "x")) == b"".join(parts)
    cut = data.draw(st.integers(1, len(whole) - 1))
    ends = [sum(map(len, members[: at + 1])) for at in range(len(members))]
    if cut in ends:
        assert b"".join(bgzf.read_blocks(io.BytesIO(whole[:cut]), "x")) == b"".join(parts[: ends.index(cut) + 1])
    else:
        with pytest.raises(IntegrityError, match="x"):
            list(bgzf.read_blocks(io.BytesIO(whole[:cut]), "x"))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "in.vcf is empty"),
        (b"\xef\xbb\xbf##fileformat=VCFv4.2\n", "no VCF header: line 1"),
        (b"##fileformat=VCFv4.2\n##x\n", "ends within its header"),
        (b"##fileformat=VCFv4.2\r" + COLUMNS.encode() + b"\r1\t5\t.\tA\tC\t.\t.\t.\r", "ends within its header"),
        (b"##fileformat=VCFv4.2\n" + COLUMNS.replace("\t", " ").encode() + b"\n", "line 2: .* column names"),
        (b"##fileformat=VCFv4.2\n" + COLUMNS.encode() + b"\n1\t-5\t.\tA\tC\t.\t.\t.\n", "line 3: position '-5'"),
        (b"##fileformat=VCFv4.2\n" + COLUMNS.encode() + b"\n1\t1e3\t.\tA\tC\t.\t.\t.\n", "line 3: position '1e3'"),
        (b"##fileformat=VCFv4.2\n" + COLUMNS.encode() + b"\n1\t" + b"9" * 11 + b"\t.\tA\tC\t.\t.\t.\n", "line 3: pos"),
        (b"##fileformat=VCFv4.2\n" + COLUMNS.encode() + b"\n \n", "line 3 is empty"),
    ],
)  # fmt: skip
def test_what_is_no_vcf_is_refused_packed_or_not(raw: bytes, told: str, packed: bool) -> None:
    given_bytes = bgzf.compress(raw) + bgzf.END_BLOCK if packed else raw
    with pytest.raises(InputError, match=told):
        list(open_variants(io.BytesIO(given_bytes), "in.vcf"))
