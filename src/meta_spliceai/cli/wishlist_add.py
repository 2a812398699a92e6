"""`meta-spliceai wishlist add`: a new row, asked for or given by options, checked and written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from meta_spliceai.cli.options import MOST_ROWS

Checked = TypeVar("Checked")


def register(group: typer.Typer) -> None:
    """Add the command to the group `wishlist`."""
    group.command("add")(add)


def add(
    title: Annotated[str | None, typer.Option("--title", help="What the row is called on the wishlist.")] = None,
    row_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Its name in `run ID` (default: made of the title).")
    ] = None,
    section: Annotated[
        str | None, typer.Option("--section", help="Section of the wishlist (default: My experiments).")
    ] = None,
    purpose: Annotated[str | None, typer.Option("--purpose", help="The question that the row answers.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="ENCODER", help="gated-cnn, simple-cnn, hyenadna-small-32k …")
    ] = None,
    head: Annotated[str | None, typer.Option("--head", help="delta, quantile, binary … (default: delta).")] = None,
    data: Annotated[str | None, typer.Option("--data", help="A data set of `meta-spliceai data list`.")] = None,
    samples: Annotated[
        int | None, typer.Option("--rows", min=1, max=MOST_ROWS, metavar="N", help="Number of variants (default: all).")
    ] = None,
    window: Annotated[
        int | None,
        typer.Option("--window", min=3, max=1_000_001, metavar="N", help="Bases of a window, odd (default: 501)."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help="What is held out together (default: as other rows on the data set do)."),
    ] = None,
    vram: Annotated[
        str | None, typer.Option("--vram", metavar="GB", help="Your guess of GPU memory: 12GB, 48GB+.")
    ] = None,
    hours: Annotated[
        str | None, typer.Option("--hours", metavar="FROM-TO", help="Your guess of time: 3h, 2-4h, 30min.")
    ] = None,
    priority: Annotated[str | None, typer.Option("--priority", help="high, medium or low.")] = None,
    starred: Annotated[bool, typer.Option("--star", help="Mark it with a star.")] = False,
    what: Annotated[
        str | None, typer.Option("--what", help="Words for the table's middle column (default: made of the row).")
    ] = None,
    note: Annotated[str, typer.Option("--note", help="A note beside the table.")] = "",
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Any other field, as in `run`; may be given several times."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="YAML file in ./wishlist (default: the one that holds the section).")
    ] = None,
) -> None:
    """Add a row to your own wishlist: ./wishlist/*.yaml.

    With title, model and data given nothing is asked. Where one is missing,
    and somebody sits at a terminal, what is not given is asked for: title,
    model, data, memory, time and priority. The row is checked (its id is new,
    its parts exist, its values are allowed) before a line is written; comments
    and order of the file stay.

    [bold]Examples[/bold]

      meta-spliceai wishlist add
      meta-spliceai wishlist add --title "WT1, 51 bases" --model gated-cnn \\
          --data wt1-exon5 --window 51 --priority high
      meta-spliceai wishlist add --title "Both CNNs" --model gated-cnn \\
          --data wt1-exon5 \\
          --set ensemble.members='\\[wt1-simple-cnn, wt1-validated-delta]'
    """
    from meta_spliceai.errors import InputError, unknown_value
    from meta_spliceai.experiments.spec.parts import offered_parts
    from meta_spliceai.experiments.spec.rows import OWN_FOLDER, load_rows
    from meta_spliceai.experiments.wishlist import add_row

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
        if not add_row.id_of(text):
            raise InputError("--title: give the row a title with letters in it")
        return text.strip()

    def prioritised(text: str) -> str | None:
        if text and text.lower() not in add_row.PRIORITIES:
            raise unknown_value("priority", text, add_row.PRIORITIES, where="--priority")
        return text.lower() or None

    def part(kind: str, option: str) -> Callable[[str], str]:
        return lambda text: add_row.one_of(kind, text, option, offered)

    name = got(title, "Title", titled, "")
    own_id = got(row_id, "Id", lambda text: add_row.free_id(text, rows), add_row.id_of(name))
    held = got(section, "Section", lambda text: add_row.known_section(text, rows), add_row.SECTION)
    if asks and model is None:
        typer.echo(f"Models: {', '.join(offered['encoder'])}")
    encoder = got(model, "Model", part("encoder", "--model"), "gated-cnn")
    if asks and data is None:
        typer.echo(f"Data sets: {', '.join(offered['data set'])}")
    variants = got(data, "Data set", part("data set", "--data"), "wt1-exon5")
    memory, or_more = got(vram, "GPU memory, your guess (12GB; empty: none)", add_row.gigabytes, "")
    time = got(hours, "Hours, your guess (2-4; empty: none)", add_row.from_to, "")
    rank = got(priority, "Priority (high, medium, low; empty: none)", prioritised, "")

    values: dict[str, Any] = {
        "id": own_id,
        "title": name,
        "section": held,
        "purpose": purpose or next((row.purpose for row in rows.values() if row.section == held), ""),
        "wish": {"vram_gb": memory, "vram_or_more": or_more, "hours": time, "priority": rank, "starred": starred,
                 "note": note},
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
    spec = add_row.with_middle_column(add_row.new_row(values, list(assignments or []), rows), rows, what)
    path, line = add_row.append_row(spec, OWN_FOLDER, file)
    typer.echo(f"added: {spec.id} ({path}, line {line})")
    typer.echo("next:")
    for command in (f"plan {spec.id}", f"run {spec.id} --smoke", f"run {spec.id}", "wishlist render", "report --open"):
        typer.echo(f"  meta-spliceai {command}")


def _on_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _ask(question: str, check: Callable[[str], Checked], default: str) -> Checked:
    """Ask until the answer can be used; what is wrong with it is said."""
    from meta_spliceai.errors import MetaSpliceAIError

    while True:
        answer = typer.prompt(question, default=default, show_default=bool(default))
        try:
            return check(str(answer))
        except MetaSpliceAIError as error:
            typer.echo(f"  {error}")
