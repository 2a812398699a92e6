"""`meta-spliceai quickstart`: real data, two models, one page."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from meta_spliceai.cli.leaderboard import print_board
from meta_spliceai.cli.options import LARGEST_SEED, MOST_ROWS, Device, RunsDir, require_device
from meta_spliceai.cli.plain_console import PlainConsole

ROWS = ("wt1-validated-delta", "wt1-simple-cnn")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("quickstart")(quickstart)


def quickstart(
    mutants: Annotated[
        int | None,
        typer.Option(
            "--mutants", min=200, max=MOST_ROWS, metavar="N", help="Use N of the measured mutants, drawn with the seed."
        ),
    ] = None,
    device: Device = "auto",
    seed: Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="The seed of everything.")] = 0,
    runs_dir: RunsDir = None,
) -> None:
    """Train and evaluate two models on measured mutants; ends with a page.

    SpliceAI scores mutants of WT1 exon 5, ValidatedDelta and SimpleCNN learn
    from part of the exon's positions, and all are evaluated on positions that no
    model saw, beside baselines. A second run finds what the first one left
    and says so.

    [bold]Examples[/bold]

      meta-spliceai quickstart
      meta-spliceai quickstart --mutants 1000 --seed 1
    """
    require_device(device)
    from meta_spliceai.cli.terminal import Terminal
    from meta_spliceai.errors import RunError
    from meta_spliceai.experiments.board.leaderboard import boards
    from meta_spliceai.experiments.execute.queue import InProcess, run_queue
    from meta_spliceai.experiments.execute.request import Request
    from meta_spliceai.experiments.report import build_report
    from meta_spliceai.experiments.spec.rows import change, find_row, load_rows
    from meta_spliceai.experiments.store.workspace import Workspace

    started = time.perf_counter()
    rows = load_rows()
    wanted = [f"data.rows={mutants}"] if mutants is not None else []
    specs = [change(find_row(rows, row_id), [f"training.seed={seed}", *wanted]) for row_id in ROWS]
    workspace = Workspace.default(runs_dir)
    terminal = Terminal()
    requests = [Request(spec, rows, workspace.root, device, resume=True) for spec in specs]
    outcomes = run_queue(requests, InProcess(), terminal)
    failed = [outcome for outcome in outcomes if outcome.failed]
    if failed:
        raise RunError(f"quickstart: {'; '.join(f'{outcome.spec.id}: {outcome.error}' for outcome in failed)}")
    with terminal.stage("page"):
        page = build_report(workspace, workspace.root / "report", plan=False)
    console = PlainConsole()
    names = {outcome.run.name for outcome in outcomes if outcome.run is not None}
    for board in boards(workspace):
        if any(line.run in names for line in board.lines):
            print_board(board, console)
    reused = sum(outcome.reused for outcome in outcomes)
    again = f"; {reused} of {len(outcomes)} runs were finished before and are shown as they are" if reused else ""
    console.print(f"done in {time.perf_counter() - started:.0f} s{again}", highlight=False)
    console.print(f"page: {page.resolve()}", highlight=False, soft_wrap=True)
