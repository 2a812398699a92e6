"""`run --all --smoke` through a bundle, end to end, on a machine that has PyTorch and little else."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

import meta_spliceai
from meta_spliceai.experiments.bundle.make import Options, make_bundle
from meta_spliceai.experiments.spec.rows import load_rows
from meta_spliceai.experiments.store.workspace import Workspace
from tests.experiments.silent import Silent

ABSENT = [
    *("pysam", "openpyxl", "seqleak", "platformdirs", "jinja2", "markupsafe", "matplotlib", "pyreadr"),
    *("requests", "beartype", "mlflow", "ray", "submitit", "spliceai", "frame_alignment_checks", "cispliceai"),
]
"""What is not there; pydantic and jaxtyping are what a bundle names as needed."""

BARE_MACHINE = f"""
import importlib.metadata, sys

ABSENT = {ABSENT!r}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
there = importlib.metadata.distribution

def distribution(name):
    if name.replace("-", "_") in ABSENT:
        raise importlib.metadata.PackageNotFoundError(name)
    return there(name)

importlib.metadata.distribution = distribution
"""


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """Environment variables of that machine: nothing to import, nothing cached, no mirror, no network."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BARE_MACHINE)
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(Path(meta_spliceai.__file__).parents[1])]),
        "META_SPLICEAI_CACHE": str(tmp_path / "bare cache"),
        "META_SPLICEAI_OFFLINE": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }


def run_there(arguments: list[str], bare: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "import sys; from meta_spliceai.cli import main; main(sys.argv[1:])", *arguments],
        env=bare,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )


def packaged_data() -> None:
    for package in ("frame-alignment-checks", "spliceai"):
        try:
            importlib.metadata.distribution(package)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"the package {package} of the extra 'quickstart' is not installed")


@pytest.mark.slow
@pytest.mark.quickstart
def test_rows_of_the_packaged_data(bare: dict[str, str], tmp_path: Path) -> None:
    packaged_data()
    rows = load_rows(own=None)
    wanted = [rows["wt1-validated-delta"], rows["wt1-simple-cnn"]]
    made = make_bundle(wanted, rows, tmp_path / "wt1.zip", Silent(), Options(scores=False))
    assert made["bytes"] < 45_000_000
    command = ["run", "--all", "--smoke", "--bundle", str(tmp_path / "wt1.zip"), "--device", "cpu"]
    done = run_there(command, bare, tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "2 done, 0 left, 0 failed" in done.stdout
    finished = [run for run in Workspace(tmp_path / "runs").runs() if run.state() == "finished"]
    assert {run.row_id for run in finished} == {"wt1-validated-delta", "wt1-simple-cnn"}
    for run in finished:
        notes = " ".join(run.record()["notes"])
        assert "needs the package 'seqleak'" in notes  # said, and nothing put in its place
        scorers = {one["scorer"] for one in run.metrics()["metrics"]}
        assert {"base max_window", run.row_id} <= scorers
        assert not any(scorer.startswith("position") for scorer in scorers)


KINDS = (
    "mfass-fusion",
    "curve-1000",
    "frozen-tiny-scratch",
    "quantile-ensemble",
    "delta-magnitude",
)
"""Rows that differ in data, network, encoder, head and procedure. All rows run in `test_installed_wheel.py` and in
`test_every_row.py`, from what is installed there."""


@pytest.mark.slow
@pytest.mark.mirror
@pytest.mark.quickstart
def test_rows_of_several_kinds(bare: dict[str, str], tmp_path: Path, mirror: Path) -> None:
    packaged_data()
    rows = load_rows(own=None)
    wanted = [rows[name] for name in KINDS]
    made = make_bundle(wanted, rows, tmp_path / "kinds.zip", Silent(), Options(scores=False))
    assert set(made["rows"]) == {*KINDS}
    command = ["run", *KINDS, "--smoke", "--bundle", str(tmp_path / "kinds.zip")]
    done = run_there(command, bare, tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    assert {run.row_id for run in Workspace(tmp_path / "runs").runs() if run.state() == "finished"} == {*KINDS}


def test_what_needs_an_absent_package_says_so(bare: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "variants.vcf").write_text("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
    (tmp_path / "genome.fa").write_text(">chr1\nACGT\n")
    script = (
        "from pathlib import Path; from meta_spliceai.splice_engine.genome.fasta import IndexedFasta; "
        "from meta_spliceai.errors import MissingPackageError\n"
        "try:\n    IndexedFasta(Path('genome.fa'), 'toy')\nexcept MissingPackageError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=bare, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "needs the package 'pysam', which is not installed: pip install pysam" in done.stdout, done.stderr
    helped = run_there(["--help"], bare, tmp_path)
    assert helped.returncode == 0
    assert "bundle" in helped.stdout
