"""How many examples a property is tried on: the same few in every run, or many new ones where somebody hunts."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("PROPERTY_TIMES", "1"))
"""From 2 on: so many times the examples, and others in each run (PROPERTY_TIMES=20 pytest -k properties)."""


def quick(examples: int) -> settings:
    """Settings of a test that is tried on so many examples."""
    return settings(
        max_examples=examples * TIMES,
        deadline=None,
        database=None,
        derandomize=TIMES == 1,
        suppress_health_check=list(HealthCheck),
    )
