"""Files of variants through the scorer: every allele accounted for, order kept, neighbours without influence."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.errors import InputError, IntegrityError, RunError
from meta_spliceai.splice_engine.base_layer.scores import DONOR, BaseScores
from meta_spliceai.splice_engine.base_layer.vcf import score_file, text
from meta_spliceai.splice_engine.base_layer.vcf.bgzf import END_BLOCK, compress
from meta_spliceai.splice_engine.base_layer.vcf.info_field import Reason
from meta_spliceai.splice_engine.base_layer.vcf.reader import open_variants
from meta_spliceai.splice_engine.base_layer.vcf.score_file import FileScorer, score_stream
from meta_spliceai.splice_engine.base_layer.vcf.text import Block
from meta_spliceai.splice_engine.base_layer.vcf.unfinished import Unfinished, fill
from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation
from meta_spliceai.splice_engine.genome.human_genome import check_annotation
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome, decode, encode, reverse_complement

Make = Callable[..., FileScorer]
Write = Callable[..., Path]


def scored(path: Path, scorer: FileScorer) -> list[str]:
    """The output's lines."""
    sink = io.BytesIO()
    with path.open("rb") as stream:
        score_stream(open_variants(stream, path.name), scorer, sink, False, [], None)
    return sink.getvalue().decode().splitlines()


def infos(lines: list[str]) -> list[dict[str, str]]:
    """INFO of each record."""
    records = [line.split("\t")[7] for line in lines if not line.startswith("#")]
    return [dict(entry.partition("=")[::2] for entry in info.split(";")) for info in records]


def snvs(sequence: str, count: int, seed: int = 0, low: int = 900, high: int = 5100) -> list[tuple]:
    """Random SNVs in and around the genes, out of order."""
    random = np.random.default_rng(seed)
    rows = []
    for pos in random.integers(low, high, count):
        ref = sequence[pos - 1]
        rows.append(("chr1", int(pos), ref, random.choice([base for base in "ACGT" if base != ref])))
    return rows


def test_every_kind_of_allele_gets_a_score_or_its_reason(sequence: str, make_scorer: Make, write_vcf: Write) -> None:
    base = sequence[1499]
    other = "A" if base != "A" else "C"
    cases = [
        (("chr1", 1500, base, other), None),
        (("1", 1500, base.lower(), other.lower()), None),
        (("chr1", 1500, sequence[1499:1503], base), None),
        (("chr1", 1500, base, base + "GATTACA"), None),
        (("chr1", 1500, sequence[1499:1502], "GATTACA"), None),
        (("chr1", 1500, base, "N"), None),
        (("chr1", 1500, base, base), None),
        (("chr1", 1500, other, base), Reason.MISMATCH),
        (("chr1", 5999, "NNNN", "A"), Reason.MISMATCH),
        (("chr1", 0, "N", "A"), Reason.MISMATCH),
        (("chr1", 9999, "A", "C"), Reason.MISMATCH),
        (("chr1", 500, sequence[499], other), Reason.NOT_IN_GENE),
        (("chr2", 1500, base, other), Reason.NOT_IN_GENE),
        (("chr7", 1500, base, other), Reason.CONTIG_ABSENT),
        (("chr1", 1500, sequence[1499:1540], base), Reason.TOO_LONG),
        (("chr1", 1500, base, "<DEL>"), Reason.SYMBOLIC),
        (("chr1", 1500, base, "*"), Reason.SPANNING),
        (("chr1", 1500, base, "G]17:198982]"), Reason.BREAKEND),
        (("chr1", 1500, base, "G."), Reason.BREAKEND),
        (("chr1", 1500, base, "Q"), Reason.BAD_ALLELE),
        (("chr1", 1500, "-", "A"), Reason.BAD_REFERENCE),
        (("chr1", 1500, base, "."), Reason.NO_ALTERNATIVE),
        (("chr1", 1500, base, "A" * 10_001), Reason.ALLELE_TOO_LONG),
    ]
    scorer = make_scorer()
    found = infos(scored(write_vcf(*(case for case, _ in cases)), scorer))
    for (case, reason), info in zip(cases, found, strict=True):
        if reason is None:
            allele, symbol, *_ = info["SpliceAI"].split("|")
            assert (allele, symbol) == (case[3], "UP"), case
            assert "SpliceAI_unscored" not in info
        else:
            assert info == {"SpliceAI_unscored": f"{case[3]}||{reason.replace(' ', '_')}"}, case
    totals = scorer.totals
    assert totals.records == totals.alleles == len(cases)
    assert totals.alleles_scored == 7
    assert totals.alleles_scored + sum(totals.unscored.values()) == totals.alleles
    assert set(totals.unscored) == {reason for _, reason in cases if reason}
    assert totals.examples[Reason.SYMBOLIC] == [f"chr1:1500 {base}><DEL>"]
    assert set(totals.unscored) <= set(Reason)


def test_multi_allelic_records_and_overlapping_genes(sequence: str, make_scorer: Make, write_vcf: Write) -> None:
    base = sequence[3499]
    alts = [letter for letter in "ACGT" if letter != base][:2]
    (info,) = infos(scored(write_vcf(("chr1", 3500, base, f"{alts[0]},*,{alts[1]}")), make_scorer()))
    named = [tuple(entry.split("|")[:2]) for entry in info["SpliceAI"].split(",")]
    assert named == [(alts[0], "UP"), (alts[0], "DOWN"), (alts[1], "UP"), (alts[1], "DOWN")]
    assert info["SpliceAI_unscored"] == "*||spanning_deletion"


@pytest.mark.parametrize(("pos", "expected"), [(2500, 3), (4500, -3)])
def test_positions_count_along_the_plus_strand(
    sequence: str, make_scorer: Make, write_vcf: Write, pos: int, expected: int
) -> None:
    scorer = make_scorer()

    def donor_three_bases_downstream(table: pd.DataFrame, annotation: GeneAnnotation, alone: bool) -> BaseScores:
        ref = np.zeros((len(table), 41, 3), np.float32)
        alt = ref.copy()
        alt[:, 20 + 3, DONOR] = 0.7
        return BaseScores(ref, alt, 20, "fake", "0")

    scorer.scorer = donor_three_bases_downstream
    (info,) = infos(scored(write_vcf(("chr1", pos, sequence[pos - 1], "N")), scorer))
    assert info["SpliceAI"].split("|")[2:] == ["0.00", "0.00", "0.70", "0.00", "0", "0", str(expected), "0"]


def test_strict_scores_what_spliceai_scores_and_leaves_the_rest_blank(
    sequence: str, make_scorer: Make, write_vcf: Write
) -> None:
    base = sequence[1499]
    other = "A" if base != "A" else "C"
    scorer = make_scorer(strict=True)
    found = infos(
        scored(
            write_vcf(
                ("chr1", 1500, base, other),
                ("chr1", 1500, sequence[1499:1501], "GATT"),
                ("chr1", 1500, base.lower(), other),
                ("chr1", 1500, base, "<DEL>"),
                ("chr1", 500, sequence[499], "N"),
            ),
            scorer,
        )
    )
    assert found[0]["SpliceAI"].startswith(f"{other}|UP|")
    assert found[1] == {"SpliceAI": "GATT|UP|.|.|.|.|.|.|.|."}
    assert found[2:] == [{".": ""}] * 3
    assert scorer.totals.alleles_scored == 1
    assert set(scorer.totals.unscored) == {
        Reason.DELINS,
        Reason.LOWER_CASE,
        Reason.SYMBOLIC,
        Reason.NOT_IN_GENE,
    }


def test_strict_leaves_out_what_is_near_a_contigs_end(
    sequence: str, genome: MemoryGenome, make_scorer: Make, write_vcf: Write
) -> None:
    whole = GeneAnnotation([Gene("ALL", "1", "+", 0, 6000, ((0, 6000),))], "toy", "toy")
    for strict, expected in ((False, [True] * 4), (True, [False, True, True, False])):
        made = make_scorer(strict=strict)
        scorer = FileScorer(genome, whole, made.scorer, made.info, made.settings, flank=100)
        # Distance 20 and flank 100: the window of 120 bases to either side must lie within the contig.
        rows = [("chr1", pos, sequence[pos - 1], "N") for pos in (120, 121, 5880, 5881)]
        assert ["SpliceAI" in info for info in infos(scored(write_vcf(*rows), scorer))] == expected


def test_strict_long_deletions_lose_what_spliceais_window_loses() -> None:
    alt = np.ones((11, 3), np.float32)
    cut = score_file._as_spliceai_cuts(alt, deleted=7)
    assert cut[:, 0].tolist() == [1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1]
    assert score_file._as_spliceai_cuts(alt, deleted=5) is alt


def test_text_does_not_depend_on_blocks_neighbours_order_or_noise(
    sequence: str, make_scorer: Make, write_vcf: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = snvs(sequence, 300)
    whole = make_scorer(noise=9e-6)
    expected = scored(write_vcf(*rows), whole)[6:]
    assert whole.totals.computed_alone > 0
    assert len(whole.scorer.calls) < 60  # type: ignore[attr-defined]  # scored together, but for the unsure few
    monkeypatch.setattr(text, "BLOCK_RECORDS", 7)
    assert scored(write_vcf(*rows), make_scorer(noise=9e-6))[6:] == expected
    monkeypatch.setattr(score_file, "_ROWS_AT_ONCE", 1)
    backwards = scored(write_vcf(*rows[::-1]), make_scorer(noise=9e-6))[6:]
    without_ids = [line.split("\t")[:2] + line.split("\t")[3:] for line in backwards[::-1]]
    assert without_ids == [line.split("\t")[:2] + line.split("\t")[3:] for line in expected]


def test_equal_variants_are_computed_once(sequence: str, make_scorer: Make, write_vcf: Write) -> None:
    rows = snvs(sequence, 1, low=1500, high=1501) * 5
    scorer = make_scorer()
    lines = scored(write_vcf(*rows), scorer)
    assert sum(scorer.scorer.calls) == 1  # type: ignore[attr-defined]
    assert len({info["SpliceAI"] for info in infos(lines)}) == 1


def test_genes_of_one_name_are_each_scored(
    sequence: str, genome: MemoryGenome, make_scorer: Make, write_vcf: Write
) -> None:
    twice = GeneAnnotation(
        [Gene("SAME", "1", "+", 1000, 2000, ((1000, 2000),)), Gene("SAME", "1", "-", 1200, 3000, ((1200, 3000),))],
        "toy",
        "toy",
    )
    made = make_scorer()
    scorer = FileScorer(genome, twice, made.scorer, made.info, made.settings, flank=100)
    (info,) = infos(scored(write_vcf(("chr1", 1500, sequence[1499], "N")), scorer))
    assert [entry.split("|")[1] for entry in info["SpliceAI"].split(",")] == ["SAME", "SAME"]


def test_separators_in_names_are_written_as_percent_codes(
    sequence: str, genome: MemoryGenome, make_scorer: Make, write_vcf: Write
) -> None:
    odd = GeneAnnotation([Gene("A|B;C=D, E%", "1", "+", 1000, 2000, ((1000, 2000),))], "toy", "toy")
    made = make_scorer()
    scorer = FileScorer(genome, odd, made.scorer, made.info, made.settings, flank=100)
    (info,) = infos(scored(write_vcf(("chr1", 1500, sequence[1499], "N")), scorer))
    assert info["SpliceAI"].split("|")[1] == "A%7CB%3BC%3DD%2C%20E%25"


def test_older_entries_are_refused_or_replaced(sequence: str, make_scorer: Make, write_vcf: Write) -> None:
    old = '##INFO=<ID=SpliceAI,Number=.,Type=String,Description="old">'
    row = ("chr1", 1500, sequence[1499], "N", "DP=3;SpliceAI=old;X")
    with pytest.raises(InputError, match="already declares INFO SpliceAI"):
        scored(write_vcf(row, header=old), make_scorer())
    with pytest.raises(InputError, match=r"line 5 \(chr1:1500\) already has"):
        scored(write_vcf(row), make_scorer())
    scorer = make_scorer(replace=True)
    gene_free = ("chr1", 500, sequence[499], "N", "SpliceAI=old")
    lines = scored(write_vcf(row, gene_free, header=old), scorer)
    assert old not in lines
    assert sum("ID=SpliceAI," in line for line in lines) == 1
    first, second = infos(lines)
    assert list(first) == ["DP", "X", "SpliceAI"]
    assert list(second) == ["SpliceAI_unscored"]
    assert scorer.totals.entries_replaced == 2


def test_a_fasta_of_another_build_is_told_after_a_hundred_records(
    sequence: str, make_scorer: Make, write_vcf: Write
) -> None:
    shifted = [(chrom, pos + 1, ref, alt) for chrom, pos, ref, alt in snvs(sequence, 150)]
    with pytest.raises(InputError, match=r"of the first 150 records have another reference base than toy\.fa.*build"):
        scored(write_vcf(*shifted), make_scorer())
    # Under a hundred records nothing is concluded: each has its reason.
    few = scored(write_vcf(*shifted[:90]), make_scorer())
    assert sum("reference_mismatch" in line for line in few) > 45


def introns(build_shift: int, strand: str, count: int = 60) -> tuple[GeneAnnotation, MemoryGenome]:
    """Genes with one intron each, GT…AG in transcript orientation, annotated with a shift."""
    random = np.random.default_rng(0)
    bases, genes = [], []
    for number in range(count):
        gene = list(random.choice(list("ACGT"), 300))
        gene[100:102], gene[198:200] = "GT", "AG"
        text = "".join(gene)
        bases.append(text if strand == "+" else decode(reverse_complement(encode(text))))
        start = 300 * number + build_shift
        genes.append(
            Gene(f"G{number}", "1", strand, start, start + 300, ((start, start + 100), (start + 200, start + 300)))
        )
    return GeneAnnotation(genes, "GRCh37", "genes.txt"), MemoryGenome({"chr1": "".join(bases) + "A" * 400}, "b", "b.fa")


@pytest.mark.parametrize("strand", ["+", "-"])
def test_an_annotation_of_another_build_is_told_before_scoring(strand: str) -> None:
    check_annotation(*introns(0, strand))
    with pytest.raises(InputError, match=r"genes\.txt \(GRCh37\) does not fit b\.fa: \d+ of \d+ splice sites"):
        check_annotation(*introns(13, strand))
    check_annotation(*introns(13, strand, count=20))  # too few to say


def run(
    path: Path, out: Path, scorer: FileScorer, resume: bool = False, packed: bool = False, name: str = "setting"
) -> int:
    """Score to a file as the command does; records taken over."""
    with path.open("rb") as stream, Unfinished(out) as unfinished:
        variants = open_variants(stream, path.name)
        taken = fill(variants, scorer, unfinished, packed, [], {"name": name}, resume, None)
        unfinished.put_in_place(None)
    return taken


class Killed(BaseException):
    """Stands for a signal in the middle of a run."""


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("blocks_before", [1, 3])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    sequence: str,
    make_scorer: Make,
    write_vcf: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    packed: bool,
    blocks_before: int,
) -> None:
    monkeypatch.setattr(text, "BLOCK_RECORDS", 20)
    path = write_vcf(*snvs(sequence, 95))
    unbroken = make_scorer()
    run(path, tmp_path / "whole", unbroken, packed=packed)
    out = tmp_path / "out"
    scorer = make_scorer()
    block = scorer.block
    done = 0

    def dying(records: Block) -> bytes:
        nonlocal done
        if done == blocks_before:
            raise Killed
        done += 1
        return block(records)

    monkeypatch.setattr(scorer, "block", dying)
    with pytest.raises(Killed):
        run(path, out, scorer, packed=packed)
    assert not out.exists()
    partial = tmp_path / "out.partial"
    with partial.open("ab") as handle:
        handle.write(b"half a block that was never counted" * 2000)
    resumed = make_scorer()
    assert run(path, out, resumed, resume=True, packed=packed) == 20 * blocks_before
    assert out.read_bytes() == (tmp_path / "whole").read_bytes()
    assert resumed.totals == unbroken.totals
    assert sum(resumed.scorer.calls) < sum(unbroken.scorer.calls)  # type: ignore[attr-defined]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.vcf", "out", "whole"]


@pytest.fixture
def interrupted(
    sequence: str, make_scorer: Make, write_vcf: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """Input and output of a run that was interrupted after two blocks of 20."""
    monkeypatch.setattr(text, "BLOCK_RECORDS", 20)
    path = write_vcf(*snvs(sequence, 60))
    scorer = make_scorer()
    calls = iter([scorer.block, scorer.block])

    def dying(records: Block) -> bytes:
        step = next(calls, None)
        if step is None:
            raise Killed
        return step(records)

    monkeypatch.setattr(scorer, "block", dying)
    with pytest.raises(Killed):
        run(path, tmp_path / "out", scorer)
    return path, tmp_path / "out"


def test_resume_refuses_another_input(
    interrupted: tuple[Path, Path], sequence: str, make_scorer: Make, write_vcf: Write
) -> None:
    _, out = interrupted
    other = write_vcf(*snvs(sequence, 60, seed=5), name="other.vcf")
    with pytest.raises(InputError, match="does not begin with the 40 records that the interrupted run read"):
        run(other, out, make_scorer(), resume=True)
    shorter = write_vcf(*snvs(sequence, 30), name="shorter.vcf")
    with pytest.raises(InputError, match=r"shorter\.vcf"):
        run(shorter, out, make_scorer(), resume=True)
    assert not out.exists()


def test_resume_refuses_other_settings_and_names_them(interrupted: tuple[Path, Path], make_scorer: Make) -> None:
    path, out = interrupted
    with pytest.raises(InputError, match="begun with name = setting, and now it is other"):
        run(path, out, make_scorer(), resume=True, name="other")


def test_resume_refuses_a_partial_file_that_shrank(interrupted: tuple[Path, Path], make_scorer: Make) -> None:
    path, out = interrupted
    partial = out.with_name("out.partial")
    partial.write_bytes(partial.read_bytes()[:-10])
    with pytest.raises(RunError, match="is shorter than"):
        run(path, out, make_scorer(), resume=True)


def test_a_damaged_account_is_said(interrupted: tuple[Path, Path], make_scorer: Make) -> None:
    path, out = interrupted
    out.with_name("out.partial.json").write_text("{")
    with pytest.raises(RunError, match=r"damaged.*delete it"):
        run(path, out, make_scorer(), resume=True)


def test_without_resume_a_run_starts_anew(interrupted: tuple[Path, Path], make_scorer: Make) -> None:
    path, out = interrupted
    assert run(path, out, make_scorer()) == 0
    assert out.read_text().count("\nchr1\t") == 60


def test_resume_without_anything_to_go_on_with_starts_anew(
    sequence: str, make_scorer: Make, write_vcf: Write, tmp_path: Path
) -> None:
    path = write_vcf(*snvs(sequence, 5))
    assert run(path, tmp_path / "out", make_scorer(), resume=True) == 0


def test_two_processes_cannot_write_one_output(tmp_path: Path) -> None:
    with Unfinished(tmp_path / "out"), pytest.raises(RunError, match="another process is writing"):
        Unfinished(tmp_path / "out").__enter__()


def test_a_full_disk_keeps_what_was_written_and_says_how_to_go_on(
    sequence: str, make_scorer: Make, write_vcf: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "BLOCK_RECORDS", 20)
    path = write_vcf(*snvs(sequence, 60))
    run(path, tmp_path / "whole", make_scorer())
    out = tmp_path / "out"
    real = os.fsync
    calls = 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls >= 5:  # header and its account, one block and its account, then the disk is full
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"No space left on device.*out\.partial.*--resume"):
        run(path, out, make_scorer())
    assert not out.exists()
    monkeypatch.setattr(os, "fsync", real)
    assert run(path, out, make_scorer(), resume=True) == 20
    assert out.read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_truncated_input_leaves_no_output_but_its_whole_blocks(
    sequence: str, make_scorer: Make, write_vcf: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "BLOCK_RECORDS", 20)
    source = write_vcf(*snvs(sequence, 60)).read_bytes()
    cut = tmp_path / "cut.vcf.gz"
    cut.write_bytes(compress(source))  # without the end block
    out = tmp_path / "out.vcf.gz"
    with pytest.raises(IntegrityError, match=r"cut\.vcf\.gz: the block that ends a bgzipped file is missing"):
        run(cut, out, make_scorer(), packed=True)
    assert not out.exists()
    cut.write_bytes(compress(source) + END_BLOCK)
    assert run(cut, out, make_scorer(), resume=True, packed=True) > 0
    whole = tmp_path / "whole.vcf.gz"
    run(tmp_path / "in.vcf", whole, make_scorer(), packed=True)
    assert out.read_bytes() == whole.read_bytes()
