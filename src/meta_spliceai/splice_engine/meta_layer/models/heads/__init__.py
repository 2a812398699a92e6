"""Heads: one vector that compares the reference with the alternative, to the numbers a task asks for."""

from meta_spliceai.splice_engine.meta_layer.models.heads.delta import DeltaHead
from meta_spliceai.splice_engine.meta_layer.models.heads.head import Head

__all__ = ["DeltaHead", "Head"]
