"""The example: a VCF and a genome from the package alone, on which the commands work as they do on a whole genome."""

from __future__ import annotations

import importlib.util
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.datasets import load_dataset
from meta_spliceai.experiments.run.prepare import shipped_scores
from meta_spliceai.experiments.spec.experiment import BaseSpec
from meta_spliceai.splice_engine.base_layer.scores import max_window
from meta_spliceai.splice_engine.genome.fasta import IndexedFasta
from meta_spliceai.splice_engine.genome.sequence import N_CODE
from tests.conftest import RunCli


@pytest.fixture
def printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli) -> list[list[str]]:
    """The commands that the example tells a user to type, on a machine with nothing but the package."""
    monkeypatch.delenv("META_SPLICEAI_MIRROR", raising=False)
    monkeypatch.setenv("META_SPLICEAI_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    code, out, err = run_cli(["example", "try it"])
    assert code == 0, err
    assert "34 measured variants of 10 genes, 16 of them Splice-altering" in out
    return [shlex.split(line)[1:] for line in out.splitlines() if line.startswith("meta-spliceai ")]


def test_every_window_is_known_and_nothing_is_overwritten(
    printed: list[list[str]], tmp_path: Path, run_cli: RunCli
) -> None:
    assert [command[0] for command in printed] == ["predict", "score", "saturate"]
    folder = tmp_path / "try it"
    genome = IndexedFasta(folder / "chr17.fa.gz", "GRCh38")
    lines = [line.split("\t") for line in (folder / "variants.vcf").read_text().splitlines() if line[0] != "#"]
    starts = [int(pos) - 1 for _, pos, *_ in lines]
    assert starts == sorted(starts)
    assert len(lines) == 34
    stretches = [(start, start + len(line[3])) for start, line in zip(starts, lines, strict=True)]
    stretches.append((43_090_943 - 50, 43_091_032 + 50))  # exon 11 of BRCA1
    for start, end in stretches:
        assert (genome.fetch("chr17", start - 5050, end + 5050) != N_CODE).all(), start
    (folder / "chr17.fa.gz").unlink()
    (folder / "variants.vcf").write_text("mine")
    code, _, err = run_cli(["example", "try it"])
    assert (code, (folder / "variants.vcf").read_text()) == (2, "mine")
    assert "try it/variants.vcf is there already and was left as it is; name another folder, or delete it" in err
    assert not (folder / "chr17.fa.gz").exists()


@pytest.mark.slow
def test_its_variants_get_the_predictions_and_the_packaged_scores(
    printed: list[list[str]], tmp_path: Path, run_cli: RunCli
) -> None:
    for package in ("spliceai", "cispliceai"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"package {package} is not installed")
    code, _, err = run_cli(printed[0])
    assert code == 0, err
    assert "34 alleles, 34 predicted by fusion-cispliceai" in err
    lines = [line for line in (tmp_path / "try it" / "predicted.vcf").read_text().splitlines() if line[0] != "#"]
    chance = pd.Series([float(line.split("MSAI=")[1].split("|")[2]) for line in lines])
    literature = pd.Series(["SOURCE=CI-SpliceAI" in line for line in lines])
    altering = pd.Series(["MEASURED=Splice-altering" in line for line in lines])
    assert chance[literature & altering].min() > 0.5 > chance[~altering].max()
    # NF1's variants lie further from the gene's ends than the networks see, so that nothing of them is hidden
    command = [*printed[1], "--base", "cispliceai", "--regions", "chr17:31,000,000-32,000,000"]
    command[command.index("-o") + 1] = "nf1.tsv"
    code, _, err = run_cli(command)
    assert code == 0, err
    scored = pd.read_csv("nf1.tsv", sep="\t")
    loaded = load_dataset("packaged-human", context="genome")
    table = loaded.variants[loaded.variants["chrom"] == "17"]
    table = table.merge(scored[["pos", "ref", "alt"]], on=["pos", "ref", "alt"]).sort_values("pos")
    packaged = shipped_scores(BaseSpec(name="cispliceai"), table, loaded)
    assert packaged is not None
    assert len(scored) == len(table) == 6
    largest = scored[["DS_AG", "DS_AL", "DS_DG", "DS_DL"]].max(axis=1)
    np.testing.assert_allclose(largest, np.abs(max_window(packaged[1])), atol=0.0051)
    assert largest.max() > 0.9
