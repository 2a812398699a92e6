"""`meta-spliceai run`, `quickstart` and `launch`: run rows of the catalogue, here or on a rented machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meta_spliceai.cli import options
from meta_spliceai.cli.console import PlainConsole, table
from meta_spliceai.cli.options import LARGEST_SEED, MOST_DOLLARS, MOST_ROWS, Reads, Writes
from meta_spliceai.errors import InputError, RunError, unknown_value
from meta_spliceai.files import atomic_write

if TYPE_CHECKING:
    from meta_spliceai.experiments.execute.all_rows import Expected, Fate
    from meta_spliceai.experiments.spec.experiment import ExperimentSpec

EXIT_ROWS_LEFT = 3
"""Nothing failed, but the time limit left rows for the next call."""

PRICE_VARIABLE = "META_SPLICEAI_PRICE_PER_HOUR"
"""Dollars per hour for this machine; `launch` sets it on the machines that it rents."""

DEFAULT_VOLUME = "meta-spliceai"
QUICKSTART_ROWS = ("wt1-validated-delta", "wt1-simple-cnn")


def run(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID...]", help="Rows of `meta-spliceai wishlist`.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every row that can be run, in the best order; continues where it stopped.")
    ] = False,
    time_limit: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop cleanly after 9m, 1h30m …; exit code 3 if rows remain.")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Take rows, data and weights from a bundle."),
        Reads(what="bundle"),
    ] = None,
    assignments: options.Assignments = None,
    device: options.Device = "auto",
    kernel: options.Kernel = None,
    limit: options.Limit = None,
    seed: options.Seed = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Discard an unfinished run and start over.")] = False,
    scale: Annotated[str, typer.Option(help="full, or laptop: smaller, to finish in minutes on two cores.")] = "full",
    smoke: Annotated[
        bool,
        typer.Option("--smoke", help="Run the row in miniature to test it; --set still applies. Never a result."),
    ] = False,
    executor: Annotated[str, typer.Option(help="local (this machine), ray (a cluster) or slurm.")] = "local",
    jobs: Annotated[
        int,
        typer.Option(
            min=1,
            max=1024,
            metavar="N",
            help="Rows run at a time, each in its own process (local); with fewer rows than N, also folds.",
        ),
    ] = 1,
    ray_address: options.RayAddress = None,
    gpus_per_run: Annotated[
        float | None, typer.Option(min=0, max=64, help="Fraction of a GPU for each run (ray), such as 0.25.")
    ] = None,
    slurm: options.SlurmSettings = None,
    track: Annotated[
        list[str] | None, typer.Option(metavar="LOGGER", help="Also log to mlflow, csv, tensorboard, wandb or comet.")
    ] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="Where to log (default: RUNS/tracking, MLflow in SQLite).")
    ] = None,
    progress: Annotated[str, typer.Option(help="auto (bars in a terminal), lines, json or quiet.")] = "auto",
    price_per_hour: Annotated[
        float | None,
        typer.Option(min=0, max=MOST_DOLLARS, envvar=PRICE_VARIABLE, help="Dollars per hour for this machine."),
    ] = None,
    runs_dir: options.RunsDir = None,
) -> None:
    """Run rows of the catalogue: here, on a Ray cluster or on Slurm.

    A run's folder is named by a hash of its specification, data, code and
    seed: running a finished row again shows its result, and --resume continues
    an interrupted one from its last epoch. Several rows run one after the
    other or, with --jobs, in parallel; one that fails does not stop the
    others.

    With --all or --time-limit, the planner orders the rows. A row that is not
    expected to finish in time is not started, one still running at the limit
    is interrupted, and the same command continues later.

    [bold]Examples[/bold]

      meta-spliceai run wt1-validated-delta
      meta-spliceai run validated-delta-10k --device cuda --seed 1
      meta-spliceai run validated-delta-10k --set training.epochs=5
      meta-spliceai run --all --scale laptop --time-limit 2h
      meta-spliceai run simple-cnn-501 --limit 2000 --set window=301
      meta-spliceai run unified-multitask --smoke
      meta-spliceai run simple-cnn-501 validated-delta-10k --jobs 2 --resume
      meta-spliceai run simple-cnn-501 --track mlflow
      meta-spliceai run --all --device cuda --time-limit 9m
      meta-spliceai run --all --bundle bundle.zip --smoke
      meta-spliceai run cnn-hyenadna-ensemble --executor ray --gpus-per-run 0.25
      meta-spliceai run simple-cnn-501 --executor slurm --slurm partition=gpu \\
          --slurm gpus_per_node=1
    """
    from meta_spliceai.experiments.spec.parts import missing_parts, require_something
    from meta_spliceai.experiments.spec.rows import find_row, load_rows
    from meta_spliceai.experiments.store.workspace import Workspace

    options.require_device(device)
    if resume and fresh:
        raise InputError("--resume goes on with a run and --fresh throws it away; give one of them")
    if bool(ids) == every:
        raise InputError("name the rows to run, or give --all for every row that can be run")
    seconds = None if time_limit is None else options.parse_duration(time_limit, "--time-limit")
    if seconds is not None and executor != "local":
        raise InputError(f"--time-limit is for --executor local; give the limit to {executor} itself")
    began = time.monotonic()
    if bundle is None:
        rows = load_rows()
    else:
        from meta_spliceai.experiments.bundle.archive import tell_origin, use_bundle

        opened = use_bundle(bundle)
        rows = opened.rows
    # All rows are looked up and changed before the first one starts: a typing error must not show after hours.
    chosen = [spec for spec in rows.values() if not missing_parts(spec, rows)] if every else []
    chosen += [find_row(rows, row_id) for row_id in ids or ()]
    specs = _as_asked(chosen, _wanted(assignments, seed, limit), smoke, scale)
    workspace = Workspace.default(runs_dir)
    if executor == "local" and bundle is None:
        require_something(specs, workspace, rows)

    from meta_spliceai.cli.terminal import make_screen
    from meta_spliceai.experiments.execute.all_rows import Admission, Place, fates, longer_last, order_rows, run_at
    from meta_spliceai.experiments.execute.queue import Request
    from meta_spliceai.experiments.run.callback import check_loggers

    place = Place(executor, jobs, ray_address, gpus_per_run, tuple(slurm or ()))
    screen = make_screen(progress, price_per_hour, several=place.several)
    if bundle is not None:
        tell_origin(opened, bundle, screen)
    expected: list[Expected] = []
    if every or seconds is not None:
        from meta_spliceai.splice_engine.meta_layer.features import choose_device

        resume = resume or not fresh
        expected = longer_last(order_rows(specs, workspace, rows, choose_device(device).type), seconds)
        specs = [one.spec for one in expected]
    loggers = check_loggers(track or ())
    requests = [
        Request(spec, rows, workspace.root, device, resume, fresh, loggers, tracking_uri, price_per_hour)
        for spec in specs
    ]
    admission = Admission(expected, workspace, seconds) if expected else None
    outcomes = run_at(place, requests, screen, None if seconds is None else began + seconds, admission)
    screen.conclude(outcomes)
    failed, left = any(outcome.failed for outcome in outcomes), False
    if admission is not None:
        ends = fates(expected, outcomes, admission.refused)
        failed, left = (any(end.state == state for end in ends) for state in ("failed", "left"))
        if progress != "json":
            _tell(ends)
    if failed or left:
        raise typer.Exit(2 if failed else EXIT_ROWS_LEFT)


def _wanted(assignments: list[str] | None, seed: int | None, limit: int | None = None) -> list[str]:
    """What options set, as `--set` takes it."""
    named = {"data.rows": limit, "training.seed": seed}
    return [*(assignments or []), *(f"{field}={value}" for field, value in named.items() if value is not None)]


def _as_asked(
    specs: Sequence[ExperimentSpec], wanted: list[str], smoke: bool = False, scale: str = "full"
) -> list[ExperimentSpec]:
    """Rows as asked for: what is set by name goes before what --scale and --smoke make small."""
    from meta_spliceai.experiments.spec.rows import as_smoke, at_scale, change

    specs = [at_scale(spec, scale) for spec in specs]
    specs = [as_smoke(spec) for spec in specs] if smoke else specs
    return [change(spec, wanted) if wanted else spec for spec in specs]


def _tell(ends: Sequence[Fate]) -> None:
    shown = table("row", "state", "why")
    for end in ends:
        shown.add_row(end.row_id, end.state, end.why)
    console = PlainConsole()
    console.print(shown)
    counts = {state: sum(end.state == state for end in ends) for state in ("done", "left", "failed")}
    console.print(", ".join(f"{count} {state}" for state, count in counts.items()), highlight=False)
    if counts["left"]:
        console.print("the same command goes on with what is left")


def quickstart(
    mutants: Annotated[
        int | None,
        typer.Option(min=200, max=MOST_ROWS, metavar="N", help="Use N of the measured mutants, sampled with the seed."),
    ] = None,
    device: options.Device = "auto",
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed for all randomness.")] = 0,
    runs_dir: options.RunsDir = None,
) -> None:
    """Train and evaluate two models on measured mutants, and write a page.

    SpliceAI scores mutants of WT1 exon 5, ValidatedDelta and SimpleCNN learn
    from part of the exon's positions, and all are evaluated, with baselines, on
    positions that no model saw. A second run reuses what the first one computed
    and says so.

    [bold]Examples[/bold]

      meta-spliceai quickstart
      meta-spliceai quickstart --mutants 1000 --seed 1
    """
    options.require_device(device)
    from meta_spliceai.cli.leaderboard import print_board
    from meta_spliceai.cli.terminal import Terminal
    from meta_spliceai.experiments.board.leaderboard import boards
    from meta_spliceai.experiments.execute.queue import InProcess, Request, run_queue
    from meta_spliceai.experiments.report.site import build_report
    from meta_spliceai.experiments.spec.rows import find_row, load_rows
    from meta_spliceai.experiments.store.workspace import Workspace

    started = time.perf_counter()
    rows = load_rows()
    specs = _as_asked([find_row(rows, row_id) for row_id in QUICKSTART_ROWS], _wanted(None, seed, mutants))
    workspace = Workspace.default(runs_dir)
    terminal = Terminal()
    requests = [Request(spec, rows, workspace.root, device, resume=True) for spec in specs]
    outcomes = run_queue(requests, InProcess(), terminal)
    failed = [outcome for outcome in outcomes if outcome.failed]
    if failed:
        raise RunError(f"quickstart: {'; '.join(f'{outcome.spec.id}: {outcome.error}' for outcome in failed)}")
    with terminal.stage("page"):
        page = build_report(workspace, workspace.root / "report")
    console = PlainConsole()
    names = {outcome.run.name for outcome in outcomes if outcome.run is not None}
    for board in boards(workspace):
        if any(line.run in names for line in board.lines):
            print_board(board, console)
    reused = sum(outcome.reused for outcome in outcomes)
    again = f"; {reused} of {len(outcomes)} runs were finished before and are shown as they are" if reused else ""
    console.print(f"done in {time.perf_counter() - started:.0f} s{again}", highlight=False)
    console.print(f"page: {page.resolve()}", highlight=False, soft_wrap=True)


def launch(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Rows of `meta-spliceai wishlist`.")],
    cloud: Annotated[str, typer.Option(help="Cloud provider: runpod, aws, gcp, azure, lambda …")] = "runpod",
    spot: Annotated[
        bool, typer.Option("--spot", help="A cheaper machine that may be preempted; the job then continues on another.")
    ] = False,
    gpu: Annotated[str | None, typer.Option(help="GPU to rent (default: where the rows cost least).")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the job, the offer and the cost; needs no account.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Submit without asking.")] = False,
    assignments: options.Assignments = None,
    seed: options.Seed = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="Run the rows in miniature, to test the setup.")] = False,
    volume: Annotated[
        str | None, typer.Option(help=f"SkyPilot volume for runs and caches (default: {DEFAULT_VOLUME}).")
    ] = None,
    bucket: Annotated[
        str | None, typer.Option(help="Bucket for runs and caches instead: s3://NAME, gs://NAME …")
    ] = None,
    image: Annotated[str | None, typer.Option(help="Container image, with its tag.")] = None,
    wheel: Annotated[
        Path | None, typer.Option(help="This package's wheel (default: built from the checkout)."), Reads(what="wheel")
    ] = None,
    prices: options.Prices = None,
    out: Annotated[Path, typer.Option("-o", "--output", help="Where the job's YAML is written."), Writes()] = Path(
        "meta-spliceai-job.yaml"
    ),
    runs_dir: options.RunsDir = None,
) -> None:
    """Run rows on a rented machine, as a SkyPilot managed job.

    The planner chooses the GPU on which the rows cost least. The job installs
    this package's wheel and calls `meta-spliceai run ID... --resume`; runs,
    caches and data are on a volume or in a bucket, so that preemption loses at
    most an epoch. This costs money: the cost is shown and you are asked to
    confirm. --dry-run only shows it.

    [bold]Examples[/bold]

      meta-spliceai launch validated-delta-50k --cloud runpod --dry-run
      meta-spliceai launch simple-cnn-501 validated-delta-10k --spot \\
          --gpu "RTX 4090"
      meta-spliceai launch validated-delta-50k --cloud aws \\
          --bucket s3://my-lab-runs --yes
    """
    from meta_spliceai.experiments.execute import on_cloud
    from meta_spliceai.experiments.plan.planner import Planner
    from meta_spliceai.experiments.spec.rows import OWN_FOLDER, find_row, load_rows
    from meta_spliceai.experiments.store.workspace import Workspace

    if cloud not in on_cloud.CLOUDS:
        raise unknown_value("cloud", cloud, on_cloud.CLOUDS, where="--cloud")
    rows = load_rows()
    wanted = _wanted(assignments, seed)
    specs = _as_asked([find_row(rows, row_id) for row_id in ids], wanted, smoke)
    rental = on_cloud.Rental(
        ids=tuple(ids),
        options=(*(word for assignment in wanted for word in ("--set", assignment)), *(["--smoke"] if smoke else [])),
        cloud=cloud,
        spot=spot,
        volume=volume if volume is not None or bucket is not None else DEFAULT_VOLUME,
        bucket=bucket,
        image=image or on_cloud.IMAGE,
        wheel=wheel or out.parent / "dist" / on_cloud.wheel_name(),
        wishlist=OWN_FOLDER if OWN_FOLDER.is_dir() else None,
    )
    planner = Planner(Workspace.default(runs_dir), rows, prices, cloud=cloud)
    card = planner.market.find(gpu, "--gpu").name if gpu is not None else None
    plan = planner.rows(specs, card)
    offer = on_cloud.choose_offer(plan.rows, cloud, card)
    task = on_cloud.make_task(rental, offer)
    job = on_cloud.task_as_yaml(task)
    typer.echo(f"# {out}\n{job}")
    for line in on_cloud.cost_in_words(offer, spot):
        typer.echo(line)
    for warning in plan.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if dry_run:
        typer.echo("dry run: nothing was written or submitted")
        return
    command = on_cloud.sky_command()
    if not yes and not sys.stdin.isatty():
        raise InputError("launch costs money and asks first; there is no terminal to ask in: add --yes, or --dry-run")
    if not yes:
        typer.confirm("submit it?", abort=True)
    if wheel is None:
        on_cloud.build_wheel(rental.wheel.parent)
    with atomic_write(out) as handle:
        handle.write(job)
    on_cloud.submit(command, out, task["name"])
    typer.echo(f"submitted as {task['name']}; `sky jobs queue` and `sky jobs logs --name {task['name']}` show it")
