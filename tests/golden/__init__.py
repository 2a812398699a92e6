"""Results that must stay equal: what each stage gives for small inputs, kept as files beside this module.

A change that alters one on purpose raises the stage's version in `meta_spliceai.experiments.store.address` and writes
the file anew: `META_SPLICEAI_WRITE_GOLDEN=1 make test`.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent


def kept(name: str, now: str) -> str:
    """The kept text of a result; with META_SPLICEAI_WRITE_GOLDEN set, `now` is kept first."""
    path = FOLDER / name
    if os.environ.get("META_SPLICEAI_WRITE_GOLDEN"):
        path.write_text(now, encoding="utf-8")
    return path.read_text(encoding="utf-8")
