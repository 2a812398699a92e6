"""A training step without numbers: what it holds in memory at most and what it computes.

The row's own predictor runs forward, backward and through the optimiser on fake tensors, which have shapes and no
content. Every operation is seen as it is dispatched: the storages it makes are added to what is held and taken off when
they die, its floating-point operations are counted by PyTorch's own formulas, Fourier transforms (which those leave
out) by 5 · N · log2 N for each complex transform of N points and half of it for a real one (Cooley and Tukey's radix-2
count). Activations kept for the backward pass, gradients, AdamW's two moments and recomputation under gradient
checkpointing are therefore in the figures because they happen, not because a formula has them.

One run serves every batch size. It is made with a batch of so large a prime that no other dimension is a multiple of
it: what grows with the batch is then divisible by it, what does not is not.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from meta_spliceai.splice_engine.meta_layer.fine_tuning import parameter_groups, set_trained
from meta_spliceai.splice_engine.meta_layer.models.encoders.base_trunk import BaseTrunk
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.training_config import TrainingConfig
from meta_spliceai.splice_engine.meta_layer.training_work import FOURIER, fourier_work

_ALLOCATION = 512
"""CUDA's caching allocator hands out memory in pieces of so many bytes."""

_WHOLE_PRECISION: set[Any] = {
    F.layer_norm,
    F.softmax,
    F.log_softmax,
    F.softplus,
    F.huber_loss,
    F.mse_loss,
    F.kl_div,
    F.cross_entropy,
    Tensor.softmax,
    Tensor.log_softmax,
    Tensor.exp,
    Tensor.pow,
    Tensor.cumsum,
    torch.exp,
    torch.softmax,
}
"""What CUDA's autocast runs in float32 and the CPU's does not (PyTorch's page on automatic mixed precision)."""


@dataclass(frozen=True)
class Traced:
    """One pass at one batch size.

    Attributes:
        peak_bytes: most that was held at one time.
        flops: floating-point operations of each operation, in order.
        moved: bytes each operation reads and writes.
        matrix: true for operations that a matrix unit does (products and convolutions).
        half: true for operations on 16-bit numbers.
    """

    peak_bytes: int
    flops: Float64[np.ndarray, " operations"]
    moved: Float64[np.ndarray, " operations"]
    matrix: Bool[np.ndarray, " operations"]
    half: Bool[np.ndarray, " operations"]


BATCH = 1_000_003
"""The prime that stands for the batch: larger than any window, so no other dimension is a multiple of it."""


class Size(NamedTuple):
    """A number of bytes or operations: what is there at any batch, and what comes with each member of it."""

    once: float = 0
    each: float = 0

    @classmethod
    def of(cls, number: int) -> Size:
        """A number counted in the dry run."""
        each, rest = divmod(number, BATCH)
        return cls(number, 0) if rest else cls(0, each)

    def at(self, batch: int, rounding: int = 1) -> float:
        """The number at a batch size, rounded up to a multiple."""
        number = self.once + self.each * batch
        return number if rounding == 1 else math.copysign(-(-abs(number) // rounding) * rounding, number)

    def __add__(self, other: tuple[float, ...]) -> Size:  # type: ignore[override]
        return Size(self.once + other[0], self.each + other[1])

    def __neg__(self) -> Size:
        return Size(-self.once, -self.each)

    def __mul__(self, factor: float) -> Size:  # type: ignore[override]
        return Size(self.once * factor, self.each * factor)


class _Account(TorchDispatchMode):
    """Watches operations: what is held, and what is done."""

    def __init__(self, workspaces: bool) -> None:
        super().__init__()
        self.workspaces = workspaces
        self.counting = False
        self.rows: list[tuple[Size, Size, bool, bool]] = []
        self.events: list[Size] = []
        self._sizes: dict[int, Size] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func.namespace == "prim":  # questions about a tensor, no work
            return out
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        for tensor in made:
            self.see(tensor)
        packet = func._overloadpacket
        if packet in FOURIER and self.workspaces:
            # cuFFT works in a buffer of the transform's size; a transform back to real numbers copies its input first.
            extra = Size.of(made[0].nbytes)
            if packet is torch.ops.aten._fft_c2r:
                extra += Size.of(args[0].nbytes)
            self.events += [extra, -extra]
        if packet is torch.ops.aten.convolution and args[0].dim() == 3 and not self.workspaces:
            # oneDNN has an order of its own for one-dimensional convolutions, in which the answer stands once more; an
            # input that is not contiguous is copied as well. (Ours of two dimensions are in the order it works in.)
            extra = Size.of(made[0].nbytes)
            if not args[0].is_contiguous():
                extra += Size.of(args[0].nbytes)
            self.events += [extra, -extra]
        if self.counting and not _is_view(func):
            self._count(func, packet, args, kwargs, out, made)
        return out

    def see(self, tensor: Tensor) -> None:
        """Count a tensor's storage once, until it dies."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        size = Size.of(storage.nbytes())
        self._sizes[key] = size
        self.events.append(size)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.events.append(-self._sizes.pop(key))

    def peak(self, batch: int, rounding: int) -> int:
        """Most bytes held at one time.

        Args:
            batch: variants or sequences.
            rounding: memory is handed out in pieces of so many bytes.
        """
        held = most = 0.0
        for event in self.events:
            held += event.at(batch, rounding)
            most = max(most, held)
        return int(most)

    def traced(self, batch: int, rounding: int) -> Traced:
        """Everything seen, at a batch size."""
        flops = np.array([row[0].at(batch) for row in self.rows], dtype=np.float64)
        moved = np.array([row[1].at(batch) for row in self.rows], dtype=np.float64)
        matrix, half = (np.array([row[i] for row in self.rows], dtype=bool) for i in (2, 3))
        return Traced(self.peak(batch, rounding), flops, moved, matrix, half)

    def _count(self, func: Any, packet: Any, args: Any, kwargs: Any, out: Any, made: list[Tensor]) -> None:
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        moved = sum((Size.of(_bytes(tensor)) for tensor in (*read, *made)), start=Size())
        flops, matrix = Size(), packet in flop_registry
        if matrix:
            flops = Size.of(flop_registry[packet](*args, **kwargs, out_val=out))
        elif packet in FOURIER:
            points, each = fourier_work(packet, args, made[0])
            flops = Size.of(points) * each
        elif made:
            flops = Size.of(max(tensor.numel() for tensor in made))
        half = any(tensor.element_size() == 2 for tensor in made)
        self.rows.append((flops, moved, matrix, half))


def _bytes(tensor: Tensor) -> int:
    # An expanded tensor is read from the few numbers it holds.
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _is_view(func: Any) -> bool:
    """Whether an operation only looks at its input in another shape."""
    returned = func._schema.returns
    return bool(returned) and all(value.alias_info is not None and not value.alias_info.is_write for value in returned)


class _CudaAutocast(TorchFunctionMode):
    """On fake tensors of the CPU: what CUDA's autocast keeps in float32 is kept in float32 here."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _WHOLE_PRECISION:
            args = tuple(
                value.float() if isinstance(value, Tensor) and value.dtype == torch.bfloat16 else value
                for value in args
            )
        return func(*args, **kwargs)


@contextmanager
def _precision(mixed: bool) -> Iterator[None]:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
        if not mixed:
            yield
            return
        with _CudaAutocast():
            yield


@dataclass(frozen=True)
class DryRun:
    """Traces of everything a model does in a row, each at two batch sizes.

    Attributes:
        training: forward, loss, backward, optimiser; by batch size in variants.
        validation: forward without gradients; by batch size in variants.
        embedding: the frozen encoder; by batch size in sequences. Empty where the encoder is trained.
        parameters: numbers in the model.
        trained: numbers that are trained.
        feature_bytes: bytes of a frozen encoder's features of one sequence as they are kept (float16); 0 if trained.
    """

    training: dict[int, Traced]
    validation: dict[int, Traced]
    embedding: dict[int, Traced]
    parameters: int
    trained: int
    feature_bytes: int


def dry_run(
    build: Callable[[], Predictor],
    config: TrainingConfig,
    batch_sizes: tuple[int, int],
    *,
    mixed: bool,
    cuda: bool,
) -> DryRun:
    """Run a predictor's training on fake tensors.

    Args:
        build: makes the predictor; called where tensors have no content, so that a large model needs no memory.
        config: how it is trained.
        batch_sizes: two different numbers of variants.
        mixed: bfloat16 mixed precision.
        cuda: count as CUDA's allocator does, with the workspaces of Fourier transforms.
    """
    rounding = _ALLOCATION if cuda else 64

    def at_both(account: _Account) -> dict[int, Traced]:
        return {size: account.traced(size, rounding) for size in batch_sizes}

    with FakeTensorMode():
        predictor = build()
        set_trained(predictor, config, None)
        # Features that come with the windows are computed before training, by a base network (see `demand`).
        frozen = predictor.encoder_frozen
        embeds = frozen and not isinstance(predictor.encoder, BaseTrunk)
        training = at_both(_training(predictor, config, mixed, _Account(cuda)))
        validation = at_both(_forward(predictor, mixed, _Account(cuda)))
        embedding = at_both(_embed(predictor, _Account(cuda))) if embeds else {}
        feature_bytes = 0
        if frozen:
            encoder: Any = predictor.encoder
            feature_bytes = 2 * int(encoder.positions) * int(encoder.channels)
        trained = sum(p.numel() for p in predictor.parameters() if p.requires_grad)
        return DryRun(training, validation, embedding, predictor.parameter_count(), trained, feature_bytes)


def _see_model(predictor: nn.Module, account: _Account) -> None:
    for tensor in (*predictor.parameters(), *predictor.buffers()):
        account.see(tensor)


def _inputs(predictor: Predictor) -> tuple[Tensor, Tensor]:
    """What a batch holds: one-hot bases of both alleles, or a frozen encoder's features of them."""
    if predictor.encoder_frozen:
        encoder: Any = predictor.encoder
        shape = (BATCH, int(encoder.positions), int(encoder.channels))
        return torch.zeros(shape).mT, torch.zeros(shape).mT
    shape = (BATCH, 4, predictor.window)
    return torch.zeros(shape), torch.zeros(shape)


def _answer(predictor: Predictor, pair: tuple[Tensor, Tensor]) -> Tensor:
    answer: Tensor = predictor.compare(*pair) if predictor.encoder_frozen else predictor(*pair)
    return answer.float()


def _training(predictor: Predictor, config: TrainingConfig, mixed: bool, account: _Account) -> _Account:
    """One step from the second on: the optimiser has its moments, and the gradients of the step before are held until
    the backward pass begins (as Lightning does it)."""
    predictor.train()
    trained = [p for group in parameter_groups(predictor, config) for p in group["params"]]
    moments = [torch.empty_like(p) for p in trained for _ in range(2)]
    for parameter in trained:
        parameter.grad = torch.empty_like(parameter)
    _see_model(predictor, account)
    for tensor in (*moments, *(p.grad for p in trained)):
        account.see(tensor)
    with account:
        account.counting = True
        pair = _inputs(predictor)
        labels = torch.zeros((BATCH, predictor.head.labels))
        with _precision(mixed):
            loss = predictor.loss(_answer(predictor, pair), labels, config)
        for parameter in trained:
            parameter.grad = None
        loss.backward()
    # The fused AdamW is one pass over weights, gradients and both moments, in place; clipping one over gradients.
    touched = float(sum(p.nbytes for p in trained))
    account.rows.append((Size(12 * touched / 4), Size(7 * touched + 2 * touched), False, False))
    for parameter in trained:
        parameter.grad = None
    return account


def _forward(predictor: Predictor, mixed: bool, account: _Account) -> _Account:
    predictor.eval()
    _see_model(predictor, account)
    with account, torch.no_grad():
        account.counting = True
        pair = _inputs(predictor)
        with _precision(mixed):
            _answer(predictor, pair)
    return account


def _embed(predictor: Predictor, account: _Account) -> _Account:
    predictor.eval()
    _see_model(predictor, account)
    with account, torch.no_grad():
        account.counting = True
        predictor.encoder(torch.zeros((BATCH, 4, predictor.window))).mT.half()
    return account
