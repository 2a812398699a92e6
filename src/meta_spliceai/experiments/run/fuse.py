"""The procedure "fusion": base networks' Δ, position and words, fused by trees that learn from measured labels."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from meta_spliceai.errors import RunError
from meta_spliceai.experiments.run.job import FOLDS, MODEL, Job, Trained
from meta_spliceai.experiments.run.utilisation import not_counted
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.splice_engine.base_layer.scores import BaseScores
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.meta_layer.fusion import Fusion, fit_fusion
from meta_spliceai.splice_engine.meta_layer.fusion_features import fusion_features
from meta_spliceai.splice_engine.meta_layer.peak_memory import peak_memory
from meta_spliceai.splice_engine.meta_layer.trunk_features import TrunkWindows
from meta_spliceai.splice_engine.meta_layer.window_data import choose_device
from meta_spliceai.splice_engine.variants.splits import Split
from meta_spliceai.splice_engine.variants.windows import Windows

TREES = "scikit-learn grows the trees, whose operations nobody counts"


def fuse(job: Job) -> Trained:
    """One fusion, or one a fold; every row that a fold tests is predicted by the fusion that did not see it.

    The predictions are two numbers a row: the probability of Splice-altering, and the predicted effect (NaN without a
    model of it).
    """
    spec, prepared = job.spec, job.prepared
    if spec.fusion is None:
        raise RunError(f"row '{spec.id}' names no base networks to fuse")
    started = time.perf_counter()
    with job.clock("features"):
        features = features_of(spec, prepared.table, prepared.all_scores, prepared.windows, prepared.loaded.annotation)
    job.callback.say(
        f"fusing {', '.join(scores.model for scores in prepared.all_scores)}: {features.shape[1]} features, "
        f"{len(features):,} variants"
    )
    predictions: np.ndarray | None = None
    cards = []
    fusion: Fusion | None = None
    with job.callback.stage("fusions", len(prepared.splits)) as advance:
        for number, split in enumerate(prepared.splits, start=1):
            folder = job.run.path / MODEL if len(prepared.splits) == 1 else job.run.path / FOLDS / str(number) / MODEL
            with job.clock("training"):
                fusion = _fit(job, features, split, folder)
            mine = predict_fusion(fusion, features)
            if predictions is None:
                # Rows that no fold tests keep the first fold's predictions; they are not evaluated.
                predictions = mine
            tested = split.indices("test")
            predictions[tested] = mine[tested]
            cards.append({"split": split.name, "tested": len(tested), **fusion.card})
            advance(1)
    if predictions is None or fusion is None:
        raise RunError(f"row '{spec.id}': the split has no folds")
    model = {
        "predictor": "fusion",
        "parameters": sum(len(part.value) for part in (fusion.altering, fusion.effect) if part is not None),
        "weights": "learned from measured labels: gradient-boosted trees",
        "networks": [scores.model for scores in prepared.all_scores],
        "features": list(fusion.features),
    }
    training = {"seconds": round(time.perf_counter() - started, 3), "fusions": cards}
    curves = pd.DataFrame({"fold": range(1, len(cards) + 1), "valid_loss": [c["classes"]["log_loss"] for c in cards]})
    return Trained(predictions, columns, curves, model, training, peak_memory(choose_device("cpu")), not_counted(TREES))


def features_of(
    spec: ExperimentSpec,
    table: pd.DataFrame,
    scores: tuple[BaseScores, ...],
    windows: Windows,
    annotation: GeneAnnotation | None,
) -> pd.DataFrame:
    """What the row's fusion sees of some variants: of those it learns from, and of new ones alike."""
    words = spec.fusion is not None and spec.fusion.words
    trunk = windows.trunk if isinstance(windows, TrunkWindows) else None
    return fusion_features(table, scores, windows if words else None, annotation, trunk)


def predict_fusion(fusion: Fusion, features: pd.DataFrame) -> Float32[np.ndarray, "n 2"]:
    """Probability and predicted effect of every row."""
    found = fusion.predict(features)
    return np.stack([found.score, found.signed], axis=1).astype(np.float32)


def columns(predictions: Float32[np.ndarray, "n 2"]) -> dict[str, Float32[np.ndarray, " n"]]:
    """The predictions by name, as a predictor names its own: `score`, a probability; `signed`, the predicted effect."""
    return {"score": predictions[:, 0], "signed": predictions[:, 1]}


def learned_from(spec: ExperimentSpec, split: Split) -> np.ndarray:
    """Row numbers a fusion of this row learns from in one split."""
    parts = [split.indices("train")]
    if spec.fusion is not None and spec.fusion.validation == "learn":
        parts.append(split.indices("validation"))
    return np.sort(np.concatenate(parts))


def _fit(job: Job, features: pd.DataFrame, split: Split, folder: Path) -> Fusion:
    """The fusion of one split: fitted and kept, or found where an interrupted run left it."""
    spec, table = job.spec, job.prepared.table
    if spec.fusion is None:
        raise RunError(f"row '{spec.id}' names no base networks to fuse")
    if job.resume and (folder / "fusion.json").is_file():
        job.callback.say(f"{split.name} is finished already")
        return Fusion.load(folder)
    rows = learned_from(spec, split)
    held: Any = None
    if spec.fusion.validation == "calibrate":
        validation = split.indices("validation")
        held = (
            features.iloc[validation].reset_index(drop=True),
            table.iloc[validation].reset_index(drop=True),
        )
    fusion = fit_fusion(
        features.iloc[rows].reset_index(drop=True),
        table.iloc[rows].reset_index(drop=True),
        spec.seed,
        spec.fusion.settings,
        negatives=spec.negatives,
        validation=held,
    )
    fusion.save(folder)
    return fusion
