"""`meta-spliceai report`: the page of all runs."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_NAME = "report.html"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report")(report)


def report(
    out: Annotated[
        Path | None, typer.Option(help="The HTML file to write; report.html beside the runs if not given.")
    ] = None,
    runs_dir: Annotated[
        Path | None, typer.Option(help="The folder of runs; META_SPLICEAI_RUNS or ./runs if not given.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Write the leaderboard and the saturation map as a picture (.svg) instead.")
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Write the page: one HTML file of all runs, to open without a network.

    Leaderboards with intervals and verdicts, the saturation map, predicted
    against measured effects, precision and recall, training curves, what became
    of every row, the split, specs, environments and the wishlist. With --figure,
    the leaderboard and the map as a picture instead.

    [bold]Examples[/bold]

      meta-spliceai report --open
      meta-spliceai report --runs-dir lab/runs --out lab.html
      meta-spliceai report --figure docs/images/quickstart.svg
    """
    from meta_spliceai.experiments.report import build_report, write_figure
    from meta_spliceai.experiments.workspace import Workspace

    workspace = Workspace.default(runs_dir)
    if figure is not None:
        typer.echo(str(write_figure(workspace, figure)))
        return
    page = build_report(workspace, out if out is not None else workspace.root / DEFAULT_NAME)
    typer.echo(str(page))
    if open_:
        webbrowser.open(page.resolve().as_uri())
