"""A run's utilisation, the share of the device's own rate that it reached: operations counted, seconds measured, limit
measured.

The limit is the rate of a large matrix product in the precision used, in the same process on the same device. Work in
several parts (folds, base networks) is put together: the share is the time that the parts would take at their limits,
over the time that they took.

Operations of training are counted by PyTorch on the model without its numbers. Counted are products and convolutions,
forward and backward, and Fourier transforms: what a device's rate in matrix products is a limit of. What goes over each
number once (norms, activations, the loss, the optimiser) is not counted, and neither are activations that gradient
checkpointing computes a second time: that is work of the machine's, not of the model's. A model that is compiled, or
whose convolutions take another way on a CPU, is counted by the plain algorithm.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.benchmark import Timer
from torch.utils.benchmark.utils.timer import timer as cuda_timer
from torch.utils.flop_counter import FlopCounterMode

from meta_spliceai.splice_engine.base_layer.scores import BaseScores
from meta_spliceai.splice_engine.meta_layer.features import is_out_of_memory
from meta_spliceai.splice_engine.meta_layer.models.hyenadna import BothStrandsHyenaDNA
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig
from meta_spliceai.splice_engine.meta_layer.training import set_trained

Product = Literal["float32", "tf32", "bfloat16"]
"""What is multiplied: float32 in whole or in TF32, which is CUDA's alone, or bfloat16."""

PROBE_SECONDS = 0.5  # how long products are repeated for one rate
PROBE_SIZE = {"cpu": 1536, "cuda": 4096}
"""Rows of the square matrices in a run, by kind of device: 28 MB on a CPU, at most 200 MB on CUDA."""


def utilisation(operations: float, seconds: float, product: Product, device: str) -> dict[str, Any]:
    """One piece of work as stored in a run's record.

    Args:
        operations: floating-point operations, counted, that took so many `seconds`.
        product: the matrix product whose rate is the limit.

    Returns:
        gflop, seconds, gflop_per_second; precision and limit_gflop_per_second, of the device's matrix product; share,
        of the one in the other; why, in words, where something of it is None.
    """
    limit = rate_here(product, device)
    return _work(operations / 1e9, seconds, product, None if limit is None else limit / 1e9)


def _work(gflop: float, seconds: float, precision: str, limit: float | None) -> dict[str, Any]:
    rate = gflop / max(seconds, 1e-9)
    return {
        "gflop": gflop,
        "seconds": seconds,
        "gflop_per_second": rate,
        "precision": precision,
        "limit_gflop_per_second": limit,
        "share": None if limit is None else rate / limit,
        "why": "no memory was left to measure the device's rate" if limit is None else "",
    }


def not_counted(why: str) -> dict[str, Any]:
    """Work that was not counted, and why; not zero, as there was some."""
    return {**dict.fromkeys(_work(0, 1, "", None)), "why": why}


def put_together(parts: Sequence[Mapping[str, Any]], no_share: str = "") -> dict[str, Any]:
    """Several pieces of work as one.

    Args:
        parts: as `utilisation` gives them, at least one.
        no_share: why their seconds may not be added up, where they may not; then operations are all that is told.
    """
    missing = next((str(part["why"]) for part in parts if part["gflop"] is None), "")
    if missing:
        return not_counted(missing)
    gflop, seconds = (math.fsum(part[key] for part in parts) for key in ("gflop", "seconds"))
    if no_share:
        return {**not_counted(no_share), "gflop": gflop}
    at_limit = [part["gflop"] / part["limit_gflop_per_second"] for part in parts if part["limit_gflop_per_second"]]
    known = len(at_limit) == len(parts) and gflop > 0
    precision = ", ".join(dict.fromkeys(str(part["precision"]) for part in parts))
    return _work(gflop, seconds, precision, gflop / math.fsum(at_limit) if known else None)


def scoring_utilisation(scores: Sequence[BaseScores], device: str) -> dict[str, Any]:
    """Base scoring of a run: of every network, without what was found in the cache."""

    def product_of(one: BaseScores) -> Product:
        # A CPU multiplies the parts of bf16 in float32 (see `block_convolution`).
        return "bfloat16" if one.precision == "bf16" and device != "cpu" else "float32"

    parts = [utilisation(one.operations, one.seconds, product_of(one), device) for one in scores if one.seconds]
    return put_together(parts) if parts else not_counted("all base scores were found in the cache")


def in_words(work: Mapping[str, Any]) -> str:
    """One piece of work as a sentence's end."""
    told = []
    if work["gflop"] is not None:
        told.append(f"{_amount(work['gflop'])}FLOP counted")
        if work["seconds"] is not None:
            told[0] += f" in {work['seconds']:.1f} s, {_amount(work['gflop_per_second'])}FLOP/s"
    if work["share"] is None:
        return "; ".join([*told, f"share of the limit not stated: {work['why']}"])
    limit = _amount(work["limit_gflop_per_second"])
    return f"{told[0]}, {work['share']:.1%} of the device's {limit}FLOP/s in {work['precision']} matrix products"


def _amount(giga: float) -> str:
    """A number of billions with three digits and its prefix."""
    if giga < 999.5:  # from there on three digits of it would be 1e+03
        return f"{giga:.3g} G"
    return f"{giga / 1e3:.3g} T" if giga < 999.5e3 else f"{giga / 1e6:,.3g} P"


def told_of(record: Mapping[str, Any]) -> list[str]:
    """A run's work in sentences, a step each; none for runs of before it was recorded."""
    return [f"{step}: {in_words(work)}" for step, work in record.get("work", {}).items()]


@lru_cache(maxsize=16)
def rate_here(product: Product, device: str) -> float | None:
    """Operations a second of a large matrix product on the device; measured once in a process, in about half a second.
    None where there was no memory left for it.

    Memory that is held for it counts in the device's peak, so it is measured where no peak is being taken.
    """
    place = torch.device(device)
    try:
        return product_rate(product, place, PROBE_SIZE.get(place.type, PROBE_SIZE["cuda"]))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None


def product_rate(product: Product, device: torch.device, size: int, seconds: float = PROBE_SECONDS) -> float:
    """Operations a second of a size × size × size product of random numbers, repeated for so many seconds: the best."""
    numbers = torch.Generator(device).manual_seed(0)  # the caller's random numbers stay as they are
    dtype = torch.bfloat16 if product == "bfloat16" else torch.float32
    a, b = (torch.randn(size, size, device=device, generator=numbers).to(dtype) for _ in range(2))
    with _tf32(product == "tf32"), torch.inference_mode():
        work = {"torch": torch, "a": a, "b": b, "out": torch.empty_like(a)}
        return 2 * size**3 / best_of("torch.mm(a, b, out=out)", work, device, seconds)


def best_of(statement: str, names: dict[str, Any], device: torch.device, seconds: float = PROBE_SECONDS) -> float:
    """Seconds of a statement over these names: the least of what it took while it was repeated for so long."""
    # PyTorch's own clock waits for CUDA, wherever there is a card: also for work on a processor.
    clock = cuda_timer if device.type == "cuda" else time.perf_counter
    timer = Timer(statement, globals=names, timer=clock, num_threads=torch.get_num_threads())
    return min(timer.blocked_autorange(min_run_time=seconds).times)


@contextmanager
def _tf32(used: bool) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if used else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class StepWork(NamedTuple):
    """Operations of a training step: those there are at any batch, and those that come with each variant in it."""

    once: float
    each: float


def training_operations(predictor: Predictor, config: TrainingConfig, train_rows: int, epochs: int) -> float:
    """Operations of whole epochs of training, validation left out; the predictor is left as it is. In epochs in which
    fewer layers are trained there is less to do backward."""
    batches = -(-train_rows // config.batch_size)
    kind = type(predictor).__name__, json.dumps(predictor.config, sort_keys=True, default=str)
    total = 0.0
    model = without_numbers(predictor)
    for epoch in range(epochs):
        set_trained(model, config, epoch)
        trained = frozenset(name for name, parameter in model.named_parameters() if parameter.requires_grad)
        work = _COUNTED.get((*kind, trained)) or _COUNTED.setdefault((*kind, trained), step_work(model))
        total += batches * work.once + train_rows * work.each
    return total


_COUNTED: dict[tuple[str, str, frozenset[str]], StepWork] = {}
"""What was counted in this process: for the folds of a cross-validation once."""


FOURIER = (torch.ops.aten._fft_r2c, torch.ops.aten._fft_c2r, torch.ops.aten._fft_c2c)
"""PyTorch's Fourier transforms: of real numbers, back to real numbers, and of complex ones."""


def fourier_work(transform: Any, args: Sequence[Any], made: Tensor) -> tuple[int, float]:
    """(points, operations a point) of one of the transforms in FOURIER, from what it was given and what it made: 5 ·
    log2 N where it has N points, and half of it where one side is real (Cooley and Tukey's radix-2 count)."""
    back = transform is torch.ops.aten._fft_c2r
    whole = made if back else args[0]
    points = math.prod(whole.shape[axis] for axis in args[1])
    share = 1.0 if transform is torch.ops.aten._fft_c2c else 0.5
    return whole.numel(), share * 5 * math.log2(max(points, 2))


def _counted(transform: Any) -> Callable[..., int]:

    def operations(*args: Any, out_val: Any = None, **_: Any) -> int:
        return round(math.prod(fourier_work(transform, args, out_val)))

    operations._get_raw = True  # type: ignore[attr-defined]  # tensors, not their shapes
    return operations


def step_work(model: Predictor) -> StepWork:
    """Operations of one training step of a model `without_numbers`, forward and backward; a frozen encoder's features
    are there already."""
    model.train()
    one, two = (_step(model, batch) for batch in (1, 2))
    return StepWork(2 * one - two, two - one)


def _step(model: Predictor, batch: int) -> float:
    first: Any = next(model.parameters())  # a FakeTensor
    with (
        first.fake_mode,
        FlopCounterMode(display=False, custom_mapping={one: _counted(one) for one in FOURIER}) as counter,
    ):
        predict_zeros(model, batch).sum().backward()
    model.zero_grad()
    return float(counter.get_total_flops())


def predict_zeros(model: Predictor, batch: int) -> Tensor:
    """Predictions of so many variants of nothing but zeros, in float32: of the one-hot bases of both alleles, or of a
    frozen encoder's features of them."""
    frozen = model.encoder_frozen
    encoder: Any = model.encoder if frozen else None  # models trained side by side have several
    shape = (batch, int(encoder.positions), int(encoder.channels)) if frozen else (batch, 4, model.window)
    pair = torch.zeros(shape), torch.zeros(shape)
    predicted: Tensor = model.compare(pair[0].mT, pair[1].mT) if frozen else model(*pair)
    return predicted.float()


def without_numbers(predictor: Predictor) -> Predictor:
    """A copy of a predictor whose tensors have shapes and no content, and which keeps all activations."""
    blank: dict[int, Tensor] = {}
    with FakeTensorMode():
        for tensor in (*predictor.parameters(), *predictor.buffers()):
            empty = torch.empty(tensor.shape, dtype=tensor.dtype)
            blank[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
        model = copy.deepcopy(predictor, blank)
    for part in model.modules():
        if isinstance(part, BothStrandsHyenaDNA):
            part.model.gradient_checkpointing = False
    return model
