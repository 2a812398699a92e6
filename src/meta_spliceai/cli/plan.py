"""`meta-spliceai plan`: estimates what rows need and cost before they are run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from meta_spliceai.cli.console import PlainConsole, print_json, styled, table
from meta_spliceai.cli.options import MOST_DOLLARS, AsJson, Assignments, Ledgers, Prices, RunsDir

if TYPE_CHECKING:
    from meta_spliceai.experiments.plan.choose import Plan, RowPlan
    from meta_spliceai.experiments.plan.planner import Planner


def plan(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Rows of `meta-spliceai wishlist` (default: all).")
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this GPU, or cpu for this machine's processor.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            min=0, max=MOST_DOLLARS, metavar="DOLLARS", help="Spending limit; rows that do not fit are listed."
        ),
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(min=0, max=1_000_000, metavar="HOURS", help="Time limit, running one row after the other."),
    ] = None,
    as_json: AsJson = False,
    prices: Prices = None,
    assignments: Assignments = None,
    check: Annotated[
        bool, typer.Option("--check", "--scatter", help="Show how far off the plans of finished runs were, and exit.")
    ] = False,
    refresh: Annotated[
        bool, typer.Option("--refresh-prices", help="First fetch prices from SkyPilot's catalogue.")
    ] = False,
    runs_dir: RunsDir = None,
    ledgers: Ledgers = None,
) -> None:
    """Plan rows: peak memory, hours, dollars, and the cheapest suitable GPU.

    Memory comes from a dry trace of the row's own model (forward, backward and
    optimiser) on tensors without content; time is counted work divided by the
    GPU's speed. "estimate" is based on data sheets and stated assumptions,
    "calibrated" on finished runs, "measured" on the row's own run.

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
    numbers = ("GB", "planned", "off", "s", "planned", "off")
    shown = table("run", *numbers, "rests on", title="Planned and measured", right=numbers, whole=numbers)
    frame[["memory_measured", "memory_calibrated"]] /= 1e9
    forms = {
        **{"memory_measured": "{:.2f}", "memory_calibrated": "{:.2f}", "memory_error": "{:+.0%}"},
        **{"seconds_measured": "{:.1f}", "seconds_calibrated": "{:.1f}", "seconds_error": "{:+.0%}"},
    }
    for line in frame.to_dict("records"):
        memory, seconds = ("" if pd.isna(line[name]) else line[name] for name in ("memory_rests_on", "seconds_rest_on"))
        rests = memory if seconds.partition(": ")[2] == memory else f"{memory}; {seconds}"
        cells = ("-" if pd.isna(line[name]) else form.format(line[name]) for name, form in forms.items())
        shown.add_row(line["run"], *cells, rests or "nothing")
    console.print(shown)
    console.print("Each run is planned from all others, itself left out. Reading data is not in the seconds.")
    for verdict in verdicts(frame):
        console.print(verdict, highlight=False)


def _show(made: Plan, left_out: str) -> None:
    from meta_spliceai.experiments.plan.choose import in_short

    console = PlainConsole()
    numbers = ("GB", "hours", "$", "batch")
    shown = table("row", *numbers, "card", "why", title="Plan", right=numbers, whole=(*numbers, "card", "why"))
    for row in made.rows:
        shown.add_row(*_cells(made, row))
    shown.add_section()
    shown.add_row(
        styled((f"{len(made.chosen)} of {len(made.rows)} rows", "bold")),
        f"{made.peak_bytes / 1e9:.2f}",
        in_short(made.hours),
        "no price" if made.dollars is None else in_short(made.dollars),
    )
    console.print(shown)
    notes: dict[str, list[str]] = {}
    for row in made.rows:
        for note in row.notes:
            notes.setdefault(note, []).append(row.spec.id)
    for note, users in notes.items():
        console.print(f"{_named(users)}: {note}", highlight=False)
    for row_id, why in made.left_out.items():
        console.print(styled((left_out, "yellow"), f": {row_id}: {why}"), highlight=False)
    if made.unpriced:
        ways = "give one with --prices FILE, or refresh with --refresh-prices"
        console.print(f"no price: {_named(made.unpriced)}; {ways}", highlight=False)
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
