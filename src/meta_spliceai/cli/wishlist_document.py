"""`meta-spliceai wishlist render` and `wishlist import`: the wishlist as a document, in both directions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meta_spliceai.cli.guard_paths import Reads, Writes
from meta_spliceai.cli.options import Ledgers, RunsDir
from meta_spliceai.cli.plain_console import PlainConsole, styled

DOCUMENT = Path("WISHLIST.md")


def register(group: typer.Typer) -> None:
    """Add the commands to the group `wishlist`."""
    group.command("render")(render)
    group.command("import")(import_)


def render(
    out: Annotated[Path, typer.Option("--out", help="The Markdown file to write."), Writes()] = DOCUMENT,
    runs_dir: RunsDir = None,
    ledgers: Ledgers = None,
) -> None:
    """Write the wishlist as Markdown, from the catalogue and the ledger.

    One table a section with model, memory, time, priority, state and command;
    GPUs, the wishlist's prices and the newest ones with their day; completed rows with date, result and notes.
    The same catalogue, ledger and ./wishlist/gpus.yaml give the same bytes.

    [bold]Examples[/bold]

      meta-spliceai wishlist render
      meta-spliceai wishlist render --out docs/WISHLIST.md
    """
    from meta_spliceai.experiments.plan.gpu_prices import load_market, load_prices
    from meta_spliceai.experiments.spec.rows import load_rows
    from meta_spliceai.experiments.store.workspace import Workspace
    from meta_spliceai.experiments.wishlist.progress_of_rows import state_of_rows
    from meta_spliceai.experiments.wishlist.render_wishlist import render_wishlist
    from meta_spliceai.files import atomic_write

    workspace = Workspace.default(runs_dir, ledgers)
    states = state_of_rows(load_rows(), workspace)
    text = render_wishlist(states, workspace.finished(), load_prices(), load_market(refreshed=False))
    with atomic_write(out) as handle:
        handle.write(text)
    typer.echo(str(out))


def import_(
    document: Annotated[
        Path, typer.Argument(metavar="FILE.md", help="A wishlist in Markdown."), Reads(what="wishlist")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the YAML files (default: ./wishlist, where rows are found)."),
        Writes(folder="*.yaml"),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Write the rows that the catalogue knows already, too.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Read a wishlist in Markdown into rows of the catalogue.

    Rows that the catalogue knows are named; new and changed ones are written
    as YAML. A row that is not understood is named with its line and the
    reason. Mangled letters (‚Üí for →) are put right.

    [bold]Examples[/bold]

      meta-spliceai wishlist import GPU_EXPERIMENT_WISHLIST.md
      meta-spliceai wishlist import OTHER.md --out lab/wishlist --all
    """
    from meta_spliceai.errors import InputError
    from meta_spliceai.experiments.spec.rows import OWN_FOLDER, load_rows
    from meta_spliceai.experiments.wishlist.read_wishlist import read_wishlist
    from meta_spliceai.experiments.wishlist.write_rows import write_rows

    try:
        text = document.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{document}: no such file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{document}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    found = read_wishlist(text, load_rows())
    if not found.rows and not found.not_understood:
        raise InputError(f"{document}: no table of experiments (columns Experiment and VRAM, Time Est. or Priority)")
    console = PlainConsole(soft_wrap=True, highlight=False)
    for row in found.rows:
        console.print(f"line {row.line}: {row.status}: {row.spec.id} ({row.spec.title})")
    for miss in found.not_understood:
        console.print(styled((f"line {miss.line}: not understood", "yellow"), f": {miss.reason}: {miss.text}"))
    for heading, count in found.other_tables.items():
        console.print(f"{heading}: {count} lines, no experiments")
    if found.mended:
        console.print(f"{found.mended} mangled letters put right")
    wanted = [row.spec for row in found.rows if every or row.status != "known"]
    written = write_rows(wanted, out if out is not None else OWN_FOLDER, replace=force) if wanted else []
    counts = ", ".join(
        f"{sum(row.status == status for row in found.rows)} {status}" for status in ("new", "changed", "known")
    )
    console.print(f"{len(found.rows)} rows read: {counts}; {len(found.not_understood)} not understood")
    for path in written:
        console.print(f"written: {path}")
