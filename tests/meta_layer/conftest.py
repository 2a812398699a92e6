"""A toy task with a rule a small model can learn: the base in the middle decides Δ donor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig
from meta_spliceai.splice_engine.meta_layer.targets import Targets
from meta_spliceai.splice_engine.meta_layer.training import FitReport, fit
from meta_spliceai.splice_engine.variants.table import Coverage, Windows

WINDOW = 21


@dataclass
class ToyTask:
    windows: Windows
    targets: Targets
    train: np.ndarray
    validation: np.ndarray

    def fit(
        self,
        predictor: Predictor,
        folder: Path,
        config: TrainingConfig,
        *,
        windows: Windows | None = None,
        resume: bool = False,
    ) -> FitReport:
        """Train quietly on the processor, on other windows of the same variants if they are given."""
        return fit(
            predictor,
            windows or self.windows,
            self.targets,
            self.train,
            self.validation,
            config,
            folder,
            "cpu",
            resume=resume,
        )


@pytest.fixture
def toy_task() -> ToyTask:
    """Single-base changes in random windows: +0.5 for a gained G in the middle, −0.5 for a lost one, else 0."""
    rng = np.random.default_rng(3)
    rows, middle, guanine = 120, WINDOW // 2, 2
    ref = rng.integers(0, 4, (rows, WINDOW), dtype=np.uint8)
    alt = ref.copy()
    alt[:, middle] = (alt[:, middle] + rng.integers(1, 4, rows)) % 4
    values = np.zeros((rows, 3), np.float32)
    values[:, 2] = 0.5 * (alt[:, middle] == guanine) - 0.5 * (ref[:, middle] == guanine)
    targets = Targets(values, np.ones(rows, bool), Coverage(rows))
    return ToyTask(Windows(ref, alt), targets, np.arange(90), np.arange(90, rows))
