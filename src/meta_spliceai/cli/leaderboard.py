"""`meta-spliceai leaderboard`, `report` and `serve`: results in the terminal, as a static site, or as a live site."""

from __future__ import annotations

import webbrowser
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from meta_spliceai.cli.console import PlainConsole, print_json, styled, table
from meta_spliceai.cli.options import AsJson, Ledgers, RunsDir, Writes
from meta_spliceai.errors import InputError, unknown_value

if TYPE_CHECKING:
    from meta_spliceai.experiments.board.leaderboard import Board
    from meta_spliceai.experiments.board.shown import Table as Texts
    from meta_spliceai.experiments.store.workspace import Workspace
    from meta_spliceai.splice_engine.variants.external_scores import ScoreFile


def leaderboard(
    data: Annotated[str | None, typer.Option(help="Only this data set.")] = None,
    split: Annotated[str | None, typer.Option(help="Only this kind of split: its name, or the start of it.")] = None,
    pool: Annotated[
        bool, typer.Option("--pool-starts", help="One line for runs of a row that differ only in training.start.")
    ] = False,
    scores: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE[:COLUMN]",
            help="Another tool's scores: VCF (:INFO/KEY), TSV, CSV or Parquet with chrom, pos, ref, alt (gene).",
        ),
    ] = None,
    as_json: AsJson = False,
    as_markdown_: Annotated[bool, typer.Option("--markdown", help="As Markdown tables.")] = False,
    runs_dir: RunsDir = None,
    ledgers: Ledgers = None,
) -> None:
    """Compare finished runs: baselines first, learned models below.

    Brackets hold 95 % bootstrap intervals over groups. The verdicts say which
    models do not beat the baselines. If the measurement was repeated, the last
    line shows how well one replicate predicts the other.

    --scores (may be repeated) adds a line for a tool that is not run here; all
    models are then re-evaluated on the variants that it scores. With --data
    and no run on that data set, only such tools are compared.

    [bold]Examples[/bold]

      meta-spliceai leaderboard
      meta-spliceai leaderboard --data wt1-exon5 --json
      meta-spliceai leaderboard --data mfass --split chromosome --ledger results
      meta-spliceai leaderboard --data mfass --markdown
      meta-spliceai leaderboard --data wt1-exon5 --pool-starts
      meta-spliceai leaderboard --data mfass --scores cadd=cadd.tsv.gz:PHRED \\
          --scores mine=mine.vcf.gz:INFO/SCORE
    """
    from meta_spliceai.experiments.board.leaderboard import board_table, boards
    from meta_spliceai.experiments.board.shown import as_markdown
    from meta_spliceai.experiments.store.ledger import ledger_damage
    from meta_spliceai.experiments.store.workspace import Workspace

    if as_json and as_markdown_:
        raise InputError("give one of --json and --markdown")
    if pool and scores:
        raise InputError("give one of --pool-starts and --scores")
    files: list[ScoreFile] = []
    if scores:
        from meta_spliceai.experiments.board.compare import beside_none, beside_runs
        from meta_spliceai.splice_engine.variants.external_scores import ScoreFile

        files = [ScoreFile.parse(text) for text in scores]
    workspace = Workspace.default(runs_dir, ledgers)
    found = _selected(boards(workspace), workspace, data, split, bool(files))
    if files and not found and data is None:
        raise InputError(f"no finished run in {workspace.root} to set --scores beside; name a data set with --data")
    if files:
        found = [beside_runs(board, workspace, files) for board in found] or [beside_none(str(data), files)]
    if pool:
        from meta_spliceai.experiments.board.compare import pool_starts

        found = [pool_starts(board, workspace) for board in found]
    if damage := ledger_damage(workspace.root):
        lines = "1 line was" if len(damage) == 1 else f"{len(damage)} lines were"
        typer.echo(f"warning: {workspace.ledger.path}: {lines} left out; {damage[0].describe()}", err=True)
    if as_json:
        print_json([board.to_json() for board in found])
    elif as_markdown_:
        for shown in [one for board in found for one in (board_table(board), *_strata_of(board))]:
            typer.echo(f"## {shown.title}\n\n{as_markdown(shown)}\n")
    else:
        console = PlainConsole()
        if not found:
            console.print(_why_none(workspace), soft_wrap=True, highlight=False)
        for board in found:
            print_board(board, console)


def _why_none(workspace: Workspace) -> str:
    """Why there is no board at all: no finished run, or smoke runs alone, which stand on none."""
    smoke = len(workspace.finished())
    if not smoke:
        return f"No finished run in {workspace.root} yet; begin with: meta-spliceai quickstart"
    return (
        f"{workspace.root} has only smoke runs ({smoke:,} finished), which are never results and stand on no "
        "leaderboard; run their rows without --smoke (meta-spliceai runs list names them)"
    )


def _selected(
    found: list[Board], workspace: Workspace, data: str | None, split: str | None, external: bool
) -> list[Board]:
    """The boards of a data set and a split; with external scores, a data set need not have any."""
    where = f"the finished runs of {', '.join(map(str, (workspace.root, *workspace.ledgers)))}"
    of_data = [board for board in found if data in (None, board.data)]
    if data is not None and not of_data and not external:
        raise unknown_value("data set", data, sorted({board.data for board in found}), where=where)
    of_split = [board for board in of_data if board.split.startswith(split or "")]
    if split is not None and not of_split:
        raise unknown_value("split", split, sorted({board.split for board in of_data}), where=where)
    return of_split


def _strata_of(board: Board, kinds: Collection[str] = ("baseline", "base", "external", "learned")) -> list[Texts]:
    """The board's strata, if it has any, as a table with a column for every scorer of these kinds."""
    from meta_spliceai.experiments.board.shown import strata_table

    strata = [record for record in board.strata if record.get("kind") in kinds]
    return [strata_table(strata)] if strata else []


MOST_LEARNED = 100
"""Learned models of a board that the terminal shows."""

METRIC_WIDTH = 24
"""Characters that a metric with its interval takes in the terminal, spaces included."""


def print_board(board: Board, console: PlainConsole) -> None:
    """Print one leaderboard as a table in the terminal, with its notes.

    Shows as many metrics as fit the terminal and, of very many models, the best; all are in `--json` and on the page.
    """
    from meta_spliceai.experiments.board.leaderboard import SHOWN, board_table, coverage_in_words, evaluated_on

    learned = [line for line in board.lines if line.kind == "learned"]
    left_out = len(learned[MOST_LEARNED:])
    board = replace(board, lines=board.lines[: len(board.lines) - left_out])
    drawn = board_table(board)
    priced = any(line.dollars is not None for line in board.lines)
    names = max(len(line.scorer) for line in board.lines)
    room = max(1, (console.width - names - (28 if priced else 20)) // METRIC_WIDTH)
    wanted = {*list(SHOWN.values())[:room], "time", "peak memory", *(["cost"] if priced else [])}
    places = [0, *(place for place, column in enumerate(drawn.columns) if column in wanted)]
    heading, *rows = [[row[place] for place in places] for row in (drawn.columns, *drawn.rows)]
    shown = table("", *heading[1:], right=heading[1:], whole=("", *heading[1:]))
    for kind, part in groupby(zip(drawn.kinds, rows, strict=True), lambda pair: pair[0]):
        shown.add_row(styled((kind, "dim")))
        for _, row in part:
            shown.add_row(*row)
        shown.add_section()
    console.print(styled("\n", (board.data, "bold"), f": {evaluated_on(board)}"), highlight=False)
    console.print(shown, highlight=False)
    if left_out:
        console.print(f"  {left_out:,} more learned models, of lower AUPRC, are not shown; --json has them all")
    if board.coverage:
        console.print(f"  data: {coverage_in_words(board.coverage)}", highlight=False)
    for note in board.notes:
        console.print(f"  note: {note}", highlight=False)
    verdicts = [f"  {line.scorer} {verdict}" for line in board.lines for verdict in line.verdicts]
    if verdicts:
        console.print("\n".join(verdicts), highlight=False)
    for strata in _strata_of(board, ("base", "external")):
        console.print(f"\n  {strata.title}")
        inner = table(*strata.columns)
        for cells in strata.rows:
            inner.add_row(*cells)
        console.print(inner)


Plan = Annotated[bool, typer.Option("--plan/--no-plan", help="Ask the planner what the remaining rows cost.")]


def report(
    out: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Folder for the site. Default: report beside the runs."),
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
    """Write the site: a folder of pages that open without a network or server.

    It shows what is left and its cost, a leaderboard for each data set and
    split, a page per run (curves, precision-recall and ROC with intervals,
    calibration, strata, observed splice sites, saturation map, spec,
    environment), and any two runs side by side. Pages whose runs have not
    changed are not rewritten. --figure draws the leaderboard and the map.

    [bold]Examples[/bold]

      meta-spliceai report --open
      meta-spliceai report --runs-dir lab/runs -o site
      meta-spliceai report --ledger results -o site
      meta-spliceai report --figure docs/images/quickstart.svg
    """
    from meta_spliceai.experiments.report.figure import write_figure
    from meta_spliceai.experiments.report.site import build_report
    from meta_spliceai.experiments.store.workspace import Workspace

    workspace = Workspace.default(runs_dir, ledgers)
    if figure is not None:
        typer.echo(str(write_figure(workspace, figure)))
        return
    planned = None
    if plan:
        from meta_spliceai.experiments.report.left import what_is_left  # brings PyTorch

        planned = what_is_left(workspace)
    page = build_report(workspace, out or workspace.root / "report", plan=planned)
    typer.echo(str(page))
    if open_:
        webbrowser.open(page.resolve().as_uri())


def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0: any free one.")] = 8765,
    runs_dir: RunsDir = None,
    ledgers: Ledgers = None,
    plan: Plan = True,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Serve the site of `report` on this machine, and keep it current.

    Pages reload by themselves when a run begins, ends or changes; runs in
    progress show how far they are. It listens on 127.0.0.1 only,
    keeps its pages in a temporary folder, and answers at most 32 connections
    at a time. Ctrl-C or SIGTERM ends it.

    [bold]Examples[/bold]

      meta-spliceai serve --open
      meta-spliceai serve --runs-dir lab/runs --port 9000
    """
    from meta_spliceai.experiments.execute.queue import sigterm_as_ctrl_c
    from meta_spliceai.experiments.report.left import what_is_left
    from meta_spliceai.experiments.report.serve import HOST, LiveSite, make_server
    from meta_spliceai.experiments.report.serve import serve as answer
    from meta_spliceai.experiments.store.workspace import Workspace

    with sigterm_as_ctrl_c(), TemporaryDirectory(prefix="meta-spliceai-site-") as folder:
        site = LiveSite(Workspace.default(runs_dir, ledgers), Path(folder), what_is_left if plan else None)
        with make_server(site, port) as server, suppress(KeyboardInterrupt):
            typer.echo("building the site", err=True)
            site.refresh()
            address = f"http://{HOST}:{server.server_address[1]}/"
            typer.echo(address)
            typer.echo("Ctrl-C ends it", err=True)
            if open_:
                webbrowser.open(address)
            answer(site, server, lambda line: typer.echo(line, err=True))
    typer.echo("ended", err=True)
