"""Whether the pretrained weights of a row's encoder are at hand, asked before anything is computed for it."""

from __future__ import annotations

from typing import Any

from meta_spliceai.errors import MissingResourceError
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.splice_engine.meta_layer.models.encoders.hyenadna_weights import (
    HUB,
    PUBLISHED,
    missing_here,
    require_weights,
)


def require_encoder_weights(spec: ExperimentSpec) -> None:
    """Make sure that a row's encoder can be built, before hours go into its base scores. An ensemble has none of its
    own; its members have.

    Raises:
        MissingResourceError: the weights cannot be had; the message names the row and the ways out.
        MissingExtraError: they have to be downloaded, and the extra that does it is not installed.
    """
    asked = _weights_of(spec)
    if asked is None:
        return

    try:
        require_weights(spec.encoder.name, **asked)
    except MissingResourceError as error:
        how = "--set encoder.settings.weights=FOLDER, or =scratch"
        raise MissingResourceError(f"row '{spec.id}': {error} ({how})") from error


def missing_encoder_weights(spec: ExperimentSpec) -> str:
    """Why a row's encoder has no weights on this machine, in words; empty where it has, or needs none. Nothing is
    downloaded."""
    asked = _weights_of(spec)
    if asked is None:
        return ""

    return missing_here(spec.encoder.name, **asked)


def _weights_of(spec: ExperimentSpec) -> dict[str, Any] | None:
    """Which weights a row asks for; None for rows whose model has none but its own."""
    if spec.ensemble is not None or spec.fusion is not None:
        return None

    if spec.encoder.name not in PUBLISHED:
        return None
    settings = spec.encoder.settings
    return {"weights": str(settings.get("weights", HUB)), "revision": settings.get("revision")}
