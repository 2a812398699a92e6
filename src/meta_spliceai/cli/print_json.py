"""What `--json` prints: JSON that every reader takes, whatever the numbers are."""

from __future__ import annotations

import math
from typing import Any

import pydantic_core
import typer


def print_json(content: Any, indent: int | None = 2) -> None:
    """Print on standard output; a number that is not finite, which JSON does not have, as null."""
    typer.echo(pydantic_core.to_json(content, indent=indent, inf_nan_mode="null").decode())


def in_json(value: Any) -> Any:
    """The content with null for numbers that are not finite, and lists for tuples."""
    if isinstance(value, dict):
        return {str(key): in_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [in_json(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
