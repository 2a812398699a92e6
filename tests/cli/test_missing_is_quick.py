"""What is missing (data, runs, weights, a genome) is said before the libraries that would use it are loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "sklearn")

CODE = f"""
import contextlib, io, json, shlex, sys
from meta_spliceai.cli import main
for command in sys.argv[1:]:
    said, code = io.StringIO(), 0
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            main(shlex.split(command))
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, said.getvalue(), [name for name in {HEAVY!r} if name in sys.modules]]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bare")
    (folder / "in.vcf").write_text(
        "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n1\t10\t.\tG\tC\t.\t.\t.\n"
    )
    (folder / "g.fa").write_text(f">1\n{'ACGT' * 500}\n")
    (folder / "a.txt").write_text(
        "#NAME\tCHROM\tSTRAND\tTX_START\tTX_END\tEXON_START\tEXON_END\nUP\t1\t+\t100\t1000\t100,500,\t300,1000,\n"
    )
    return folder


MISSING = {
    "run nosuch": "unknown row id 'nosuch'",
    "run mfass-simple-cnn": "data set mfass on this machine",
    "run wt1-simple-cnn --set data.name=splicevardb": "download of SpliceVarDB",
    "score in.vcf -R g.fa -A a.txt -o o.vcf --base openspliceai": "base network openspliceai on this machine",
    "score in.vcf -A grch38 -o o.vcf": "data get grch38",
    "saturate --gene UP -R g.fa -A a.txt -o o.parquet --base pangolin": "base network pangolin on this machine",
    "predict in.vcf -o o.tsv": "data get grch38",
    "predict in.vcf --model nosuch -o o.tsv -R g.fa": "no predictor of the package",
    "runs show nosuch": "no run in runs",
    "runs compare one two": "no run in runs",
    "runs diff one two": "no run in runs",
    "runs export nosuch --into elsewhere": "no run in runs",
    "leaderboard --ledger .": "holds no ledger.jsonl",
    "data show mfass": "mfass",
    "pretrain -o enc --sequence regions": "human-regions",
    "bundle make nosuch -o b.zip": "unknown row id 'nosuch'",
    "plan nosuch": "unknown row id 'nosuch'",
}


def test_an_error_needs_no_heavy_library(folder: Path) -> None:
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("META_SPLICEAI", "HF_"))}
    bare = {"META_SPLICEAI_CACHE": str(folder / "cache"), "META_SPLICEAI_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", CODE, *MISSING],
        cwd=folder,
        env={**mine, **bare, "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    for (command, words), line in zip(MISSING.items(), ended.stdout.splitlines(), strict=True):
        code, said, loaded = json.loads(line)
        assert (code, loaded) == (2, []), command
        assert words in said, command
