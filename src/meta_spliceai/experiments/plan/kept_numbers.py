"""Numbers that took seconds to count, kept as JSON in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from meta_spliceai.files import atomic_write, cache_dir


def cached(kind: str, made_from: Any, count: Callable[[], Any]) -> Any:
    """What `count` returns (plain values), counted once for everything it is made from; None is not kept."""
    address = hashlib.sha256(json.dumps(made_from, sort_keys=True, default=str).encode()).hexdigest()[:24]
    file = cache_dir() / "plan" / f"{kind}-{address}.json"
    if file.is_file():
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError):
            file.unlink()  # cut off while it was written: count again
    numbers = count()
    if numbers is not None:
        with atomic_write(file) as handle:
            json.dump(numbers, handle)
    return numbers
