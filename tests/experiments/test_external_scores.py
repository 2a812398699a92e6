"""Scores of a tool that is not run here: joined to tested variants, and evaluated beside everything else."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pysam
import pytest

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.experiments.board.compare import beside_runs
from meta_spliceai.experiments.board.leaderboard import boards
from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.spec.rows import change
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.splice_engine.variants import external_scores
from meta_spliceai.splice_engine.variants.external_scores import ScoreFile, ScoresInParts, join_scores
from tests.conftest import RunCli
from tests.experiments.conftest import load_toy

TESTED = pd.DataFrame(
    {
        "variant_id": ["a", "b", "c", "d"],
        "chrom": ["chr1", "chr1", "2", "chrX"],
        "pos": [100, 200, 300, 400],
        "ref": ["A", "C", "GAT", "T"],
        "alt": ["G", "T", "G", "TA"],
        "gene": ["ONE", "ONE", "TWO", ""],
    }
)
ROWS = [
    ("1", 100, "A", "G", 0.5),
    ("chr1", 200, "C", "G", 0.9),  # another alternative
    ("chr2", 299, "CGAT", "CG", 0.25),  # the same deletion with another anchor
    ("X", 400, "T", "TA", 1),
    ("7", 1, "A", "G", 7),
]
EXPECTED = [0.5, np.nan, 0.25, 1]
VCF = '##fileformat=VCFv4.2\n##INFO=<ID=S,Number=A,Type=Float,Description="x">\n' + (
    '##INFO=<ID=SpliceAI,Number=.,Type=String,Description="x Format: ALLELE|SYMBOL|DS_AG|DS_AL|DS_DG|DS_DL|DP_AG">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
)


def table(separator: str = "\t", rows: list[Any] | None = None) -> str:
    lines = [("chrom", "pos", "ref", "alt", "score"), *(ROWS if rows is None else rows)]
    return "".join(separator.join(map(str, line)) + "\n" for line in lines)


def vcf(*records: tuple[object, ...]) -> str:
    found = records or tuple((*row[:4], f"AN=2;S={row[4]}") for row in ROWS)
    return VCF + "".join(f"{c}\t{p}\t.\t{r}\t{a}\t.\t.\t{info}\n" for c, p, r, a, info in found)


def _parquet(path: Path) -> None:
    pd.DataFrame(ROWS, columns=["chrom", "pos", "ref", "alt", "score"]).to_parquet(path, index=False)


def _indexed(path: Path, text: str, **preset: Any) -> None:
    """Bgzipped and with an index; tabix wants the lines in order."""
    path.with_suffix("").write_text(text)
    pysam.tabix_compress(str(path.with_suffix("")), str(path), force=True)
    pysam.tabix_index(str(path), force=True, **preset)


KINDS: dict[str, Callable[[Path], object]] = {
    "x.tsv": lambda path: path.write_text(table()),
    "x.csv": lambda path: path.write_text(table(",")),
    "x.csv.gz": lambda path: path.write_bytes(gzip.compress(table(",").encode())),
    "x.vcf": lambda path: path.write_text(vcf()),
    "x.vcf.gz": lambda path: path.write_bytes(gzip.compress(vcf().encode())),
    "x.parquet": _parquet,
    "i.vcf.gz": lambda path: _indexed(path, vcf(), preset="vcf"),
    "i.tsv.gz": lambda path: _indexed(
        path, "## a remark\n#" + table(), seq_col=0, start_col=1, end_col=1, meta_char="#"
    ),
}


def joined(folder: Path, name: str, text: str, column: str = "") -> np.ndarray:
    (folder / name).write_text(text)
    return join_scores(ScoreFile("tool", folder / name, column), TESTED, "toy (b37)").score


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_same_scores(name: str, tmp_path: Path) -> None:
    KINDS[name](tmp_path / name)
    file = ScoreFile.parse(f"tool={tmp_path / name}{':INFO/S' * ('vcf' in name)}")
    found = join_scores(file, TESTED, "toy")
    np.testing.assert_array_equal(found.score, EXPECTED)
    assert found.other_reference == 0


@pytest.mark.parametrize("name", KINDS)
def test_variants_in_parts_get_the_same_scores_and_what_has_no_index_is_read_once(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    KINDS[name](path)
    in_parts = ScoresInParts(ScoreFile.parse(f"tool={path}{':INFO/S' * ('vcf' in name)}"))
    found = [in_parts.join(TESTED[:2], "toy").score, in_parts.join(TESTED[1:2], "toy").score]
    if not name.startswith("i."):
        path.unlink()
    found.append(in_parts.join(TESTED[2:], "toy").score)
    np.testing.assert_array_equal(np.concatenate(found), [*EXPECTED[:2], EXPECTED[1], *EXPECTED[2:]])


def test_a_large_file_without_an_index_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_scores, "MOST_HELD", 4)
    for name in ("x.tsv", "i.vcf.gz"):
        KINDS[name](tmp_path / name)
    with pytest.raises(InputError, match=r"has no index and more than 4 rows.*tabix"):
        ScoresInParts(ScoreFile.parse(f"t={tmp_path / 'x.tsv'}")).join(TESTED, "toy")
    indexed = ScoresInParts(ScoreFile.parse(f"t={tmp_path / 'i.vcf.gz'}:INFO/S"))
    np.testing.assert_array_equal(indexed.join(TESTED, "toy").score, EXPECTED)


def test_another_build_shows_over_several_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_scores, "ENOUGH", 2)
    (tmp_path / "x.tsv").write_text(table(rows=[("1", 100, "G", "A", 1), ("1", 200, "A", "C", 1)]))
    in_parts = ScoresInParts(ScoreFile.parse(f"t={tmp_path / 'x.tsv'}"))
    assert np.isnan(in_parts.join(TESTED[:1], "toy").score).all()
    with pytest.raises(InputError, match=r"2 of 2 rows.*another build; lift"):
        in_parts.join(TESTED[1:], "toy")


def test_an_index_is_used_and_not_the_whole_file(tmp_path: Path) -> None:
    rows = [*ROWS, ("chr9", 5, "A", "G", "no number"), ("chr9", "x", "A", "G", 1)]
    _indexed(tmp_path / "i.tsv.gz", "#" + table(rows=rows[:-1]), seq_col=0, start_col=1, end_col=1, meta_char="#")
    (tmp_path / "all.tsv").write_text(table(rows=rows))
    np.testing.assert_array_equal(
        join_scores(ScoreFile.parse(f"t={tmp_path / 'i.tsv.gz'}"), TESTED, "toy").score, EXPECTED
    )
    with pytest.raises(InputError, match="line 8: pos 'x'"):
        join_scores(ScoreFile.parse(f"t={tmp_path / 'all.tsv'}"), TESTED, "toy")


def test_spliceai_entries_give_their_largest_delta_of_the_variants_own_gene(tmp_path: Path) -> None:
    entries = "G|ONE|0.10|0.30|0.20|.|-5,G|TWO|0.90|0.00|0.00|0.00|1,T|ONE|1.00|0.00|0.00|0.00|1"
    found = joined(
        tmp_path, "x.vcf", vcf(("1", 100, "A", "G,T", f"SpliceAI={entries}"), ("1", 200, "C", "T", "AN=1")), "SpliceAI"
    )
    np.testing.assert_array_equal(found, [0.3, np.nan, np.nan, np.nan])


def test_genes_of_a_table(tmp_path: Path) -> None:
    text = "gene\tchrom\tpos\tref\talt\tscore\n"
    text += "".join(f"{gene}\t{where}\t{score}\n" for gene, where, score in [
        ("OTHER", "1\t100\tA\tG", 0.9), ("ONE", "1\t100\tA\tG", 0.2),
        ("OTHER", "X\t400\tT\tTA", 0.3), ("THIRD", "X\t400\tT\tTA", 0.4), ("ONE", "1\t200\tC\tT", "NA"),
    ])  # fmt: skip
    np.testing.assert_array_equal(joined(tmp_path, "x.tsv", text), [0.2, np.nan, np.nan, 0.4])


def test_a_variant_in_a_construct_is_found_on_either_strand_of_the_genome(tmp_path: Path) -> None:
    tested = TESTED[:2].assign(
        chrom="EXON1", genome_chrom="chr1", genome_pos=[100, 200], ref=["T", "C"], alt=["C", "T"]
    )
    (tmp_path / "x.tsv").write_text(table(rows=[("1", 100, "A", "G", 0.5), ("1", 200, "C", "T", 0.1)]))
    found = join_scores(ScoreFile.parse(f"t={tmp_path / 'x.tsv'}"), tested, "toy")
    np.testing.assert_array_equal(found.score, [0.5, 0.1])


@pytest.mark.parametrize(
    ("name", "text", "column", "message"),
    [
        ("x.tsv", table().replace("alt", "allele"), "", "column alt missing; found chrom, pos"),
        ("x.tsv", table().replace("score", "cadd"), "phred", "unknown column 'phred'.*cadd"),
        ("x.tsv", table().replace("0.25", "nan"), "", "line 4: the score is 'nan'"),
        ("x.tsv", table().replace("0.25", "inf"), "", "line 4: the score is 'inf'"),
        ("x.tsv", table(rows=[*ROWS, ("1", 100, "A", "G", 0.6)]), "", "line 7: a second score of 1:100 A>G, 0.6 after"),
        ("x.tsv", table(rows=[("1", 100, "G", "A", 1), ("1", 200, "A", "C", 1)]), "", "another build; lift"),
        ("x.tsv", table(rows=[("5", 100, "G", "A", 1)]), "", r"any of the 4 variants of toy \(b37\)"),
        ("x.tsv", table().replace("\t0.25", ""), "", "line 4: 4 columns where the first line names 5"),
        ("x.tsv", vcf(), "", "is a VCF, which its name does not say"),
        ("x.vcf", table(), "INFO/S", "is no VCF"),
        ("x.vcf", vcf(), "INFO/T", "unknown INFO key 'T'.*Choices: S, SpliceAI"),
        ("x.vcf", vcf(("1", 100, "A", "G,T", "S=1,2,3")), "S", "S has 3 values for 2 alternative alleles"),
        ("x.vcf", vcf(("1", 100, "A", "G", "SpliceAI=G|0.5")), "SpliceAI", "not of the header's form"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_line(name: str, text: str, column: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        joined(tmp_path, name, text, column)


def test_a_text_named_parquet_is_refused_and_so_are_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="read as Parquet"):
        joined(tmp_path, "x.parquet", table())
    _parquet(tmp_path / "x.tsv")
    with pytest.raises(InputError, match="column chrom, pos, ref, alt missing; found PAR1"):
        join_scores(ScoreFile.parse(f"t={tmp_path / 'x.tsv'}"), TESTED, "toy")
    (tmp_path / "x.xlsx").write_text("")
    for text, message in ((f"t={tmp_path / 'x.xlsx'}", "must end in"), ("t=none.tsv:a", "no file"), ("x.tsv", "NAME=")):
        with pytest.raises(InputError, match=message):
            ScoreFile.parse(text)


def test_nan_in_parquet_is_refused_and_null_is_no_score(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for value, fails in ((None, False), (float("nan"), True)):
        columns = [pa.array(["1", "1"]), pa.array([100, 200]), pa.array(["A", "C"]), pa.array(["G", "T"])]
        scores = pa.array([0.5, value], pa.float64(), from_pandas=False)
        pq.write_table(pa.table([*columns, scores], names=["chrom", "pos", "ref", "alt", "s"]), tmp_path / "x.parquet")
        file = ScoreFile.parse(f"t={tmp_path / 'x.parquet'}")
        if fails:
            with pytest.raises(InputError, match="row 2: the score is nan"):
                join_scores(file, TESTED, "toy")
        else:
            np.testing.assert_array_equal(join_scores(file, TESTED, "toy").score, [0.5, np.nan, np.nan, np.nan])


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory, toy_cache: Path) -> Workspace:
    """The toy row and a changed one."""
    from meta_spliceai.experiments.spec.experiment import parse_spec
    from tests.experiments.conftest import TOY_ROW, install_toy_bench

    install_toy_bench()
    folder = tmp_path_factory.mktemp("external")
    shutil.copytree(toy_cache, folder / "cache")
    row: ExperimentSpec = parse_spec(TOY_ROW, "test")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("META_SPLICEAI_CACHE", str(folder / "cache"))
        for spec in (row, change(row, ["training.epochs=1"])):
            run_experiment(spec, Workspace(folder / "runs"), "cpu", rows={row.id: row})
    return Workspace(folder / "runs")


def _scored(folder: Path, leave_out: int = 0) -> Path:
    """The toy variants with a perfect score, the first few left out."""
    variants = load_toy().variants
    rows = variants.assign(score=-variants["effect"])[["chrom", "pos", "ref", "alt", "score"]]
    rows.iloc[leave_out:].to_csv(folder / "perfect.csv", index=False)
    return folder / "perfect.csv"


def test_a_perfect_tool_stands_beside_the_runs_which_keep_their_numbers(two_runs: Workspace, tmp_path: Path) -> None:
    (before,) = boards(two_runs)
    board = beside_runs(before, two_runs, [ScoreFile("perfect", _scored(tmp_path))])
    (mine,) = [line for line in board.lines if line.kind == "external"]
    assert mine.values["auprc"].estimate == 1
    assert board.rows == before.rows
    assert [entry["scored"] for entry in board.scores] == [before.rows]
    assert any(text.startswith("beats base max_window") for text in mine.verdicts)
    others = [line for line in board.lines if line.kind != "external"]
    assert [(line.scorer, line.run if line.kind == "learned" else "", line.values) for line in others] == [
        (line.scorer, line.run if line.kind == "learned" else "", line.values) for line in before.lines
    ]
    learned = [line for line in others if line.kind == "learned"]
    assert len(learned) == 2
    assert all(any("perfect" in text for text in line.verdicts) for line in learned)
    assert {record["scorer"] for record in board.strata if record.get("scorer")} >= {"perfect", "base max_window"}


def test_all_lines_rest_on_the_variants_that_the_tool_scores(two_runs: Workspace, tmp_path: Path) -> None:
    (before,) = boards(two_runs)
    board = beside_runs(before, two_runs, [ScoreFile("perfect", _scored(tmp_path, leave_out=100))])
    assert 0 < board.rows < before.rows
    assert board.scores[0]["scored"] == board.rows
    assert board.scores[0]["tested"] == before.rows
    assert {line.rows for line in board.lines} <= {line.rows for line in board.lines if line.kind == "external"}
    assert any("every line is evaluated on the" in note for note in board.notes)


def test_the_command_says_coverage_and_strata(two_runs: Workspace, tmp_path: Path, run_cli: RunCli) -> None:
    path = _scored(tmp_path, leave_out=30)
    given = ["leaderboard", "--runs-dir", str(two_runs.root), "--scores", f"perfect={path}:score"]
    code, out, _ = run_cli([*given, "--json"])
    (board,) = json.loads(out)
    assert code == 0
    assert board["scores"][0]["name"] == "perfect"
    assert board["strata"]
    code, out, _ = run_cli(given)
    assert code == 0
    assert "external" in out
    assert "perfect (perfect.csv, score) scores" in out
    assert "AUPRC within strata" in out
    code, _, err = run_cli([*given, "--data", "nothing"])
    assert code == 2
    assert "unknown data set 'nothing'" in err


def test_a_data_set_without_a_run_compares_tools_alone(tmp_path: Path, run_cli: RunCli, workspace: Workspace) -> None:
    path = _scored(tmp_path)
    noise = pd.read_csv(path).assign(score=lambda rows: np.random.default_rng(0).random(len(rows)))
    noise.to_csv(tmp_path / "noise.csv", index=False)
    tools = ["--scores", f"perfect={path}", "--scores", f"noise={tmp_path / 'noise.csv'}"]
    code, out, _ = run_cli(["leaderboard", "--runs-dir", str(workspace.root), "--data", "toy", *tools, "--json"])
    assert code == 0
    (board,) = json.loads(out)
    assert [line["scorer"] for line in board["lines"]] == ["perfect", "noise"]
    assert board["lines"][0]["verdicts"][0].startswith("beats noise")
    code, _, err = run_cli(["leaderboard", "--runs-dir", str(workspace.root), *tools])
    assert code == 2
    assert "name a data set with --data" in err
