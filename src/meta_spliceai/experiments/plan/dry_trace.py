"""A training step on tensors without content: its peak memory and its operations.

The row's own predictor runs forward, backward and through the optimiser on fake tensors, which have shapes and no
content. Activations, gradients, AdamW's moments and recomputation under gradient checkpointing are in the figures
because they happen. Floating-point operations are PyTorch's own counts (`torch.utils.flop_counter`); Fourier
transforms, which those leave out, come from `run.utilisation`.

One run serves every batch size. It is made with a batch of so large a prime that no other dimension is a multiple of
it: what grows with the batch is then divisible by it, what does not is not.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from meta_spliceai.experiments.run.utilisation import FOURIER, fourier_work, predict_zeros
from meta_spliceai.splice_engine.meta_layer.models.composition import BaseTrunk
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig
from meta_spliceai.splice_engine.meta_layer.training import parameter_groups, set_trained

BATCH = 1_000_003
"""The prime that stands for the batch: larger than any window, so no other dimension is a multiple of it."""

_FLOAT32_ON_CUDA: set[Any] = {
    *(F.layer_norm, F.softmax, F.log_softmax, F.softplus, F.huber_loss, F.mse_loss, F.kl_div, F.cross_entropy),
    *(Tensor.softmax, Tensor.log_softmax, Tensor.exp, Tensor.pow, Tensor.cumsum, torch.exp, torch.softmax),
}
"""What CUDA's autocast runs in float32 and the CPU's does not (PyTorch's page on automatic mixed precision)."""

Size = tuple[float, float]  # bytes or operations: what is there at any batch, and what comes with each member of it


def _size(number: int, factor: float = 1) -> Size:
    each, rest = divmod(number, BATCH)
    return (number * factor, 0) if rest else (0, each * factor)


class Traced(NamedTuple):
    """One pass at one batch size: most bytes held at one time; of each operation in order its floating-point operations
    and the bytes it reads and writes, whether a matrix unit does it (products and convolutions), and whether on 16-bit
    numbers."""

    peak_bytes: int
    flops: Float64[np.ndarray, " operations"]
    moved: Float64[np.ndarray, " operations"]
    matrix: Bool[np.ndarray, " operations"]
    half: Bool[np.ndarray, " operations"]


@dataclass(frozen=True)
class Pass:
    """One pass at any batch size.

    Attributes:
        held: change of the bytes held, allocation by allocation.
        work: for each operation its floating-point operations and its bytes moved, each as two numbers, and whether it
            is a matrix unit's and on 16-bit numbers.
        rounding: memory is handed out in pieces of so many bytes.
    """

    held: list[Size]
    work: list[tuple[float, float, float, float, bool, bool]]
    rounding: int

    def at(self, batch: int) -> Traced:
        held, work = np.array(self.held).reshape(-1, 2), np.array(self.work, dtype=np.float64).reshape(-1, 6)
        changes = held @ (1, batch)
        changes = np.sign(changes) * np.ceil(np.abs(changes) / self.rounding) * self.rounding
        flops, moved = work[:, :2] @ (1.0, batch), work[:, 2:4] @ (1.0, batch)
        return Traced(int(changes.cumsum().max(initial=0)), flops, moved, work[:, 4] > 0, work[:, 5] > 0)


@dataclass(frozen=True)
class DryRun:
    """Everything a model does in a row.

    Attributes:
        training: forward, loss, backward, optimiser; of variants.
        validation: forward without gradients; of variants.
        embedding: the frozen encoder, of sequences; None where the encoder is trained.
        parameters, trained: numbers in the model, and those of them that are trained.
        feature_bytes: bytes of a frozen encoder's features of one sequence as they are kept (float16); 0 if trained.
    """

    training: Pass
    validation: Pass
    embedding: Pass | None
    parameters: int
    trained: int
    feature_bytes: int

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> DryRun:
        """From what `dataclasses.asdict` made of one."""
        passes = {name: values[name] and Pass(**values[name]) for name in ("training", "validation", "embedding")}
        return cls(**{**values, **passes})


class _Account(TorchDispatchMode):
    """Sees every operation as it is dispatched: the storages it makes and frees, and its work."""

    def __init__(self, cuda: bool) -> None:
        super().__init__()
        self.cuda = cuda
        self.made = Pass([], [], 512 if cuda else 64)  # CUDA's caching allocator hands out 512 bytes at least
        self._sizes: dict[int, Size] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func.namespace == "prim":  # questions about a tensor, no work
            return out
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self.see(*made)
        packet = func._overloadpacket
        if packet in FOURIER and self.cuda:
            # cuFFT works in a buffer of the transform's size; a transform back to real numbers copies its input first.
            self._for_a_moment(made[0], *([args[0]] if packet is torch.ops.aten._fft_c2r else []))
        if packet is torch.ops.aten.convolution and args[0].dim() == 3 and not self.cuda:
            # oneDNN has an order of its own for one-dimensional convolutions, in which the output stands once more; an
            # input that is not contiguous is copied as well.
            self._for_a_moment(made[0], *([] if args[0].is_contiguous() else [args[0]]))
        views = [value.alias_info is not None and not value.alias_info.is_write for value in func._schema.returns]
        if not views or not all(views):
            self._count(packet, args, kwargs, out, made)
        return out

    def see(self, *tensors: Tensor) -> None:
        """Count each tensor's storage once, until it dies."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self._sizes:
                self._sizes[key] = _size(storage.nbytes())
                self.made.held.append(self._sizes[key])
                weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        once, each = self._sizes.pop(key)
        self.made.held.append((-once, -each))

    def _for_a_moment(self, *tensors: Tensor) -> None:
        once, each = (sum(sizes) for sizes in zip(*(_size(tensor.nbytes) for tensor in tensors), strict=True))
        self.made.held.extend([(once, each), (-once, -each)])

    def _count(self, packet: Any, args: Any, kwargs: Any, out: Any, made: list[Tensor]) -> None:
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        # An expanded tensor is read from the few numbers it holds.
        bytes_ = [min(one.numel() * one.element_size(), one.untyped_storage().nbytes()) for one in (*read, *made)]
        moved = np.array([_size(number) for number in bytes_]).reshape(-1, 2).sum(axis=0)
        matrix, flops = packet in flop_registry, (0.0, 0.0)
        if matrix:
            flops = _size(flop_registry[packet](*args, **kwargs, out_val=out))
        elif packet in FOURIER:
            flops = _size(*fourier_work(packet, args, made[0]))
        elif made:
            flops = _size(max(tensor.numel() for tensor in made))
        half = any(tensor.element_size() == 2 for tensor in made)
        self.made.work.append((*flops, float(moved[0]), float(moved[1]), matrix, half))


class _CudaAutocast(TorchFunctionMode):
    """On fake tensors of the CPU: what CUDA's autocast keeps in float32 is kept in float32 here."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _FLOAT32_ON_CUDA:
            args = tuple(a.float() if isinstance(a, Tensor) and a.dtype == torch.bfloat16 else a for a in args)
        return func(*args, **(kwargs or {}))


@contextmanager
def _precision(mixed: bool) -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed), _CudaAutocast() if mixed else nullcontext():
        yield


def dry_run(build: Callable[[], Predictor], config: TrainingConfig, *, mixed: bool, cuda: bool) -> DryRun:
    """Run a predictor's training on fake tensors.

    Args:
        build: makes the predictor; called where tensors have no content, so that a large model needs no memory.
        config: how it is trained.
        mixed: bfloat16 mixed precision.
        cuda: count as CUDA's allocator does, with the workspaces of Fourier transforms.
    """
    with FakeTensorMode():
        predictor = build()
        set_trained(predictor, config, None)
        frozen = predictor.encoder_frozen
        encoder: Any = predictor.encoder if frozen else None  # models trained side by side have several
        training = _training(predictor, config, mixed, cuda)
        validation, embedding = _forward(predictor, cuda, lambda: _predict(predictor, mixed)), None
        # Features that come with the windows are computed before training, by a base network (see `demand`).
        if frozen and not isinstance(encoder, BaseTrunk):
            shape = (BATCH, 4, predictor.window)
            embedding = _forward(predictor, cuda, lambda: encoder(torch.zeros(shape)).mT.half())
        trained = sum(p.numel() for p in predictor.parameters() if p.requires_grad)
        feature_bytes = 2 * int(encoder.positions) * int(encoder.channels) if frozen else 0
        return DryRun(training, validation, embedding, predictor.parameter_count(), trained, feature_bytes)


def _predict(predictor: Predictor, mixed: bool) -> Tensor:
    with _precision(mixed):
        return predict_zeros(predictor, BATCH)


def _training(predictor: Predictor, config: TrainingConfig, mixed: bool, cuda: bool) -> Pass:
    """One step from the second on: the optimiser has its moments, and the gradients of the step before are held until
    the backward pass begins (as Lightning does it)."""
    predictor.train()
    trained = [p for group in parameter_groups(predictor, config) for p in group["params"]]
    moments = [torch.empty_like(p) for p in trained for _ in range(2)]
    for parameter in trained:
        parameter.grad = torch.empty_like(parameter)
    account = _Account(cuda)
    account.see(*predictor.parameters(), *predictor.buffers(), *moments, *(p.grad for p in trained))
    with account:
        labels = torch.zeros((BATCH, predictor.head.labels))
        predicted = _predict(predictor, mixed)
        with _precision(mixed):
            loss = predictor.head.loss(predicted, labels, config)
        del predicted
        predictor.zero_grad(set_to_none=True)
        loss.backward()
    # The fused AdamW is one pass over weights, gradients and both moments, in place; clipping one over gradients.
    touched = float(sum(p.nbytes for p in trained))
    account.made.work.append((3 * touched, 0.0, 9 * touched, 0.0, False, False))
    made = replace(account.made, held=list(account.made.held))  # what is freed from here on is no part of the step
    predictor.zero_grad(set_to_none=True)
    return made


def _forward(predictor: Predictor, cuda: bool, call: Callable[[], Tensor]) -> Pass:
    predictor.eval()
    account = _Account(cuda)
    account.see(*predictor.parameters(), *predictor.buffers())
    with account, torch.no_grad():
        call()
    return replace(account.made, held=list(account.made.held))
