"""Encoders: one-hot bases [batch, 4, length] to features [batch, channels, length], in transcript orientation."""

from meta_spliceai.splice_engine.meta_layer.models.encoders.cnn import GatedCNNEncoder, SimpleCNNEncoder
from meta_spliceai.splice_engine.meta_layer.models.encoders.receptive_field import plan_dilations, receptive_field

__all__ = ["GatedCNNEncoder", "SimpleCNNEncoder", "plan_dilations", "receptive_field"]
