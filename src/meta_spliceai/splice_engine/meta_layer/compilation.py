"""torch.compile for training steps: a switch, never a surprise."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from meta_spliceai.errors import RunError
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor

MOST_VERSIONS = 64
"""Versions that are compiled of one function before PyTorch gives up: batch sizes times layers that unfreeze."""


def check_compiler(mode: str, device: torch.device) -> None:
    """Whether compiled training can run here.

    Raises:
        RunError: what generates the code, a C++ compiler or (CUDA) Triton, is not there.
    """
    if mode == "none":
        return
    if device.type == "cuda":
        there, what = importlib.util.find_spec("triton") is not None, "the package triton"
    else:
        there = any(map(shutil.which, (os.environ.get("CXX", ""), "g++", "clang++")))
        what = "a C++ compiler (g++, clang++ or the one that the variable CXX names)"
    if not there:
        raise RunError(f"training.compile = {mode} needs {what}, which is not here; install it or set compile to none")


@contextmanager
def compiling(mode: str) -> Iterator[None]:
    """A block in which training steps are compiled, with the random numbers that uncompiled ones draw."""
    if mode == "none":
        yield
        return
    import torch._dynamo
    import torch._inductor.config

    with (
        torch._dynamo.config.patch(recompile_limit=MOST_VERSIONS),
        torch._inductor.config.patch(fallback_random=True),
    ):
        yield


def compiled(predictor: Predictor, encoded: bool, mode: str) -> Callable[..., Tensor]:
    """The predictor's forward pass (from kept features: its comparison), compiled when it is first called.

    The last batch of an epoch may be smaller and gets a version of its own: code for any size would be slower.
    """
    work: Callable[..., Any] = predictor.compare if encoded else predictor.forward
    result: Callable[..., Tensor] = torch.compile(work, dynamic=False, mode=None if mode == "default" else mode)
    return result
