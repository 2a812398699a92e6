"""`meta-spliceai audit`: what the parts of a split share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meta_spliceai.cli.guard_paths import Reads
from meta_spliceai.cli.options import AsJson
from meta_spliceai.cli.print_json import print_json

if TYPE_CHECKING:
    from meta_spliceai.splice_engine.variants.audit import Audit


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("audit")(audit)


def audit(
    split: Annotated[
        Path,
        typer.Argument(help="A split's .parquet file, or the folder of a run that holds one."),
        Reads(what="split"),
    ],
    window: Annotated[int, typer.Option(min=3, max=1_000_001, help="Bases of the windows compared, odd.")] = 201,
    sequence: Annotated[
        bool, typer.Option(help="Compare sequence too (loads the data set the split was made for).")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Look for what the parts of a split share.

    Variants, overlapping windows, near-identical windows on either strand, exons, genes, paralogs; and classes and
    sources that are spread unevenly. Exit code 2 if the split breaks its promise.

    [bold]Examples[/bold]

      meta-spliceai audit runs/wt1-simple-cnn-0123456789ab
      meta-spliceai audit my-split.parquet --window 501 --no-sequence --json
    """
    from meta_spliceai import datasets
    from meta_spliceai.errors import InputError, IntegrityError
    from meta_spliceai.splice_engine.variants.audit import audit_split
    from meta_spliceai.splice_engine.variants.split_file import read_split

    path = split / "split.parquet" if split.is_dir() else split
    stored = read_split(path)
    genome = None
    if sequence:
        name = stored.data.get("name")
        if not isinstance(name, str):
            raise InputError(f"{path} does not say which data set it is of; use --no-sequence for the other checks")
        options = stored.data.get("options")
        loaded = datasets.load_dataset(name, **(options if isinstance(options, dict) else {}))
        if stored.data.get("digest") not in (None, loaded.digest):
            raise IntegrityError(f"{path} was made of another state of data set {name} than the one at hand")
        genome = loaded.genome
    found = audit_split(stored.table, stored.split, genome, window)
    if as_json:
        print_json(found.to_json())
    else:
        _print(found, stored.split.description)
    found.require_clean()


def _print(found: Audit, description: str) -> None:
    """The findings as text, leaks first."""
    typer.echo(f"split {found.split} ({found.unit}): {description}")
    typer.echo(f"hash  {found.digest}\n")
    for finding in found.findings:
        typer.echo(f"{finding.severity:5} {finding.count:7,}  {finding.check}: {finding.meaning}")
        for example in finding.examples:
            typer.echo(f"                 {example}")
    for line in found.not_done:
        typer.echo(f"not done       {line}")
    typer.echo("" if found.leaks else "no leak: the split keeps its promise")
