"""`score` and `predict` in pieces on Ray or Slurm: each is the same command with --shard, and all are merged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from meta_spliceai import __version__
from meta_spliceai.errors import InputError, RunError, unknown_value
from meta_spliceai.experiments.execute.all_rows import Place
from meta_spliceai.experiments.execute.on_ray import Ray
from meta_spliceai.experiments.execute.on_slurm import Slurm
from meta_spliceai.experiments.execute.queue import Answer, Executor
from meta_spliceai.experiments.predict.output_files import TABLE_SUFFIXES, VCF_SUFFIXES, merge_pieces
from meta_spliceai.experiments.run.callback import Callback
from meta_spliceai.files import atomic_write, sha256_file

PASSED_ON = ("META_SPLICEAI_", "OMP_NUM_THREADS", "PYTHONPATH")
"""Beginnings of environment variables that a piece gets from here; its machine has the others."""


@dataclass(frozen=True)
class Piece:
    """One piece (N/M), as executors see it; every machine that makes pieces has the files at the same paths.

    Attributes:
        command: the whole command line, to be run in the folder.
        out: what it writes; OUT.log keeps what it says.
        device, resume, fresh: as of a row's request.
    """

    key: str
    command: tuple[str, ...]
    folder: str
    out: Path
    environment: dict[str, str]
    device: str = "auto"
    resume: bool = True
    fresh: bool = False

    @property
    def label(self) -> str:
        return f"piece {self.key}"

    @property
    def request(self) -> Piece:
        return self


def make_piece(piece: Piece, send: object = None) -> Answer:
    """Make a piece, and wait for it; Ray also hands its tasks a function to `send` messages with."""
    log = piece.out.with_name(f"{piece.out.name}.log")
    with log.open("wb") as stream:
        environment = os.environ | piece.environment
        process = subprocess.Popen(piece.command, stdout=stream, stderr=stream, cwd=piece.folder, env=environment)
        try:
            code = process.wait()
        finally:  # told to stop: the process must not go on alone
            process.terminate()
            process.wait()
    said = log.read_text(encoding="utf-8", errors="replace").strip()
    return Answer() if code == 0 else Answer(error=f"exit code {code}: {said.rpartition(chr(10))[2]}")


def run_in_pieces(
    arguments: Sequence[str], source: Path, out: Path, count: int, place: Place, say: Callable[[str], None]
) -> tuple[int, str]:
    """Make the pieces of an output that are not there yet, and put all together; returns as `merge_pieces`.

    Args:
        arguments: of the command line, the command's name first, without output and shard.
        out: what the whole command would write; the pieces lie in OUT.pieces until it is whole.
        place: Ray or Slurm.
        say: shows a line.
    """
    if place.executor == "local":
        raise unknown_value("executor", place.executor, ("ray", "slurm"), where="--executor")
    folder = out.absolute().with_name(f"{out.name}.pieces")
    made_by = json.dumps({"arguments": [*arguments], "of": count, "input": sha256_file(source), "version": __version__})
    settings = folder / "pieces.json"
    if settings.is_file() and settings.read_text(encoding="utf-8") != made_by:
        raise InputError(f"{folder} holds pieces of another command or input; delete it, or name another output")
    with atomic_write(settings) as handle:
        handle.write(made_by)
    name = out.name.lower()
    suffix = next((one for one in (*VCF_SUFFIXES, *TABLE_SUFFIXES) if name.endswith(one)), ".vcf.gz")  # of a BCF
    environment = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    device = next((value for name, value in pairwise(arguments) if name == "--device"), "auto")
    pieces = []
    for number in range(1, count + 1):
        key, path = f"{number}/{count}", folder / f"{number}{suffix}"
        command = (sys.executable, "-m", "meta_spliceai", *arguments, "-o", str(path), "--shard", key, "--resume")
        pieces.append(Piece(key, command, os.getcwd(), path, environment, device))
    missing = [piece for piece in pieces if not piece.out.is_file()]
    failed = _make(missing, place, say) if missing else {}
    if failed:
        first, why = next(iter(failed.items()))
        raise RunError(f"{len(failed)} of {count} pieces failed, {first} with {why}; their logs are in {folder}")
    result = merge_pieces(out, [piece.out for piece in pieces])
    shutil.rmtree(folder)
    return result


def _make(pieces: Sequence[Piece], place: Place, say: Callable[[str], None]) -> dict[str, str]:
    """Make the pieces; those that failed, and why."""
    waiting: list[Any] = list(pieces)
    screen: Any = SimpleNamespace(say=say)
    entry: Any = make_piece
    executor: Executor
    if place.executor == "ray":
        executor = Ray(waiting, screen, place.ray_address, entry=entry)
    else:
        executor = Slurm(pieces[0].out.parent, screen, place.slurm, entry)
    running, failed = set[str](), dict[str, str]()
    with executor:
        try:
            while (waiting and not executor.broken) or running:
                while waiting and executor.has_room():
                    running.add(waiting[0].key)
                    executor.begin(waiting.pop(0), Callback())
                for key, answer in executor.collect(60):
                    if isinstance(answer, Answer) and key in running:
                        running.discard(key)
                        failed |= {key: answer.error} if answer.error is not None else {}
        except KeyboardInterrupt:
            executor.interrupt("stopped by the user")
            raise
    return failed | {piece.key: executor.broken for piece in waiting}
