"""`meta-spliceai plan`: what rows need and cost before anybody runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from meta_spliceai.cli.console import PlainConsole, print_json, styled
from meta_spliceai.cli.options import MOST_DOLLARS, AsJson, Assignments, Ledgers, Prices, RunsDir

if TYPE_CHECKING:
    from meta_spliceai.experiments.plan.choose import Plan, RowPlan
    from meta_spliceai.experiments.plan.planner import Planner


def plan(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Rows of `meta-spliceai wishlist` (default: all).")
    ] = None,
    gpu: Annotated[
        str | None, typer.Option("--gpu", metavar="NAME", help="Only this card, or cpu for the processor at hand.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget", min=0, max=MOST_DOLLARS, metavar="DOLLARS", help="Spend no more; say what does not fit."
        ),
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            "--deadline", min=0, max=1_000_000, metavar="HOURS", help="Take no longer, one row after the other."
        ),
    ] = None,
    as_json: AsJson = False,
    prices: Prices = None,
    assignments: Assignments = None,
    check: Annotated[
        bool, typer.Option("--check", "--scatter", help="Show how far off the plans of finished runs were, and end.")
    ] = False,
    refresh: Annotated[
        bool, typer.Option("--refresh-prices", help="First fetch prices from SkyPilot's catalogue.")
    ] = False,
    runs_dir: RunsDir = None,
    ledgers: Ledgers = None,
) -> None:
    """Plan rows: peak memory, hours, dollars, and the cheapest card each fits.

    Memory is a dry trace of the row's own model, forward, backward and
    optimiser, on tensors without content; time is counted work over the
    card's speed. "estimate" rests on data sheets and stated assumptions,
    "calibrated" on finished runs, "measured" is the row's own run.

    [bold]Examples[/bold]

      meta-spliceai plan
      meta-spliceai plan validated-delta-10k --gpu "RTX 4090"
      meta-spliceai plan --budget 2 --deadline 3
      meta-spliceai plan --prices my-prices.yaml --json
      meta-spliceai plan hyenadna-large-finetune --set training.batch_size=256
      meta-spliceai plan --check
    """
    from meta_spliceai.experiments.spec.rows import change, find_row, load_rows
    from meta_spliceai.experiments.store.workspace import Workspace

    rows = load_rows()
    wanted = [find_row(rows, row_id) for row_id in ids] if ids else [row for row in rows.values() if row.wish]
    specs = [change(row, assignments) if assignments else row for row in wanted]
    workspace = Workspace.default(runs_dir, ledgers)

    from meta_spliceai.experiments.plan.gpu_prices import refresh_prices
    from meta_spliceai.experiments.plan.planner import Planner

    planner = Planner(workspace, rows, prices)
    if check:
        _check(planner, as_json)
        return
    if refresh:
        file, found, left_out = refresh_prices(planner.market)
        for line in (f"prices kept in {file}: {'; '.join(found)}", *(f"left out: {line}" for line in left_out)):
            typer.echo(line, err=True)
        planner = Planner(workspace, rows, prices)
    made = planner.rows(specs, gpu, budget, deadline)
    if as_json:
        print_json(made.to_json())
    else:
        _show(made, "not counted" if budget is None and deadline is None else "not bought")


def _table(title: str, *columns: str) -> Table:
    """A table of numbers, apart from the columns of words."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        justify: Literal["left", "right"] = "left" if column in ("run", "row", "card", "why", "rests on") else "right"
        wraps = column in ("run", "row", "rests on")
        table.add_column(column, overflow="fold" if wraps else "ellipsis", justify=justify, no_wrap=not wraps)
    return table


def _check(planner: Planner, as_json: bool) -> None:
    import pandas as pd

    from meta_spliceai.experiments.plan.planner import scatter, verdicts

    frame = scatter(planner)
    if as_json:
        typer.echo(frame.to_json(orient="records", indent=2))
        return

    console = PlainConsole()
    if frame.empty:
        console.print(f"no finished run in {planner.workspace.root}; run a row first, or name a folder with --runs-dir")
        return
    table = _table("Planned and measured", "run", "GB", "planned", "off", "s", "planned", "off", "rests on")
    for line in frame.to_dict("records"):
        memory, seconds = ("" if pd.isna(line[name]) else line[name] for name in ("memory_rests_on", "seconds_rest_on"))
        rests = memory if seconds.partition(": ")[2] == memory else f"{memory}; {seconds}"
        table.add_row(
            str(line["run"]),
            _unless_nan(line["memory_measured"] / 1e9, "{:.2f}"),
            _unless_nan(line["memory_calibrated"] / 1e9, "{:.2f}"),
            _unless_nan(line["memory_error"], "{:+.0%}"),
            _unless_nan(line["seconds_measured"], "{:.1f}"),
            _unless_nan(line["seconds_calibrated"], "{:.1f}"),
            _unless_nan(line["seconds_error"], "{:+.0%}"),
            rests or "nothing",
        )
    console.print(table)
    console.print("Each run is planned from all others, itself left out. Reading data is not in the seconds.")
    for verdict in verdicts(frame):
        console.print(verdict, highlight=False)


def _unless_nan(number: float, form: str) -> str:
    return "-" if number != number else form.format(number)


def _show(made: Plan, left_out: str) -> None:
    from meta_spliceai.experiments.plan.choose import in_short

    console = PlainConsole()
    table = _table("Plan", "row", "GB", "hours", "$", "batch", "card", "why")
    for row in made.rows:
        table.add_row(*_cells(made, row))
    table.add_section()
    table.add_row(
        styled((f"{len(made.chosen)} of {len(made.rows)} rows", "bold")),
        f"{made.peak_bytes / 1e9:.2f}",
        in_short(made.hours),
        "no price" if made.dollars is None else in_short(made.dollars),
    )
    console.print(table)
    notes: dict[str, list[str]] = {}
    for row in made.rows:
        for note in row.notes:
            notes.setdefault(note, []).append(row.spec.id)
    for note, users in notes.items():
        console.print(f"{_named(users)}: {note}", highlight=False)
    for row_id, why in made.left_out.items():
        console.print(styled((left_out, "yellow"), f": {row_id}: {why}"), highlight=False)
    if made.unpriced:
        console.print(
            f"no price: {_named(made.unpriced)}; give one with --prices FILE, or refresh with --refresh-prices",
            highlight=False,
        )
    for line in made.prices:
        console.print(f"price: {line}", highlight=False)
    for warning in made.warnings:
        console.print(styled(("warning", "bold yellow"), f": {warning}"), highlight=False)


def _cells(made: Plan, row: RowPlan) -> list[str | Text]:
    from meta_spliceai.experiments.plan.choose import in_short

    offer = made.chosen.get(row.spec.id, row.best)
    colour = {"completed": "green", "out of memory": "red", "cannot run": "yellow"}.get(row.state)
    state: list[str | tuple[str, str]] = [] if colour is None else ["\n  ", (row.state, colour)]
    name = styled((row.spec.id, "" if row.spec.id in made.chosen else "dim"), *state)
    if offer is None:
        least = min((one.peak_bytes for one in row.offers), default=0)
        return [name, f"{least / 1e9:.2f}" if least else "-", "-", "-", "-", "none fits", "-"]
    dollars = "no price" if offer.dollars is None else in_short(offer.dollars)
    batch = f"{offer.batch_size}" + (f" × {offer.accumulate}" if offer.accumulate > 1 else "")
    basis = ", ".join(dict.fromkeys((offer.memory_basis, offer.time_basis)))
    return [name, f"{offer.peak_bytes / 1e9:.2f}", in_short(offer.hours), dollars, batch, offer.gpu, basis]


def _named(ids: list[str] | tuple[str, ...]) -> str:
    return ids[0] if len(ids) == 1 else f"{len(ids)} rows ({ids[0]} …)" if len(ids) > 3 else ", ".join(ids)
