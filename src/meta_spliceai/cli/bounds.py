"""Bounds of numbers that several commands take."""

from __future__ import annotations

LARGEST_SEED = 2**32 - 1
"""What NumPy, scikit-learn and PyTorch all take."""

MOST_ROWS = 1_000_000_000
MOST_DOLLARS = 1_000_000_000
