"""Which parameters are trained, in which epoch and how fast: frozen, last layers, gradual, layer-wise rates."""

from __future__ import annotations

from typing import Any

from torch import nn

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.training_config import TrainingConfig


def _layers_to_train(predictor: Predictor, config: TrainingConfig) -> list[list[nn.Parameter]]:
    """Encoder layers that are trained at some time, from the last one down."""
    layers = predictor.encoder_layers()
    if not layers:
        return []
    if predictor.encoder_frozen:
        if config.unfreeze_layers:
            raise InputError(f"unfreeze_layers = {config.unfreeze_layers}, but the encoder is frozen (freeze_encoder)")
        return []
    return layers if config.unfreeze_layers is None else layers[: config.unfreeze_layers]


def set_trained(predictor: Predictor, config: TrainingConfig, epoch: int | None) -> None:
    """Let the parameters of this epoch (from 0) take gradients, and no others; None: all that are trained ever.

    Raises:
        InputError: layers are to be unfrozen in an encoder that is kept frozen.
    """
    trained = _layers_to_train(predictor, config)
    open_layers = len(trained)
    if epoch is not None and config.unfreeze_every:
        open_layers = min(len(trained), 1 + epoch // config.unfreeze_every)
    for depth, layer in enumerate(predictor.encoder_layers()):
        for parameter in layer:
            parameter.requires_grad_(depth < open_layers)


def parameter_groups(predictor: Predictor, config: TrainingConfig) -> list[dict[str, Any]]:
    """Groups for the optimiser: matrices with weight decay, vectors without, each encoder layer at its own rate."""
    encoder = predictor.encoder_layers()
    inside = {id(parameter) for layer in encoder for parameter in layer}
    rest = [p for p in predictor.parameters() if id(p) not in inside and p.requires_grad]
    parts = [(rest, config.highest_rate)]
    for depth, layer in enumerate(_layers_to_train(predictor, config)):
        parts.append((layer, config.highest_rate * config.encoder_rate * config.layer_decay**depth))
    groups = []
    for parameters, rate in parts:
        for decay, chosen in (
            (config.weight_decay, [p for p in parameters if p.ndim >= 2]),
            (0.0, [p for p in parameters if p.ndim < 2]),
        ):
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
    return groups
