"""What every reader of bundles knows; read before the packages that rows need are there, so nothing is imported that
Python does not bring."""

from __future__ import annotations

INDEX = "bundle/index.json"
"""What a bundle says it is and holds, at this place in it and in the mirror that it is opened as."""
