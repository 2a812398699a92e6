"""The options of every command that reads runs: which folder, and which further ledgers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meta_spliceai.cli.guard_paths import Reads

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
