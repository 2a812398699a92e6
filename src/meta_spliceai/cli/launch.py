"""`meta-spliceai launch`: rows on a rented machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from meta_spliceai.cli.guard_paths import Reads, Writes
from meta_spliceai.cli.options import Assignments, Prices, RunsDir, Seed
from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.files import atomic_write

DEFAULT_VOLUME = "meta-spliceai"


def launch(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Rows of `meta-spliceai wishlist`.")],
    cloud: Annotated[str, typer.Option("--cloud", help="Whose machine: runpod, aws, gcp, azure, lambda …")] = "runpod",
    spot: Annotated[
        bool, typer.Option("--spot", help="A cheaper machine that may be taken away; the job goes on on another.")
    ] = False,
    gpu: Annotated[str | None, typer.Option("--gpu", help="This card (default: where the rows cost least).")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the job, the offer and the cost; needs no account.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Submit without asking.")] = False,
    assignments: Assignments = None,
    seed: Seed = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="The rows in miniature, to see that the way works.")] = False,
    volume: Annotated[
        str | None, typer.Option("--volume", help=f"SkyPilot volume for runs and caches (default: {DEFAULT_VOLUME}).")
    ] = None,
    bucket: Annotated[
        str | None, typer.Option("--bucket", help="Bucket for runs and caches instead: s3://NAME, gs://NAME …")
    ] = None,
    image: Annotated[str | None, typer.Option("--image", help="Container image, with its tag.")] = None,
    wheel: Annotated[
        Path | None, typer.Option("--wheel", help="This package's wheel (default: built from the checkout)."), Reads()
    ] = None,
    prices: Prices = None,
    out: Annotated[Path, typer.Option("--out", help="Where the job's YAML is written."), Writes()] = Path(
        "meta-spliceai-job.yaml"
    ),
    runs_dir: RunsDir = None,
) -> None:
    """Run rows on a rented machine, as a managed job of SkyPilot's.

    The planner chooses the card on which the rows cost least. The job installs
    this package's wheel and calls `meta-spliceai run ID... --resume`; runs,
    caches and data lie on a volume or in a bucket, so that a machine that is
    taken away costs at most an epoch. It costs money: what, is shown and
    asked first. --dry-run only shows it.

    [bold]Examples[/bold]

      meta-spliceai launch validated-delta-50k --cloud runpod --dry-run
      meta-spliceai launch simple-cnn-501 validated-delta-10k --spot \\
          --gpu "RTX 4090"
      meta-spliceai launch validated-delta-50k --cloud aws \\
          --bucket s3://my-lab-runs --yes
    """
    from meta_spliceai.experiments.execute.on_cloud import (
        CLOUDS,
        IMAGE,
        Rental,
        build_wheel,
        choose_offer,
        cost_of,
        make_task,
        sky_command,
        submit,
        task_as_yaml,
        wheel_name,
    )
    from meta_spliceai.experiments.plan.planner import Planner
    from meta_spliceai.experiments.spec.rows import OWN_FOLDER, as_smoke, change, find_row, load_rows
    from meta_spliceai.experiments.store.workspace import Workspace

    if cloud not in CLOUDS:
        raise unknown_value("cloud", cloud, CLOUDS, where="--cloud")
    rows = load_rows()
    wanted = [*(assignments or []), *([f"training.seed={seed}"] if seed is not None else [])]
    chosen = [as_smoke(spec) if smoke else spec for spec in (find_row(rows, row_id) for row_id in ids)]
    specs = [change(spec, wanted) if wanted else spec for spec in chosen]
    options = [word for assignment in wanted for word in ("--set", assignment)] + (["--smoke"] if smoke else [])
    rental = Rental(
        tuple(ids),
        tuple(options),
        cloud,
        spot,
        volume if volume is not None or bucket is not None else DEFAULT_VOLUME,
        bucket,
        image or IMAGE,
        wheel or out.parent / "dist" / wheel_name(),
        OWN_FOLDER if OWN_FOLDER.is_dir() else None,
    )
    if wheel is not None and not wheel.is_file():
        raise InputError(f"--wheel {wheel}: no such file")
    planner = Planner(Workspace.default(runs_dir), rows, prices, cloud=cloud)
    card = planner.market.find(gpu, "--gpu").name if gpu is not None else None
    plan = planner.rows(specs, card)
    offer = choose_offer(plan.rows, cloud, card)
    task = make_task(rental, offer)
    typer.echo(f"# {out}")
    typer.echo(task_as_yaml(task))
    for row_id, offered in offer.items():
        typer.echo(
            f"{row_id}: {offered.hours:.2f} h (at most {offered.hours_most:.2f}), ${offered.dollars or 0:.2f}; "
            f"{offered.peak_bytes / 1e9:.1f} GB at batch {offered.batch_size}; {offered.why}"
        )
    first = next(iter(offer.values()))
    rate = first.dollars_per_hour or 0.0
    hours, most = (sum(getattr(one, name) for one in offer.values()) for name in ("hours", "hours_most"))
    typer.echo(
        f"offer: {first.gpu} at ${rate:.2f} an hour on demand "
        f"({first.provider}, {first.as_of}{'' if not spot else '; spot costs less'})"
    )
    typer.echo(f"cost: ${cost_of(offer):.2f} for {hours:.2f} h, at most ${most * rate:.2f}, storage not counted")
    for warning in plan.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if dry_run:
        typer.echo("dry run: nothing was written or submitted")
        return
    command = sky_command()
    if not yes:
        if not sys.stdin.isatty():
            raise InputError(
                "launch costs money and asks first; there is no terminal to ask in: add --yes, or --dry-run"
            )
        typer.confirm("submit it?", abort=True)
    if wheel is None:
        build_wheel(rental.wheel.parent)
    with atomic_write(out) as handle:
        handle.write(task_as_yaml(task))
    submit(command, out, task["name"])
    typer.echo(f"submitted as {task['name']}; `sky jobs queue` and `sky jobs logs --name {task['name']}` show it")
