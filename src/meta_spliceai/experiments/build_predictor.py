"""A predictor from the encoder and the head a row names."""

from __future__ import annotations

import inspect
from typing import Any

from meta_spliceai.errors import unknown_value
from meta_spliceai.experiments.spec import ExperimentSpec
from meta_spliceai.splice_engine.meta_layer.models import SimpleCNNDeltaPredictor, ValidatedDeltaPredictor
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor

PREDICTORS: dict[tuple[str, str], type[Predictor]] = {
    ("gated-cnn", "delta"): ValidatedDeltaPredictor,
    ("simple-cnn", "delta"): SimpleCNNDeltaPredictor,
}
"""Encoder and head: the predictor that joins them."""

_GIVEN = {"self", "window", "seed"}


def build_predictor(spec: ExperimentSpec) -> Predictor:
    """The row's predictor with its initial weights, which the row's seed decides.

    Raises:
        InputError: an encoder, a head or a setting that does not exist; a setting's bad value.
    """
    pair = (spec.encoder.name, spec.head.name)
    if pair not in PREDICTORS:
        known = [f"{encoder} with {head}" for encoder, head in PREDICTORS]
        raise unknown_value("model", f"{pair[0]} with {pair[1]}", known, where=f"row '{spec.id}'")
    kind: type[Any] = PREDICTORS[pair]
    settings = {**spec.encoder.settings, **spec.head.settings}
    known_settings = [name for name in inspect.signature(kind.__init__).parameters if name not in _GIVEN]
    for name in settings:
        if name not in known_settings:
            raise unknown_value("setting", name, known_settings, where=f"encoder.settings of row '{spec.id}'")
    predictor: Predictor = kind(window=spec.window, seed=spec.seed, **settings)
    return predictor
