"""Fuses base networks' Δ, position, k-mers and other tools' scores by trees trained on measured labels."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float32

from meta_spliceai.errors import RunError
from meta_spliceai.experiments.run.prepare import Prepared, Trained, Work
from meta_spliceai.experiments.run.procedures import out_of_fold
from meta_spliceai.experiments.run.utilisation import not_counted
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.store.workspace import FOLDS, MODEL
from meta_spliceai.splice_engine.base_layer.scores import BaseScores
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.meta_layer.features import choose_device, peak_memory
from meta_spliceai.splice_engine.meta_layer.fusion import Fusion, fit_fusion
from meta_spliceai.splice_engine.meta_layer.fusion_features import fusion_features
from meta_spliceai.splice_engine.meta_layer.prediction import TrunkWindows
from meta_spliceai.splice_engine.variants.external_scores import ScoreFile, join_scores
from meta_spliceai.splice_engine.variants.splits import Split
from meta_spliceai.splice_engine.variants.table import Windows

TREES = "scikit-learn grows the trees, whose operations nobody counts"
SCORE = ": score"
"""How the feature that holds another tool's score ends; it begins with the tool's name."""


def fuse(work: Work, prepared: Prepared) -> Trained:
    """One fusion, or one a fold, by trees that learn from measured labels; every row that a fold tests is predicted by
    the fusion that did not see it.

    The predictions are two numbers per row: the probability of Splice-altering, and the predicted effect (NaN without a
    model of it).
    """
    spec = work.spec
    started = time.perf_counter()
    with work.clock("features"):
        features = features_of(spec, prepared.table, prepared.all_scores, prepared.windows, prepared.loaded.annotation)
        external, notes = external_scores(spec, prepared.table, spec.data.name)
        features = pd.concat([features, external], axis=1)
    for note in notes:
        work.callback.say(note)
    networks = [scores.model for scores in prepared.all_scores]
    work.callback.say(f"fusing {', '.join(networks)}: {features.shape[1]} features, {len(features):,} variants")
    fusions, each, cards = [], [], []
    with work.callback.stage("fusions", len(prepared.splits)) as advance:
        for number, split in enumerate(prepared.splits, start=1):
            folder = work.run.path / MODEL if len(prepared.splits) == 1 else work.run.path / FOLDS / str(number) / MODEL
            with work.clock("training"):
                fusions.append(_fit_fusion(work, prepared, features, split, folder))
            each.append(predict_fusion(fusions[-1], features))
            cards.append({"split": split.name, "tested": len(split.indices("test")), **fusions[-1].card})
            advance(number)
    predictions, last = out_of_fold(prepared.splits, each), fusions[-1]
    model = {
        "predictor": "fusion",
        "parameters": sum(len(part.value) for part in (last.altering, last.effect) if part is not None),
        "weights": "learned from measured labels: gradient-boosted trees",
        "networks": networks,
        "scores": [name.removesuffix(SCORE) for name in external],
        "features": list(last.features),
    }
    training = {"seconds": round(time.perf_counter() - started, 3), "fusions": cards}
    curves = pd.DataFrame({"fold": range(1, len(cards) + 1), "valid_loss": [c["classes"]["log_loss"] for c in cards]})
    peak = peak_memory(choose_device("cpu"))
    return Trained(predictions, fusion_columns, curves, model, training, peak, not_counted(TREES), notes)


def features_of(
    spec: ExperimentSpec,
    table: pd.DataFrame,
    scores: tuple[BaseScores, ...],
    windows: Windows,
    annotation: GeneAnnotation | None,
) -> pd.DataFrame:
    """What the row's fusion sees of some variants: of those it learns from, and of new ones alike; see
    `external_scores` for what other tools say."""
    words = spec.fusion is not None and spec.fusion.words
    trunk = windows.trunk if isinstance(windows, TrunkWindows) else None
    return fusion_features(table, scores, windows if words else None, annotation, trunk)


def external_scores(spec: ExperimentSpec, table: pd.DataFrame, data: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The scores of `fusion.scores`, a column each, NaN where a file has none; and in words how many have one.

    Args:
        data: what the variants are, for messages.

    Raises:
        InputError: a file that is not there or cannot be used, or has no score for any variant.
        IntegrityError: a damaged file.
    """
    found, notes = pd.DataFrame(index=table.index), []
    for text in () if spec.fusion is None else spec.fusion.scores:
        file = ScoreFile.parse(text)
        joined = join_scores(file, table, data)
        found[f"{file.name}{SCORE}"] = joined.score
        origin = f"{file.name} ({file.path.name}{f', {file.column}' * bool(file.column)})"
        scored = int(np.isfinite(joined.score).sum())
        notes.append(
            f"{origin} scores {scored:,} of {len(table):,} variants; of the others the trees know that it is missing"
        )
        if joined.other_reference:
            notes.append(f"{origin}: {joined.other_reference:,} rows with another reference base were left out")
    return found, tuple(notes)


def predict_fusion(fusion: Fusion, features: pd.DataFrame) -> Float32[np.ndarray, "n 2"]:
    found = fusion.predict(features)
    return np.stack([found.score, found.signed], axis=1).astype(np.float32)


def fusion_columns(predictions: Float32[np.ndarray, "n 2"]) -> dict[str, Float32[np.ndarray, " n"]]:
    """The predictions by name, as a predictor names its own: `score`, a probability; `signed`, the predicted effect."""
    return {"score": predictions[:, 0], "signed": predictions[:, 1]}


def _fit_fusion(work: Work, prepared: Prepared, features: pd.DataFrame, split: Split, folder: Path) -> Fusion:
    """The fusion of one split: fitted and kept, or found where an interrupted run left it."""
    spec = work.spec
    if spec.fusion is None:
        raise RunError(f"row '{spec.id}' names no base networks to fuse")
    if work.resume and (folder / "fusion.json").is_file():
        work.callback.say(f"{split.name} is finished already")
        return Fusion.load(folder)

    def part(rows: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
        return features.iloc[rows].reset_index(drop=True), prepared.table.iloc[rows].reset_index(drop=True)

    rows, validation = split.indices("train"), split.indices("validation")
    if spec.fusion.validation == "learn":
        rows = np.sort(np.concatenate([rows, validation]))
    held = part(validation) if spec.fusion.validation == "calibrate" else None
    fusion = fit_fusion(*part(rows), spec.seed, spec.fusion.settings, negatives=spec.negatives, validation=held)
    fusion.save(folder)
    return fusion
