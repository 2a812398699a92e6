"""The named predictors, each a composition of an encoder, a readout and a head."""

from meta_spliceai.splice_engine.meta_layer.models.cnn_predictors import (
    SimpleCNNDeltaPredictor,
    ValidatedDeltaPredictor,
)
from meta_spliceai.splice_engine.meta_layer.models.hyenadna_predictor import HyenaDNADeltaPredictor
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor

__all__ = ["HyenaDNADeltaPredictor", "Predictor", "SimpleCNNDeltaPredictor", "ValidatedDeltaPredictor"]
