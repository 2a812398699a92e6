"""The examples of score-a-genome.md do what they say: on this machine, as an array job, and under Snakemake."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_score import Bench

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-to" / "score-a-genome.md").read_text(encoding="utf-8")
PIECES = 2


def example(title: str) -> str:
    """The code below a heading, with few pieces and the toy's genome, genes and network."""
    code = re.search(rf"^## {title}\n.*?^```\w+\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert code is not None
    text = code[1].replace("seq 40", f"seq {PIECES}").replace("/40", f"/{PIECES}").replace("41)", f"{PIECES + 1})")
    return text.replace("-A grch38", "-A genes.txt -D 20 --base openspliceai:model_80nt_rs0.pt")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A folder with what the examples read, `meta-spliceai` on the path, and the whole output in whole.vcf.gz."""
    bench = Bench(tmp_path)
    shutil.move(tmp_path / "genome.fa", tmp_path / "hg38.fa")
    bench.fasta = tmp_path / "hg38.fa"
    source = bench.vcf(80)
    (tmp_path / "in.vcf.gz").write_bytes(gzip.compress(source.read_bytes()))
    done = bench.run(tmp_path / "in.vcf.gz", "-o", tmp_path / "whole.vcf.gz")
    assert done.returncode == 0, done.stderr.decode()
    command = tmp_path / "bin" / "meta-spliceai"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m meta_spliceai "$@"\n')
    command.chmod(0o755)
    paths = {"PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}
    return {**os.environ, **paths, "OMP_NUM_THREADS": "1"}


def merged(folder: Path, environment: dict[str, str]) -> None:
    """The example's pieces, merged, are the whole output but for the pieces' names."""
    out = folder / "out.vcf.gz"
    if not out.exists():
        pieces = map(str, (folder / "pieces").glob("*.vcf.gz"))
        subprocess.run([folder / "bin" / "meta-spliceai", "merge", out, *pieces], env=environment, check=True)
    assert out.read_bytes() == (folder / "whole.vcf.gz").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("title", ["On this machine", "Slurm"])
def test_a_shell_example(title: str, tmp_path: Path, environment: dict[str, str]) -> None:
    numbers = range(1, PIECES + 1) if title == "Slurm" else (0,)
    for number in numbers:
        subprocess.run(
            ["bash", "-ec", example(title)],
            cwd=tmp_path,
            env={**environment, "SLURM_ARRAY_TASK_ID": str(number)},
            check=True,
            timeout=600,
        )
    merged(tmp_path, environment)


@pytest.mark.slow
def test_the_snakemake_example(tmp_path: Path, environment: dict[str, str]) -> None:
    snakemake = shutil.which("snakemake")
    if snakemake is None:
        pytest.skip("snakemake is not on the path; 'pip install snakemake' in an environment of its own brings it")
    (tmp_path / "Snakefile").write_text(example("Snakemake"))
    subprocess.run([snakemake, "--cores", "2"], cwd=tmp_path, env=environment, check=True, timeout=900)
    merged(tmp_path, environment)
