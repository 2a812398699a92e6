"""`meta-spliceai plan`: what rows need and cost before anybody runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

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
        bool, typer.Option("--refresh-prices", help="First fetch prices from SkyPilot's catalogue (extra 'cloud').")
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

    from meta_spliceai.experiments.plan.planner import Planner

    planner = Planner(workspace, rows, prices)
    if check:
        _check(planner, as_json)
        return
    if refresh:
        _refresh(planner)
        planner = Planner(workspace, rows, prices)
    made = planner.rows(specs, gpu, budget, deadline)
    if as_json:
        print_json(made.to_json())
        return
    _show(made, limited=budget is not None or deadline is not None)


def _check(planner: Planner, as_json: bool) -> None:
    from meta_spliceai.experiments.plan.scatter import scatter, verdicts

    frame = scatter(planner)
    if as_json:
        typer.echo(frame.to_json(orient="records", indent=2))
        return

    console = PlainConsole()
    if frame.empty:
        console.print(f"no finished run in {planner.workspace.root}; run a row first, or name a folder with --runs-dir")
        return
    table = Table(title="Planned and measured", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", overflow="fold")
    for heading in ("GB", "planned", "off", "s", "planned", "off"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("rests on", overflow="fold")
    for line in frame.to_dict("records"):
        table.add_row(
            str(line["run"]),
            _gigabytes(line["memory_measured"]),
            _gigabytes(line["memory_calibrated"]),
            _off(line["memory_error"]),
            f"{line['seconds_measured']:.1f}",
            f"{line['seconds_calibrated']:.1f}",
            _off(line["seconds_error"]),
            _rests(line),
        )
    console.print(table)
    console.print("Each run is planned from all others, itself left out. Reading data is not in the seconds.")
    for verdict in verdicts(frame):
        console.print(verdict, highlight=False)


def _rests(line: dict[str, Any]) -> str:
    """On which other runs a line's two predictions rest."""
    memory, seconds = (
        str(line[name]) if line[name] == line[name] else "" for name in ("memory_rests_on", "seconds_rest_on")
    )
    _, _, what = seconds.partition(": ")
    return (memory if what == memory else f"{memory}; {seconds}") or "nothing"


def _gigabytes(number: float) -> str:
    return "-" if number != number else f"{number / 1e9:.2f}"


def _off(error: float) -> str:
    return "-" if error != error else f"{error:+.0%}"


def _refresh(planner: Planner) -> None:
    from meta_spliceai.experiments.plan.refresh_prices import refresh_prices

    file, found, left_out = refresh_prices(planner.market)
    typer.echo(f"prices kept in {file}: {'; '.join(found)}", err=True)
    for line in left_out:
        typer.echo(f"left out: {line}", err=True)


def _show(made: Plan, limited: bool) -> None:
    from meta_spliceai.experiments.plan.choose import in_short

    console = PlainConsole()
    table = Table(title="Plan", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("row", overflow="fold")
    for heading in ("GB", "hours", "$", "batch"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("card", no_wrap=True)
    table.add_column("why", no_wrap=True)
    for row in made.rows:
        table.add_row(*_cells(made, row))
    table.add_section()
    dollars = "no price" if made.dollars is None else in_short(made.dollars)
    table.add_row(
        styled((f"{len(made.chosen)} of {len(made.rows)} rows", "bold")),
        f"{made.peak_bytes / 1e9:.2f}",
        in_short(made.hours),
        dollars,
    )
    console.print(table)
    notes: dict[str, list[str]] = {}
    for row in made.rows:
        for note in row.notes:
            notes.setdefault(note, []).append(row.spec.id)
        if row.best is not None and row.state != "cannot run":
            notes.setdefault(row.best.why, [])
    for note, users in notes.items():
        if users:
            console.print(f"{_named(users)}: {note}", highlight=False)
    for row_id, why in made.left_out.items():
        kind = (f"not {'bought' if limited else 'counted'}", "yellow")
        console.print(styled(kind, f": {row_id}: {why}"), highlight=False)
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
    name = styled((row.spec.id, "" if row.spec.id in made.chosen else "dim"))
    if row.state != "planned":
        colour = {"completed": "green", "out of memory": "red", "cannot run": "yellow"}[row.state]
        name = styled((row.spec.id, "" if row.spec.id in made.chosen else "dim"), "\n  ", (row.state, colour))
    if offer is None:
        least = min((one.peak_bytes for one in row.offers), default=0)
        return [name, f"{least / 1e9:.2f}" if least else "-", "-", "-", "-", "none fits", "-"]
    dollars = "no price" if offer.dollars is None else in_short(offer.dollars)
    batch = f"{offer.batch_size}" + (f" × {offer.accumulate}" if offer.accumulate > 1 else "")
    basis = offer.time_basis if offer.time_basis == offer.memory_basis else f"{offer.memory_basis}, {offer.time_basis}"
    return [name, f"{offer.peak_bytes / 1e9:.2f}", in_short(offer.hours), dollars, batch, offer.gpu, basis]


def _named(ids: list[str] | tuple[str, ...]) -> str:
    return ids[0] if len(ids) == 1 else f"{len(ids)} rows ({ids[0]} …)" if len(ids) > 3 else ", ".join(ids)
