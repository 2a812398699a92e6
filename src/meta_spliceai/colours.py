"""The colours used in all figures of the package, and what they mean."""

from __future__ import annotations

LOSS_TO_GAIN = ("#7a3403", "#c4610d", "#efa964", "#efeeea", "#86b7df", "#2874b5", "#08366f")
"""Orange: a splice site or an exon is lost; blue: gained. Told apart with any common colour blindness."""

KINDS = {"baseline": "#7d8a96", "base": "#2382c4", "learned": "#d9641a"}
"""Baselines, base networks and learned models; the colours of Okabe and Ito, readable on light and dark."""

LEARNED = (KINDS["learned"], "#12936b", "#b3559c", "#9a8700")
"""Several learned models side by side."""

CLASSES = {"Splice-altering": "#d9641a", "Low-frequency": "#b9922a", "Normal": "#2b7fb8"}
