"""`meta-spliceai report`: the site made of all runs."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from meta_spliceai.cli.guard_paths import Writes
from meta_spliceai.cli.options import Ledgers, RunsDir

DEFAULT_NAME = "report"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report")(report)


def report(
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="DIR",
            help="Folder for the site. Default: report beside the runs.",
        ),
        Writes(folder="*.html"),
    ] = None,
    runs_dir: RunsDir = None,
    ledgers: Ledgers = None,
    figure: Annotated[
        Path | None,
        typer.Option(help="Write the leaderboard and the saturation map as a picture (.svg, .png) instead."),
        Writes(),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    plan: Annotated[
        bool, typer.Option("--plan/--no-plan", help="Ask the planner what the rows that are left cost.")
    ] = True,
) -> None:
    """Write the site: a folder of pages, to open without a network or a server.

    What is left and what it costs, a timeline, a leaderboard for each data set
    and split, a page a run (curves, precision-recall and ROC with intervals,
    calibration, strata, observed splice sites, saturation map, spec,
    environment), and any two runs side by side. Pages whose runs have not
    changed are left as they are. With --figure, the leaderboard and the map as
    a picture.

    [bold]Examples[/bold]

      meta-spliceai report --open
      meta-spliceai report --runs-dir lab/runs --out site
      meta-spliceai report --ledger results --out site
      meta-spliceai report --figure docs/images/quickstart.svg
    """
    from meta_spliceai.experiments.report import build_report, write_figure
    from meta_spliceai.experiments.store.workspace import Workspace

    workspace = Workspace.default(runs_dir, ledgers)
    if figure is not None:
        typer.echo(str(write_figure(workspace, figure)))
        return
    page = build_report(workspace, out if out is not None else workspace.root / DEFAULT_NAME, plan=plan)
    typer.echo(str(page))
    if open_:
        webbrowser.open(page.resolve().as_uri())
