"""What the tests' tasks and jobs do in other processes: the toy bench first, then what they do everywhere."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.experiments.executors import toy_worker


def on_ray(request: dict[str, Any], send: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """A task of a Ray cluster; it says which process it is."""
    toy_worker.install()
    from meta_spliceai.experiments.executors.on_ray import serve_request

    send({"say": f"part {request['part']} in process {os.getpid()}"})
    return serve_request(request, send)


def hangs_once(request: dict[str, Any], send: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """A run that only takes its folder; that of `toy-row` hangs the first time, and the file `hangs` says where."""
    import ray

    from meta_spliceai.experiments.workspace import Workspace
    from meta_spliceai.files import atomic_write

    row, runs = request["spec"]["id"], Path(request["runs_dir"])
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
    return {"run": run.name}


def on_slurm(request: dict[str, Any]) -> dict[str, Any]:
    """A job of submitit's."""
    toy_worker.install()
    from meta_spliceai.experiments.executors.on_slurm import run_request

    return run_request(request)
