"""A predictor from the encoder and the head a row names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from meta_spliceai.errors import unknown_value
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.splice_engine.meta_layer.models import ENCODERS, HEADS, ComposedPredictor, QuantileEnsemble
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor

__all__ = ["ENCODERS", "HEAD_NAMES", "build_predictor"]


def _quantile_members(spec: ExperimentSpec) -> Predictor:
    settings: dict[str, Any] = {**spec.encoder.settings, **spec.head.settings}
    return QuantileEnsemble(window=spec.window, encoder=spec.encoder.name, seed=spec.training.own_seed, **settings)


JOINT: dict[str, Callable[[ExperimentSpec], Predictor]] = {"quantile-members": _quantile_members}
"""Heads that are more than one module: `quantile-members` trains one model a quantile, side by side."""

HEAD_NAMES = (*HEADS, *JOINT)


def build_predictor(spec: ExperimentSpec) -> Predictor:
    """The row's predictor with its initial weights, which the row's seed decides where they are random.

    Raises:
        InputError: an encoder, a head or a setting that does not exist; a setting's bad value.
        MissingResourceError: pretrained weights that cannot be had.
    """
    if spec.encoder.name not in ENCODERS:
        raise unknown_value("encoder", spec.encoder.name, ENCODERS, where=f"row '{spec.id}'")
    if spec.head.name not in HEAD_NAMES:
        raise unknown_value("head", spec.head.name, HEAD_NAMES, where=f"row '{spec.id}'")
    if spec.head.name in JOINT:
        return JOINT[spec.head.name](spec)
    return ComposedPredictor(
        spec.encoder.name,
        spec.head.name,
        window=spec.window,
        seed=spec.training.own_seed,
        encoder_settings=dict(spec.encoder.settings),
        head_settings=dict(spec.head.settings),
    )
