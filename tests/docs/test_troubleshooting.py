"""Troubleshooting: every command of the page ends with the message that stands below it; every message exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.cli import score as score_command
from meta_spliceai.experiments.predict import predict_shipped
from meta_spliceai.experiments.spec import parts
from meta_spliceai.splice_engine.base_layer.network import BaseModel
from meta_spliceai.splice_engine.base_layer.vcf.bgzf import compress
from tests.base_layer.conftest import toy_base_model  # noqa: F401
from tests.conftest import RunCli

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-to" / "troubleshooting.md").read_text(encoding="utf-8")
CASES = re.findall(r"^```sh\n(.*?)\n```\n\n```text\n(.*?)\n```", PAGE, re.DOTALL | re.MULTILINE)
HEAD = "##fileformat=VCFv4.2\n##contig=<ID=chr1>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


class NoModel:
    """Stands for a predictor of the package, whose networks need not be here."""

    tools: tuple[str, ...] = ()

    def __init__(self, *_: Any) -> None:
        self.card = {"title": "toy", "split": "", "model": "toy", "notes": []}
        self.columns = {"p_altering": float}

    def values(self, new: Any, variants: pd.DataFrame) -> dict[str, Any]:
        raise AssertionError("there is nothing to predict")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_base_model: BaseModel) -> Path:  # noqa: F811
    """The files that the page names, in the folder where its commands run, and small networks under SpliceAI's name."""
    monkeypatch.chdir(tmp_path)
    for name in ("META_SPLICEAI_GENOME_GRCH38", "META_SPLICEAI_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path / "cache"))
    small = BaseModel("spliceai", toy_base_model.networks, licence="none needed", citation="built in code")
    monkeypatch.setattr(score_command, "announced_model", lambda base, device: small)
    monkeypatch.setattr(parts, "require_networks", lambda name: None)
    monkeypatch.setattr(predict_shipped, "ShippedModel", NoModel)
    genes = tmp_path / "genes.txt"
    genes.write_text(
        "#NAME\tCHROM\tSTRAND\tTX_START\tTX_END\tEXON_START\tEXON_END\nUP\t1\t+\t500\t3500\t500,3000,\t900,3500,\n"
    )
    monkeypatch.setattr("meta_spliceai.splice_engine.genome.annotation.packaged_file", lambda *_: genes)
    bases = "".join(np.random.default_rng(0).choice(list("ACGT"), 4000))
    (tmp_path / "hg38.fa").write_text(f">chr1\n{bases}\n")
    lines = [f"chr1\t{pos}\t.\t{bases[pos - 1]}\tN\t.\t.\t.\n" for pos in range(600, 3400, 20)]
    (tmp_path / "in.vcf").write_text(HEAD + "".join(lines[::40]))
    moved = [f"chr1\t{pos}\t.\t{bases[pos]}\tN\t.\t.\t.\n" for pos in range(600, 3400, 20)]
    (tmp_path / "other-build.vcf").write_text(HEAD + "".join(moved))
    key = '##INFO=<ID=SpliceAI,Number=.,Type=String,Description="old">\n#CHROM'
    (tmp_path / "scored.vcf").write_text((HEAD + lines[0]).replace("#CHROM", key))
    (tmp_path / "cut.vcf.gz").write_bytes(compress((HEAD + lines[0]).encode()))
    (tmp_path / "table.tsv").write_text("chrom pos ref alt\n".replace(" ", "\t") + "chr1\t600\tA\tC\nchr1\t700\tA\tC\n")
    return tmp_path


def pieces(run_cli: RunCli) -> None:
    for number, mask, name in ((1, (), "p1"), (3, (), "p3"), (2, ("--mask",), "p2-masked")):
        asked = ["-o", f"{name}.vcf", "-R", "hg38.fa", "-A", "grch38", "--shard", f"{number}/3", *mask]
        assert run_cli(["score", "in.vcf", *asked])[0] == 0


@pytest.mark.parametrize(("command", "message"), CASES, ids=[command[14:50] for command, _ in CASES])
def test_a_command_ends_with_the_message_below_it(command: str, message: str, folder: Path, run_cli: RunCli) -> None:
    if " merge " in command:
        pieces(run_cli)
    code, _, said = run_cli(shlex.split(command)[1:])
    pattern = ".*?".join(map(re.escape, message.split("…")))
    assert re.search(pattern, " ".join(said.split()).replace(r"\t", " ")), said
    assert code == 2
    assert not (folder / "out.vcf").exists()


def test_every_other_message_is_one_of_the_source() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.py")))
    joined = re.sub(r'"\s*\n\s*f?"', "", source)
    named = re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)
    assert len(named) > 5
    assert [message for message in named if message not in joined] == []
    assert len(CASES) > 10
