"""The address of a run: row id and a hash of everything that decides its result."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

import meta_spliceai
from meta_spliceai.experiments.spec import ExperimentSpec
from meta_spliceai.files import sha256_file

HASH_LETTERS = 12

_ROOMS_THAT_COUNT = ("splice_engine", "datasets", "resources", "experiments")
_ROOMS_THAT_SHOW = ("report", "executors", "tracking", "plan", "bundle")
"""Rooms below `experiments` that only present, start, log, foresee or pack runs."""


@cache
def code_version() -> str:
    """Version of the package and a hash of the source files that make numbers, as `0.1.0+1a2b3c4d5e6f`."""
    root = Path(meta_spliceai.__file__).parent
    total = hashlib.sha256()
    for room in _ROOMS_THAT_COUNT:
        for file in sorted((root / room).rglob("*.py")):
            part = file.relative_to(root)
            if len(part.parts) > 2 and part.parts[0] == "experiments" and part.parts[1] in _ROOMS_THAT_SHOW:
                continue
            total.update(f"{part.as_posix()}\n".encode())
            total.update(file.read_bytes())
    return f"{meta_spliceai.__version__}+{total.hexdigest()[:HASH_LETTERS]}"


def run_name(spec: ExperimentSpec, data_digest: str, code: str) -> str:
    """Name of the run's folder.

    Args:
        spec: the row as it is run, seed included.
        data_digest: identity of the data set's content.
        code: see `code_version`.
    """
    facts = {"spec": spec.identity(), "data": data_digest, "code": code, **_own_weights(spec)}
    whole = json.dumps(facts, sort_keys=True)
    return f"{spec.id}-{hashlib.sha256(whole.encode()).hexdigest()[:HASH_LETTERS]}"


def _own_weights(spec: ExperimentSpec) -> dict[str, str]:
    """What is in the folder that a row names as its encoder's weights: another encoder there makes another run.
    Nothing for a row that names no folder, or one that is not there (the run itself then says so)."""
    named = spec.encoder.settings.get("weights")
    if not isinstance(named, str) or named in ("hub", "scratch"):
        return {}
    for name in ("model.safetensors", "weights.ckpt"):
        file = Path(named).expanduser() / name
        if file.is_file():
            return {"encoder weights": sha256_file(file)}
    return {}
