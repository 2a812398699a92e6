"""`meta-spliceai bundle`: packs everything rows need into one file for an offline machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from meta_spliceai.cli.console import print_json
from meta_spliceai.cli.options import MOST_ROWS, AsJson, Reads, Writes, size_in_bytes
from meta_spliceai.errors import InputError

group = typer.Typer(help="One file with everything rows need, for an offline machine.", no_args_is_help=True)


@group.command()
def make(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="Rows of the wishlist.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every row that can be run here.")] = False,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="With --all: leave out this row and ensembles with it; may be repeated."),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--output", help="The file."), Writes()] = Path("bundle.zip"),
    limit: Annotated[
        int | None, typer.Option(min=1, max=MOST_ROWS, metavar="N", help="N variants per row, sampled with its seed.")
    ] = None,
    max_size: Annotated[str, typer.Option(metavar="SIZE", help="Refuse to write a larger file.")] = "64MB",
    scores: Annotated[bool, typer.Option("--scores/--no-scores", help="Pack the cached base scores.")] = True,
    score_digits: Annotated[
        int | None, typer.Option(min=3, max=7, metavar="N", help="Decimals of base scores, 3 to 7 (default: exact).")
    ] = None,
    wheels: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Pack the needed wheels from this folder."), Reads()
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Pack what rows need: variants, the sequence around them, base scores, weights, the rows themselves.

    Everything in the file is plain data with a checksum; nothing in it is
    executed. A run from a bundle has the same address as the same run from the
    sources. Base scores rounded to N decimals take much less space, and a run
    that uses them says so; if left out, they are computed there. A file larger
    than --max-size is an error that names its largest parts. With --all, a row
    whose data or encoder's weights are missing is left out and listed; a row
    that you name is packed without its encoder's weights, for a machine that
    has them.

    [bold]Examples[/bold]

      meta-spliceai bundle make --all --no-scores -o bundle.zip
      meta-spliceai bundle make validated-delta-10k simple-cnn-501 -o two.zip
      meta-spliceai bundle make --all --without mfass-fusion-all-networks \\
          --score-digits 5 -o most.zip
      meta-spliceai bundle make --all --limit 2000 --max-size 20MB -o small.zip
    """
    from meta_spliceai.experiments.spec.rows import change, find_row, load_rows

    most = size_in_bytes(max_size)
    if bool(ids) == every:
        raise InputError("name the rows to pack, or give --all for every row that can be run")
    if without and not every:
        raise InputError(f"--without {without[0]}: rows are taken from --all; give it too, or name the rows to pack")
    if score_digits is not None and not scores:
        raise InputError("--score-digits rounds base scores and --no-scores packs none; give one of them")
    rows = load_rows()
    chosen = [find_row(rows, row_id) for row_id in ids or ()]
    unwanted = {find_row(rows, row_id).id for row_id in without or ()}

    from meta_spliceai.cli.terminal import Terminal
    from meta_spliceai.experiments.bundle.make import Options, make_bundle, with_members
    from meta_spliceai.experiments.spec.parts import missing_parts

    if every:
        members = {spec.id: {one.id for one in with_members([spec], rows)} for spec in rows.values()}
        wanted = [spec for spec in rows.values() if unwanted.isdisjoint(members[spec.id])]
        chosen = [spec for spec in wanted if not missing_parts(spec, rows)]
    if limit is not None:
        rows = {row_id: change(spec, [f"data.rows={limit}"]) for row_id, spec in rows.items()}
        chosen = [rows[spec.id] for spec in chosen]
    options = Options(most, scores, score_digits, wheels, leave_out=every)
    made = make_bundle(chosen, rows, out, Terminal(), options)
    if as_json:
        print_json(made)
        return
    typer.echo(f"{out}: {made['bytes'] / 1e6:.1f} MB, {len(made['rows'])} rows")
    for name, size in made["parts"].items():
        typer.echo(f"  {name}: {size / 1e6:.1f} MB")
    _tell(made)


@group.command()
def show(
    file: Annotated[Path, typer.Argument(help="A bundle."), Reads(what="bundle")],
    as_json: AsJson = False,
) -> None:
    """Show what a bundle holds, without unpacking it.

    [bold]Examples[/bold]

      meta-spliceai bundle show bundle.zip
      meta-spliceai bundle show bundle.zip --json
    """
    from meta_spliceai.experiments.bundle.archive import read_index

    index = read_index(file)
    if as_json:
        print_json(index)
        return
    typer.echo(f"{file}: {file.stat().st_size / 1e6:.1f} MB, made {index['made']} by version {index['code']}")
    typer.echo(f"  rows: {', '.join(index['rows'])}")
    _tell(index)


@group.command("open")
def open_(
    file: Annotated[Path, typer.Argument(help="A bundle."), Reads(what="bundle")],
    into: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A new folder (default: one in the cache)."), Writes(folder="*")
    ] = None,
) -> None:
    """Check a bundle and unpack it as a mirror: with META_SPLICEAI_MIRROR set to it, every command finds its data.

    `meta-spliceai run ... --bundle FILE` does this by itself.

    [bold]Examples[/bold]

      meta-spliceai bundle open bundle.zip --into mirror
      META_SPLICEAI_MIRROR=mirror meta-spliceai run validated-delta-10k
    """
    from meta_spliceai.experiments.bundle.archive import open_bundle

    typer.echo(str(open_bundle(file, into).folder))


def _scores_told(network: dict[str, Any]) -> str:
    """How many of a network's scores are in it, and how exact they are."""
    rounded = f", rounded to {network['digits']} decimals" if network["digits"] and network["scores"] else ""
    rest = "" if network["scores"] == network["of"] else "; the rest is computed there"
    return f"{network['scores']:,} of {network['of']:,} scores{rounded}{rest}"


def _tell(index: dict[str, Any]) -> None:
    """What is in it, what is not, and what the other machine must have."""
    lines = []
    for data in index["data"]:
        options = "".join(f" {key}={value}" for key, value in data["options"].items())
        lines.append(
            f"data set {data['name']}{options}: {data['variants']:,} variants, {data['bases'] / 1e6:.1f} million "
            f"bases around them; licence: {data['licence']}"
        )
    for network in index["networks"]:
        members = "" if network["members"] is None else f" (networks {', '.join(map(str, network['members']))})"
        lines.append(
            f"{network['name']}{members}, D {network['distance']}, {network['precision']}: {_scores_told(network)}; "
            f"licence: {network['licence']}"
        )
    lines += [f"weights of {encoder}" for encoder in index["encoders"]]
    lines += [f"not in it: {missing}" for missing in index["missing"]]
    lines.append(f"packages the other machine needs: {' '.join(index['wheels']['needed'])}")
    packed = index["wheels"]["packed"]
    if packed:
        lines.append(f"in it as wheels: {' '.join(packed)}")
        lines.append("there: python -m zipfile -e BUNDLE NEW, python -m pip install --no-deps NEW/wheels/*.whl")
    for package, what in index["wheels"]["better_with"].items():
        if not any(name.startswith(f"{package}-") for name in packed):
            lines.append(f"without {package} there, left out: {what}")
    for line in lines:
        typer.echo(f"  {line}")
