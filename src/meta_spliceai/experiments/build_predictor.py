"""A predictor from the encoder and the head a row names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from meta_spliceai.errors import unknown_value
from meta_spliceai.experiments.spec import ExperimentSpec
from meta_spliceai.splice_engine.meta_layer.models import (
    HyenaDNADeltaPredictor,
    SimpleCNNDeltaPredictor,
    ValidatedDeltaPredictor,
)
from meta_spliceai.splice_engine.meta_layer.models.encoders.hyenadna_weights import PUBLISHED
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor

PREDICTORS: dict[tuple[str, str], Callable[..., Predictor]] = {
    ("gated-cnn", "delta"): ValidatedDeltaPredictor,
    ("simple-cnn", "delta"): SimpleCNNDeltaPredictor,
    **{(size, "delta"): partial(HyenaDNADeltaPredictor, model_name=size) for size in PUBLISHED},
}
"""Encoder and head: what builds the predictor that joins them."""

_GIVEN = {"self", "window", "seed", "model_name"}
"""Arguments that the row says elsewhere: `window`, `training.seed`, `encoder.name`."""


def build_predictor(spec: ExperimentSpec) -> Predictor:
    """The row's predictor with its initial weights, which the row's seed decides where they are random.

    Raises:
        InputError: an encoder, a head or a setting that does not exist; a setting's bad value.
        MissingResourceError: pretrained weights that cannot be had.
    """
    pair = (spec.encoder.name, spec.head.name)
    if pair not in PREDICTORS:
        known = [f"{encoder} with {head}" for encoder, head in PREDICTORS]
        raise unknown_value("model", f"{pair[0]} with {pair[1]}", known, where=f"row '{spec.id}'")
    settings: dict[str, Any] = {**spec.encoder.settings, **spec.head.settings}
    known_settings = settings_of(*pair)
    for name in settings:
        if name not in known_settings:
            raise unknown_value("setting", name, known_settings, where=f"encoder.settings of row '{spec.id}'")
    return PREDICTORS[pair](window=spec.window, seed=spec.seed, **settings)


def settings_of(encoder: str, head: str) -> list[str]:
    """What `encoder.settings` and `head.settings` may hold for this pair."""
    return [name for name in inspect.signature(PREDICTORS[encoder, head]).parameters if name not in _GIVEN]
