"""Options that several commands take, and the bounds of their numbers."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from meta_spliceai.cli.guard_paths import ANNOTATION, FASTA, WEIGHTS, Reads
from meta_spliceai.errors import InputError, shown, unknown_value

LARGEST_SEED = 2**32 - 1
"""What NumPy, scikit-learn and PyTorch all take."""

MOST_ROWS = 1_000_000_000
MOST_DOLLARS = 1_000_000_000

DEVICES = ("auto", "cpu", "cuda")

RunsDir = Annotated[
    Path | None,
    typer.Option("--runs-dir", metavar="DIR", help="Folder of runs (META_SPLICEAI_RUNS, else ./runs)."),
    Reads(runs=True),
]
Ledgers = Annotated[
    list[Path] | None,
    typer.Option("--ledger", metavar="FOLDER", help="Further finished runs, such as results (read only)."),
    Reads(runs=True),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the row; may be given several times."),
]
Seed = Annotated[
    int | None, typer.Option("--seed", min=0, max=LARGEST_SEED, help="The seed of everything (default: the row's).")
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", min=1, max=MOST_ROWS, metavar="N", help="Use N variants, drawn with the seed."),
]
Prices = Annotated[
    Path | None,
    typer.Option(
        "--prices", metavar="FILE", help="Your cards and prices, laid over the known ones (./wishlist/gpus.yaml)."
    ),
    Reads(what="table of prices"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, max=1024, help="Processor threads (default: all cores).")
]
Annotation = Annotated[
    str, typer.Option("-A", "--annotation", metavar="WHAT", help="grch37, grch38, a table or a GTF."), ANNOTATION
]
Reference = Annotated[
    Path | None,
    typer.Option(
        "-R",
        "--reference",
        metavar="FASTA",
        help="Genome of the variants' build (default: META_SPLICEAI_GENOME_GRCH38 or _GRCH37, then that of "
        "`data get grch38`).",
    ),
    FASTA,
]
Base = Annotated[
    str,
    typer.Option("--base", help="spliceai, cispliceai, openspliceai, pangolin, or NAME:PATH of your weights."),
    WEIGHTS,
]
Distance = Annotated[
    int, typer.Option("-D", "--distance", min=1, max=4999, help="Bases to either side of a variant, 1 to 4999.")
]

Regions = Annotated[
    list[str] | None,
    typer.Option(
        "--regions",
        metavar="WHERE",
        help="Only records whose POS lies in chr1:1000-2000, a contig, or a BED file; may be repeated.",
    ),
    Reads(),
]
Shard = Annotated[
    str | None,
    typer.Option("--shard", metavar="N/M", help="Only the Nth of M pieces, of equal work; `merge` joins them."),
]

PlaceOfPieces = Annotated[
    str | None,
    typer.Option("--executor", help="Make pieces on ray (a cluster) or slurm, and put them together."),
]
Pieces = Annotated[
    int | None, typer.Option("--pieces", min=1, max=1_000_000, metavar="M", help="How many, with --executor.")
]
RayAddress = Annotated[
    str | None, typer.Option("--ray-address", help="A Ray cluster (default: one is started on this machine).")
]
SlurmSettings = Annotated[
    list[str] | None,
    typer.Option("--slurm", metavar="KEY=VALUE", help="A setting of the Slurm job, such as partition=cpu."),
]

PLACE = ("executor", "ray_address", "pieces", "slurm")


def run_by_executor(context: typer.Context, source: str | Path, out: str | Path) -> bool:
    """Where the command that is running was given --executor: make its pieces there and put them together; True if so.

    Raises:
        InputError: --executor without --pieces, or with what only one process can do.
    """
    executor, ray_address, pieces, slurm = (context.params.pop(name) for name in PLACE)
    given = [
        (str(one.name), one)
        for one in context.command.params
        if getattr(context.get_parameter_source(str(one.name)), "name", "") == "COMMANDLINE"
    ]
    if executor is None or pieces is None:
        if needless := [name for name, _ in given if name in PLACE]:
            raise InputError(f"--{needless[0].replace('_', '-')}: give --executor and --pieces together")
        return False
    if "-" in (str(source), str(out)) or {"shard", "stats"} & {name for name, _ in given}:
        raise InputError("--executor needs a file as input and output, and does without --shard and --stats")

    from meta_spliceai.experiments.predict.in_pieces import executor_of, run_in_pieces

    arguments = [str(context.info_name)]
    for name, one in given:
        value = context.params.get(name)
        if name in ("out", "resume") or value is None:
            continue
        for text in value if isinstance(value, list | tuple) else [value]:
            arguments += [] if one.param_type_name == "argument" else [one.opts[-1]]
            arguments += [] if getattr(one, "is_flag", False) else [str(text)]
    say = partial(typer.echo, err=True)
    opened = executor_of(executor, ray_address, slurm or (), say)
    count, what = run_in_pieces(arguments, Path(source), Path(out), pieces, opened)
    say(f"{pieces:,} pieces, {count:,} {what}: {out}")
    return True


def _ask_for_kernel(kernel: str | None) -> str | None:
    if kernel is not None:
        from meta_spliceai.splice_engine.base_layer.kernel_choice import ask_for

        ask_for(kernel)
    return kernel


Kernel = Annotated[
    str | None,
    typer.Option(
        "--kernel",
        callback=_ask_for_kernel,
        help="Base networks on a CPU: compiled, pytorch, or auto: the faster one, measured once (default).",
    ),
]


def require_device(device: str) -> None:
    """Refuse a device that is none, before the libraries that would say so are loaded.

    Raises:
        InputError: not one of `DEVICES`.
    """
    if device not in DEVICES:
        raise unknown_value("device", device, DEVICES, where="--device")


LONGEST = 366 * 24 * 3600.0  # seconds

_BYTES = {"b": 1, "kb": 1_000, "mb": 1_000_000, "gb": 1_000_000_000}


def parse_duration(text: str, where: str) -> float:
    """Seconds of a duration such as "9m", "1h30m" or "540s": whole or decimal numbers, each with h, m or s, in this
    order. InputError, which names the option `where`: something else, or no time at all."""
    number = r"(\d+(?:\.\d+)?)"
    match = re.fullmatch(rf"(?:{number}h)?(?:{number}m)?(?:{number}s)?", text.strip().lower())
    parts = zip(match.groups(), (3600.0, 60.0, 1.0), strict=True) if match else ()
    seconds = sum(float(part) * unit for part, unit in parts if part is not None)
    if not 0 < seconds <= LONGEST:
        raise InputError(
            f"{where} {shown(text)}: write a duration above zero with its unit: 9m, 1h30m, 540s (at most a year)"
        )
    return seconds


def size_in_bytes(text: str) -> int:
    """Bytes of a size such as "45MB" (powers of ten); InputError: not a number with a unit, or nothing."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?b)", text.strip().lower())
    size = float(match[1]) * _BYTES[match[2]] if match else 0.0
    if not 1 <= size <= 1e15:
        raise InputError(f"--max-size {shown(text)}: write a number and a unit, for example 45MB")
    return int(size)
