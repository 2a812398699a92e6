"""`meta-spliceai runs`: lists, shows and compares runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from meta_spliceai.cli.console import PlainConsole, print_json, styled, table
from meta_spliceai.cli.leaderboard import METRIC_WIDTH, print_board
from meta_spliceai.cli.options import AsJson, Ledgers, RunsDir, Writes
from meta_spliceai.errors import InputError, IntegrityError, RunError, unknown_value

RECORDED = ("smoke", "seed", "seconds", "device", "started", "finished")
"""What `runs list` says of a run beside its state."""

group = typer.Typer(help="Past runs: list, show, compare, diff, prune, export.", no_args_is_help=True)


@group.command("list")
def list_runs(
    state: Annotated[
        str | None, typer.Option(help="Only runs in this state: running, finished, failed, interrupted, damaged.")
    ] = None,
    as_json: AsJson = False,
    runs_dir: RunsDir = None,
    ledgers: Ledgers = None,
) -> None:
    """List the runs with their state and, if any, the reason for it.

    [bold]Examples[/bold]

      meta-spliceai runs list
      meta-spliceai runs list --state failed --json
    """
    from meta_spliceai.experiments.store.workspace import STATES, Workspace

    if state is not None and state not in STATES:
        raise unknown_value("state", state, STATES, where="--state")
    workspace = Workspace.default(runs_dir, ledgers)
    rows: list[dict[str, Any]] = []
    for run in workspace.runs():
        if state is None or run.state() == state:
            found = {"run": run.name, "row": run.row_id, "state": run.state(), "reason": run.reason()}
            record = {"smoke": False, **run.record()}
            rows.append({**found, "stale": run.stale(), **{key: record.get(key) for key in RECORDED}})
    if as_json:
        print_json(rows)
        return

    from meta_spliceai.experiments.board.shown import duration

    console = PlainConsole()
    if not rows:
        console.print(f"no runs in {workspace.root}")
        return
    shown = table("run", "state", "time", "finished (UTC)", right=["time"], whole=("run", "time", "finished (UTC)"))
    for row in rows:
        words = [str(row["state"]) + (" (smoke)" if row["smoke"] else "")]
        words += [str(row["reason"])] if row["reason"] else []
        words += [f"stale: {row['stale']}"] if row["stale"] else []
        seconds = "" if row["seconds"] is None else duration(row["seconds"])
        # To the minute; --json has it to the second.
        finished = str(row["finished"] or "")[:16].replace("T", " ")
        shown.add_row(str(row["run"]), "\n".join(words), seconds, finished)
    console.print(shown)


@group.command()
def show(
    name: Annotated[str, typer.Argument(metavar="RUN", help="A run's name, or the start of it.")],
    as_json: AsJson = False,
    runs_dir: RunsDir = None,
    ledgers: Ledgers = None,
) -> None:
    """Show one run: its state, the basis of its numbers (networks, leaks, position), metrics and verdicts.

    For training and base scoring, it gives the operations counted, the time, and the utilisation: the share of the
    device's own rate in matrix products.

    [bold]Examples[/bold]

      meta-spliceai runs show wt1-simple-cnn
      meta-spliceai runs show wt1-simple-cnn-0123456789ab --json
    """
    from meta_spliceai.experiments.store.workspace import Workspace

    workspace = Workspace.default(runs_dir, ledgers)
    run = workspace.find(name)
    if run.state() == "damaged":
        raise IntegrityError(run.reason())
    record = {**run.record(), "state": run.state(), "reason": run.reason()}
    if as_json:
        spec = run.spec().model_dump(mode="json")
        metrics = run.metrics() if run.state() == "finished" else None
        print_json({"run": run.name, **record, "spec": spec, "metrics": metrics})
        return
    from meta_spliceai.experiments.board.leaderboard import boards
    from meta_spliceai.experiments.board.shown import evidence_in_short
    from meta_spliceai.experiments.run.utilisation import told_of

    console = PlainConsole()
    console.print(
        styled((run.name, "bold"), f": {record['state']}" + (f" ({record['reason']})" if record["reason"] else ""))
    )
    first = ("title", "started", "finished", "seconds", "device", "threads", "seed")
    for key in (*first, "code", "weights_origin", "parameters"):
        if record.get(key) is not None:
            console.print(f"  {key}: {record[key]}", highlight=False)
    console.print(f"  folder: {run.path}", highlight=False, soft_wrap=True)
    if run.stale():
        console.print(f"  stale: {run.stale()}", style="yellow", highlight=False)
    if record["state"] == "finished":
        for line in evidence_in_short(run):
            console.print(f"  {line}", highlight=False, soft_wrap=True, style="red" if "LEAKY" in line else None)
        for line in told_of(record):
            console.print(f"  {line}", highlight=False, soft_wrap=True)
    for board in boards(workspace, names=[run.name]):
        print_board(board, console)


@group.command()
def compare(
    names: Annotated[list[str], typer.Argument(metavar="RUN...", help="Two or more runs.")],
    as_json: AsJson = False,
    runs_dir: RunsDir = None,
    ledgers: Ledgers = None,
) -> None:
    """Evaluate several runs on their shared test rows, each paired with the first one.

    [bold]Examples[/bold]

      meta-spliceai runs compare wt1-simple-cnn wt1-validated-delta
    """
    from meta_spliceai.experiments.store.workspace import Workspace

    workspace = Workspace.default(runs_dir, ledgers)
    named = [workspace.find(name) for name in names]

    from meta_spliceai.experiments.board.compare import compare_on_shared_rows
    from meta_spliceai.experiments.board.leaderboard import SHOWN
    from meta_spliceai.experiments.board.shown import estimate
    from meta_spliceai.experiments.store.ledger import HEADLINES

    evaluation = compare_on_shared_rows(named)
    if as_json:
        print_json(evaluation.to_json())
        return

    console = PlainConsole()
    found = evaluation.metrics[evaluation.metrics["metric"].isin(HEADLINES)]
    evaluated = list(dict.fromkeys(found["metric"]))
    # As many as the terminal is wide, those that leaderboards show first.
    order = [name for name in SHOWN if name in evaluated] + [name for name in evaluated if name not in SHOWN]
    widest = max(len(scorer.name) for scorer in evaluation.scorers)
    wanted = order[: max(1, (console.width - widest - 2) // METRIC_WIDTH)]
    headings = [SHOWN.get(metric, metric.replace("_", " ")) for metric in wanted]
    shown = table("", *headings, right=headings, whole=("", *headings))
    for scorer in evaluation.scorers:
        mine = found[found["scorer"] == scorer.name].set_index("metric")
        shown.add_row(scorer.name, *(estimate(mine.loc[metric].to_dict()) for metric in wanted))
    console.print(shown)
    if len(wanted) < len(order):
        console.print(f"  {len(order) - len(wanted)} further metrics: in a wider terminal, or with --json")
    for verdict in evaluation.verdicts():
        console.print(f"  {verdict.scorer} {verdict.text}", highlight=False)


@group.command()
def diff(
    first: Annotated[str, typer.Argument(metavar="RUN", help="A run.")],
    second: Annotated[str, typer.Argument(metavar="RUN", help="Another.")],
    as_json: AsJson = False,
    runs_dir: RunsDir = None,
    ledgers: Ledgers = None,
) -> None:
    """Show how two runs differ: specification, data, code, machine, versions, and the metrics of their models.

    The metrics are each run's own; `runs compare` evaluates both on the same rows.

    [bold]Examples[/bold]

      meta-spliceai runs diff wt1-simple-cnn wt1-validated-delta
    """
    from meta_spliceai.experiments.store.workspace import Workspace

    workspace = Workspace.default(runs_dir, ledgers)
    pair = workspace.find(first), workspace.find(second)

    from meta_spliceai.experiments.store.run_record import diff_runs

    tables = diff_runs(*pair)
    if as_json:
        print_json({name: json.loads(found.to_json(orient="records")) for name, found in tables.items()})
        return
    console = PlainConsole()
    if tables["fields"].empty and tables["environment"].empty:
        console.print("the runs were made in the same way: the specification, the machine and the versions are equal")
    for name, found in tables.items():
        if found.empty:
            continue
        shown = table(*map(str, found.columns), title=name)
        for row in found.itertuples(index=False):
            shown.add_row(*(f"{one:.4g}" if isinstance(one, float) else "" if one is None else str(one) for one in row))
        console.print(shown)


@group.command()
def prune(
    really: Annotated[bool, typer.Option("--yes", help="Delete; without it, only list what would be deleted.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Delete smoke, failed, interrupted, damaged and stale runs; the ledger keeps their lines.

    Without --yes, it only lists what would be deleted and kept. A run in
    progress is never deleted. Partial results of interrupted or failed runs
    are deleted too: to keep them, run the row again with --resume first.

    [bold]Examples[/bold]

      meta-spliceai runs prune
      meta-spliceai runs prune --runs-dir lab/runs --yes
    """
    from meta_spliceai.experiments.store.keep_runs import remove_run, sort_runs
    from meta_spliceai.experiments.store.workspace import Workspace

    workspace = Workspace.default(runs_dir)
    found, kept = sort_runs(workspace)
    freed, deleted, refused = 0, 0, []
    for entry in found:
        words = f"{entry.run.name} ({entry.why}, {entry.bytes / 1e6:.1f} MB)"
        words += f": {entry.reason}" if entry.reason and entry.reason != entry.why else ""
        if really:
            try:
                remove_run(entry.run)
            except RunError as error:
                # Begun since it was looked at, say: the others go all the same.
                refused.append(str(error))
                continue
        typer.echo(f"{'deleted' if really else 'would delete'} {words}")
        freed, deleted = freed + entry.bytes, deleted + 1
    for run in kept:
        typer.echo(f"{'kept' if really else 'would keep'} {run.run.name}: {run.why}")
    for reason in refused:
        typer.echo(f"not deleted: {reason}", err=True)
    if not found:
        typer.echo(f"nothing to delete in {workspace.root}")
    elif really:
        typer.echo(f"{deleted} of {len(found)} runs deleted, {freed / 1e6:.1f} MB freed; the ledger keeps their lines")
    else:
        typer.echo(f"nothing was deleted; --yes deletes {deleted} runs and frees {freed / 1e6:.1f} MB")
    if refused:
        raise typer.Exit(1)


@group.command()
def export(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Runs (default, for a table: all of them).")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="An archive (.tar.gz; default: RUN.tar.gz here) or a table (.csv, .json, .parquet)."
        ),
        Writes(),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A ledger of finished runs without large files, such as results."),
        Writes(folder="ledger.*"),
    ] = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="With --into: also models, of at most 20 MB each.")
    ] = False,
    predictions: Annotated[
        bool, typer.Option("--predictions", help="With --into: every variant's scores and part, for `runs compare`.")
    ] = False,
    labels: Annotated[
        bool,
        typer.Option("--labels/--no-labels", help="With --predictions: include the data set's own columns."),
    ] = True,
    runs_dir: RunsDir = None,
    ledgers: Ledgers = None,
) -> None:
    """Pack one finished run into an archive, or write several as a table: specifications, costs, metrics.

    With --into, finished runs (all, or those named) are copied into a ledger
    small enough for version control: metrics and evidence.

    [bold]Examples[/bold]

      meta-spliceai runs export validated-delta-50k-0123456789ab
      meta-spliceai runs export -o runs.csv
      meta-spliceai runs export wt1-simple-cnn wt1-validated-delta \\
          -o two.parquet
      meta-spliceai runs export --into results
      meta-spliceai runs export --into results --predictions --no-labels
    """
    from meta_spliceai.experiments.store.workspace import Workspace

    workspace = Workspace.default(runs_dir, ledgers)
    named = [workspace.find(name) for name in names or ()]  # before anything is loaded or written

    from meta_spliceai.experiments.store.keep_runs import export_run, keep_runs
    from meta_spliceai.experiments.store.run_record import FORMATS, runs_as_table, write_table

    if into is not None:
        if out is not None:
            raise InputError("--into copies runs into a ledger and --output writes one file; give one of them")
        for kept in keep_runs(workspace, names or (), into, weights=weights, predictions=predictions, labels=labels):
            typer.echo(f"{kept.run.path}: {kept.bytes / 1e6:.2f} MB, {len(kept.left_out)} files left behind")
        return
    if weights:
        raise InputError("--weights goes with --into; an archive holds the model anyway")
    if out is not None and out.suffix in FORMATS:
        runs = named or workspace.runs()
        if not runs:
            raise InputError(f"there is no run in {workspace.root} to export; run a row first, or give --runs-dir")
        typer.echo(str(write_table(runs_as_table(runs), out)))
        return
    if out is not None and not out.name.endswith((".tar.gz", ".tgz")):
        raise InputError(f"-o {out}: write an archive as .tar.gz, a table as {', '.join(FORMATS)}")
    if len(named) != 1:
        raise InputError("an archive holds one run; name it, or write a table of several with -o runs.csv")
    typer.echo(str(export_run(named[0], out or Path(f"{named[0].name}.tar.gz"))))
