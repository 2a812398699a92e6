"""A finished run applied to new variants: the same predictions as in the run, a reason for every allele without one."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.cli import main
from meta_spliceai.datasets import load_dataset
from meta_spliceai.errors import InputError, IntegrityError, RunError
from meta_spliceai.experiments.predict.predict_new import NewVariants, RunModel, predict_all
from meta_spliceai.experiments.predict.read_variants import NO_STRAND
from meta_spliceai.experiments.run.runner import run_experiment
from meta_spliceai.experiments.spec.experiment import parse_spec
from meta_spliceai.experiments.spec.rows import as_smoke, change
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.splice_engine.base_layer.vcf.info_field import Reason
from meta_spliceai.splice_engine.genome.sequence import decode
from meta_spliceai.splice_engine.variants.alleles import MISMATCH
from tests.experiments.new_variants import read_variants


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, toy_values: dict[str, object], toy_cache: Path) -> Workspace:
    """The toy row, its three-fold cross-validation, and a smoke run."""
    row = parse_spec(toy_values, "test")
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(toy_cache, folder / "cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("META_SPLICEAI_CACHE", str(folder / "cache"))
        for spec in (row, change(row, ["split.folds=3"]), as_smoke(row)):
            run_experiment(spec, Workspace(folder / "runs"), "cpu", rows={row.id: row})
    return Workspace(folder / "runs")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Thirty of the toy's variants as a table with strands, a wrong allele and a symbolic one among them."""
    rows = load_dataset("toy").variants.iloc[:30][["chrom", "pos", "ref", "alt", "strand"]].copy()
    rows.loc[3, "alt"] = "<DEL>"
    right = rows.loc[7, "ref"]
    rows.loc[7, "ref"] = next(base for base in "ACGT" if base not in (right, rows.loc[7, "alt"]))
    rows.loc[9, "strand"] = ""
    path = tmp_path / "new.tsv"
    rows.to_csv(path, sep="\t", index=False)
    return path


def predict_by_command(workspace: Workspace, table: Path, name: str, fasta: Path, out: Path) -> None:
    """Run the command with a run's name; it must end well."""
    arguments = ["predict", str(table), "--model", name, "-o", str(out), "-R", str(fasta)]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--runs-dir", str(workspace.root), "--device", "cpu"])
    assert not ended.value.code


def run_named(workspace: Workspace, folds: bool, smoke: bool = False) -> str:
    return next(
        run.name
        for run in workspace.runs()
        if (run.spec().split.folds is not None) == folds and run.spec().smoke == smoke
    )


def test_answers_are_those_of_the_run_and_every_other_allele_has_a_reason(
    finished: Workspace, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meta_spliceai.experiments.predict.predict_new.FEWEST_TO_CALIBRATE", 5)
    run = finished.find(run_named(finished, folds=False))
    alleles, variants = read_variants(table, None)
    predicted = predict_all(
        RunModel(run, finished), NewVariants(alleles, variants, load_dataset("toy").genome, device="cpu")
    )
    found = predicted.table
    assert len(found) == 30
    assert found["reason"][3] == Reason.SYMBOLIC
    assert found["reason"][7] == MISMATCH
    assert predicted.coverage.examples[MISMATCH][0].startswith("row 8: allele 8 (")
    assert found["reason"][9] == NO_STRAND
    good = found["reason"] == ""
    assert good.sum() == 27
    assert predicted.coverage.used == 27
    before = run.read_predictions().iloc[:30]
    np.testing.assert_allclose(found["signed"][good], before["toy-row.signed"][good], atol=1e-6)
    assert found["score"][~good].isna().all()
    assert found["p_altering"][good].between(0, 1, inclusive="neither").all()
    # Isotonic: a higher score never gets a lower probability.
    ordered = found[good].sort_values("score")["p_altering"].to_numpy()
    assert (np.diff(ordered) >= -1e-9).all()
    assert "validation part" in predicted.card["probability_calibrated_on"]
    assert predicted.card["split"]["digest"] == run.data()["split"]["digest"]


def test_a_cross_validation_answers_with_the_mean_of_its_folds(
    finished: Workspace, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meta_spliceai.experiments.predict.predict_new.FEWEST_TO_CALIBRATE", 5)
    run = finished.find(run_named(finished, folds=True))
    alleles, variants = read_variants(table, None)
    predicted = predict_all(
        RunModel(run, finished), NewVariants(alleles, variants, load_dataset("toy").genome, device="cpu")
    )
    folds = [np.load(run.path / "folds" / str(fold) / "all_predictions.npy")[:30] for fold in (1, 2, 3)]
    good = (predicted.table["reason"] == "").to_numpy()
    np.testing.assert_allclose(predicted.table["delta_donor"][good], np.mean(folds, axis=0)[good, 2], atol=1e-6)
    assert "out-of-fold" in predicted.card["probability_calibrated_on"]


def test_too_few_variants_to_calibrate_on_give_a_raw_score_and_no_probability(finished: Workspace, table: Path) -> None:
    run = finished.find(run_named(finished, folds=False))
    predicted = predict_all(
        RunModel(run, finished), NewVariants(*read_variants(table, None), load_dataset("toy").genome, device="cpu")
    )
    assert "p_altering" not in predicted.table
    assert "raw" in predicted.card["probability_calibrated_on"]
    assert predicted.table["score"].notna().sum() == 27


def test_a_smoke_run_predicts_nothing(finished: Workspace, table: Path) -> None:
    run = finished.find(run_named(finished, folds=False, smoke=True))
    alleles, variants = read_variants(table, None)
    with pytest.raises(RunError, match="smoke run"):
        predict_all(RunModel(run, finished), NewVariants(alleles, variants, load_dataset("toy").genome, device="cpu"))


def test_the_command_writes_table_and_card(
    finished: Workspace, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    genome = load_dataset("toy").genome
    fasta = tmp_path / "toy.fa"
    lengths = genome.contigs()
    fasta.write_text("".join(f">{name}\n{decode(genome.fetch(name, 0, n))}\n" for name, n in lengths.items()))
    out = tmp_path / "out.tsv"
    name = run_named(finished, folds=False)
    predict_by_command(finished, table, name, fasta, out)
    assert len(pd.read_csv(out, sep="\t")) == 30
    card = json.loads((tmp_path / "out.tsv.card.json").read_text(encoding="utf-8"))
    assert card["run"] == name
    assert card["licences"]
    assert "27 predicted" in capsys.readouterr().err.replace("\n", " ")


def test_a_vcf_is_read_allele_by_allele(tmp_path: Path) -> None:
    path = tmp_path / "in.vcf"
    path.write_text(
        "##fileformat=VCFv4.2\n##contig=<ID=chr1,length=4000>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        "chr1\t300\trs7\ta\tC,G\t.\t.\t.\nchr1\t400\t.\tAT\t*\t.\t.\t.\nchr1\t500\t.\tA\t.\t.\t.\t.\n"
    )
    alleles, variants = read_variants(path, None)
    assert list(alleles["alt"]) == ["C", "G", "*", "."]
    assert list(alleles["ref"][:2]) == ["a", "a"]  # as they stand
    assert list(alleles["variant_id"]) == ["rs7", "rs7", "", ""]
    assert list(alleles["reason"]) == [NO_STRAND, NO_STRAND, Reason.SPANNING, Reason.NO_ALTERNATIVE]
    assert variants.empty


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("chrom\tpos\tref\nchr1\t5\tA\n", InputError, "column alt missing; found chrom, pos, ref"),
        ("", InputError, "missing; found nothing"),
        ("chrom,pos,ref,alt\nchr1,5,A,C\nchr1,five,A,C\n", InputError, "line 3: pos 'five' is no position"),
        ("chrom,pos,ref,alt,strand\nchr1,5,A,C,plus\n", InputError, "bad.csv, line 2: strand 'plus' is no strand"),
        ("chrom,pos,ref,alt\n", InputError, "holds no variant"),
        ("\x00\xff", InputError, "missing"),
    ],
)
def test_a_bad_table_is_named(tmp_path: Path, text: str, error: type[Exception], words: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(error, match=words):
        read_variants(path, None)


def test_damaged_files_are_said_to_be(tmp_path: Path) -> None:
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(b"chrom,pos,ref,alt\nchr1,5,A,C\n" * 200)[:60])
    with pytest.raises(IntegrityError, match=r"cut\.csv\.gz, line 1, is truncated or damaged"):
        read_variants(cut, None)
    broken = tmp_path / "broken.vcf"
    broken.write_text("this is no VCF\n")
    with pytest.raises(InputError, match=r"broken\.vcf has no VCF header"):
        read_variants(broken, None)
    with pytest.raises(InputError, match="no file of variants"):
        read_variants(tmp_path / "absent.vcf", None)


def test_genes_and_genome_of_another_build_are_refused(
    finished: Workspace, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    genes = tmp_path / "genes.txt"
    genes.write_text(
        "#NAME\tCHROM\tSTRAND\tTX_START\tTX_END\tEXON_START\tEXON_END\nG\tchr1\t+\t0\t3000\t0,500,\t300,3000,\n"
    )
    arguments = ["predict", str(table), "--model", run_named(finished, folds=False), "-o", str(tmp_path / "out.tsv")]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "-R", str(tmp_path / "no.fa"), "-A", str(genes), "--runs-dir", str(finished.root)])
    assert ended.value.code == 2
    assert "no FASTA file at" in capsys.readouterr().err.replace("\n", " ")  # a table of one's own is taken
    packaged = [*arguments, "-R", "regions", "-A", "grch37", "--runs-dir", str(finished.root)]
    with pytest.raises(SystemExit) as ended:
        main(packaged)
    assert ended.value.code == 2
    assert "is GRCh37, but the variants are GRCh38" in capsys.readouterr().err.replace("\n", " ")


def test_regions_are_a_genome_too(finished: Workspace, table: Path, tmp_path: Path) -> None:
    genome = load_dataset("toy").genome
    fasta = tmp_path / "regions.fa"
    lengths = genome.contigs()
    fasta.write_text("".join(f">{name}:1-{n}\n{decode(genome.fetch(name, 0, n))}\n" for name, n in lengths.items()))
    whole = tmp_path / "whole.fa"
    whole.write_text("".join(f">{name}\n{decode(genome.fetch(name, 0, n))}\n" for name, n in lengths.items()))
    written = []
    for number, file in enumerate((fasta, whole)):
        out = tmp_path / f"out{number}.tsv"
        name = run_named(finished, folds=False)
        predict_by_command(finished, table, name, file, out)
        written.append(out.read_text())
    assert written[0] == written[1]
