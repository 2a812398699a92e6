"""`meta-spliceai report` and `serve`: the site made of all runs, as files or on this machine while runs go on."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meta_spliceai.cli.guard_paths import Writes
from meta_spliceai.cli.options import Ledgers, RunsDir

if TYPE_CHECKING:
    from meta_spliceai.experiments.report.views import Left
    from meta_spliceai.experiments.store.workspace import Workspace

DEFAULT_NAME = "report"
Plan = Annotated[bool, typer.Option("--plan/--no-plan", help="Ask the planner what the rows that are left cost.")]


def report(
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="Folder for the site. Default: report beside the runs."),
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
    plan: Plan = True,
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
    from meta_spliceai.experiments.report.figure import write_figure
    from meta_spliceai.experiments.report.site import build_report
    from meta_spliceai.experiments.report.views import NOTHING_PLANNED
    from meta_spliceai.experiments.store.workspace import Workspace

    workspace = Workspace.default(runs_dir, ledgers)
    if figure is not None:
        typer.echo(str(write_figure(workspace, figure)))
        return
    left = _planner()(workspace) if plan else NOTHING_PLANNED
    page = build_report(workspace, out if out is not None else workspace.root / DEFAULT_NAME, left=left)
    typer.echo(str(page))
    if open_:
        webbrowser.open(page.resolve().as_uri())


def serve(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port on this machine; 0: any free one.")
    ] = 8765,
    runs_dir: RunsDir = None,
    ledgers: Ledgers = None,
    plan: Plan = True,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Show the site of `report` on this machine, and keep it current.

    Pages reload by themselves when a run begins, ends or changes; runs that
    are being worked on show how far they are. It listens on 127.0.0.1 only,
    keeps its pages in a temporary folder, and answers at most 32 connections
    at a time. Ctrl-C ends it.

    [bold]Examples[/bold]

      meta-spliceai serve --open
      meta-spliceai serve --runs-dir lab/runs --port 9000
    """
    from meta_spliceai.experiments.report.serve import HOST, LiveSite, make_server
    from meta_spliceai.experiments.report.serve import serve as answer
    from meta_spliceai.experiments.store.workspace import Workspace

    site = LiveSite(Workspace.default(runs_dir, ledgers), _planner() if plan else None)
    server = make_server(site, port)
    try:
        typer.echo("building the site", err=True)
        site.refresh()
        address = f"http://{HOST}:{server.server_address[1]}/"
        typer.echo(address)
        typer.echo("Ctrl-C ends it", err=True)
        if open_:
            webbrowser.open(address)
        answer(site, server, lambda line: typer.echo(line, err=True))
    except KeyboardInterrupt:
        typer.echo("ended", err=True)
    finally:
        server.server_close()
        site.close()


def _planner() -> Callable[[Workspace], Left]:
    """What tells what is left; loaded only where it is asked for, as planning brings PyTorch."""
    from meta_spliceai.experiments.report.left import what_is_left

    return what_is_left
