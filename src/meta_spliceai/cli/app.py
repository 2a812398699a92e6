"""The `meta-spliceai` command: its groups of commands, and what an error looks like to its user."""

from __future__ import annotations

import errno
import shlex
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from meta_spliceai import __version__
from meta_spliceai.cli import bundle, data, leaderboard, plan, predict, pretrain, run, runs, saturate, score, wishlist
from meta_spliceai.cli.options import GuardedCommand
from meta_spliceai.errors import MetaSpliceAIError, one_line

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130

HELP = """
Train, evaluate and use predictors of splice-altering variants.

A base network (SpliceAI or a relative) scores each variant; a small learned
model reads the sequence around it and corrects the score; the leaderboard
lists baselines above the learned models.

[bold]Start here[/bold]

  meta-spliceai quickstart       real data, two models, one page
  meta-spliceai example          a VCF and its genome, to try predict and score
  meta-spliceai wishlist         every experiment: wished, runnable, completed
  meta-spliceai run ID           run one of them
  meta-spliceai leaderboard      results, baselines first
  meta-spliceai report           the same and more, as a site of pages

Every error is one line that says what to do, with exit code 2. Ctrl-C keeps
finished work; continue with `meta-spliceai run ID --resume`.
"""


class Commands(TyperGroup):
    """The group of all commands; what a command raises becomes a line for the user and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("interrupted; what was done is kept" + _way_to_resume(sys.argv[1:]), err=True)
            raise SystemExit(EXIT_INTERRUPTED) from None
        except MetaSpliceAIError as error:
            typer.echo(f"error: {error}", err=True)
            raise SystemExit(error.exit_code) from None
        except OSError as error:
            line = _explain(error)
            if line is None:
                raise
            typer.echo(f"error: {one_line(line)}", err=True)
            raise SystemExit(EXIT_USER_ERROR) from None


app = typer.Typer(
    name="meta-spliceai",
    cls=Commands,
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

# The order is that of `--help`: the way a newcomer walks.
for command in (
    run.quickstart,
    data.example,
    plan.plan,
    run.run,
    run.launch,
    leaderboard.leaderboard,
    leaderboard.report,
    leaderboard.serve,
    predict.predict,
    pretrain.pretrain,
    data.audit,
    score.score,
    score.merge,
    saturate.saturate,
):
    app.command()(command)
for group in (wishlist, runs, data, bundle):
    app.add_typer(group.group, name=group.__name__.rpartition(".")[2])


def _guard(commands: typer.Typer) -> None:
    """Every command is one that checks its paths before it runs."""
    for command in commands.registered_commands:
        command.cls = GuardedCommand
    for group in commands.registered_groups:
        if group.typer_instance is not None:
            _guard(group.typer_instance)


_guard(app)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"meta-spliceai {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code.

    0: done; 2: an error the user can act on, one line on stderr; 130: interrupted. Anything else that goes wrong is a
    defect of this package and keeps its traceback.

    Args:
        arguments: what stands behind the command's name; the process's own where absent.
    """
    app(args=None if arguments is None else list(arguments), prog_name="meta-spliceai")


def _explain(error: OSError) -> str | None:
    """A system error in the user's words; None for one that is nobody's fault but ours."""
    if error.errno == errno.ENOSPC:
        where = f" that holds {error.filename}" if error.filename else ""
        return f"no space left on the disk{where}; free some and run the same command again"
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOENT, errno.EISDIR, errno.ENOTDIR):
        return f"{error.filename}: {error.strerror}"
    return None


def _way_to_resume(arguments: Sequence[str]) -> str:
    if arguments[:1] in (["run"], ["score"], ["predict"]) and "--resume" not in arguments:
        return f"; go on with: meta-spliceai {shlex.join(arguments)} --resume"
    return "; the same command goes on from there" if arguments[:1] in (["run"], ["quickstart"]) else ""
