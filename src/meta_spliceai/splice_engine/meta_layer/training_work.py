"""Floating-point operations of training, counted by PyTorch on the model without its numbers.

Counted are products and convolutions, forward and backward, and Fourier transforms: what a device's rate in matrix
products is a limit of. What goes over each number once (norms, activations, the loss, the optimiser) is not counted,
and neither are activations that gradient checkpointing computes a second time: that is work of the machine's, not of
the model's. A model that is compiled, or whose convolutions take another way on a CPU, is counted by the plain
algorithm.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from meta_spliceai.splice_engine.meta_layer.models.hyenadna import BothStrandsHyenaDNA
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig
from meta_spliceai.splice_engine.meta_layer.trainer import set_trained


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
    shape = (batch, 4, model.window)
    if model.encoder_frozen:
        encoder: Any = model.encoder
        shape = (batch, int(encoder.channels), int(encoder.positions))
    first = next(model.parameters())
    mode = first.fake_mode if isinstance(first, FakeTensor) else nullcontext()
    with mode, FlopCounterMode(display=False, custom_mapping={one: _counted(one) for one in FOURIER}) as counter:
        pair = (first.new_zeros(shape),) * 2
        prediction = model.compare(*pair) if model.encoder_frozen else model(*pair)
        prediction.sum().backward()
    model.zero_grad()
    return float(counter.get_total_flops())


def without_numbers(predictor: Predictor) -> Predictor:
    """A copy of a predictor whose tensors have shapes and no content, and which keeps all activations."""
    # PyTorch's device without content; autocast, which HyenaDNA asks about its device, does not know that one, but
    # tensors without content that say they are on the CPU.
    hyena = any(isinstance(part, BothStrandsHyenaDNA) for part in predictor.modules())
    blank: dict[int, Tensor] = {}
    with FakeTensorMode() if hyena else nullcontext():
        for tensor in (*predictor.parameters(), *predictor.buffers()):
            empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu" if hyena else "meta")
            blank[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
        model = copy.deepcopy(predictor, blank)
    for part in model.modules():
        if isinstance(part, BothStrandsHyenaDNA):
            part.model.gradient_checkpointing = False
    return model
