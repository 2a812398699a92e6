"""What the tests' tasks and jobs do in other processes: the toy bench first, then what they do everywhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from tests.experiments.executors import toy_worker


def on_ray(request: dict[str, Any], send: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """A task of a Ray cluster; it says which process it is."""
    toy_worker.install()
    from meta_spliceai.experiments.executors.on_ray import serve_request

    send({"say": f"part {request['part']} in process {os.getpid()}"})
    return serve_request(request, send)


def on_slurm(request: dict[str, Any]) -> dict[str, Any]:
    """A job of submitit's."""
    toy_worker.install()
    from meta_spliceai.experiments.executors.on_slurm import run_request

    return run_request(request)
