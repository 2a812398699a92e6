"""Base networks in a bundle: their files once, and those of their scores that the cache holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from meta_spliceai.datasets import Loaded
from meta_spliceai.errors import InputError
from meta_spliceai.experiments.bundle.content import Content
from meta_spliceai.experiments.bundle.packed_scores import write_packed_scores
from meta_spliceai.experiments.spec.experiment import BaseSpec, ExperimentSpec
from meta_spliceai.experiments.spec.smoke import as_smoke
from meta_spliceai.files import atomic_write
from meta_spliceai.resources import files_used
from meta_spliceai.splice_engine.base_layer.cache import BUNDLED as SCORES
from meta_spliceai.splice_engine.base_layer.cache import Entry, ScoreCache
from meta_spliceai.splice_engine.base_layer.families import load_base_model
from meta_spliceai.splice_engine.base_layer.model import BaseModel
from meta_spliceai.splice_engine.base_layer.scoring import digest_in, score_keys

_Key = tuple[str, tuple[int, ...] | None, int, str]


@dataclass
class _Packed:
    """A network as rows use it: what the index says of it, its scores, and who needs them."""

    told: dict[str, Any]
    entries: dict[bytes, Entry] = field(default_factory=dict)
    rows: set[str] = field(default_factory=set)


class Networks:
    """Base networks of a bundle in the making.

    Attributes:
        flank: positions to either side that the widest of them reads.

    Args:
        content: takes their files.
        scores: pack base scores.
        digits: decimals to which scores are rounded; None: as they are.
    """

    def __init__(self, content: Content, scores: bool, digits: int | None) -> None:
        self.flank = 0
        self._content, self._digits = content, digits
        self._cache = ScoreCache.default() if scores else None
        self._models: dict[tuple[str, tuple[int, ...] | None], tuple[BaseModel, list[Path]]] = {}
        self._packed: dict[_Key, _Packed] = {}

    def add(self, rows: Sequence[ExperimentSpec], loaded: Loaded, table: pd.DataFrame) -> None:
        """Pack the networks of rows, and their scores of these variants; a smoke run's few scores are computed there.

        Raises:
            InputError: a network from a file of the user's own.
            MissingResourceError, MissingExtraError, IntegrityError: a network that is not here.
        """
        by_network: dict[_Key, tuple[BaseSpec, set[str]]] = {}
        for spec in rows:
            for wanted in spec.networks:
                self._model(wanted, spec.id)
                by_network.setdefault(_key(wanted), (wanted, set()))[1].add(spec.id)
            read = [] if spec.trunk_network is None else [spec.trunk_network]  # features are computed there
            for wanted in (*as_smoke(spec).networks, *read):
                self._model(wanted, spec.id)
        for wanted, row_ids in by_network.values():
            self._add_scores(wanted, row_ids, loaded, table)

    def _model(self, wanted: BaseSpec, row_id: str) -> BaseModel:
        if ":" in wanted.name:
            raise InputError(
                f"base network '{wanted.name}' is a file of your own, and bundles carry published networks only; "
                "leave its rows out"
            )
        which = (wanted.name, wanted.members)
        if which not in self._models:
            with files_used() as used:
                model = load_base_model(wanted.name, members=wanted.members)
            self._models[which] = (model, [self._content.folder / path for path in used])
            for path, found in used.items():
                with atomic_write(self._content.folder / path, "wb") as handle:
                    handle.write(found.read_bytes())
        model, files = self._models[which]
        for file in files:
            self._content.add(file, [row_id])
        self.flank = max(self.flank, model.flank)
        return model

    def _add_scores(self, wanted: BaseSpec, row_ids: set[str], loaded: Loaded, table: pd.DataFrame) -> None:
        model = self._model(wanted, next(iter(row_ids)))
        digest = digest_in(model, wanted.precision)
        neighbours = table.sort_values(["chrom", "strand", "pos", "alt"])
        keys = score_keys(
            neighbours, loaded.genome, model, wanted.distance, loaded.annotation, precision=wanted.precision
        )
        there = {} if self._cache is None else self._cache.read(keys, digest, wanted.distance)
        # Scores that another bundle rounded are not passed on as if they were exact.
        found = {key: there[key] for key in keys if key in there and there[key].digits is None}
        told = {
            "name": wanted.name,
            "members": None if wanted.members is None else list(wanted.members),
            "distance": wanted.distance,
            "licence": model.licence,
            "digest": digest,
            "precision": wanted.precision,
            "scores": 0,
            "of": 0,
            "digits": self._digits,
            "left_out": 0,
        }
        packed = self._packed.setdefault(_key(wanted), _Packed(told))
        packed.told["scores"] += len(found)
        packed.told["of"] += len(set(keys))
        packed.entries.update(found)
        packed.rows.update(row_ids)

    def write_scores(self) -> None:
        """Write the scores into the folder, a file for each network."""
        for packed in self._packed.values():
            if packed.entries:
                told = packed.told
                write_packed_scores(packed.entries, told["digest"], told["distance"], self._file(told), self._digits)
                self._content.add(self._file(told), packed.rows, is_scores=True)

    def _file(self, told: dict[str, Any]) -> Path:
        name = f"{told['digest'][:16]}-{told['distance']}-{told['precision']}.npz"
        return self._content.folder / SCORES / name

    def leave_out_largest_scores(self) -> bool:
        """Take the largest file of scores out again, and say so in what is told; false if there is none."""
        largest = self._content.leave_out_largest_scores()
        for packed in self._packed.values() if largest is not None else ():
            if self._file(packed.told) == largest and packed.told["scores"]:
                packed.told.update(scores=0, left_out=largest.stat().st_size)
        if largest is not None:
            largest.unlink()
        return largest is not None

    def told(self) -> list[dict[str, Any]]:
        """What was packed for the rows that are left, for the index."""
        wanted = {_key(one) for spec in self._content.rows for one in spec.networks}
        return [packed.told for key, packed in self._packed.items() if key in wanted]


def _key(wanted: BaseSpec) -> _Key:
    return wanted.name, wanted.members, wanted.distance, wanted.precision
