"""`meta-spliceai run`: a row of the catalogue becomes a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEVICES = ("auto", "cpu", "cuda")

PRICE_VARIABLE = "META_SPLICEAI_PRICE_PER_HOUR"
"""Dollars an hour of this machine; `launch` sets it on the machines that it rents."""


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
    executor: Annotated[
        str, typer.Option("--executor", help="local (this machine), ray (a cluster) or slurm.")
    ] = "local",
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, metavar="N", help="Rows at a time, each in a process of its own (local).")
    ] = 1,
    ray_address: Annotated[
        str | None, typer.Option("--ray-address", help="A Ray cluster (default: one is started on this machine).")
    ] = None,
    gpus_per_run: Annotated[
        float | None, typer.Option("--gpus-per-run", min=0, help="Share of a GPU for each run (ray), such as 0.25.")
    ] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option("--slurm", metavar="KEY=VALUE", help="A setting of the Slurm job, such as partition=gpu."),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option("--track", metavar="LOGGER", help="Also log to mlflow, csv, tensorboard, wandb or comet."),
    ] = None,
    tracking_uri: Annotated[
        str | None, typer.Option("--tracking-uri", help="Where to log (default: RUNS/tracking, MLflow in SQLite).")
    ] = None,
    progress: Annotated[
        str, typer.Option("--progress", help="auto (bars in a terminal), lines, json or quiet.")
    ] = "auto",
    price_per_hour: Annotated[
        float | None,
        typer.Option("--price-per-hour", min=0, envvar=PRICE_VARIABLE, help="Dollars an hour of this machine."),
    ] = None,
    runs_dir: Annotated[Path | None, typer.Option("--runs-dir", help="Folder of runs (default: ./runs).")] = None,
) -> None:
    """Run rows of the catalogue: here, on a Ray cluster or on Slurm.

    A run lives in a folder named by the content of its specification, data,
    code and seed: a finished row run again says so and shows its result, an
    interrupted one goes on with --resume from its last epoch. Several rows
    run one after the other or, with --jobs, at the same time; one that fails
    does not stop the others.

    [bold]Examples[/bold]

      meta-spliceai run wt1-validated-delta
      meta-spliceai run validated-delta-10k --device cuda --seed 1
      meta-spliceai run validated-delta-10k --set training.epochs=5
      meta-spliceai run simple-cnn-501 --limit 2000 --set window=301
      meta-spliceai run unified-multitask --smoke
      meta-spliceai run simple-cnn-501 validated-delta-10k --jobs 2 --resume
      meta-spliceai run simple-cnn-501 --track mlflow
      meta-spliceai run ensemble-weighted --executor ray --gpus-per-run 0.25
      meta-spliceai run simple-cnn-501 --executor slurm --slurm partition=gpu --slurm gpus_per_node=1
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

    from meta_spliceai.cli.terminal import make_screen
    from meta_spliceai.experiments.executors.places import Place, run_at
    from meta_spliceai.experiments.executors.request import Request
    from meta_spliceai.experiments.tracking import check_loggers

    place = Place(executor, jobs, ray_address, gpus_per_run, tuple(slurm or ()))
    screen = make_screen(progress, price_per_hour, several=place.several)
    workspace = Workspace.default(runs_dir)
    loggers = check_loggers(track or ())
    requests = [
        Request(spec, rows, workspace.root, device, resume, fresh, loggers, tracking_uri, price_per_hour)
        for spec in specs
    ]
    outcomes = run_at(place, requests, screen)
    screen.conclude(outcomes)
    if any(outcome.failed for outcome in outcomes):
        raise typer.Exit(2)
