"""What a predictor reads: windows on the device, or features of them that were computed once."""

from __future__ import annotations

from pathlib import Path

import torch

from meta_spliceai.splice_engine.meta_layer.embedding_cache import FeatureData, frozen_features
from meta_spliceai.splice_engine.meta_layer.models.encoders.base_trunk import BaseTrunk
from meta_spliceai.splice_engine.meta_layer.models.ensembles import WeightedEnsemble
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.training_progress import counting_bar
from meta_spliceai.splice_engine.meta_layer.trunk_features import given_features
from meta_spliceai.splice_engine.meta_layer.window_data import WindowData, WindowPair

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
