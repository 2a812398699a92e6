"""What the code at hand can put together, and what a row still misses.

Every list here is read off the registry of the room that offers the parts: a row becomes runnable by itself when its
last part is registered there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import get_args

from meta_spliceai.errors import MetaSpliceAIError
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, Procedure
from meta_spliceai.experiments.store.address import source_state
from meta_spliceai.files import atomic_write, cache_dir
from meta_spliceai.splice_engine.meta_layer.settings import TRUNK

_REGISTRIES = "meta_spliceai.experiments.run.runner"
"""The module that loads every registry."""


def offered_parts() -> dict[str, tuple[str, ...]]:
    """Names of the parts at hand, by kind of part.

    To read the registries is to load PyTorch, which takes seconds; a command that only lists rows should not wait for
    it. So the names are kept in the cache for the very code they were read from, and read again where that code has
    been loaded anyway: then further parts may have been registered in this process.
    """
    if _REGISTRIES in sys.modules:
        return _read_registries()
    file = cache_dir() / "parts" / f"{source_state()}.json"
    kept = _kept_parts(file)
    if kept is None:
        kept = _read_registries()
        with suppress(OSError, MetaSpliceAIError), atomic_write(file) as handle:
            json.dump(kept, handle)  # a cache that cannot be written to costs seconds, no more
    return kept


def _kept_parts(file: Path) -> dict[str, tuple[str, ...]] | None:
    """The names in a file of the cache; None without a whole one."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {str(kind): tuple(map(str, names)) for kind, names in content.items()}
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, AttributeError, TypeError):
        return None


def _read_registries() -> dict[str, tuple[str, ...]]:
    # Imported here: each of these rooms brings PyTorch, and a spec can be read and checked without it.
    from meta_spliceai import datasets
    from meta_spliceai.experiments.run.build import ENCODERS, FOLDERS, HEAD_NAMES, SPLITTERS, TARGETS
    from meta_spliceai.splice_engine.base_layer.families import FAMILIES

    return {
        "data set": tuple(datasets.names()),
        "base network": tuple(FAMILIES),
        "encoder": tuple(ENCODERS),
        "head": HEAD_NAMES,
        "target": tuple(TARGETS),
        "split": tuple(SPLITTERS),
        "split with folds": tuple(FOLDERS),
        "procedure": get_args(Procedure),  # the runner, which has them, brings PyTorch
    }


def needed_parts(spec: ExperimentSpec, rows: Mapping[str, ExperimentSpec]) -> Iterator[tuple[str, str]]:
    """The parts a row needs, as (kind, name); those of an ensemble's members included.

    Args:
        spec: the row.
        rows: the catalogue, in which members are looked up.
    """
    for name in spec.data.name.split("+"):  # "a+b" is both sets together
        yield "data set", name
    for network in spec.networks:
        yield "base network", network.name.partition(":")[0]  # "family:path" is a family with the user's own weights
    yield "procedure", spec.procedure
    yield "split" if spec.split.folds is None else "split with folds", spec.split.name
    if spec.ensemble is not None:
        for member in spec.ensemble.members:
            yield from needed_parts(rows[member], rows)
        return
    if spec.fusion is not None:
        return
    if spec.encoder.name.endswith(TRUNK):
        yield "base network", spec.encoder.name.removesuffix(TRUNK)
    yield "encoder", spec.encoder.name
    yield "head", spec.head.name
    yield "target", spec.target


def missing_parts(
    spec: ExperimentSpec, rows: Mapping[str, ExperimentSpec], offered: Mapping[str, tuple[str, ...]] | None = None
) -> list[str]:
    """What a row needs and the code at hand does not offer, in words, each once; empty for a runnable row."""
    at_hand = offered_parts() if offered is None else offered
    missing = [f"{kind} '{name}'" for kind, name in needed_parts(spec, rows) if name not in at_hand[kind]]
    return list(dict.fromkeys(missing))
