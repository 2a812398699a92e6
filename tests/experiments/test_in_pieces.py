"""Pieces made by an executor are what one command would have written; a failed one is made again, and no other."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cli.test_score import Bench

PLACES = {"slurm": ("submitit", ["--slurm", "cluster=local"]), "ray": ("ray", [])}


@pytest.mark.slow
@pytest.mark.parametrize("executor", PLACES)
def test_pieces_are_merged_and_a_failed_one_is_made_again(executor: str, tmp_path: Path) -> None:
    package, options = PLACES[executor]
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    bench = Bench(tmp_path)
    source, out, pieces = bench.vcf(60), tmp_path / "out.vcf.gz", tmp_path / "out.vcf.gz.pieces"
    whole = bench.run(source, "-o", tmp_path / "whole.vcf.gz", "--mask")
    assert whole.returncode == 0, whole.stderr.decode()
    given = [source, "-o", out, "--mask", "--executor", executor, "--pieces", "2", *options]
    (pieces / "2.vcf.gz").mkdir(parents=True)
    failed = bench.run(*given)
    assert failed.returncode == 2
    assert re.search(r"1 of 2 pieces failed, 2/2 with exit code 2: .*2\.vcf\.gz is a folder", failed.stderr.decode())
    assert not out.exists()
    first = (pieces / "1.vcf.gz").stat()
    bench.fails(*given, "--strict", saying="holds pieces of another command or input")
    assert (pieces / "1.vcf.gz").stat() == first
    (pieces / "2.vcf.gz").rmdir()
    kept = tmp_path / "log"
    kept.hardlink_to(pieces / "1.vcf.gz.log")
    kept.write_text("not made again")
    done = bench.run(*given)
    assert done.returncode == 0, done.stderr.decode()
    assert "2 pieces, 60 records" in done.stderr.decode()
    assert out.read_bytes() == (tmp_path / "whole.vcf.gz").read_bytes()
    assert kept.read_text() == "not made again"
    assert not pieces.exists()


def test_what_cannot_be_made_in_pieces_is_one_line(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    source, out = bench.vcf(5), tmp_path / "out.vcf"
    bench.fails(source, "-o", out, "--executor", "ray", saying="give --executor and --pieces together")
    bench.fails(source, "-o", out, "--pieces", "2", saying="give --executor and --pieces together")
    for more in (("--shard", "1/2"), ("--stats", tmp_path / "stats.json")):
        bench.fails(source, "-o", out, *more, "--executor", "ray", "--pieces", "2", saying="without --shard")
    bench.fails(source, "-o", out, "--executor", "rya", "--pieces", "2", saying="ray")
    bench.fails(source, "-o", out, "--executor", "ray", "--pieces", "2", "--slurm", "a=b", saying="--slurm is for")
    assert sorted(one.name for one in tmp_path.iterdir() if "out" in one.name) == []
