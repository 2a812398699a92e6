"""Dry runs kept on disk, known by what they were made from."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import torch

from meta_spliceai.experiments.address import source_state
from meta_spliceai.experiments.plan import dry_trace
from meta_spliceai.experiments.plan.dry_trace import DryRun, Traced
from meta_spliceai.files import atomic_write, cache_dir

_KINDS = ("training", "validation", "embedding")
_ARRAYS = ("flops", "moved", "matrix", "half")


def trace_file(description: str) -> Path:
    """Where the dry run of a model lies: addressed by the model, PyTorch, and the code of models and of tracing.

    Args:
        description: everything that decides about the model and its training.
    """
    tracing = hashlib.sha256(Path(dry_trace.__file__).read_bytes()).hexdigest()
    content = f"{description}\n{torch.__version__}\n{source_state()}\n{tracing}"
    return cache_dir() / "plan" / f"trace-{hashlib.sha256(content.encode()).hexdigest()[:24]}.npz"


def read_trace(file: Path) -> DryRun | None:
    """The dry run in a file; None where there is none, or a damaged one (which is removed)."""
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as kept:
            traces: dict[str, dict[int, Traced]] = {kind: {} for kind in _KINDS}
            for name in kept.files:
                kind, _, rest = name.partition("/")
                if not rest.endswith("/peak"):
                    continue
                size = int(rest.partition("/")[0])
                arrays = [kept[f"{kind}/{size}/{array}"] for array in _ARRAYS]
                traces[kind][size] = Traced(int(kept[name]), *arrays)
            parameters, trained, feature_bytes = (int(value) for value in kept["numbers"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        file.unlink(missing_ok=True)
        return None
    return DryRun(traces["training"], traces["validation"], traces["embedding"], parameters, trained, feature_bytes)


def write_trace(file: Path, dry: DryRun) -> None:
    """Keep a dry run."""
    content: dict[str, np.ndarray] = {"numbers": np.array([dry.parameters, dry.trained, dry.feature_bytes])}
    for kind in _KINDS:
        for size, traced in getattr(dry, kind).items():
            content[f"{kind}/{size}/peak"] = np.array(traced.peak_bytes)
            content |= {f"{kind}/{size}/{array}": getattr(traced, array) for array in _ARRAYS}
    with atomic_write(file, "wb") as handle:
        np.savez_compressed(handle, **content)  # type: ignore[arg-type]
