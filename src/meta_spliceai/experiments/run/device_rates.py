"""How fast a device multiplies matrices and copies memory: the limits that work is evaluated against."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Literal

import torch

from meta_spliceai.splice_engine.meta_layer.peak_memory import is_out_of_memory

Product = Literal["float32", "tf32", "bfloat16"]
"""What is multiplied: float32 in whole or in TF32, which is CUDA's alone, or bfloat16."""

PROBE_SECONDS = 0.5
"""How long products are repeated for one rate."""

PROBE_SIZE = {"cpu": 1536, "cuda": 4096}
"""Rows of the square matrices in a run, by kind of device: 28 MB on a CPU, at most 200 MB on CUDA."""

AT_ONCE = {"cpu": 1, "cuda": 10}
"""Products between two looks at the clock: on CUDA each look waits for the device."""


@lru_cache(maxsize=16)
def rate_here(product: Product, device: str) -> float | None:
    """Operations a second of a large matrix product on the device; measured once in a process, in about half a second.

    Memory that is held for it counts in the device's peak, so it is measured where no peak is being taken.

    Args:
        product: what is multiplied.
        device: "cpu" or "cuda".

    Returns:
        the rate; None where there was no memory left for it.
    """
    place = torch.device(device)
    try:
        return product_rate(product, place, PROBE_SIZE.get(place.type, PROBE_SIZE["cuda"]))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None


def product_rate(product: Product, device: torch.device, size: int, seconds: float = PROBE_SECONDS) -> float:
    """Operations a second of a size × size × size product of random numbers: the best of several.

    Args:
        product: what is multiplied.
        device: where.
        size: rows and columns.
        seconds: how long it is repeated.
    """
    numbers = torch.Generator(device).manual_seed(0)  # the caller's random numbers stay as they are
    dtype = torch.bfloat16 if product == "bfloat16" else torch.float32
    a, b = (torch.randn(size, size, device=device, generator=numbers).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    repeats = AT_ONCE.get(device.type, 1)

    def multiply() -> None:
        for _ in range(repeats):
            torch.mm(a, b, out=out)

    with _tf32(product == "tf32"), torch.inference_mode():
        return repeats * 2 * size**3 / best_of(multiply, device, seconds)


def copy_rate(device: torch.device, numbers: int) -> float:
    """Bytes read and written a second in a copy of so many float32 numbers."""
    source = torch.empty(numbers, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / best_of(lambda: target.copy_(source), device)


def best_of(run: Callable[[], object], device: torch.device, seconds: float = PROBE_SECONDS) -> float:
    """Seconds of the fastest of several runs: at least four, and as many as fit into the time; the first warm up."""
    best, until, done = math.inf, time.perf_counter() + seconds, 0
    while done < 4 or time.perf_counter() < until:
        wait_for(device)
        started = time.perf_counter()
        run()
        wait_for(device)
        best = min(best, time.perf_counter() - started)
        done += 1
    return best


def wait_for(device: torch.device) -> None:
    """Until everything that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _tf32(used: bool) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if used else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
