"""What a predictor reads (windows on the device, or features of them that were computed once), and its predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.files import cache_dir
from meta_spliceai.splice_engine.meta_layer.embedding_cache import FeatureData, frozen_features
from meta_spliceai.splice_engine.meta_layer.fit_report import counting_bar
from meta_spliceai.splice_engine.meta_layer.models.encoders.base_trunk import BaseTrunk
from meta_spliceai.splice_engine.meta_layer.models.ensembles import WeightedEnsemble
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.trunk_features import given_features
from meta_spliceai.splice_engine.meta_layer.window_data import (
    PREDICTED_AT_ONCE,
    IndexBatches,
    WindowData,
    WindowPair,
    choose_device,
    rows_at_a_time,
)

EMBEDDINGS = "embeddings"
"""Folder in the cache for the features of frozen encoders."""


def model_inputs(
    predictor: Predictor | WeightedEnsemble,
    windows: WindowPair,
    device: torch.device,
    cache: Path,
    write: bool,
    progress: bool,
    margin: int = 0,
) -> WindowData | FeatureData:
    """The windows on the device, or a frozen encoder's features of them."""
    encoder = getattr(predictor, "encoder", None)  # an ensemble's members have one each
    if isinstance(encoder, BaseTrunk):
        return given_features(encoder, windows, device)
    data = WindowData.on_device(windows, device, margin)
    if not isinstance(predictor, Predictor) or not predictor.encoder_frozen:
        return data
    if not progress or not write:
        return frozen_features(predictor, data, cache, write) or data
    with counting_bar("Features of the frozen encoder", "sequences") as count:
        return frozen_features(predictor, data, cache, write, progress=count) or data


def predict(
    predictor: Predictor | WeightedEnsemble,
    windows: WindowPair,
    device: str = "auto",
    batch_size: int = PREDICTED_AT_ONCE,
    cache: Path | None = None,
) -> Float32[np.ndarray, "n outputs"]:
    """The predictions for all windows, in float32; (n, 3) in the order neither, acceptor, donor for Δ.

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
    broken = int((~predictions.isfinite().all(dim=1)).sum())
    if broken:
        raise RunError(
            f"{broken} of {len(predictions)} predictions are no numbers; the model's weights are spoiled: train it anew"
        )
    return predictions.numpy()
