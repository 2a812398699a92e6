"""Scoring of files that nobody would write: order, account and bytes hold whatever the records are."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.splice_engine.base_layer.vcf import pieces, text, unfinished
from meta_spliceai.splice_engine.base_layer.vcf.info_field import FIELDS, Reason
from meta_spliceai.splice_engine.base_layer.vcf.pieces import Cut, merge_vcfs, take
from meta_spliceai.splice_engine.base_layer.vcf.reader import open_variants, reopened
from meta_spliceai.splice_engine.base_layer.vcf.score_file import FileScorer, score_stream
from meta_spliceai.splice_engine.base_layer.vcf.tabulate import tabulate
from meta_spliceai.splice_engine.base_layer.vcf.unfinished import Unfinished, fill
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome
from tests.properties import quick

Make = Callable[..., FileScorer]
QUICK = quick(20)
HEAD = b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
ODD = ["<DEL>", "<INS:ME>", "<DÜP>", "*", "A]chr2:5]", "G<c>", "<<<<<<<<<<<<", "R", "", "C.", "%41", "a b", "=|;"]
ALT = st.one_of(st.text("ACGTN", min_size=1, max_size=4), st.text("acgt", min_size=1, max_size=2), st.sampled_from(ODD))


@st.composite
def records(draw: st.DrawFn, sequence: str, most: int = 8, odd: bool = True) -> list[tuple[str, int, str, list[str]]]:
    """CHROM, POS, REF and ALTs: in and outside genes, mostly with the genome's bases; in no order."""
    found = []
    for _ in range(draw(st.integers(0, most))):
        contig = draw(st.sampled_from(["chr1", "1", "chr1", "chr2", "chr9"] if odd else ["chr1", "chr2"]))
        pos = draw(
            st.one_of(st.sampled_from([0, 1, 5999, 6000, 6001]) if odd else st.nothing(), st.integers(950, 5100))
        )
        ref = sequence[max(pos - 1, 0) : pos - 1 + draw(st.integers(1, 3))] or "A"
        if odd:
            ref = draw(st.sampled_from([ref, ref, ref, ref.lower(), "N", "A", "é"]))
        alts = draw(st.lists(ALT if odd else st.text("ACGT", min_size=1, max_size=3), min_size=1, max_size=3))
        found.append((contig, pos, ref, alts if not odd or draw(st.integers(0, 9)) else ["."]))
    return found


def vcf(rows: Sequence[tuple[str, int, str, Sequence[str]]]) -> bytes:
    lines = [
        f"{contig}\t{pos}\tid{at}\t{ref}\t{','.join(alts)}\t.\t.\tX={at}"
        for at, (contig, pos, ref, alts) in enumerate(rows)
    ]
    return HEAD + "".join(f"{line}\n" for line in lines).encode()


def scored(raw: bytes, scorer: FileScorer) -> list[str]:
    """The output's records."""
    sink = io.BytesIO()
    score_stream(open_variants(io.BytesIO(raw), "in.vcf"), scorer, sink, False, [], None)
    return [line for line in sink.getvalue().decode().split("\n") if line and not line.startswith("#")]


def told(line: str) -> dict[str, list[str]]:
    """Entries of INFO under our keys."""
    pairs = (one.partition("=") for one in line.split("\t")[7].split(";"))
    return {key: value.split(",") for key, _, value in pairs if key.startswith("SpliceAI")}


@QUICK
@given(data=st.data())
def test_every_allele_of_any_record_is_scored_or_has_its_reason(
    data: st.DataObject, make_scorer: Make, sequence: str
) -> None:
    rows = data.draw(records(sequence))
    scorer = make_scorer()
    found = scored(vcf(rows), scorer)
    assert len(found) == len(rows)
    entries, reasons, alone = 0, Counter[str](), 0
    for line, (contig, pos, ref, alts) in zip(found, rows, strict=True):
        before = line.split("\t")[:7]
        assert before[:2] + before[3:5] == [contig, str(pos), ref, ",".join(alts)]
        own = told(line)
        named = [one.split("|")[0] for one in own.get("SpliceAI", [])]
        left = [unquote(one.split("|")[0]) for one in own.get("SpliceAI_unscored", [])]
        # A record is written `A,` where an allele has no letters: that allele is there, and is no base.
        assert Counter([*dict.fromkeys(named), *left]) >= Counter(dict.fromkeys(",".join(alts).split(","), 1))
        entries += len(named)
        alone += len(set(named) - set(left)) if named else 0
        reasons.update(one.split("|")[2].replace("_", " ") for one in own.get("SpliceAI_unscored", []))
    totals = scorer.totals
    assert totals.records == len(rows)
    assert totals.scores == entries
    assert {str(reason): count for reason, count in totals.unscored.items()} == reasons
    assert (
        totals.alleles
        == totals.alleles_scored + sum(reasons.values())
        == sum(len(",".join(one[3]).split(",")) for one in rows)
    )
    assert all(totals.examples[reason] for reason in totals.unscored)


@QUICK
@given(data=st.data())
def test_a_record_of_several_alleles_is_its_alleles_one_by_one(
    data: st.DataObject, make_scorer: Make, sequence: str
) -> None:
    rows = data.draw(records(sequence))
    apart = [(contig, pos, ref, [alt]) for contig, pos, ref, alts in rows for alt in ",".join(alts).split(",")]
    together, single = scored(vcf(rows), make_scorer()), iter(scored(vcf(apart), make_scorer()))
    for line, (*_, alts) in zip(together, rows, strict=True):
        ones = [told(next(single)) for _ in ",".join(alts).split(",")]
        for key, entries in told(line).items():
            assert entries == [entry for one in ones for entry in one.get(key, [])]


@QUICK
@given(data=st.data(), mask=st.booleans(), strict=st.booleans())
def test_order_case_and_contig_names_change_no_score(
    data: st.DataObject, mask: bool, strict: bool, make_scorer: Make, sequence: str
) -> None:
    rows = data.draw(records(sequence, odd=False))
    plain = scored(vcf(rows), make_scorer(mask=mask, strict=strict))
    turned = [(contig.removeprefix("chr"), pos, ref, alts) for contig, pos, ref, alts in reversed(rows)]
    other = scored(vcf(turned), make_scorer(mask=mask, strict=strict))[::-1]
    assert [told(line) for line in plain] == [told(line) for line in other]
    if not strict:
        low = [(contig, pos, ref.lower(), alts) for contig, pos, ref, alts in rows]
        assert [told(line) for line in scored(vcf(low), make_scorer(mask=mask))] == [told(line) for line in plain]


@QUICK
@given(data=st.data())
def test_a_table_has_all_that_the_vcf_says(
    data: st.DataObject, make_scorer: Make, sequence: str, tmp_path: Path
) -> None:
    rows = data.draw(records(sequence))
    scorer, raw, out = make_scorer(), tmp_path / "scored.vcf", tmp_path / "out.tsv"
    with raw.open("wb") as sink:
        score_stream(open_variants(io.BytesIO(vcf(rows)), "in.vcf"), scorer, sink, False, [], None)
    tabulate(raw, out, FIELDS["spliceai"])
    table = pd.read_csv(out, sep="\t", keep_default_na=False, dtype=str)
    assert len(table) == scorer.totals.scores + sum(scorer.totals.unscored.values())
    assert (table["reason"] != "").sum() == sum(scorer.totals.unscored.values())
    assert ((table["DS_AG"] == "") == (table["reason"] != "")).all()
    places = list(zip(table["chrom"], table["pos"], table["ref"], strict=True))
    assert list(dict.fromkeys(places)) == list(dict.fromkeys((row[0], str(row[1]), row[2]) for row in rows))
    wanted = {alt for *_, alts in rows for alt in ",".join(alts).split(",")}
    assert set(table["alt"]) == wanted


class Stopped(Exception):
    """What the test throws."""


@quick(8)
@given(data=st.data(), packed=st.booleans(), torn=st.binary(max_size=30))
def test_a_run_that_was_stopped_anywhere_goes_on_to_the_same_bytes(
    data: st.DataObject,
    packed: bool,
    torn: bytes,
    make_scorer: Make,
    sequence: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Behind the last block that counts may stand anything: a block half written, or another one."""
    rows = data.draw(records(sequence, most=12))
    blocks, kept, folder = (
        data.draw(st.integers(1, 4)),
        data.draw(st.sampled_from([0, 1 << 20])),
        tmp_path_factory.mktemp("run"),
    )

    def run(name: str, stop_after: int | None) -> tuple[bytes, object]:
        scorer = make_scorer()
        begun = [0]

        def block(one: object) -> bytes:
            begun[0] += 1
            if begun[0] == stop_after:
                raise Stopped
            return FileScorer.block(scorer, one)  # type: ignore[arg-type]

        scorer.block = block  # type: ignore[method-assign]
        with Unfinished(folder / name) as opened:
            fill(open_variants(io.BytesIO(vcf(rows)), "in.vcf"), scorer, opened, packed, [], {"a": 1}, True, None)
            opened.put_in_place(None)
        return (folder / name).read_bytes(), scorer.totals

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK_RECORDS", blocks)
        patch.setattr(unfinished, "_KEPT_WITHOUT_SCORES", kept)
        whole, account = run("whole.vcf", None)
        for stop in data.draw(st.lists(st.integers(1, 4), max_size=3)):
            try:
                run("broken.vcf", stop)
            except Stopped:
                with (folder / "broken.vcf.partial").open("ab") as partial:
                    partial.write(torn)
        resumed, counted = run("broken.vcf", None)
    assert resumed == whole
    assert counted == account
    assert sorted(path.name for path in folder.iterdir()) == ["broken.vcf", "whole.vcf"]


@quick(8)
@given(data=st.data(), of=st.integers(1, 5), regions=st.booleans())
def test_shards_of_any_file_are_merged_to_the_bytes_of_one_run(
    data: st.DataObject,
    of: int,
    regions: bool,
    make_scorer: Make,
    sequence: str,
    annotation: GeneAnnotation,
    genome: MemoryGenome,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Also of unsorted records, and of alleles that look like many."""
    folder = tmp_path_factory.mktemp("shards")
    source, asked = folder / "in.vcf", ("chr1", "2:1000-3000") if regions else ()
    source.write_bytes(vcf(data.draw(records(sequence, most=12))))

    def run(out: Path, cut: Cut) -> Path:
        variants = reopened(str(source))
        said = take(variants, lambda: reopened(str(source)), str(source), cut, annotation, genome)
        with Unfinished(out) as opened:
            fill(variants, make_scorer(), opened, False, said, {}, False, None)
            opened.put_in_place(None)
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "NEIGHBOURS", 40)
        patch.setattr(pieces, "WINDOW", 160)
        whole = run(folder / "whole.vcf", Cut(asked))
        made = [run(folder / f"{at}.vcf", Cut(asked, (at, of))) for at in range(1, of + 1)]
    count = merge_vcfs(folder / "merged.vcf", data.draw(st.permutations(made)))
    assert (folder / "merged.vcf").read_bytes() == whole.read_bytes()
    assert count == sum(not line.startswith(b"#") for line in whole.read_bytes().splitlines())


@pytest.mark.parametrize("form", ["plain", "bom", "crlf", "comments", "spaces"])
def test_a_bed_file_holds_its_regions_whatever_wrote_it(tmp_path: Path, genome: MemoryGenome, form: str) -> None:
    text_of = {
        "plain": "chr1\t99\t200\n2\t0\t5\n",
        "bom": "\ufeffchr1\t99\t200\n2\t0\t5\n",
        "crlf": "chr1\t99\t200\r\n2\t0\t5\r\n",
        "comments": "track name=x\n#made\nchr1\t99\t200\tgene\t0\t+\n\nbrowser hide\nchr2\t0\t5\n",
        "spaces": "chr1 99 200 gene\n2 0 5\n",
    }[form]
    bed = tmp_path / "in.bed"
    bed.write_text(text_of, newline="")
    held = Cut((str(bed),)).stretches(genome)
    assert held is not None
    places = [("1", 99), ("chr1", 100), ("1", 200), ("chr1", 201), ("chr2", 0), ("2", 1), ("2", 5), ("2", 6)]
    assert [held.hold(*place) for place in places] == [False, True, True, False, False, True, True, False]


@pytest.mark.parametrize("alt", ["<DÜP>", "<D\\xfcP>"])
def test_an_allele_of_other_letters_is_named_as_it_stands(make_scorer: Make, alt: str) -> None:
    raw = vcf([("chr1", 1500, "N", ["X"])]).replace(b"\tN\t", b"\tA\t").replace(b"\tX\t", b"\t%b\t" % (
        alt.encode() if "Ü" in alt else b"<D\xfcP>"
    ))  # fmt: skip
    scorer = make_scorer()
    sink = io.BytesIO()
    score_stream(open_variants(io.BytesIO(raw), "in.vcf"), scorer, sink, False, [], None)
    last = sink.getvalue().splitlines()[-1]
    assert last.startswith(raw.splitlines()[-1])
    (entry,) = re.findall(rb"SpliceAI_unscored=([^;]*)", last)
    assert unquote(entry.decode().split("|")[0]) == alt
    (examples,) = scorer.totals.examples.values()
    assert examples[0].endswith(f">{alt}")
    assert set(scorer.totals.unscored) <= {Reason.SYMBOLIC, Reason.MISMATCH}


@pytest.mark.parametrize(
    ("damage", "kind", "said"),
    [
        (lambda raw: raw[:-30], (InputError, IntegrityError), "in.vcf"),
        (lambda raw: raw.replace(b"\t1500\t", b"\t15O0\t"), InputError, "line 3: position '15O0'"),
        (lambda raw: raw + b"\n", InputError, "line 4 is empty"),
        (lambda raw: raw + raw[len(HEAD) :].replace(b"\t.\t.\t", b"\t.\t"), InputError, "line 4: 7 tab-separated"),
    ],
)
def test_damage_is_told_with_its_line(
    make_scorer: Make, damage: Callable[[bytes], bytes], kind: type[Exception], said: str
) -> None:
    raw = vcf([("chr1", 1500, "A", ["C"])])
    with pytest.raises(kind, match=said):
        scored(damage(raw), make_scorer())
