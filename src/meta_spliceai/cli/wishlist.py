"""`meta-spliceai wishlist`: lists the experiments on the wishlist and their state; adds, imports and renders rows."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from meta_spliceai.cli.console import PlainConsole, print_json, styled, table
from meta_spliceai.cli.options import MOST_ROWS, AsJson, Ledgers, Reads, RunsDir, Writes
from meta_spliceai.errors import InputError, MetaSpliceAIError, unknown_value

DOCUMENT = Path("WISHLIST.md")

group = typer.Typer()

Checked = TypeVar("Checked")


@group.callback(invoke_without_command=True)
def wishlist(
    context: typer.Context,
    state: Annotated[str | None, typer.Option(help="Only rows in this state: wished, runnable or completed.")] = None,
    as_json: AsJson = False,
    runs_dir: RunsDir = None,
    ledgers: Ledgers = None,
) -> None:
    """List the wishlist's rows: wished, runnable or completed.

    wished: something is still missing; lines "no …: …" say what, and how to
    get it. runnable: `meta-spliceai run ID` could start now on this machine.
    completed: the ledger of your runs folder holds a finished run of the
    unchanged row. VRAM (GB), hours and priority are the wishlist's own
    guesses.

    [bold]Examples[/bold]

      meta-spliceai wishlist
      meta-spliceai wishlist --state runnable
      meta-spliceai wishlist --json
    """
    if context.invoked_subcommand is not None:
        return
    from meta_spliceai.experiments.spec.rows import load_rows
    from meta_spliceai.experiments.store.workspace import Workspace
    from meta_spliceai.experiments.wishlist.document import STATES, state_of_rows

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
    numbers = ("GB", "hours")
    whole = ("id", *numbers, "priority")
    shown = table(*whole, "state", title="Wishlist", right=numbers, whole=whole)
    colours = {"wished": "yellow", "runnable": "cyan", "completed": "green"}
    section = None
    for row in found:
        if row.spec.section != section:
            section = row.spec.section
            shown.add_section()
            shown.add_row(styled((section, "bold")))
        shown.add_row(
            row.spec.id,
            row.vram,
            row.hours,
            row.priority,
            styled((row.state, colours[row.state]), f"\n{row.last_run}" if row.last_run else ""),
        )
    console.print(shown)
    missing: dict[str, list[str]] = {}
    for row in found:
        for part in row.missing:
            missing.setdefault(part, []).append(row.spec.id)
    for part, ids in missing.items():  # below the table, so that no command is cut
        typer.echo(f"no {part}\n  needed by {', '.join(ids)}")
    counts = ", ".join(f"{sum(row.state == name for row in found)} {name}" for name in STATES)
    console.print(f"{len(found)} rows: {counts}. GB, hours and priority are the wishlist's own guess.")


@group.command()
def add(
    title: Annotated[str | None, typer.Option(help="What the row is called on the wishlist.")] = None,
    row_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Its name in `run ID` (default: made from the title).")
    ] = None,
    section: Annotated[str | None, typer.Option(help="Section of the wishlist (default: My experiments).")] = None,
    purpose: Annotated[str | None, typer.Option(help="The question that the row answers.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="ENCODER", help="gated-cnn, simple-cnn, hyenadna-small-32k …")
    ] = None,
    head: Annotated[str | None, typer.Option(help="delta, quantile, binary … (default: delta).")] = None,
    data: Annotated[str | None, typer.Option(help="A data set of `meta-spliceai data list`.")] = None,
    samples: Annotated[
        int | None, typer.Option("--rows", min=1, max=MOST_ROWS, metavar="N", help="Number of variants (default: all).")
    ] = None,
    window: Annotated[
        int | None, typer.Option(min=3, max=1_000_001, metavar="N", help="Window length in bases, odd (default: 501).")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="What is held out together (default: as in other rows on the data set).")
    ] = None,
    vram: Annotated[str | None, typer.Option(metavar="GB", help="Your guess for GPU memory: 12GB, 48GB+.")] = None,
    hours: Annotated[str | None, typer.Option(metavar="FROM-TO", help="Your guess for time: 3h, 2-4h, 30min.")] = None,
    priority: Annotated[str | None, typer.Option(help="high, medium or low.")] = None,
    starred: Annotated[bool, typer.Option("--star", help="Mark it with a star.")] = False,
    what: Annotated[
        str | None, typer.Option(help="Text for the table's middle column (default: made from the row).")
    ] = None,
    note: Annotated[str, typer.Option(help="A note next to the table.")] = "",
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Any other field, as in `run`; may be repeated."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="YAML file in ./wishlist (default: the one that holds the section).")
    ] = None,
) -> None:
    """Add a row to your own wishlist: ./wishlist/*.yaml.

    If title, model and data are given, nothing is asked. If one is missing, and
    this is a terminal, you are asked for what was not given: title, model,
    data, memory, time and priority. The row is checked (its id is new, its
    parts exist, its values are allowed) before anything is written; the file's
    comments and order are kept.

    [bold]Examples[/bold]

      meta-spliceai wishlist add
      meta-spliceai wishlist add --title "WT1, 51 bases" --model gated-cnn \\
          --data wt1-exon5 --window 51 --priority high
      meta-spliceai wishlist add --title "Both CNNs" --model gated-cnn \\
          --data wt1-exon5 \\
          --set ensemble.members='\\[wt1-simple-cnn, wt1-validated-delta]'
    """
    from meta_spliceai.experiments.spec.parts import offered_parts
    from meta_spliceai.experiments.spec.rows import OWN_FOLDER, load_rows
    from meta_spliceai.experiments.wishlist import add_row
    from meta_spliceai.experiments.wishlist.document import id_of, read_hours, read_priority, read_vram

    if file is not None and (file.resolve().parent != OWN_FOLDER.resolve() or file.suffix not in (".yaml", ".yml")):
        raise InputError(f"--file {file}: rows are found in ./{OWN_FOLDER}/*.yaml; name a file there")
    rows = load_rows()
    offered = offered_parts()
    missing = [name for name, value in (("--title", title), ("--model", model), ("--data", data)) if value is None]
    asks = bool(missing) and _on_terminal()
    if missing and not asks:
        raise InputError(f"wishlist add: {', '.join(missing)} missing; give them as options, or call it in a terminal")

    def got(value: str | None, question: str, check: Callable[[str], Checked], default: str) -> Checked:
        if value is not None or not asks:
            return check(default if value is None else value)
        return _ask(question, check, default)

    def titled(text: str) -> str:
        if not id_of(text):
            raise InputError("--title: give the row a title with letters in it")
        return text.strip()

    def part(kind: str, option: str) -> Callable[[str], str]:
        return lambda text: add_row.one_of(kind, text, option, offered)

    name = got(title, "Title", titled, "")
    own_id = got(row_id, "Id", lambda text: add_row.free_id(text, rows), id_of(name))
    held = got(section, "Section", lambda text: add_row.known_section(text, rows), add_row.SECTION)
    if asks and model is None:
        typer.echo(f"Models: {', '.join(offered['encoder'])}")
    encoder = got(model, "Model", part("encoder", "--model"), "gated-cnn")
    if asks and data is None:
        typer.echo(f"Data sets: {', '.join(offered['data set'])}")
    variants = got(data, "Data set", part("data set", "--data"), "wt1-exon5")
    ask_memory, ask_rank = "GPU memory, your guess (12GB; empty: none)", "Priority (high, medium, low; empty: none)"
    memory, or_more = got(vram, ask_memory, lambda text: read_vram(text, "--vram"), "")
    time = got(hours, "Hours, your guess (2-4; empty: none)", lambda text: read_hours(text, "--hours"), "")
    rank, star = got(priority, ask_rank, lambda text: read_priority(text, "--priority"), "")

    values: dict[str, Any] = {
        "id": own_id,
        "title": name,
        "section": held,
        "purpose": purpose or next((row.purpose for row in rows.values() if row.section == held), ""),
        "wish": {"vram_gb": memory, "vram_or_more": or_more, "hours": time, "priority": rank, "note": note,
                 "starred": starred or star},
        "data": {"name": variants},
        "encoder": {"name": encoder},
        "split": {"name": part("split", "--split")(split)} if split else add_row.split_of(variants, rows),
    }  # fmt: skip
    if head is not None:
        values["head"] = {"name": part("head", "--head")(head)}
    if samples is not None:
        values["data"]["rows"] = samples
    if window is not None:
        values["window"] = window
    from meta_spliceai.splice_engine.meta_layer.models import HEADS

    spec = add_row.with_middle_column(add_row.new_row(values, list(assignments or []), rows, HEADS), rows, what)
    path, line = add_row.append_row(spec, OWN_FOLDER, file)
    typer.echo(f"added: {spec.id} ({path}, line {line})")
    typer.echo("next:")
    for command in (f"plan {spec.id}", f"run {spec.id} --smoke", f"run {spec.id}", "wishlist render", "report --open"):
        typer.echo(f"  meta-spliceai {command}")


def _on_terminal() -> bool:
    """Whether the user can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _ask(question: str, check: Callable[[str], Checked], default: str) -> Checked:
    """Ask until the answer can be used; what is wrong with it is said."""
    while True:
        answer = typer.prompt(question, default=default, show_default=bool(default))
        try:
            return check(str(answer))
        except MetaSpliceAIError as error:
            typer.echo(f"  {error}")


@group.command()
def render(
    out: Annotated[Path, typer.Option("-o", "--output", help="The Markdown file to write."), Writes()] = DOCUMENT,
    runs_dir: RunsDir = None,
    ledgers: Ledgers = None,
) -> None:
    """Write the wishlist as Markdown, from the catalogue and the ledger.

    One table per section with model, memory, time, priority, state and command;
    GPUs with the wishlist's prices and the newest dated ones; completed rows with date, result and notes.
    The same catalogue, ledger and ./wishlist/gpus.yaml give an identical file.

    [bold]Examples[/bold]

      meta-spliceai wishlist render
      meta-spliceai wishlist render -o docs/WISHLIST.md
    """
    from meta_spliceai.experiments.plan.gpu_prices import load_market, load_prices
    from meta_spliceai.experiments.spec.rows import load_rows
    from meta_spliceai.experiments.store.workspace import Workspace
    from meta_spliceai.experiments.wishlist.document import render_wishlist, state_of_rows
    from meta_spliceai.files import atomic_write

    workspace = Workspace.default(runs_dir, ledgers)
    states = state_of_rows(load_rows(), workspace)
    text = render_wishlist(states, workspace.finished(), load_prices(), load_market(refreshed=False))
    with atomic_write(out) as handle:
        handle.write(text)
    typer.echo(str(out))


@group.command("import")
def import_(
    document: Annotated[
        Path, typer.Argument(metavar="FILE.md", help="A wishlist in Markdown."), Reads(what="wishlist")
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder for the YAML files (default: ./wishlist, where rows are found)."),
        Writes(folder="*.yaml"),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Also write the rows already in the catalogue.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Import a Markdown wishlist as rows of the catalogue.

    Rows already in the catalogue are listed; new and changed ones are written
    as YAML. A row that is not understood is reported with its line and the
    reason. Mangled characters (‚Üí for →) are repaired.

    [bold]Examples[/bold]

      meta-spliceai wishlist import GPU_EXPERIMENT_WISHLIST.md
      meta-spliceai wishlist import OTHER.md -o lab/wishlist --all
    """
    from meta_spliceai.experiments.spec.rows import OWN_FOLDER, load_rows, read_text
    from meta_spliceai.experiments.wishlist.add_row import write_rows
    from meta_spliceai.experiments.wishlist.document import read_wishlist

    found = read_wishlist(read_text(document), load_rows())
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
