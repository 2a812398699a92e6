"""Everything that runs on a GPU, on tensors without content that say they are on another device than the CPU.

A tensor that was left on the CPU then meets one of the device, and PyTorch raises as it would on CUDA. Nothing is
computed. What depends on the very name of CUDA (its allocator's peak, autocast's own lists, graphs) is not seen.

Run as a program of its own: it registers a device with PyTorch, which cannot be taken back. Arguments are beginnings of
the checks' names (all without; all others after "but"); "mistake" is one that must fail.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import backend_registration

from meta_spliceai.experiments.run.build import build_predictor
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.spec.rows import as_smoke, load_rows
from meta_spliceai.splice_engine.base_layer.network import Architecture, BaseModel, SpliceAINetwork, Stage
from meta_spliceai.splice_engine.base_layer.scoring import Computation, score_variants
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome
from meta_spliceai.splice_engine.meta_layer.features import FeatureData, WindowData, batches, draw_shifts
from meta_spliceai.splice_engine.meta_layer.training import Trainer, class_weights

DEVICE = "elsewhere"
VARIANTS, BATCH = 24, 8


def _moved(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """`Module.to` for tensors without content, which PyTorch's own cannot put into a module."""
    for part in module.modules():
        for store in (part._parameters, part._buffers):
            for name, tensor in store.items():
                if tensor is not None:
                    there = tensor.detach().to(*args, **kwargs)
                    store[name] = (
                        nn.Parameter(there, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else there
                    )
    return module


def _numbers(tensor: Tensor, **_: Any) -> np.ndarray:
    """Zeros in the place of what a tensor without content would give; on the device itself there is no such way."""
    if tensor.device.type != "cpu":
        raise TypeError(f"numbers are taken of a tensor on {tensor.device}; copy it to the CPU first")
    return np.zeros(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def _of_values(values: Any, dtype: torch.dtype | None = None, device: Any = None, **_: Any) -> Tensor:
    """A tensor without content in the shape of some values."""
    array = np.asarray(values)
    kind = dtype or (
        torch.float32
        if array.dtype == np.float64 and not isinstance(values, np.ndarray)
        else getattr(torch, str(array.dtype))
    )
    return torch.zeros(array.shape, dtype=kind, device=device)


_GET = Tensor.__getitem__


def _chosen(self: Tensor, key: Any) -> Tensor:
    """Indexing; a mask, whose sum nobody knows, takes all."""
    first, *rest = key if isinstance(key, tuple) else (key,)
    if isinstance(first, Tensor) and first.dtype == torch.bool:
        if first.device != self.device:
            raise ValueError(f"a mask on {first.device} for a tensor on {self.device}")
        first = slice(None)
    return _GET(self, (first, *rest) if isinstance(key, tuple) else first)


def _counts(values: Tensor, minlength: int = 0) -> Tensor:
    return values.new_zeros(minlength)


@contextmanager
def without_content() -> Any:
    numpy = Tensor.numpy
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        mock.patch.object(FakeTensor, "__int__", return_value=1),
        mock.patch.object(FakeTensor, "__getitem__", _chosen),
        mock.patch.object(torch, "bincount", _counts),
        mock.patch.object(torch, "autocast", return_value=nullcontext()),
        mock.patch.object(nn.Module, "double", lambda self: _moved(self, torch.float64)),
        mock.patch.object(nn.Module, "to", _moved),
        mock.patch.object(
            Tensor, "numpy", lambda self, **k: _numbers(self) if isinstance(self, FakeTensor) else numpy(self, **k)
        ),
        mock.patch.object(FakeTensor, "__float__", return_value=0.5),
        mock.patch.object(torch, "tensor", _of_values),
        mock.patch.object(torch, "from_numpy", _of_values),
        mock.patch.object(Tensor, "new_tensor", lambda self, values, **k: _of_values(values, self.dtype, self.device)),
    ):
        yield


def training(spec: ExperimentSpec) -> None:
    """A step and a validation of a row's predictor, in pieces of what `fit` does."""
    config = spec.training
    with without_content():
        device = torch.device(DEVICE)
        predictor = build_predictor(spec)
        predictor.to(device)
        labels = torch.zeros(VARIANTS, predictor.head.labels).to(device)
        wide = torch.zeros(VARIANTS, config.reach(spec.window), dtype=torch.uint8)
        data: WindowData | FeatureData = WindowData(wide.to(device), wide.to(device), config.window_shift)
        if predictor.encoder_frozen:
            encoder: Any = predictor.encoder
            predictor(*data.pair(torch.arange(BATCH).to(device)))
            store = torch.zeros(2 * VARIANTS, encoder.positions, encoder.channels, dtype=torch.float16)
            slot = torch.arange(VARIANTS).to(device)
            for kept in (store, store.to(device)):
                data = FeatureData(kept, slot, slot, device, "features")
                step(predictor, data, labels, spec)
        else:
            step(predictor, data, labels, spec)


def step(predictor: Any, data: Any, labels: Tensor, spec: ExperimentSpec) -> None:
    config = spec.training
    device = labels.device
    rows = np.arange(VARIANTS)
    class_weights(predictor, labels, torch.from_numpy(rows).to(device))
    trainer = Trainer(predictor, data, labels, rows, config)
    predictor.train()
    parts = batches(rows, BATCH, device, 3)
    shifts = draw_shifts(VARIANTS, config.window_shift, 1, device) if config.window_shift else None
    for batch in parts:
        loss = trainer.batch_loss(batch, shifts)
        with torch.autograd.set_multithreading_enabled(False):
            loss.backward()
    torch.nn.utils.clip_grad_norm_(predictor.parameters(), 1.0)
    for parameter in predictor.parameters():
        if parameter.grad is not None and parameter.grad.device != device:
            raise AssertionError(f"a gradient is on {parameter.grad.device}")
    predictor.eval()
    with torch.inference_mode():
        answers, wanted = torch.cat([trainer.predict(batch) for batch in parts]), labels[torch.cat(parts)]
    predictor.head.loss(answers, wanted, config)
    predictor.head.comparable(answers, wanted)


def scoring(method: str, precision: str, slope: float) -> None:
    """Base scoring of SNVs, insertions and deletions."""
    import pandas as pd

    codes = np.random.default_rng(0).integers(0, 4, 900).astype(np.uint8)
    genome = MemoryGenome({"long": codes, "construct": codes[:200]}, "toy", "toy")
    letters = "ACGT"
    rows = []
    for contig, strand in (("long", "+"), ("long", "-"), ("construct", "+"), ("construct", "-")):
        for pos in (90, 95):
            ref = letters[codes[pos - 1]]
            rows += [
                (contig, pos, ref, letters[(codes[pos - 1] + 1) % 4], strand),
                (contig, pos, ref, ref + "GT", strand),
            ]
            rows += [(contig, pos, ref + letters[codes[pos]], ref, strand)]
    table = pd.DataFrame(rows, columns=["chrom", "pos", "ref", "alt", "strand"])
    table = table.assign(gene="", variant_id=[str(row) for row in range(len(rows))])
    with without_content():
        networks = tuple(
            SpliceAINetwork(Architecture((Stage(1, 5, 1), Stage(1, 11, 2)), channels=8, slope=slope)) for _ in range(2)
        )
        model = BaseModel("toy", networks, "", "", digest="0" * 64)
        for network in networks:
            network.to(DEVICE)
        assert model.device.type == DEVICE
        score_variants(table, genome, model, 12, how=Computation(method, precision=precision))  # type: ignore[arg-type]


def mistake() -> None:
    """What must be found: labels left on the CPU."""
    spec = next(iter(_kinds().values()))
    with without_content():
        predictor = build_predictor(spec)
        predictor.to(DEVICE)
        codes = torch.zeros(VARIANTS, spec.window, dtype=torch.uint8).to(DEVICE)
        answer = predictor(*WindowData(codes, codes).pair(torch.arange(VARIANTS).to(DEVICE)))
        predictor.head.loss(answer, torch.zeros(VARIANTS, predictor.head.labels), spec.training)


def _kinds() -> dict[str, ExperimentSpec]:
    """One small row of the catalogue for every kind of model and training."""
    found: dict[str, ExperimentSpec] = {}
    for row in load_rows(own=None).values():
        # A base network's trunk is read from features that come with base scores, not from windows.
        if row.ensemble is not None or row.fusion is not None or row.trunk_network is not None:
            continue
        spec = as_smoke(row)
        name, settings = spec.encoder.name, dict(spec.encoder.settings)
        if name.startswith("hyenadna"):
            name = "hyenadna-tiny-1k"  # of all sizes, which take the same operations
            settings["weights"] = "scratch"
            settings.pop("gradient_checkpointing", None)  # it asks the device for its random state
        spec = spec.model_copy(update={"encoder": spec.encoder.model_copy(update={"name": name, "settings": settings})})
        config = spec.training
        kind = (
            name,
            sorted(settings.items()),
            spec.head.name,
            spec.target,
            config.balance,
            bool(config.window_shift),
        )
        found.setdefault(str(kind), spec)
    return found


def main() -> int:
    setup = getattr(backend_registration, "_setup_privateuseone_for_python_backend", None)
    if setup is None:
        print("this PyTorch has no devices in Python")
        return 3
    setup(DEVICE)
    checks: dict[str, Callable[[], None]] = {
        f"training {spec.id}": lambda spec=spec: training(spec) for spec in _kinds().values()
    }  # type: ignore[misc]
    for method, precision, slope in (
        ("full", "fp32", 0.0),
        ("incremental", "fp32", 0.0),
        ("incremental", "fp32", 0.1),
        ("incremental", "bf16", 0.0),
    ):
        checks[f"scoring {method} {precision} {slope}"] = lambda m=method, p=precision, s=slope: scoring(m, p, s)  # type: ignore[misc]
    beginnings = tuple(sys.argv[1:])
    if beginnings[:1] == ("but",):
        checks = {name: check for name, check in checks.items() if not name.startswith(beginnings)}
    elif beginnings:
        checks["mistake"] = mistake
        checks = {name: check for name, check in checks.items() if name.startswith(beginnings)}
    failed = 0
    for name, check in checks.items():
        try:
            check()
            print(f"{name}: fine")
        except Exception as error:  # noqa: BLE001  # each check is reported, the others go on
            failed += 1
            print(f"{name}: FAILED {type(error).__name__}: {str(error).splitlines()[0][:300]}")
            for frame in traceback.extract_tb(error.__traceback__):
                if "meta_spliceai" in frame.filename or "devices" in frame.filename:
                    print(f"    {frame.filename.rpartition('meta_spliceai/')[2]}:{frame.lineno} {frame.line}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
