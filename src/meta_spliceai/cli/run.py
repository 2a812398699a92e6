"""`meta-spliceai run`: a row of the catalogue becomes a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEVICES = ("auto", "cpu", "cuda")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("run")(run)


def run(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Rows of `meta-spliceai wishlist`.")],
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the row; may be given several times."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Use N variants, drawn with the seed.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="The seed of everything (default: the row's).")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was interrupted.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw an unfinished run away and start over.")] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="The row in miniature, to see that it runs; never a result.")
    ] = False,
    runs_dir: Annotated[Path | None, typer.Option("--runs-dir", help="Folder of runs (default: ./runs).")] = None,
) -> None:
    """Run rows of the catalogue, one after the other.

    A run lives in a folder named by the content of its specification, data,
    code and seed: a finished row run again says so and shows its result, an
    interrupted one goes on with --resume from its last epoch.

    [bold]Examples[/bold]

      meta-spliceai run wt1-validated-delta
      meta-spliceai run validated-delta-10k --device cuda --seed 1
      meta-spliceai run validated-delta-10k --set training.epochs=5
      meta-spliceai run simple-cnn-501 --limit 2000 --set window=301
      meta-spliceai run unified-multitask --smoke
    """
    from meta_spliceai.errors import InputError, unknown_value
    from meta_spliceai.experiments.rows import change, find_row, load_rows
    from meta_spliceai.experiments.smoke import as_smoke
    from meta_spliceai.experiments.workspace import Workspace

    if device not in DEVICES:
        raise unknown_value("device", device, DEVICES, where="--device")
    if resume and fresh:
        raise InputError("--resume goes on with a run and --fresh throws it away; give one of them")
    rows = load_rows()
    wanted = list(assignments or [])
    if limit is not None:
        wanted.append(f"data.rows={limit}")
    if seed is not None:
        wanted.append(f"training.seed={seed}")
    # All rows are looked up and changed before the first one starts: a typing error must not show after hours.
    specs = [change(find_row(rows, row_id), wanted) if wanted else find_row(rows, row_id) for row_id in ids]
    if smoke:
        specs = [as_smoke(spec) for spec in specs]

    from meta_spliceai.cli.terminal import Terminal
    from meta_spliceai.experiments.queue import run_all

    terminal = Terminal()
    workspace = Workspace.default(runs_dir)
    outcomes = run_all(specs, workspace, rows=rows, device=device, resume=resume, fresh=fresh, watcher=terminal)
    terminal.conclude(outcomes)
    if any(outcome.failed for outcome in outcomes):
        raise typer.Exit(2)
