"""`meta-spliceai leaderboard`: what came out, baselines first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from meta_spliceai.cli.console import PlainConsole, print_json, styled
from meta_spliceai.cli.options import AsJson, Ledgers, RunsDir

if TYPE_CHECKING:
    from meta_spliceai.experiments.board.leaderboard import Board
    from meta_spliceai.experiments.board.shown import Table as Texts
    from meta_spliceai.experiments.store.workspace import Workspace
    from meta_spliceai.splice_engine.variants.external_scores import ScoreFile


def leaderboard(
    data: Annotated[str | None, typer.Option("--data", help="Only this data set.")] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Only tests held out like this: the name, or the start of it.")
    ] = None,
    pool: Annotated[
        bool,
        typer.Option("--pool-starts", help="One line for runs of a row that differ in training.start alone."),
    ] = False,
    scores: Annotated[
        list[str] | None,
        typer.Option(
            "--scores",
            metavar="NAME=FILE[:COLUMN]",
            help="Another tool's scores: VCF (:INFO/KEY), TSV, CSV or Parquet with chrom, pos, ref, alt (gene).",
        ),
    ] = None,
    as_json: AsJson = False,
    as_markdown_: Annotated[bool, typer.Option("--markdown", help="As Markdown tables.")] = False,
    as_html_: Annotated[bool, typer.Option("--html", help="As HTML tables, without a page around them.")] = False,
    runs_dir: RunsDir = None,
    ledgers: Ledgers = None,
) -> None:
    """Compare finished runs: baselines first, learned models below.

    Brackets hold the 95 % interval of a bootstrap over groups. A model that
    does not beat the baselines is said not to. Where the
    measurement was repeated, the last line is what one replicate says of the
    other.

    With --scores (as often as you like) a tool that is not run here gets a line
    of its own; all lines are then evaluated anew on the variants that it scores.
    With --data and no run on that data set, such tools are compared alone.

    [bold]Examples[/bold]

      meta-spliceai leaderboard
      meta-spliceai leaderboard --data wt1-exon5 --json
      meta-spliceai leaderboard --data mfass --split chromosome --ledger results
      meta-spliceai leaderboard --data mfass --markdown
      meta-spliceai leaderboard --data wt1-exon5 --pool-starts
      meta-spliceai leaderboard --data mfass --scores cadd=cadd.tsv.gz:PHRED \\
          --scores mine=mine.vcf.gz:INFO/SCORE
    """
    from meta_spliceai.errors import InputError
    from meta_spliceai.experiments.board.leaderboard import board_table, boards
    from meta_spliceai.experiments.board.shown import as_html, as_markdown
    from meta_spliceai.experiments.store.ledger import ledger_damage
    from meta_spliceai.experiments.store.workspace import Workspace

    if as_json + as_markdown_ + as_html_ > 1:
        raise InputError("give one of --json, --markdown and --html")
    if pool and scores:
        raise InputError("give one of --pool-starts and --scores")
    files: list[ScoreFile] = []
    if scores:
        from meta_spliceai.splice_engine.variants.external_scores import ScoreFile

        files = [ScoreFile.parse(text) for text in scores]
    workspace = Workspace.default(runs_dir, ledgers)
    found = _selected(boards(workspace), workspace, data, split, bool(files))
    if files:
        found = _beside(found, workspace, files, data)
    if pool:
        from meta_spliceai.experiments.board.compare import pool_starts

        found = [pool_starts(board, workspace) for board in found]
    if damage := ledger_damage(workspace.root):
        lines = "1 line was" if len(damage) == 1 else f"{len(damage)} lines were"
        typer.echo(f"warning: {workspace.ledger.path}: {lines} left out; {damage[0].describe()}", err=True)
    if as_json:
        print_json([board.to_json() for board in found])
    elif as_markdown_ or as_html_:
        for shown in [table for board in found for table in (board_table(board), *_strata_of(board))]:
            typer.echo(f"## {shown.title}\n\n{as_markdown(shown)}\n" if as_markdown_ else as_html(shown))
    else:
        console = PlainConsole()
        if not found:
            console.print(f"No finished run in {workspace.root} yet; begin with: meta-spliceai quickstart")
        for board in found:
            print_board(board, console)


def _selected(
    found: list[Board], workspace: Workspace, data: str | None, split: str | None, external: bool
) -> list[Board]:
    """The boards of a data set and a split; with external scores, a data set need not have any."""
    from meta_spliceai.errors import unknown_value

    where = f"the finished runs of {', '.join(map(str, (workspace.root, *workspace.ledgers)))}"
    if data is not None:
        names = sorted({board.data for board in found})
        if data not in names and not external:
            raise unknown_value("data set", data, names, where=where)
        found = [board for board in found if board.data == data]
    if split is not None:
        splits = sorted({board.split for board in found})
        found = [board for board in found if board.split.startswith(split)]
        if not found:
            raise unknown_value("split", split, splits, where=where)
    return found


def _beside(found: Sequence[Board], workspace: Workspace, files: Sequence[ScoreFile], data: str | None) -> list[Board]:
    """The boards with external scores; or one of these alone, on a data set that no run was tested on."""
    from meta_spliceai.errors import InputError
    from meta_spliceai.experiments.board.compare import beside_none, beside_runs

    if not found and data is None:
        raise InputError(f"no finished run in {workspace.root} to set --scores beside; name a data set with --data")
    return [beside_runs(board, workspace, files) for board in found] or [beside_none(str(data), files)]


def _strata_of(board: Board, kinds: Collection[str] = ("baseline", "base", "external", "learned")) -> list[Texts]:
    """The board's strata, if it has any, as a table with a column for every scorer of these kinds."""
    from meta_spliceai.experiments.board.evidence import strata_table

    names = {str(record["scorer"]) for record in board.strata if record.get("kind") in kinds}
    return [strata_table(board.strata, "auprc", names.__contains__)] if names else []


MOST_LEARNED = 100
"""Learned models of a board that the terminal shows."""

METRIC_WIDTH = 24
"""Characters that a metric with its interval takes in the terminal, spaces included."""


def print_board(board: Board, console: PlainConsole) -> None:
    """One leaderboard as a table in the terminal, with what must be known to read it.

    As many metrics as the terminal is wide, and the best of very many models; all are in `--json` and on the page.
    """
    from meta_spliceai.experiments.board.leaderboard import SHOWN, board_table, coverage_in_words, evaluated_on

    learned = [line for line in board.lines if line.kind == "learned"]
    left_out = len(learned[MOST_LEARNED:])
    board = replace(board, lines=board.lines[: len(board.lines) - left_out])
    table = board_table(board)
    priced = any(line.dollars is not None for line in board.lines)
    names = max(len(line.scorer) for line in board.lines)
    room = max(1, (console.width - names - (28 if priced else 20)) // METRIC_WIDTH)
    wanted = {*list(SHOWN.values())[:room], "time", "peak memory", *(["cost"] if priced else [])}
    places = [0, *(place for place, column in enumerate(table.columns) if column in wanted)]
    heading, *rows = [[row[place] for place in places] for row in (table.columns, *table.rows)]
    heading[0] = ""
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]

    # Not a table of rich's, which takes seconds for thousands of lines.
    def aligned(row: Sequence[str]) -> str:
        rest = zip(row[1:], widths[1:], strict=True)
        return "\n" + row[0].ljust(widths[0]) + "".join(f"  {cell.rjust(width)}" for cell, width in rest)

    text: list[str | tuple[str, str]] = [(aligned(heading), "bold"), "\n" + "─" * (len(aligned(heading)) - 1)]
    for kind, part in groupby(zip(table.kinds, rows, strict=True), lambda pair: pair[0]):
        text += [("\n" + kind, "dim"), *(aligned(row) for _, row in part), "\n"]
    console.print(styled("\n", (board.data, "bold"), f": {evaluated_on(board)}"), highlight=False)
    console.print(styled(*text), no_wrap=True, overflow="ellipsis", highlight=False)
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
        inner = Table(*strata.columns, box=box.SIMPLE_HEAD, pad_edge=False)
        for row in strata.rows:
            inner.add_row(*row)
        console.print(inner)
