"""Scores from tables: found where they are, refused where they are of another kind, and equal to computed ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pysam
import pytest

from meta_spliceai.errors import InputError, IntegrityError, MetaSpliceAIError
from meta_spliceai.splice_engine.base_layer.network import BaseModel
from meta_spliceai.splice_engine.base_layer.vcf.info_field import FIELDS
from meta_spliceai.splice_engine.base_layer.vcf.pass_through import Passed, PassThrough
from meta_spliceai.splice_engine.base_layer.vcf.precomputed import ScoreTable
from meta_spliceai.splice_engine.base_layer.vcf.score_file import Settings
from meta_spliceai.splice_engine.base_layer.vcf.score_vcf import Options, score_vcf

INFO = FIELDS["spliceai"]
ASKED = {"Base": "spliceai", "Weights": "w", "Distance": "50", "Mask": "0", "Strict": "0", "Genes": "g"}
NAME = "scores.raw.vcf.gz"


def index(text: str, path: Path) -> Path:
    """A bgzipped VCF with a tabix index."""
    plain = path.with_suffix("")
    plain.write_text(text)
    pysam.tabix_compress(str(plain), str(path), force=True)
    pysam.tabix_index(str(path), preset="vcf", force=True)
    return path


def published(*records: tuple[object, ...], definition: str = "") -> str:
    """A table as Illumina's are: contigs without "chr", one allele a record."""
    lines = ["##fileformat=VCFv4.2", definition or INFO.definitions()["SpliceAI"]]
    lines.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO")
    lines += [f"{c}\t{pos}\t.\t{ref}\t{alt}\t.\t.\tSpliceAI={entry}" for c, pos, ref, alt, entry in records]
    return "\n".join(lines) + "\n"


@pytest.fixture
def opened(toy_base_model: BaseModel) -> Callable[..., ScoreTable]:
    """A table that stands for SpliceAI's."""
    model = replace(toy_base_model, name="spliceai")

    def opened(path: Path, **asked: str) -> ScoreTable:
        return ScoreTable(path, INFO, model, ASKED | asked)

    return opened


def test_every_record_of_a_table_of_many_blocks_is_found_and_nothing_else(
    tmp_path: Path, opened: Callable[..., ScoreTable]
) -> None:
    random = np.random.default_rng(0)
    held: dict[tuple[str, int], list[tuple[str, str]]] = {}
    records = []
    for contig in ("1", "11", "2", "X"):
        dense = np.arange(40_500, 42_100) if contig != "11" else np.arange(5, 9)
        sparse = random.integers(1, 900_000, 300)
        for pos in np.unique(np.concatenate([dense, sparse, [16_384, 16_385, 32_768]])).tolist():
            ref = "ACGT"[pos % 4]
            for alt in "ACGT".replace(ref, ""):
                text = f"0.{random.integers(100):02d}|0.00|1.00|0.00|{random.integers(-50, 51)}|2|-50|0"
                held.setdefault((contig, pos), []).append((alt, text))
                records.append((contig, pos, ref, alt, f"{alt}|GENE-{pos // 1000}|{text}"))
            if pos == 41_000:  # so many genes at one place that their records fill two blocks
                crowd = [(contig, pos, ref, "T" * 9, f"{'T' * 9}|OTHER{n}|{text}") for n in range(2000)]
                records += crowd
    path = index(published(*records), tmp_path / NAME)
    table = opened(path)
    places = list(held)
    for turn in (places, places[::-7], [places[one] for one in random.permutation(len(places))[:500]]):
        for contig, pos in turn:
            for alt, text in held[contig, pos]:
                assert table.find(f"chr{contig}", pos, "ACGT"[pos % 4], alt, f"GENE-{pos // 1000}") == text
    for contig in ("1", "11", "2", "X"):
        for pos in [*range(1, 300_000, 4999), 2**31 - 1]:
            if (contig, pos) not in held:
                assert table.find(contig, pos, "A", "C", "G") is None
    assert table.find("1", 41_000, "A", "T" * 9, "OTHER1999") is not None
    assert table.find("1", 41_000, "A", "T" * 9, "OTHER2000") is None
    assert table.find("7", 41_000, "A", "C", "GENE-41") is None
    table.stop_at_another_build()


def test_gene_alleles_and_a_whole_entry_must_agree(tmp_path: Path, opened: Callable[..., ScoreTable]) -> None:
    good = "0.10|0.00|0.00|0.00|1|2|3|-4"
    path = index(
        published(
            ("1", 10, "A", "C", f"C|UP|{good}"),
            ("1", 10, "A", "C", f"C|DOWN|{good}"),
            ("1", 10, "A", "G,T", f"G|UP|.|.|.|.|.|.|.|.,T|UP|{good}"),
            ("1", 11, "A", "C", f"C|UP|{good}"),
            ("1", 11, "A", "C", f"C|UP|{good.replace('1', '2')}"),
            ("1", 12, "A", "C", "C|UP|0.10|0.00|1|2"),
            ("1", 13, "AG", "A", f"A|UP|{good}"),
        ),
        tmp_path / NAME,
    )
    table = opened(path)
    assert table.find("chr1", 10, "A", "C", "UP") == good
    assert table.find("chr1", 10, "A", "T", "UP") == good
    assert table.find("chr1", 13, "AG", "A", "UP") == good
    for place in (
        (10, "A", "C", "ELSE"),  # another gene
        (10, "A", "G", "UP"),  # no scores
        (10, "C", "T", "UP"),  # another reference allele
        (11, "A", "C", "UP"),  # two that differ
        (12, "A", "C", "UP"),  # another form
        (13, "A", "C", "UP"),
    ):
        assert table.find("chr1", *place) is None, place


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        (NAME, {"Mask": "1"}, "holds scores with Mask=0, and Mask=1 is asked for"),
        ("scores.masked.vcf.gz", {}, "holds scores with Mask=1"),
        (NAME, {"Distance": "500"}, "holds scores with Distance=50, and Distance=500"),
        ("scores.vcf.gz", {}, "does not say how its scores were made"),
    ],
)
def test_a_table_of_other_scores_is_refused(
    tmp_path: Path, opened: Callable[..., ScoreTable], name: str, asked: dict[str, str], message: str
) -> None:
    path = index(published(("1", 10, "A", "C", "C|UP|0.10|0.00|0.00|0.00|1|2|3|-4")), tmp_path / name)
    with pytest.raises(InputError, match=message):
        opened(path, **asked)


def test_a_table_without_field_or_index_is_refused(tmp_path: Path, opened: Callable[..., ScoreTable]) -> None:
    record = ("1", 10, "A", "C", "C|UP|0.1")
    other = '##INFO=<ID=SpliceAI,Number=.,Type=String,Description="x">'
    with pytest.raises(InputError, match="has no INFO SpliceAI of the form"):
        opened(index(published(record, definition=other), tmp_path / NAME))
    path = index(published(record), tmp_path / NAME)
    path.with_name(f"{NAME}.tbi").unlink()
    with pytest.raises(InputError, match="make it: tabix -p vcf"):
        opened(path)


def test_damaged_tables_and_indexes_end_in_one_error(tmp_path: Path, opened: Callable[..., ScoreTable]) -> None:
    entry = "C|UP|0.10|0.00|0.00|0.00|1|2|3|-4"
    records = [("1", pos, "A", "C", entry) for pos in range(1, 40_000, 7)]
    path = index(published(*records), tmp_path / NAME)
    whole, tabix = path.read_bytes(), path.with_name(f"{NAME}.tbi")
    kept = tabix.read_bytes()
    random = np.random.default_rng(0)
    failed = 0
    for turn in range(150):
        table_bytes, index_bytes = bytearray(whole), bytearray(kept)
        target = index_bytes if turn % 3 == 0 else table_bytes
        for at in random.integers(0, len(target), 3):
            target[at] = random.integers(256)
        path.write_bytes(table_bytes[: len(whole) if turn % 5 else int(random.integers(len(whole)))])
        tabix.write_bytes(index_bytes)
        try:
            table = opened(path)
            for pos in range(1, 40_000, 701):
                assert table.find("1", pos, "A", "C", "UP") in (None, entry[5:])
        except MetaSpliceAIError:
            failed += 1
    assert failed > 50
    path.write_bytes(whole)
    tabix.write_bytes(b"no index")
    with pytest.raises(IntegrityError):
        opened(path)


def test_a_table_of_another_build_ends_the_run(tmp_path: Path, opened: Callable[..., ScoreTable]) -> None:
    entry = "C|UP|0.10|0.00|0.00|0.00|1|2|3|-4"
    table = opened(index(published(*(("1", pos, "G", "C", entry) for pos in range(1, 300))), tmp_path / NAME))
    for pos in range(1, 100):
        table.find("1", pos, "A", "C", "UP")
    table.stop_at_another_build()
    table.find("1", 100, "A", "C", "UP")
    with pytest.raises(InputError, match=r"have another base in .*another build"):
        table.stop_at_another_build()


@pytest.fixture
def toy(tmp_path: Path, sequence: str) -> dict[str, Any]:
    """A FASTA, a table of genes with one gene on either strand, and SNVs, deletions and insertions in them."""
    fasta, genes, vcf = tmp_path / "genome.fa", tmp_path / "genes.txt", tmp_path / "in.vcf"
    fasta.write_text(f">chr1\n{sequence}\n")
    genes.write_text(
        "#NAME\tCHROM\tSTRAND\tTX_START\tTX_END\tEXON_START\tEXON_END\n"
        "UP\t1\t+\t999\t4000\t999,\t4000,\nDOWN\t1\t-\t2999\t5000\t2999,\t5000,\n"
    )
    random = np.random.default_rng(3)
    lines = ["##fileformat=VCFv4.2", "##contig=<ID=chr1>", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for pos in np.sort(random.integers(1100, 4900, 60)).tolist():
        ref, other = sequence[pos - 1], "ACGT".replace(sequence[pos - 1], "")
        kind = random.integers(3)
        alleles = (
            (ref, f"{other[0]},{other[1]}"),
            (sequence[pos - 1 : pos + 2], ref),
            (ref, ref + "GAT"),
        )[kind]
        lines.append(f"chr1\t{pos}\t.\t{alleles[0]}\t{alleles[1]}\t.\t.\t.")
    vcf.write_text("\n".join(lines) + "\n")
    return {"fasta": fasta, "genes": str(genes), "vcf": vcf}


def infos(path: Path) -> list[dict[str, str]]:
    """INFO of each record."""
    records = [line.split("\t")[7] for line in path.read_text().splitlines() if not line.startswith("#")]
    return [dict(entry.partition("=")[::2] for entry in record.split(";")) for record in records]


@pytest.mark.parametrize("mask", [False, True])
def test_half_from_a_table_is_what_computing_gives(
    toy: dict[str, Any], toy_base_model: BaseModel, tmp_path: Path, mask: bool
) -> None:
    settings = Settings(distance=30, mask=mask)
    whole, mixed = tmp_path / "whole.vcf", tmp_path / "mixed.vcf"
    score_vcf(str(toy["vcf"]), str(whole), toy["fasta"], toy["genes"], toy_base_model, settings)
    lines = whole.read_text().splitlines(keepends=True)
    records = [line for line in lines if not line.startswith("#")]
    kept = "".join([*(line for line in lines if line.startswith("#")), *records[::2]])
    table = index(kept, tmp_path / "half.vcf.gz")
    account = score_vcf(
        str(toy["vcf"]), str(mixed), toy["fasta"], toy["genes"], toy_base_model, settings, Options(precomputed=[table])
    )
    computed, found = infos(whole), infos(mixed)
    assert [info["toy"] for info in found] == [info["toy"] for info in computed]
    sources = [set(info["toy_source"].split(",")) for info in found]
    assert sources[::2] == [{"precomputed"}] * len(sources[::2])
    assert sources[1::2].count({"computed"}) >= len(sources[1::2]) - 3  # a place may be drawn twice
    assert [info["toy_source"].count(",") for info in found] == [info["toy"].count(",") for info in found]
    assert account["looked_up"] == sum(info["toy_source"].count("precomputed") for info in found)
    assert "##INFO=<ID=toy_source," in mixed.read_text()
    assert 'Precomputed="half.vcf.gz"' in mixed.read_text()
    assert "toy_source" not in whole.read_text()
    with pytest.raises(InputError, match="holds scores with Distance=30, and Distance=40"):
        score_vcf(
            str(toy["vcf"]), str(mixed), toy["fasta"], toy["genes"], toy_base_model, Settings(distance=40, mask=mask),
            Options(precomputed=[table]),
        )  # fmt: skip


@pytest.mark.parametrize("read", ["vcf", "fasta", "genes"])
def test_an_output_that_is_read_is_refused_and_stays(toy: dict[str, Any], toy_base_model: BaseModel, read: str) -> None:
    before = Path(toy[read]).read_bytes()
    with pytest.raises(InputError, match="which is read; name another output"):
        score_vcf(str(toy["vcf"]), str(toy[read]), toy["fasta"], toy["genes"], toy_base_model, Settings(distance=30))
    assert Path(toy[read]).read_bytes() == before


@pytest.mark.parametrize("strict", [False, True])
def test_records_written_by_the_block_are_those_written_one_by_one(
    toy: dict[str, Any], toy_base_model: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strict: bool
) -> None:
    settings, scored = Settings(distance=30, strict=strict), tmp_path / "scored.vcf"
    head, *records = toy["vcf"].read_text().rpartition("INFO\n")[::2]
    random = np.random.default_rng(1)
    lines = []
    for line in records[0].splitlines() * 2:  # INFO empty, filled and with CRLF; lower case; another base; no gene
        fields = line.split("\t")
        fields[7] = str(random.choice([".", "AC=1", "AC=1;DP=3\r"]))
        fields[3] = str(random.choice([fields[3], fields[3], fields[3], fields[3].lower(), "N"]))
        lines.append("\t".join(fields))
    lines += [f"chr1\t{pos}\t.\t{base}\tT,A\t.\t.\t." for pos in (500, 5500, 9) for base in "ACG"]
    toy["vcf"].write_text(f"{head}INFO\n" + "\n".join(lines) + "\n")
    score_vcf(str(toy["vcf"]), str(scored), toy["fasta"], toy["genes"], toy_base_model, settings)
    whole = scored.read_text().splitlines(keepends=True)
    kept = [line for line in whole if line.startswith("#") or random.random() < 0.7]
    rows = sorted((line for line in kept if line[0] != "#"), key=lambda line: int(line.split("\t")[1]))
    table = index("".join([*(line for line in kept if line[0] == "#"), *rows]), tmp_path / "table.vcf.gz")

    def run(name: str) -> tuple[bytes, dict[str, Any]]:
        out = tmp_path / name
        account = score_vcf(
            str(toy["vcf"]),
            str(out),
            toy["fasta"],
            toy["genes"],
            toy_base_model,
            settings,
            Options(precomputed=[table]),
        )
        return out.read_bytes(), {k: v for k, v in account.items() if "second" not in k and k != "output"}

    real, passed = PassThrough.find, []

    def counted(self: PassThrough, *args: Any) -> Passed:
        passed.append(real(self, *args))
        return passed[-1]

    monkeypatch.setattr(PassThrough, "find", counted)
    quick = run("quick.vcf")
    monkeypatch.setattr(PassThrough, "find", lambda *args: real(*args).where(np.zeros(len(real(*args).rows), bool)))
    assert quick == run("slow.vcf")
    assert passed[0].looked_up.sum() > 20
    assert quick[1]["looked_up"] >= passed[0].alleles[passed[0].looked_up].sum()
