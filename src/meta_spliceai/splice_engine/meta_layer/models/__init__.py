"""The named predictors, each a thin composition of an encoder and a head, and the registries to make others."""

from meta_spliceai.splice_engine.meta_layer.models.composition import (
    ENCODERS,
    ComposedPredictor,
    DeltaMagnitudePredictor,
    EffectTypeClassifier,
    HyenaDNADeltaPredictor,
    PositionLocalizer,
    SimpleCNNDeltaPredictor,
    SpliceInducingClassifier,
    UnifiedSpliceClassifier,
    ValidatedDeltaPredictor,
)
from meta_spliceai.splice_engine.meta_layer.models.ensembles import QuantileEnsemble, WeightedEnsemble
from meta_spliceai.splice_engine.meta_layer.models.heads import HEADS
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor

__all__ = [
    "ENCODERS",
    "HEADS",
    "ComposedPredictor",
    "DeltaMagnitudePredictor",
    "EffectTypeClassifier",
    "HyenaDNADeltaPredictor",
    "PositionLocalizer",
    "Predictor",
    "QuantileEnsemble",
    "SimpleCNNDeltaPredictor",
    "SpliceInducingClassifier",
    "UnifiedSpliceClassifier",
    "ValidatedDeltaPredictor",
    "WeightedEnsemble",
]
