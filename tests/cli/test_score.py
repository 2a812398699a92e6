"""`meta-spliceai score` and `saturate` as a user runs them: processes, pipes, kinds of file, and inputs gone wrong.

The network is a small one made here (OpenSpliceAI's 80-nt architecture), given by path.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pysam
import pytest
import torch

from meta_spliceai.cli.app import main
from meta_spliceai.cli.score import conclude
from meta_spliceai.splice_engine.base_layer import scoring
from meta_spliceai.splice_engine.base_layer.families import OPENSPLICEAI, module_names
from meta_spliceai.splice_engine.base_layer.network import SpliceAINetwork
from meta_spliceai.splice_engine.base_layer.vcf import score_file, text
from meta_spliceai.splice_engine.base_layer.vcf.info_field import FIELDS, Reason
from meta_spliceai.splice_engine.base_layer.vcf.tabulate import tabulate

LENGTH = 8000
SMALL_BLOCKS = (
    sys.executable,
    "-c",
    "from meta_spliceai.splice_engine.base_layer.vcf import text; text.BLOCK_RECORDS = 50\n"
    "from meta_spliceai.cli.app import main; main()",
)


@dataclass(frozen=True)
class Done:
    """What a command left: exit code, standard output and standard error."""

    returncode: int
    stdout: bytes
    stderr: bytes


class Bench:
    """A folder with a genome, an annotation, weights and variants, and the command to run on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sequence = "".join(np.random.default_rng(0).choice(list("ACGT"), LENGTH))
        self.fasta = folder / "genome.fa"
        self.fasta.write_text(f">chr1\n{self.sequence}\n>chr2\n{self.sequence[::-1]}\n")
        self.genes = folder / "genes.txt"
        self.genes.write_text(
            "#NAME\tCHROM\tSTRAND\tTX_START\tTX_END\tEXON_START\tEXON_END\n"
            "UP\t1\t+\t500\t7500\t500,3000,7000,\t900,3300,7500,\n"
            "DOWN\t2\t-\t500\t7500\t500,3000,7000,\t900,3300,7500,\n"
        )
        self.weights = folder / "model_80nt_rs0.pt"
        write_weights(self.weights)

    def vcf(self, count: int, name: str = "in.vcf", seed: int = 1) -> Path:
        """SNVs in random order on both contigs, with a sample column."""
        random = np.random.default_rng(seed)
        lines = [
            "##fileformat=VCFv4.2",
            f"##contig=<ID=chr1,length={LENGTH}>",
            f"##contig=<ID=chr2,length={LENGTH}>",
            '##INFO=<ID=DP,Number=1,Type=Integer,Description="depth">',
            '##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">',
            "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tsample",
        ]
        for number in range(count):
            contig = int(random.integers(1, 3))
            pos = int(random.integers(200, LENGTH - 200))
            ref = (self.sequence if contig == 1 else self.sequence[::-1])[pos - 1]
            alt = random.choice([base for base in "ACGT" if base != ref])
            lines.append(f"chr{contig}\t{pos}\tid{number}\t{ref}\t{alt}\t{number % 90}.5\tPASS\tDP={number}\tGT\t0/1")
        path = self.folder / name
        path.write_text("\n".join(lines) + "\n")
        return path

    def arguments(self, *more: object, command: str = "score") -> list[str]:
        given = ["-R", self.fasta, "-A", self.genes, "--base", f"openspliceai:{self.weights}", "-D", "20"]
        return [command, *map(str, given), "--threads", "1", *map(str, more)]

    def start(self, *more: object, **streams: int) -> subprocess.Popen:
        """A process of its own, with blocks of 50 records so that it has many to be stopped between."""
        return subprocess.Popen([*SMALL_BLOCKS, *self.arguments(*more)], stderr=subprocess.PIPE, **streams)

    def run(self, *more: object, command: str = "score", stdin: bytes = b"") -> Done:
        """The command within this process, with streams of its own."""
        given, out, err = (io.TextIOWrapper(io.BytesIO(data)) for data in (stdin, b"", b""))
        threads = torch.get_num_threads()
        with pytest.MonkeyPatch.context() as patch:
            for name, stream in (("stdin", given), ("stdout", out), ("stderr", err)):
                patch.setattr(sys, name, stream)
            try:
                main(self.arguments(*more, command=command))
                code = 0
            except SystemExit as stop:
                code = int(stop.code or 0)
            finally:
                torch.set_num_threads(threads)
        for stream in (out, err):
            stream.flush()
        return Done(code, out.buffer.getvalue(), err.buffer.getvalue())  # type: ignore[attr-defined]

    def fails(self, *more: object, saying: str, **options: object) -> str:
        """Run and expect exit code 2 with one line that says something; that line."""
        done = self.run(*more, **options)  # type: ignore[arg-type]
        errors = [line for line in done.stderr.decode().splitlines() if not line.startswith("base model")]
        assert done.returncode == 2, done.stderr.decode()
        assert len(errors) == 1, errors
        assert saying in errors[0]
        return errors[0]


def write_weights(path: Path) -> None:
    """A random network under OpenSpliceAI's names whose probabilities move visibly with every base."""
    torch.manual_seed(0)
    architecture = OPENSPLICEAI[80]
    network = SpliceAINetwork(architecture)
    names = {"first": "initial_conv", "first_skip": "initial_skip.conv", "head.conv": "final_conv"}
    for module in module_names(architecture):
        stage, *rest = module.split(".")
        if stage == "skips":
            names[module] = "residual_units.4.conv"
        elif stage == "stages":
            names[module] = f"residual_units.{rest[1]}.{rest[2].replace('norm', 'batchnorm')}"
    state = {f"{names[k.rpartition('.')[0]]}.{k.rpartition('.')[2]}": v for k, v in network.state_dict().items()}
    state["final_conv.weight"] = state["final_conv.weight"] * 5
    torch.save(state, path)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A toy genome and network, and 60 variants in its folder's in.vcf."""
    found = Bench(tmp_path_factory.mktemp("score"))
    found.vcf(60)
    return found


@pytest.fixture(scope="module")
def scored(bench: Bench) -> Path:
    """in.vcf scored to a plain VCF."""
    out = bench.folder / "expected.vcf"
    done = bench.run(bench.folder / "in.vcf", "-o", out, "--stats", bench.folder / "stats.json")
    assert done.returncode == 0, done.stderr.decode()
    return out


def records(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_all_but_info_comes_through_byte_for_byte(bench: Bench, scored: Path) -> None:
    before, after = (bench.folder / "in.vcf").read_text().splitlines(), scored.read_text().splitlines()
    headers = [[line for line in lines if line.startswith("#")] for lines in (before, after)]
    assert headers[1][:5] == headers[0][:5]
    assert headers[1][-1] == headers[0][-1]
    assert [line.split("=")[0] for line in headers[1][5:-1]] == ["##INFO", "##INFO", "##meta_spliceai_score"]
    for old, new in zip(records("\n".join(before)), records("\n".join(after)), strict=True):
        old_fields, new_fields = old.split("\t"), new.split("\t")
        assert new_fields[7].startswith(old_fields[7] + ";OpenSpliceAI")
        assert new_fields[:7] + new_fields[8:] == old_fields[:7] + old_fields[8:]


def test_stats_account_for_every_allele(bench: Bench, scored: Path) -> None:
    stats = json.loads((bench.folder / "stats.json").read_text())
    assert stats["records"] == stats["alleles"] == 60
    assert stats["alleles_scored"] + sum(stats["unscored"].values()) == 60
    assert stats["unscored"] == {"not in a gene": sum("not_in_a_gene" in line for line in records(scored.read_text()))}
    assert stats["base_model"]["licence"] == "GPL-3.0"
    assert stats["settings"]["distance"] == 20


def test_the_licence_is_said_and_the_summary_too(bench: Bench) -> None:
    done = bench.run(bench.vcf(3, "few.vcf"), "-o", bench.folder / "few.out.vcf")
    lines = done.stderr.decode().splitlines()
    assert "GPL-3.0" in lines[0]
    assert any(line.startswith("3 records, 3 alleles") for line in lines)
    assert done.stdout == b""


def test_the_summary_says_how_fast_it_went_unless_it_went_on(capsys: pytest.CaptureFixture[str]) -> None:
    account = {"records": 40, "alleles": 50, "alleles_scored": 30, "seconds": 4.0, "unscored": {}, "warnings": []}
    account["tables"] = []
    conclude({**account, "precision_check": "", "resumed_from_record": 0})
    assert capsys.readouterr().err == "40 records, 50 alleles: 30 scored, 0 without a score, in 4.0 s, 7.5 alleles/s\n"
    conclude({**account, "precision_check": "", "resumed_from_record": 20})
    assert capsys.readouterr().err.endswith("in 4.0 s (went on from record 20)\n")
    conclude({**account, "alleles_scored": 0, "precision_check": "", "resumed_from_record": 0})
    assert "alleles/s" not in capsys.readouterr().err


def test_bfloat16_is_compared_with_float32_and_named_in_the_header(
    bench: Bench, scored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, stats = bench.folder / "bf16.vcf", bench.folder / "bf16.json"
    done = bench.run(bench.folder / "in.vcf", "-o", out, "--precision", "bf16", "--stats", stats)
    assert done.returncode == 0, done.stderr.decode()
    told = [line for line in done.stderr.decode().splitlines() if line.startswith("bf16: on ")]
    assert len(told) == 1
    assert "variants Δ differs from float32's by at most" in told[0]
    assert json.loads(stats.read_text())["precision_check"] == told[0]
    assert "Precision=bf16," in out.read_text()
    assert "Precision=fp32," in scored.read_text()
    pairs = list(zip(records(out.read_text()), records(scored.read_text()), strict=True))
    with_scores = [pair for pair in pairs if "not_in_a_gene" not in pair[1]]
    assert len(with_scores) > 30
    for fast, exact in with_scores:
        for one, other in zip(fast.split("|")[2:6], exact.split("|")[2:6], strict=True):
            assert abs(float(one) - float(other)) < 0.011
    bench.fails(bench.folder / "in.vcf", "--precision", "fp8", saying="unknown precision 'fp8' in --precision")
    monkeypatch.setattr(scoring, "LARGEST_CHANGE", 1e-12)
    line = bench.fails(bench.folder / "in.vcf", "-o", out, "--precision", "bf16", saying="bf16 was asked for and not")
    assert "score again with --precision fp32" in line


def test_a_pipe_gives_the_same_text_as_a_file(bench: Bench, scored: Path) -> None:
    done = bench.run(stdin=(bench.folder / "in.vcf").read_bytes())
    assert done.stdout.decode() == scored.read_text()


@pytest.mark.parametrize("input_kind", ["vcf", "vcf.gz", "bcf"])
@pytest.mark.parametrize("output_kind", ["vcf.gz", "bcf"])
def test_every_kind_of_file_in_and_out(bench: Bench, scored: Path, input_kind: str, output_kind: str) -> None:
    source = bench.folder / f"kinds.{input_kind}"
    mode = {"vcf": "w", "vcf.gz": "wz", "bcf": "wb"}[input_kind]
    with (
        pysam.VariantFile(str(bench.folder / "in.vcf")) as plain,
        pysam.VariantFile(str(source), mode, header=plain.header) as written,
    ):
        for record in plain:
            written.write(record)
    out = bench.folder / f"from_{input_kind}.{output_kind}"
    done = bench.run(source, "-o", out)
    assert done.returncode == 0, done.stderr.decode()
    with pysam.VariantFile(str(out)) as result, pysam.VariantFile(str(scored)) as expected:
        assert result.format == {"vcf.gz": "VCF", "bcf": "BCF"}[output_kind]
        assert result.compression in ("BGZF", "GZIP")
        assert list(map(str, result)) == list(map(str, expected))


def test_bcf_to_standard_output_as_text(bench: Bench, scored: Path) -> None:
    done = bench.run("--output-type", "b", stdin=(bench.folder / "in.vcf").read_bytes())
    assert done.stdout[:2] == b"\x1f\x8b"
    again = bench.run("--replace", stdin=done.stdout)
    assert again.returncode == 0, again.stderr.decode()
    assert records(again.stdout.decode()) == records(scored.read_text())


def test_threads_do_not_change_the_text(bench: Bench, scored: Path) -> None:
    out = bench.folder / "threads.vcf"
    assert bench.run(bench.folder / "in.vcf", "-o", out, "--threads", "3").returncode == 0
    assert out.read_bytes() == scored.read_bytes()


def wait_for_blocks(process: subprocess.Popen, out: Path, records: int) -> int:
    """Kill the process once so many records are written; how many there were."""
    account = Path(f"{out}.partial.json")
    deadline = time.monotonic() + 100
    written = 0
    while written < records and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
        written = json.loads(account.read_text())["totals"]["records"] if account.is_file() else 0
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not out.exists(), "the run ended before it could be killed"
    return json.loads(account.read_text())["totals"]["records"]


def test_shards_are_merged_to_the_bytes_of_one_run(bench: Bench, tmp_path: Path) -> None:
    source, whole, merged = bench.folder / "in.vcf", tmp_path / "whole.vcf.gz", tmp_path / "merged.vcf.gz"
    bench.vcf(60)
    regions = ("--regions", "chr1", "--regions", "chr2:1-4,000")
    assert bench.run(source, "-o", whole, *regions).returncode == 0
    made = [tmp_path / f"p{number}.vcf.gz" for number in (1, 2, 3)]
    for number, piece in enumerate(made, start=1):
        done = bench.run(source, "-o", piece, "--shard", f"{number}/3", *regions)
        assert done.returncode == 0, done.stderr.decode()
    with pytest.raises(SystemExit) as ended:
        main(["merge", str(merged), *map(str, made[::-1])])
    assert not ended.value.code
    assert all(b'"content": "' in gzip.decompress(piece.read_bytes()) for piece in made)
    assert merged.read_bytes() == whole.read_bytes()
    kept = [line.split("\t")[:2] for line in source.read_text().splitlines() if line[0] != "#"]
    with pysam.VariantFile(str(whole)) as file:
        count = sum(1 for _ in file)
    assert count == sum(contig == "chr1" or int(pos) <= 4000 for contig, pos in kept) < 60
    bench.fails(source, "-o", tmp_path / "p.bcf", "--shard", "1/3", saying="a shard is written as a VCF")
    bench.fails("--shard", "1/3", "-o", tmp_path / "p.vcf", saying="--shard needs a file", stdin=source.read_bytes())


@pytest.mark.parametrize("kind", ["tsv", "csv", "parquet"])
def test_a_table_has_a_row_for_each_entry_of_the_vcf(bench: Bench, scored: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / f"out.{kind}"
    done = bench.run(bench.vcf(60), "-o", out)
    assert done.returncode == 0, done.stderr.decode()
    read = {"tsv": lambda: pd.read_csv(out, sep="\t"), "csv": lambda: pd.read_csv(out)}
    table = read.get(kind, lambda: pd.read_parquet(out))()
    told = [line.split("\t") for line in records(scored.read_text())]
    expected = []
    for chrom, pos, name, ref, alt, _, _, info, *_ in told:
        own = info.split(";")[-1]
        _, gene, *values = own.partition("=")[2].split("|")
        scores = [float(value) for value in values] if own.startswith("OpenSpliceAI=") else [None] * 8
        reason = values[0].replace("_", " ") if "unscored" in own else None
        expected.append((chrom, int(pos), name, ref, alt, gene or None, *scores, reason))
    names = ["DS_AG", "DS_AL", "DS_DG", "DS_DL", "DP_AG", "DP_AL", "DP_DG", "DP_DL"]
    assert list(table) == ["chrom", "pos", "id", "ref", "alt", "gene", *names, "reason"]
    assert [tuple(row) for row in table.astype(object).where(table.notna(), None).itertuples(index=False)] == expected
    assert 0 < table["reason"].notna().sum() < 60
    assert table["DS_DL"].max() > 0
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_table_of_no_records_has_its_columns_and_pieces_are_no_tables(bench: Bench, tmp_path: Path) -> None:
    out = tmp_path / "out.tsv"
    assert bench.run(bench.vcf(0, "none.vcf"), "-o", out).returncode == 0
    assert out.read_text().startswith("chrom\tpos\tid\tref\talt\tgene\tDS_AG")
    assert out.read_text().count("\n") == 1
    source = bench.vcf(5, "five.vcf")
    bench.fails(source, "-o", tmp_path / "p.tsv", "--shard", "1/3", saying="a shard is written as a VCF")
    pieces = ("--executor", "ray", "--pieces", "2")
    bench.fails(source, "-o", tmp_path / "p.csv", *pieces, saying="a table is made by one process")
    bench.fails(source, "-o", tmp_path / "p.xlsx", saying="p.xlsx: end the name in .vcf or")


def test_names_that_info_cannot_hold_come_back_in_a_table(tmp_path: Path) -> None:
    text = tmp_path / "scored.vcf"
    text.write_text(
        "##fileformat=VCFv4.2\n##INFO=<ID=Pangolin_source,Number=.,Type=String>\n"
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        "1\t7\t.\tA\tC,<DUP:X%2CY>\t.\t.\tPangolin=C|A%7CB|0.10|-0.20|3|-4,C|D|0.00|0.00|0|0;"
        "Pangolin_source=precomputed,computed;Pangolin_unscored=<DUP:X%2CY>||symbolic_allele\n"
    )
    tabulate(text, tmp_path / "out.csv", FIELDS["pangolin"])
    assert (tmp_path / "out.csv").read_text().splitlines() == [
        "chrom,pos,id,ref,alt,gene,DS_GAIN,DS_LOSS,DP_GAIN,DP_LOSS,reason,source",
        "1,7,.,A,C,A|B,0.1,-0.2,3,-4,,precomputed",
        "1,7,.,A,C,D,0,0,0,0,,computed",
        '1,7,.,A,"<DUP:X,Y>",,,,,,symbolic allele,',
    ]


@pytest.mark.parametrize("kind", ["vcf", "vcf.gz", "csv"])
def test_a_killed_process_resumes_to_the_same_bytes(bench: Bench, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "BLOCK_RECORDS", 50)
    source = bench.vcf(600, "many.vcf")
    out, whole = bench.folder / f"killed.{kind}", bench.folder / f"whole.{kind}"
    assert bench.run(source, "-o", whole).returncode == 0
    before = wait_for_blocks(bench.start(source, "-o", out), out, 100)
    assert 100 <= before < 600
    # Other settings are refused, and what was written stays.
    bench.fails(source, "-o", out, "--resume", "-D", "30", saying="distance = 20, and now it is 30")
    done = bench.run(source, "-o", out, "--resume")
    assert done.returncode == 0, done.stderr.decode()
    assert f"went on from record {before:,}" in done.stderr.decode()
    assert out.read_bytes() == whole.read_bytes()
    assert not list(bench.folder.glob("killed*.partial*"))


def test_a_full_disk_is_said_in_one_line(bench: Bench) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    bench.fails(bench.folder / "in.vcf", "-o", "/dev/full", saying="no space left")


def test_a_reader_that_goes_away_is_no_traceback(bench: Bench) -> None:
    process = bench.start(bench.vcf(300, "pipe.vcf"), stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(100)
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.wait()
    assert b"Traceback" not in said
    assert b"BrokenPipe" not in said


def test_inputs_that_cannot_be_scored_are_one_line_each(bench: Bench, tmp_path: Path) -> None:
    out = tmp_path / "out.vcf"
    source = bench.vcf(5, "five.vcf")
    headless = tmp_path / "headless.vcf"
    headless.write_text("".join(source.read_text().splitlines(keepends=True)[6:]))
    bench.fails(headless, "-o", out, saying="headless.vcf has no VCF header")
    bench.fails(tmp_path / "absent.vcf", "-o", out, saying="no file")
    bench.fails(source, "-o", source, saying="which this command reads")
    bench.fails(source, "-o", tmp_path, saying="is a folder")
    too_far = bench.run(source, "-o", out, "-D", "5000")
    assert too_far.returncode == 2
    assert b"4999" in too_far.stderr
    bench.fails(source, "-o", out, "--base", "spliceia", saying="did you mean spliceai")
    bench.fails(source, "-o", out, "-A", "grch36", saying="grch37")
    bench.fails(source, "-o", out, "-R", tmp_path / "none.fa", saying="no FASTA file")
    bench.fails(source, "-o", out, "--output-type", "x", saying="unknown output type 'x'")
    bench.fails(source, "-o", tmp_path / "out.tsv", "--output-type", "z", saying="give one of them")
    bench.fails(source, "--resume", saying="--resume needs a file")
    regions = tmp_path / "regions.fa"
    regions.write_text(">chr1:1001-1060\n" + "ACGT" * 15 + "\n")
    bench.fails(source, "-o", out, "-R", regions, saying="holds regions of chromosomes")
    assert not out.exists()


def test_a_truncated_bgzf_leaves_no_output(bench: Bench, tmp_path: Path) -> None:
    packed = tmp_path / "in.vcf.gz"
    pysam.tabix_compress(str(bench.folder / "in.vcf"), str(packed), force=True)
    packed.write_bytes(packed.read_bytes()[:-28])
    bench.fails(packed, "-o", tmp_path / "out.vcf", saying="in.vcf.gz: the block that ends a bgzipped file is missing")
    assert not (tmp_path / "out.vcf").exists()


def test_another_build_is_said(bench: Bench, tmp_path: Path) -> None:
    source = bench.vcf(200, "build.vcf")
    lines = source.read_text().splitlines()
    moved = [
        line
        if line[0] == "#"
        else "\t".join([*line.split("\t")[:1], str(int(line.split("\t")[1]) + 7), *line.split("\t")[2:]])
        for line in lines
    ]
    source.write_text("\n".join(moved) + "\n")
    bench.fails(source, "-o", tmp_path / "out.vcf", saying="of different builds")


def test_unknown_bases_are_no_other_build(bench: Bench, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden.fa"
    names = [f"chr{number}" for number in (1, 2)]
    hidden.write_text("".join(f">{name}\n{bench.sequence[:199]}{'N' * (LENGTH - 199)}\n" for name in names))
    out = tmp_path / "out.vcf"
    assert bench.run(bench.vcf(200, "hidden.vcf"), "-o", out, "-R", hidden).returncode == 0
    assert all("|no_reference_sequence_at_the_variant" in line for line in records(out.read_text()))


def test_a_contig_that_the_fasta_lacks_is_a_reason_and_no_error(bench: Bench, tmp_path: Path) -> None:
    source = bench.vcf(2, "contig.vcf")
    source.write_text(source.read_text().replace("\nchr", "\nchrUn"))
    out = tmp_path / "out.vcf"
    done = bench.run(source, "-o", out)
    assert done.returncode == 0
    assert all("|contig_not_in_reference" in line for line in records(out.read_text()))
    assert "warning: no allele was scored" in done.stderr.decode()


@pytest.mark.parametrize(
    ("taken_out", "words"),
    [
        ("##contig=<ID=chr2,length=8000>\n", "chr2"),
        ('##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">\n', "GT"),
    ],
)
def test_a_vcf_that_cannot_be_a_bcf_is_said_before_anything_is_scored(
    bench: Bench, tmp_path: Path, taken_out: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = bench.vcf(20, "undeclared.vcf")
    text = source.read_text()
    assert taken_out in text
    source.write_text(text.replace(taken_out, ""))
    monkeypatch.setattr(score_file.FileScorer, "block", None)
    bench.fails(source, "-o", tmp_path / "out.bcf", saying="cannot be written as BCF")
    bench.fails(source, "-o", tmp_path / "out.bcf", saying=words)
    assert not list(tmp_path.iterdir())


def test_a_missing_index_is_made(bench: Bench, tmp_path: Path) -> None:
    fasta = tmp_path / "own.fa"
    fasta.write_bytes(bench.fasta.read_bytes())
    assert bench.run(bench.vcf(2, "index.vcf"), "-o", tmp_path / "out.vcf", "-R", fasta).returncode == 0
    assert (tmp_path / "own.fa.fai").is_file()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to read-only folders")
def test_a_missing_index_in_a_read_only_folder_is_asked_for(bench: Bench, tmp_path: Path) -> None:
    source = bench.vcf(2, "index.vcf")
    sealed = tmp_path / "sealed"
    sealed.mkdir()
    (sealed / "own.fa").write_bytes(bench.fasta.read_bytes())
    sealed.chmod(0o555)
    bench.fails(source, "-o", tmp_path / "out2.vcf", "-R", sealed / "own.fa", saying="has no index")


@pytest.mark.parametrize("suffix", ["parquet", "tsv"])
def test_saturate_writes_table_and_figure(bench: Bench, tmp_path: Path, suffix: str) -> None:
    out, figure = tmp_path / f"out.{suffix}", tmp_path / "map.png"
    done = bench.run("--exon", "DOWN:2", "--around", "5", "--indels", "-o", out, "--figure", figure, command="saturate")
    assert done.returncode == 0, done.stderr.decode()
    table = pd.read_parquet(out) if suffix == "parquet" else pd.read_csv(out, sep="\t")
    assert len(table) == 310 * 8
    assert sorted(set(table["site"])) == list(range(2996, 3306))
    assert table["delta"].abs().max() > 0.01
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "GPL-3.0" in done.stderr.decode()


def test_saturate_wants_one_stretch(bench: Bench, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    bench.fails("-o", out, command="saturate", saying="say what to saturate")
    bench.fails("-o", tmp_path / "out.vcf", "--gene", "UP", command="saturate", saying="end the name in .tsv or .csv")
    bench.fails("-o", out, "--exon", "UP:1", "--gene", "UP", command="saturate", saying="say what to saturate")
    bench.fails("-o", out, "--gene", "UPP", command="saturate", saying="did you mean UP")
    bench.fails("-o", out, "--gene", "UP", "--figure", "map.pdf", command="saturate", saying="neither .png nor .svg")
    assert not out.exists()


def test_the_how_to_page_names_only_options_there_are() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/how-to/score-a-vcf.md").read_text(encoding="utf-8")
    known: set[str] = set()
    for command in ("score", "saturate"):
        with pytest.MonkeyPatch.context() as patch:
            out = io.StringIO()
            patch.setattr(sys, "stdout", out)
            patch.setenv("COLUMNS", "200")
            with pytest.raises(SystemExit):
                main([command, "--help"])
        known |= set(re.findall(r"--[a-z][a-z-]*", out.getvalue()))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", page))
    assert named - known == {"--install"}  # of a compiler's own installer
    assert {"--resume", "--strict", "--mask", "--stats", "--replace", "--indels"} <= named
    for reason in list(Reason)[:12]:
        assert f"`{reason.replace(' ', '_')}`" in page
