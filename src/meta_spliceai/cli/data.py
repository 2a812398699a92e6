"""`meta-spliceai data`: which data sets there are, what each is, and whether its files are what they should be."""

from __future__ import annotations

from typing import Annotated

import typer

from meta_spliceai.cli.print_json import print_json


def register(app: typer.Typer) -> None:
    """Add the command group to the application."""
    group = typer.Typer(help="Data sets by name: list, show, get, check.", no_args_is_help=True)
    group.command("list")(list_data_sets)
    group.command("show")(show)
    group.command("get")(get)
    group.command("check")(check)
    app.add_typer(group, name="data")


def list_data_sets(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the data sets: rows, build, licence, title.

    [bold]Examples[/bold]

      meta-spliceai data list
      meta-spliceai data list --json
    """
    from rich.table import Table

    from meta_spliceai import datasets
    from meta_spliceai.cli.plain_console import PlainConsole

    found = [datasets.get(name) for name in datasets.names()]
    longest = max(len(dataset.name) for dataset in found)
    if as_json:
        keys = ("name", "title", "rows", "build", "licence", "source", "citation")
        print_json([{key: getattr(dataset, key) for key in keys} for dataset in found])
        return
    table = Table(box=None)
    for heading in ("name", "rows", "build", "licence", "title"):
        table.add_column(heading, no_wrap=heading == "name", min_width=longest if heading == "name" else None)
    for dataset in found:
        table.add_row(dataset.name, f"{dataset.rows:,}", dataset.build, dataset.licence, dataset.title)
    PlainConsole().print(table)


def show(
    name: Annotated[str, typer.Argument(help="A data set's name, as `data list` prints it.")],
    option: Annotated[
        list[str] | None, typer.Option("--set", help="An option of the loader, key=value; may be repeated.")
    ] = None,
    load: Annotated[bool, typer.Option(help="Read the data for coverage and class counts.")] = True,
) -> None:
    """Show source, licence, citation, checksums and label rule of a data set; its coverage and class counts; and the
    numbers its label rule is argued from.

    [bold]Examples[/bold]

      meta-spliceai data show wt1-exon5
      meta-spliceai data show mfass --no-load
      meta-spliceai data show splicevardb --set path=my-download.tsv
    """
    from meta_spliceai import datasets

    dataset = datasets.get(name)
    lines = [
        ("name", dataset.name),
        ("what", dataset.title),
        ("source", dataset.source),
        ("licence", dataset.licence),
        ("cite", dataset.citation),
        ("build", dataset.build),
        ("rows", f"{dataset.rows:,}"),
        ("effect", dataset.effect),
        *(("sha256", f"{sha256}  {path}") for path, sha256 in dataset.checksums.items()),
        *([("note", dataset.notes)] if dataset.notes else []),
    ]
    for key, value in lines:
        typer.echo(f"{key:8} {value}")
    typer.echo(f"\nlabel rule ({dataset.label_rule.__name__})\n\n{dataset.rule_in_words}")
    if not load:
        return
    loaded = datasets.load_dataset(name, **_options(option))
    typer.echo(f"\ncoverage\n\n{loaded.coverage.to_frame().to_string(index=False)}")
    counts = loaded.variants["classification"].value_counts()
    typer.echo(f"\nclasses\n\n{counts.to_string()}")
    if dataset.evidence is not None:
        evidence = dataset.evidence(loaded)
        typer.echo(f"\nwhat the label rule rests on\n\n{evidence.to_string(index=False, float_format='{:.3f}'.format)}")
    typer.echo(f"\ndigest   {loaded.digest}")


def get(
    name: Annotated[str, typer.Argument(help="A data set's name, as `data list` prints it.")],
) -> None:
    """Bring every file of a data set to this machine (mirror, cache or download) and print where it is.

    [bold]Examples[/bold]

      meta-spliceai data get mfass
    """
    from meta_spliceai import datasets
    from meta_spliceai.errors import MissingResourceError
    from meta_spliceai.resources import get as get_resource

    files = datasets.check_files(name)
    if files.empty:
        raise MissingResourceError(f"data set {name}: {get_resource(datasets.get(name).resource).how_to_get}")
    for row in files.itertuples():
        typer.echo(row.path)


def check(
    name: Annotated[str, typer.Argument(help="A data set's name, as `data list` prints it.")],
    option: Annotated[
        list[str] | None, typer.Option("--set", help="An option of the loader, key=value; may be repeated.")
    ] = None,
) -> None:
    """Find every file of a data set, compare its checksum, then read it whole and check every reference allele.

    [bold]Examples[/bold]

      meta-spliceai data check wt1-exon5
    """
    from meta_spliceai import datasets

    files = datasets.check_files(name)
    for row in files.itertuples():
        typer.echo(f"ok  {row.file}  {row.bytes:,} bytes  {row.path}")
    loaded = datasets.load_dataset(name, **_options(option))
    typer.echo(f"ok  {loaded.coverage.read:,} rows read, {loaded.coverage.used:,} used, every reference allele checked")
    for reason, count in loaded.coverage.left_out.items():
        typer.echo(f"    {count:,} left out: {reason}")


def _options(given: list[str] | None) -> dict[str, object]:
    """key=value texts as a loader's options."""
    from meta_spliceai.errors import InputError

    options: dict[str, object] = {}
    for text in given or []:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InputError(f"--set {text} is not of the form key=value")
        options[key] = value
    return options
