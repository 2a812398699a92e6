"""`meta-spliceai wishlist`: every experiment somebody wished for, and how far it is."""

from __future__ import annotations

from typing import Annotated

import typer
from rich import box
from rich.table import Table

from meta_spliceai.cli import wishlist_add, wishlist_document
from meta_spliceai.cli.options import AsJson, Ledgers, RunsDir
from meta_spliceai.cli.plain_console import PlainConsole, styled
from meta_spliceai.cli.print_json import print_json


def register(app: typer.Typer) -> None:
    """Add the group of commands to the command line."""
    group = typer.Typer()
    group.callback(invoke_without_command=True)(wishlist)
    wishlist_add.register(group)
    wishlist_document.register(group)
    app.add_typer(group, name="wishlist")


def wishlist(
    context: typer.Context,
    state: Annotated[
        str | None, typer.Option("--state", help="Only rows in this state: wished, runnable or completed.")
    ] = None,
    as_json: AsJson = False,
    runs_dir: RunsDir = None,
    ledgers: Ledgers = None,
) -> None:
    """List the wishlist's rows: wished, runnable or completed.

    wished: something is still missing, and what it is and what brings it is
    said ("no …: …"). runnable: `meta-spliceai run ID` would start now on this
    machine. completed: the ledger of your runs folder holds a finished run of
    the row as it stands. VRAM (GB), hours and priority are the wishlist's own
    guess.

    [bold]Examples[/bold]

      meta-spliceai wishlist
      meta-spliceai wishlist --state runnable
      meta-spliceai wishlist --json
    """
    if context.invoked_subcommand is not None:
        return
    from meta_spliceai.errors import unknown_value
    from meta_spliceai.experiments.spec.rows import load_rows
    from meta_spliceai.experiments.store.workspace import Workspace
    from meta_spliceai.experiments.wishlist.progress_of_rows import STATES, state_of_rows

    if state is not None and state not in STATES:
        raise unknown_value("state", state, STATES, where="--state")
    rows = load_rows()
    found = [
        row for row in state_of_rows(rows, Workspace.default(runs_dir, ledgers)) if state is None or row.state == state
    ]
    if as_json:
        print_json([row.to_json() for row in found])
        return

    console = PlainConsole()
    table = Table(title="Wishlist", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("id", no_wrap=True)
    table.add_column("GB", justify="right", no_wrap=True)
    table.add_column("hours", justify="right", no_wrap=True)
    table.add_column("priority", no_wrap=True)
    table.add_column("state")
    colours = {"wished": "yellow", "runnable": "cyan", "completed": "green"}
    section = None
    for row in found:
        if row.spec.section != section:
            section = row.spec.section
            table.add_section()
            table.add_row(styled((section, "bold")))
        table.add_row(
            row.spec.id,
            row.vram,
            row.hours,
            row.priority,
            styled((row.state, colours[row.state]), f"\n{row.last_run}" if row.last_run else ""),
        )
    console.print(table)
    missing: dict[str, list[str]] = {}
    for row in found:
        for part in row.missing:
            missing.setdefault(part, []).append(row.spec.id)
    for part, ids in missing.items():  # below the table, so that no command is cut
        typer.echo(f"no {part}\n  needed by {', '.join(ids)}")
    counts = ", ".join(f"{sum(row.state == name for row in found)} {name}" for name in STATES)
    console.print(f"{len(found)} rows: {counts}. GB, hours and priority are the wishlist's own guess.")
