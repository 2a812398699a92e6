"""What the tests' other processes begin with: the toy bench, and a mischief that befalls one row."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from meta_spliceai.experiments.execute.on_ray import serve_request
from meta_spliceai.experiments.execute.on_slurm import run_request
from meta_spliceai.experiments.execute.queue import Answer, Message, Request
from meta_spliceai.experiments.store.workspace import Workspace
from meta_spliceai.files import atomic_write

MISCHIEF = "TOY_MISCHIEF"
"""Environment variable: `<row>:<what>:<file>`, which befalls the row once; the file remembers that it has."""


def install() -> None:
    """The toy bench, as tests/experiments/conftest.py makes it."""
    path = Path(__file__).resolve().parents[1] / "conftest.py"
    spec = importlib.util.spec_from_file_location("toy_bench", path)
    assert spec is not None
    assert spec.loader is not None
    toys = importlib.util.module_from_spec(spec)
    sys.modules["toy_bench"] = toys
    spec.loader.exec_module(toys)
    toys.install_toy_bench()
    import torch

    torch.set_num_threads(1)
    if MISCHIEF in os.environ:
        _plot(*os.environ[MISCHIEF].split(":", 2))


def _plot(row: str, what: str, remembered: str) -> None:
    from meta_spliceai.experiments.run import procedures

    original = procedures.fit
    deeds: dict[str, Callable[[], Any]] = {
        "sigkill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "defect": lambda: 1 // 0,
        "memory": _out_of_memory,
        "hang": lambda: time.sleep(300),
    }

    def fit(predictor: Any, *arguments: Any, **options: Any) -> Any:
        report = options["progress"]

        def watch(kind: str, facts: dict[str, float]) -> None:
            report(kind, facts)
            if kind == "epoch" and not Path(remembered).exists():
                Path(remembered).write_text(what, encoding="utf-8")
                deeds[what]()

        options["progress"] = watch if predictor.window == int(row) else report
        return original(predictor, *arguments, **options)

    procedures.fit = fit  # type: ignore[assignment]


def _out_of_memory() -> None:
    raise MemoryError


def on_ray(request: Request, send: Callable[[Message], None]) -> Answer:
    """A task of a Ray cluster; it says which process it is."""
    install()
    send({"say": f"part {request.part} in process {os.getpid()}"})
    return serve_request(request, send)


def on_slurm(request: Request) -> Answer:
    """A job of submitit's."""
    install()
    return run_request(request)


def hangs_once(request: Request, send: Callable[[Message], None]) -> Answer:
    """A run that only takes its folder; that of `toy-row` hangs the first time, and the file `hangs` says where."""
    import ray

    row, runs = request.spec.id, request.runs_dir
    run = Workspace(runs).run(f"{row}-0123456789ab")
    with run.taken():
        send({"say": "going on" if run.record() else "beginning"})
        run.mark("running", row=row)
        send({"tell": "run", "facts": {"run": run.name}})
        if row == "toy-row" and not (runs / "hangs").exists():
            with atomic_write(runs / "hangs") as handle:
                handle.write(ray.get_runtime_context().get_node_id())
            time.sleep(300)
        run.mark("finished")
    return Answer(run.name)
