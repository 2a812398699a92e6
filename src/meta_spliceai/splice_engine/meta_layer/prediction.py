"""Predictions of a trained model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.files import cache_dir
from meta_spliceai.splice_engine.meta_layer.model_inputs import EMBEDDINGS, model_inputs
from meta_spliceai.splice_engine.meta_layer.models.ensembles import WeightedEnsemble
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.window_data import (
    PREDICTED_AT_ONCE,
    IndexBatches,
    WindowPair,
    choose_device,
    rows_at_a_time,
)


def predict(
    predictor: Predictor | WeightedEnsemble,
    windows: WindowPair,
    device: str = "auto",
    batch_size: int = PREDICTED_AT_ONCE,
    cache: Path | None = None,
) -> Float32[np.ndarray, "n outputs"]:
    """The predictor's predictions for all windows, in float32; (n, 3) in the order neither, acceptor, donor for Δ.

    Args:
        predictor: moved to the device and set to evaluation. Members of an ensemble read no kept features.
        windows: codes of both alleles, transcript orientation.
        device: "auto", "cpu" or "cuda".
        batch_size: variants at a time, fewer where windows are long; it does not change the predictions.
        cache: where `fit` keeps the features of a frozen encoder; they are read if all of these windows' are there.

    Raises:
        InputError: no windows, or windows of another length.
        RunError: no CUDA device, or a prediction that is no number.
    """
    target_device = choose_device(device)
    if not len(windows.ref):
        raise InputError("there are no windows to predict on")
    data = model_inputs(
        predictor, windows, target_device, cache or cache_dir() / EMBEDDINGS, write=False, progress=False
    )
    predictor.to(target_device).eval()
    forward = predictor.compare if isinstance(predictor, Predictor) and data.encoded else predictor
    rows = rows_at_a_time(batch_size, predictor.window)
    batches = IndexBatches(np.arange(len(windows.ref)), rows, target_device)
    with torch.inference_mode():
        predictions = torch.cat([forward(*data.pair(rows)).float().cpu() for rows in batches])
    if not predictions.isfinite().all():
        count = int((~predictions.isfinite().all(dim=1)).sum())
        raise RunError(
            f"{count} of {len(predictions)} predictions are no numbers; the model's weights are spoiled: train it anew"
        )
    return predictions.numpy()
