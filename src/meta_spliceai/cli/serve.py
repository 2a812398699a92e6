"""`meta-spliceai serve`: the site on this machine, current while runs go on."""

from __future__ import annotations

import webbrowser
from typing import Annotated

import typer

from meta_spliceai.cli.options import Ledgers, RunsDir


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("serve")(serve)


def serve(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port on this machine; 0: any free one.")
    ] = 8765,
    runs_dir: RunsDir = None,
    ledgers: Ledgers = None,
    plan: Annotated[
        bool, typer.Option("--plan/--no-plan", help="Ask the planner what the rows that are left cost.")
    ] = True,
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

    site = LiveSite(Workspace.default(runs_dir, ledgers), plan=plan)
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
