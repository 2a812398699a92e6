"""No command writes over what it reads: every pair of an output and an input, by name, link and folder."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer
from typer.core import TyperCommand

from meta_spliceai.cli.app import app
from meta_spliceai.cli.options import GuardedCommand, Reads, Writes, roles_of
from tests.conftest import RunCli

FREE_TEXT = {"wishlist add": {"file"}}
"""Options that name a file which the command extends on purpose."""


def every_command(commands: typer.Typer = app, before: str = "") -> Iterator[tuple[str, Callable[..., Any]]]:
    for command in commands.registered_commands:
        assert command.callback is not None
        yield f"{before}{command.name or command.callback.__name__.rstrip('_')}", command.callback
    for group in commands.registered_groups:
        assert group.typer_instance is not None
        yield from every_command(group.typer_instance, f"{before}{group.name} ")


@pytest.mark.parametrize(
    ("name", "command"), list(every_command()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_option_that_names_a_file_has_a_role(name: str, command: Callable[..., Any]) -> None:
    hints = get_type_hints(inspect.unwrap(command))
    paths = {option for option, kind in hints.items() if "Path" in str(kind)}
    assert paths - set(roles_of(command)) == FREE_TEXT.get(name, set())


def test_every_command_is_guarded() -> None:
    def check(commands: typer.Typer) -> None:
        assert all(command.cls is GuardedCommand for command in commands.registered_commands)
        for group in commands.registered_groups:
            assert group.typer_instance is not None
            check(group.typer_instance)

    check(app)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    files = ("in.vcf", "in.vcf.tbi", "genome.fa", "genome.fa.fai", "genes.txt", "weights.pt", "doc.md", "doc.tsv")
    for name in (*files, "b.zip"):
        (tmp_path / name).write_text(f"content of {name}")
    run = tmp_path / "runs" / "row-0123"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    (tmp_path / "runs" / "ledger.jsonl").write_text("")
    (tmp_path / "wishlist").mkdir()
    (tmp_path / "wishlist" / "own.yaml").write_text("")
    os.symlink("genome.fa", tmp_path / "soft.fa")
    os.link(tmp_path / "genome.fa", tmp_path / "hard.fa")
    (tmp_path / "real").mkdir()
    os.symlink("real", tmp_path / "linked")
    os.symlink("real/later.vcf", tmp_path / "dangling.vcf")
    return tmp_path


SCORE = "score in.vcf -R genome.fa -A genes.txt"


@pytest.mark.parametrize(
    "command",
    [
        f"{SCORE} -o genome.fa",
        f"{SCORE} -o ./real/../genome.fa",
        f"{SCORE} -o soft.fa",
        f"{SCORE} -o hard.fa",
        f"{SCORE} -o genome.fa.fai",
        f"{SCORE} -o genes.txt",
        f"{SCORE} -o in.vcf",
        f"{SCORE} -o in.vcf.tbi",
        f"{SCORE} -o out.vcf --stats in.vcf",
        f"{SCORE} -o out.vcf --stats out.vcf",
        f"{SCORE} -o out.vcf --stats out.vcf.partial.json",
        f"{SCORE} -o real/out.vcf --stats linked/out.vcf",
        f"{SCORE} -o dangling.vcf --stats linked/later.vcf",
        f"{SCORE} -o weights.pt --base openspliceai:weights.pt",
        f"{SCORE} -o wishlist/own.yaml",
        "saturate --gene G -R genome.fa -A genes.txt -o genome.fa",
        "saturate --gene G -R genome.fa -A genes.txt -o t.parquet --figure genes.txt",
        "saturate --gene G -R genome.fa -A genes.txt -o t.svg --figure t.svg",
        "predict in.vcf --model row-0123 -R genome.fa -o in.vcf",
        "predict in.vcf --model row-0123 -R genome.fa -o doc.tsv --scores cadd=doc.tsv",
        "predict in.vcf --model row-0123 -R genome.fa -o doc.tsv --scores cadd=doc.tsv:PHRED",
        "predict in.vcf --model row-0123 -R genome.fa -o runs/ledger.jsonl",
        "predict in.vcf --model row-0123 -R genome.fa -o runs/row-0123/predictions.tsv",
        "wishlist render --output wishlist/own.yaml",
        "wishlist render --output runs/row-0123/run.json",
        "wishlist import wishlist/own.yaml --output wishlist --force",
        "report --figure runs/row-0123/figure.svg",
        "report --output runs",
        "runs export row-0123 --into runs",
        "runs export -o runs/ledger.jsonl",
        "bundle make --all --wheels real -o real",
        "launch row --prices genes.txt --output genes.txt",
        "pretrain --sequence genome.fa -o . --fresh",
    ],
)
def test_refuses_and_leaves_every_file_as_it_is(command: str, folder: Path, run_cli: RunCli) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code, _, err = run_cli(command.split())
    assert code == 2
    assert any(way in err for way in ("name another", "name an output elsewhere", "name a file")), err
    assert len(err.strip().splitlines()) == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_refuses_a_file_of_the_mirror(folder: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("META_SPLICEAI_MIRROR", str(folder / "real"))
    (folder / "real" / "spliceai1.h5").write_text("weights")
    code, _, err = run_cli([*SCORE.split(), "-o", "linked/spliceai1.h5"])
    assert code == 2
    assert "a mirror of data and weights" in err


def test_other_outputs_go_on_to_the_command(folder: Path, run_cli: RunCli) -> None:
    """What is refused then is the input itself, not its paths."""
    for out in ("out.vcf", "real/genome.vcf", "/dev/null", "linked/new.vcf"):
        _, _, err = run_cli([*SCORE.split(), "-o", out])
        assert "genes.txt" in err
        assert "name another output" not in err


def test_roles_are_read_from_annotations() -> None:
    from meta_spliceai.cli.score import score

    roles = roles_of(score)
    assert isinstance(roles["out"], Writes)
    assert isinstance(roles["reference"], Reads)
    assert roles["reference"].beside == (".fai", ".gzi")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("score in.vcf -R missing.fa -A genes.txt -o o.vcf", "no FASTA file at missing.fa (--reference)"),
        ("score missing.vcf -R genome.fa -A genes.txt -o o.vcf", "no file of variants at missing.vcf"),
        ("score in.vcf -R genome.fa -A missing.gtf -o o.vcf", "missing.gtf (--annotation); give a path, or grch37"),
        (f"{SCORE} -o o.vcf --base openspliceai:missing.pt", "no weights at missing.pt (--base)"),
        (f"{SCORE} -o real", "--output real is a folder; name a file"),
        (f"{SCORE} -o genes.txt/out.vcf", "genes.txt is a file and no folder"),
        ("wishlist import doc.md --output genes.txt", "--output genes.txt is a file; name a folder"),
        ("run row --bundle missing.zip", "no bundle at missing.zip (--bundle)"),
        ("audit missing.parquet", "no split at missing.parquet"),
        ("pretrain -o new --sequence missing.fa", "no FASTA file at missing.fa (--sequence)"),
    ],
)
def test_what_is_not_there_is_said_before_anything_is_loaded(
    command: str, words: str, folder: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loads(*_: object) -> None:
        raise AssertionError("the command itself was begun")

    monkeypatch.setattr(TyperCommand, "invoke", loads)
    code, _, err = run_cli(command.split())
    assert code == 2
    assert words in err
