"""Heads: from what compares the reference with the alternative to the numbers a task asks for."""

from meta_spliceai.splice_engine.meta_layer.models.heads.classes import BinaryHead, EffectTypeHead
from meta_spliceai.splice_engine.meta_layer.models.heads.delta import DeltaHead, QuantileHead
from meta_spliceai.splice_engine.meta_layer.models.heads.head import Head
from meta_spliceai.splice_engine.meta_layer.models.heads.magnitude import MagnitudeHead
from meta_spliceai.splice_engine.meta_layer.models.heads.multitask import MultitaskHead
from meta_spliceai.splice_engine.meta_layer.models.heads.position import PositionHead

__all__ = [
    "BinaryHead",
    "DeltaHead",
    "EffectTypeHead",
    "Head",
    "MagnitudeHead",
    "MultitaskHead",
    "PositionHead",
    "QuantileHead",
]
