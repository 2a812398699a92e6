"""Text VCF: bytes go through as they are, and files that are no VCF are named as such."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.base_layer.vcf.text import TextVariants

HEAD = b"##fileformat=VCFv4.2\n##source=x\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
DEFINITION = {"KEY": '##INFO=<ID=KEY,Number=1,Type=String,Description="new">'}


def variants(text: bytes, piece: int = 7) -> TextVariants:
    return TextVariants((text[at : at + piece] for at in range(0, len(text), piece)), "in.vcf")


def passed(text: bytes, additions: Sequence[tuple[str, str]] = (), without: Sequence[str] = ()) -> bytes:
    return b"".join(record.with_info(additions, without) for record in variants(text))


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last_line_ends", [True, False])
def test_nothing_but_info_changes(line_end: bytes, last_line_ends: bool) -> None:
    lines = [b"chr1\t5\trs1;x\ta\tG,<DEL>,*\t3.10\tq10;s50\tDP=3;FLAG", b" odd \t6\t.\tNN\t.\t.\t.\t."]
    body = line_end.join(lines) + (line_end if last_line_ends else b"")
    text = HEAD.replace(b"\n", line_end) + body
    assert passed(text) == body
    first, second = list(variants(text))
    assert (first.chrom, first.pos, first.ref, first.alts) == ("chr1", 5, "a", ("G", "<DEL>", "*"))
    assert second.alts == ()
    assert first.with_info([("KEY", "v")]) == lines[0] + b";KEY=v" + line_end
    assert second.with_info([("KEY", "v")]).rstrip(b"\r\n") == lines[1][:-1] + b"KEY=v"


def test_ten_thousand_samples_pass_unchanged() -> None:
    names = b"\t".join(b"s%d" % number for number in range(10_000))
    calls = b"\t".join(b"0/1:%d" % number for number in range(10_000))
    head = HEAD.replace(b"INFO\n", b"INFO\tFORMAT\t" + names + b"\n")
    line = b"1\t5\t.\tA\tC\t.\t.\tAC=3\tGT:DP\t" + calls + b"\n"
    assert passed(head + line, [("KEY", "v")]) == line.replace(b"AC=3", b"AC=3;KEY=v")
    assert variants(head + line).header_with({}, []) == head


def test_entries_are_taken_out_by_their_whole_key() -> None:
    line = b"1\t5\t.\tA\tC\t.\t.\tKEY=1;KEY2=2;FLAG;KEY\n"
    (record,) = variants(HEAD + line)
    assert record.has_info(["KEY"])
    assert not record.has_info(["KE", "FLA"])
    assert record.with_info([], ["KEY"]) == line.replace(b"KEY=1;KEY2=2;FLAG;KEY", b"KEY2=2;FLAG")
    assert passed(HEAD + b"1\t5\t.\tA\tC\t.\t.\tKEY=1\n", [], ["KEY"]).endswith(b"\t.\n")


def test_definitions_go_before_the_column_line_or_in_place_of_the_old() -> None:
    assert variants(HEAD).header_with(DEFINITION, ["##more=1"]) == HEAD.replace(
        b"#CHROM", DEFINITION["KEY"].encode() + b"\n##more=1\n#CHROM"
    )
    old = HEAD.replace(b"##source", b'##INFO=<ID=KEY,Number=.,Type=Float,Description="old">\n##source')
    replaced = variants(old).header_with(DEFINITION, [])
    assert replaced == HEAD.replace(b"##source", DEFINITION["KEY"].encode() + b"\n##source")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "empty"),
        (b"1\t5\t.\tA\tC\t.\t.\t.\n", "has no VCF header: line 1 is '1"),
        (b"##fileformat=VCFv4.2\n", "ends within its header"),
        (
            b"##fileformat=VCFv4.2\n1\t5\t.\tA\tC\t.\t.\t.\n",
            "line 2: the header must end with the line of column names",
        ),
        (HEAD + b"1\t5\t.\tA\tC\t.\t.\n", "line 4: 7 tab-separated fields where the header has 8"),
        (HEAD + b"1\t5\t.\tA\tC\t.\t.\t.\n1\t5\t.\tA", "line 5: 4 tab-separated fields"),
        (HEAD + b"1\t5x\t.\tA\tC\t.\t.\t.\n", "position '5x' is not a number"),
        (HEAD + b"\n", "line 4 is empty"),
        (HEAD + b"1\t5\t.\tA\tC" + b",C" * 65_534 + b"\t.\t.\t.\n", "line 4: 65,535 alternative alleles; .* split it"),
    ],
)
def test_what_is_no_vcf_is_named_with_its_line(text: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(variants(text))
