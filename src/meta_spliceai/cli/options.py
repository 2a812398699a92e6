"""Options shared by several commands, the limits of their numbers, and checks made before a command runs: it must not
write to a path that it also reads, or that another option writes.

Each option that names a file or folder says in its annotation what the command does with it: `Reads` or `Writes`. A
test checks all commands, so that an option without a role cannot be added.
"""

from __future__ import annotations

import fnmatch
import inspect
import math
import os
import re
import site
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand

from meta_spliceai.errors import InputError, shown, unknown_value
from meta_spliceai.files import Place, cache_dir, place_of

STREAM = "-"
OWN_ROWS = Path("wishlist")
"""The user's own rows and prices, which commands read by default."""
LEDGER_FILES = ("ledger.jsonl", "ledger.lock")


@dataclass(frozen=True)
class Reads:
    """An option whose file or folder is read.

    Attributes:
        beside: endings of files that are read beside it, such as indexes.
        runs: it is a folder of runs: its ledger and everything in its run directories is read.
        what: the kind of file in the user's words, where it must be there; it is looked for before the heavy libraries
            are loaded.
        names: what may be given instead of a path.
        behind: the sign behind which the path stands, as in NAME:PATH or NAME=PATH:COLUMN; a name alone is no path.
    """

    beside: tuple[str, ...] = ()
    runs: bool = False
    what: str = ""
    names: tuple[str, ...] = ()
    behind: str = ""

    def paths_in(self, value: str) -> list[str]:
        """The paths that a value of the option may mean: two where it may end in the name of a column."""
        if not self.behind:
            return [value]
        path = value.partition(self.behind)[2]
        return [name for name in (path, path.rpartition(":")[0]) if name]


@dataclass(frozen=True)
class Writes:
    """An option whose file or folder is written.

    Attributes:
        beside: endings of files that are written beside it.
        folder: the names that are written or replaced in it, as a pattern, where it is a folder; empty for a file.
    """

    beside: tuple[str, ...] = ()
    folder: str = ""


FASTA = Reads((".fai", ".gzi"), what="FASTA file")
GENOME = replace(FASTA, names=("auto", "regions"))
SEQUENCE = replace(FASTA, names=("packaged", "regions"))
VARIANTS = Reads((".tbi", ".csi"), what="file of variants")
ANNOTATION = Reads(what="annotation (a table or a GTF)", names=("grch37", "grch38"))
WEIGHTS = Reads(what="weights", behind=":")
SCORES = Reads((".tbi", ".csi"), behind="=")
GENOME_VARIABLES = ("META_SPLICEAI_GENOME_GRCH37", "META_SPLICEAI_GENOME_GRCH38")
"""Genomes that some commands read by default; they need not exist."""

LARGEST_SEED = 2**32 - 1
"""What NumPy, scikit-learn and PyTorch all take."""

MOST_ROWS = 1_000_000_000
MOST_DOLLARS = 1_000_000_000

DEVICES = ("auto", "cpu", "cuda")

RunsDir = Annotated[
    Path | None,
    typer.Option("--runs-dir", metavar="DIR", help="Folder of runs (default: META_SPLICEAI_RUNS, else ./runs)."),
    Reads(runs=True),
]
Ledgers = Annotated[
    list[Path] | None,
    typer.Option("--ledger", metavar="FOLDER", help="Another folder of finished runs, such as results (read-only)."),
    Reads(runs=True),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the row; may be repeated."),
]
Seed = Annotated[
    int | None, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed for all randomness (default: the row's).")
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", min=1, max=MOST_ROWS, metavar="N", help="Use N variants, drawn with the seed."),
]
Prices = Annotated[
    Path | None,
    typer.Option(
        "--prices", metavar="FILE", help="Your GPUs and prices, which override the known ones (./wishlist/gpus.yaml)."
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
    int, typer.Option("-D", "--distance", min=1, max=4999, help="Bases on either side of a variant, 1 to 4999.")
]

Regions = Annotated[
    list[str] | None,
    typer.Option(
        "--regions",
        metavar="WHERE",
        help="Only records with POS in a region (chr1:1000-2000), a contig, or a BED file; may be repeated.",
    ),
    Reads(),
]
Shard = Annotated[
    str | None,
    typer.Option("--shard", metavar="N/M", help="Only the Nth of M pieces of equal work; `merge` joins them."),
]

PlaceOfPieces = Annotated[
    str | None,
    typer.Option("--executor", help="Compute pieces on ray (a cluster) or slurm, and merge them."),
]
Pieces = Annotated[
    int | None,
    typer.Option("--pieces", min=1, max=1_000_000, metavar="M", help="With --executor: the number of pieces."),
]
RayAddress = Annotated[
    str | None, typer.Option("--ray-address", help="A Ray cluster (default: one is started on this machine).")
]
SlurmSettings = Annotated[
    list[str] | None,
    typer.Option("--slurm", metavar="KEY=VALUE", help="A setting of the Slurm job, such as partition=gpu."),
]


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
        help="For base networks on a CPU: compiled, pytorch, or auto (default: the faster one, timed once).",
    ),
]


def require_device(device: str) -> None:
    """Refuse an unknown device before the heavy libraries are loaded.

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


class GuardedCommand(TyperCommand):
    """A command that is refused before it does anything if it would overwrite its input, or a number is not finite."""

    def invoke(self, ctx: Any) -> Any:
        options = {str(one.name): max(one.opts, key=len) for one in self.params}
        for name, option in options.items():
            value = ctx.params.get(name)
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"{option} {value}: write a finite number")
        if self.callback is not None:
            _refuse_shared_paths(roles_of(self.callback), ctx.params, options)
        return super().invoke(ctx)


@dataclass(frozen=True)
class _Named:
    """A path with the option that it comes from, in the user's words."""

    option: str
    path: Path
    place: Place | None


def roles_of(command: Any) -> dict[str, Reads | Writes]:
    """Role of each parameter of a command that has one."""
    hints = get_type_hints(inspect.unwrap(command), include_extras=True)
    return {
        name: mark
        for name, hint in hints.items()
        for mark in getattr(hint, "__metadata__", ())
        if isinstance(mark, Reads | Writes)
    }


def _refuse_shared_paths(
    roles: Mapping[str, Reads | Writes], given: Mapping[str, Any], options: Mapping[str, str]
) -> None:
    """Refuse paths of which one is written and read, or written twice; links of either kind are followed.

    Args:
        roles: of a command's parameters.
        given, options: its parameters' values, and their names on the command line.
    """
    named = [(options.get(name, name), role, value) for name, role in roles.items() for value in _values(given[name])]
    reads = [(option, role, value) for option, role, value in named if isinstance(role, Reads)]
    if any(isinstance(role, Reads) and role.runs for role in roles.values()):
        reads.append(("folder of runs", Reads(runs=True), os.environ.get("META_SPLICEAI_RUNS") or "runs"))
    reads += [(name, Reads(FASTA.beside), os.environ[name]) for name in GENOME_VARIABLES if os.environ.get(name)]
    for option, role, value in reads:
        for path in role.paths_in(value)[:1] if role.what else ():
            if path != STREAM and path.lower() not in role.names and not Path(path).exists():
                others = f"give a path, or {' or '.join(role.names)}" if role.names else "check the path"
                raise InputError(f"no {role.what} at {path} ({option}); {others}")
    read = [one for named_by in reads for one in _files(*named_by)]
    read += [_Named("your wishlist", path, place_of(path)) for path in sorted(OWN_ROWS.glob("*.y*ml"))]
    runs = [Path(value) for _, role, value in reads if role.runs]
    written: list[_Named] = []
    writes = [(option, role, value) for option, role, value in named if isinstance(role, Writes)]
    for option, output, value in writes:
        if value != STREAM:
            _refuse_wrong_kind(option, output, Path(value))
        found = list(_files(option, output, value))
        for one in found:
            for other in (*written, *read):
                if one.place is not None and one.place == other.place:
                    also = "reads" if other in read else "writes, too"
                    raise InputError(
                        f"{one.option} {one.path} is the same as {other.path} ({other.option}), which this command "
                        f"{also}; name another output"
                    )
        written += found
        if value != STREAM and output.folder:
            _refuse_to_replace_within(Path(value), output.folder, option, read)
        elif value != STREAM:
            _refuse_in_kept_folders(Path(value), option, runs)


def _refuse_wrong_kind(option: str, role: Writes, out: Path) -> None:
    """Refuse a folder where a file is written, a file where a folder is, and a path below a file or in a folder that
    cannot be written to."""
    if out.exists() and out.is_dir() != bool(role.folder):
        words = ("a file; name a folder", "a folder; name a file")
        raise InputError(f"{option} {out} is {words[out.is_dir()]}")
    above = next(parent for parent in out.absolute().parents if parent.exists())
    if not above.is_dir():
        raise InputError(f"{option} {out}: {above} is a file and no folder; name another output")
    if not out.exists() and not os.access(above, os.W_OK):
        raise InputError(f"{option} {out}: {above} cannot be written to; name another output")


def _files(option: str, role: Reads | Writes, value: str) -> Iterator[_Named]:
    """The file that an option names, and those beside it."""
    if value == STREAM:
        words, descriptor = ("standard input", 0) if isinstance(role, Reads) else ("standard output", 1)
        yield _Named(option, Path(words), place_of(descriptor))
        return
    for name in role.paths_in(value) if isinstance(role, Reads) else [value]:
        for path in (Path(f"{name}{ending}") for ending in ("", *role.beside)):
            yield _Named(option, path, place_of(path))


def _values(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]


def _refuse_to_replace_within(folder: Path, pattern: str, option: str, read: list[_Named]) -> None:
    """Refuse a folder to write in of which a file that is read could be replaced."""
    top = folder.resolve()
    for other in read:
        where = other.path.resolve()
        if other.path.is_file() and where.is_relative_to(top) and fnmatch.fnmatch(where.name, pattern):
            raise InputError(
                f"{option} {folder}: this command may replace {other.path} ({other.option}) there, which it reads; "
                "name another folder"
            )


def _refuse_in_kept_folders(out: Path, option: str, runs: list[Path]) -> None:
    """Refuse a file that is part of a run, of a ledger, of the cache, of a mirror or of an installed package."""
    from meta_spliceai.resources.resolve import mirror_folders

    where = out.resolve()
    for root in runs:
        top = root.resolve()
        within = [parent for parent in where.parents if parent != top and parent.is_relative_to(top)]
        if (where.parent == top and where.name in LEDGER_FILES) or any(map(_is_run, within)):
            raise InputError(f"{option} {out} is part of the runs in {root}; name an output elsewhere")
    if not where.is_file():
        return
    kept = [(folder, "a mirror of data and weights") for folder in mirror_folders()]
    kept += [(cache_dir(), "the cache"), *((Path(path), "installed packages") for path in site.getsitepackages())]
    for folder, what in kept:
        if where.is_relative_to(folder.resolve()):
            raise InputError(f"{option} {out} is a file of {what}, {folder}; name an output elsewhere")


def _is_run(folder: Path) -> bool:
    return (folder / "run.json").is_file() or (folder / "spec.yaml").is_file()
