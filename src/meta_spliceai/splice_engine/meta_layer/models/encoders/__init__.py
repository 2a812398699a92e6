"""Encoders: one-hot bases [batch, 4, length] to features [batch, channels, length], in transcript orientation."""
