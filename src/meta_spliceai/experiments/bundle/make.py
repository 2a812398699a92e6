"""Make a bundle: what a set of rows needs, gathered, packed and weighed."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from meta_spliceai import __version__
from meta_spliceai.datasets import Loaded
from meta_spliceai.datasets.load import FOLDER as DATA
from meta_spliceai.datasets.load import store_dataset
from meta_spliceai.errors import InputError, MetaSpliceAIError
from meta_spliceai.experiments.bundle.archive import write_archive
from meta_spliceai.experiments.bundle.packed_scores import DIGITS, write_packed_scores
from meta_spliceai.experiments.bundle.wheels import BETTER_WITH, NEEDED, pack_wheels, versions
from meta_spliceai.experiments.bundle.wheels import FOLDER as WHEELS
from meta_spliceai.experiments.run.callback import Callback
from meta_spliceai.experiments.run.prepare import choose_rows, load_rows_of
from meta_spliceai.experiments.spec.experiment import BaseSpec, ExperimentSpec
from meta_spliceai.experiments.spec.rows import as_smoke, find_row
from meta_spliceai.experiments.store.address import code_version
from meta_spliceai.experiments.store.workspace import now
from meta_spliceai.files import atomic_write
from meta_spliceai.resources import files_used
from meta_spliceai.resources.resolve import BUNDLED as ENCODERS
from meta_spliceai.resources.resolve import HUB_FILES, folder_at_hand
from meta_spliceai.splice_engine.base_layer.cache import BUNDLED as SCORES
from meta_spliceai.splice_engine.base_layer.cache import Entry, ScoreCache
from meta_spliceai.splice_engine.base_layer.families import load_base_model
from meta_spliceai.splice_engine.base_layer.network import BaseModel
from meta_spliceai.splice_engine.base_layer.scoring import digest_in, score_keys
from meta_spliceai.splice_engine.genome.packed import Interval
from meta_spliceai.splice_engine.meta_layer.models.encoders.hyenadna_weights import HUB, PUBLISHED

ROWS = "bundle/rows.json"

SLACK = 4_352
"""Bases beyond what a network sees of a variant: every layer of a reference is computed in blocks on a grid of its own,
so that the first layer's may reach that far (see `CompiledNetwork.bases`)."""

WHOLE_CONTIG = 50_000  # a contig no longer than this (a construct) is kept whole

PARTS = {
    SCORES: "base scores",
    ENCODERS: "encoder weights",
    f"{DATA}/": "variants, genes and sequence",
    f"{WHEELS}/": "wheels",
    "bundle/": "rows and index",
    "": "weights of base networks",
}
"""Folder in the file: what it holds, in words; the first that fits."""


@dataclass(frozen=True)
class Options:
    """How a bundle is made.

    Attributes:
        most_bytes: a larger file is not kept. Base scores are left out first, the largest before others.
        scores: pack the base scores that the cache holds; the other machine computes the rest.
        digits: decimals to which base scores are rounded; whoever uses them is told. None: as they are.
        wheels: folder of wheels, of which those that the other machine needs are packed.
        leave_out: rows whose data or weights are not here, cannot be used, or make the file too large, are left out and
            listed among what is missing. Otherwise all rows are packed, or it is an error; only weights of encoders may
            be missing then, because the other machine may have them, and are listed.
    """

    most_bytes: int = 46_000_000
    scores: bool = True
    digits: int | None = None
    wheels: Path | None = None
    leave_out: bool = False


@dataclass(frozen=True)
class Made:
    """A bundle that was written: its size, bytes by what they are (the largest first), and what the index says."""

    path: Path
    bytes: int
    parts: dict[str, int]
    index: dict[str, Any]


def with_members(specs: Sequence[ExperimentSpec], rows: Mapping[str, ExperimentSpec]) -> list[ExperimentSpec]:
    """The rows, and those that the ensembles among them put together, each once, members first."""
    asked = {spec.id: spec for spec in specs}
    found: dict[str, ExperimentSpec] = {}

    def add(spec: ExperimentSpec) -> None:
        for member in spec.ensemble.members if spec.ensemble else ():
            if member not in found:
                add(asked.get(member) or find_row(dict(rows), member))
        found[spec.id] = spec

    for spec in specs:
        add(spec)
    return list(found.values())


def make_bundle(
    specs: Sequence[ExperimentSpec],
    rows: Mapping[str, ExperimentSpec],
    out: Path,
    callback: Callback,
    options: Options = Options(),
) -> Made:
    """Pack what rows need into one file of plain data. Nothing is computed or downloaded here.

    Args:
        specs: the rows.
        rows: the catalogue, for members of ensembles.
        out: the file.
        callback: told what happens.
        options: how.

    Raises:
        InputError: no row (that can be packed), the file would be too large even without scores (the message says what
            is), a number of decimals that scores are not rounded to, or a folder that lacks a wheel.
        MissingResourceError, MissingExtraError, IntegrityError: data or weights that a row needs are not here.
    """
    if not specs:
        raise InputError("no row was given; name rows, or pack all of them with --all")
    if options.digits is not None and options.digits not in DIGITS:
        raise InputError(
            f"--score-digits {options.digits}: base scores are rounded to {DIGITS[0]} to {DIGITS[-1]} decimals"
        )
    with tempfile.TemporaryDirectory(prefix="meta-spliceai-bundle-") as temporary:
        packing = _Packing(Content(Path(temporary) / "content", with_members(specs, rows)), options)
        packing.pack_encoders()
        by_data: dict[str, list[ExperimentSpec]] = {}
        for spec in packing.content.rows:
            key = json.dumps([spec.data.name, dict(spec.data.options)], sort_keys=True)
            by_data.setdefault(key, []).append(spec)
        for group in by_data.values():
            packing.pack_data(group, callback)
        if not packing.content.rows:
            raise InputError(f"no row can be packed: {next(iter(packing.content.left_out.values()))}")
        with callback.stage("base scores"):
            packing.pack_scores()
        draft = Path(temporary) / "bundle"
        with callback.stage("packing"):
            made = packing.write(draft, out)
            while made.bytes > options.most_bytes and packing.shrink():
                made = packing.write(draft, out)
        if made.bytes > options.most_bytes:
            told = ", ".join(f"{name} {share / 1e6:.1f} MB" for name, share in made.parts.items())
            raise InputError(
                f"the bundle would have {made.bytes / 1e6:.1f} MB, {options.most_bytes / 1e6:.1f} MB are allowed: "
                f"{told}; take fewer rows, --limit N variants, or a larger --max-size"
            )
        with atomic_write(out, "wb") as handle, draft.open("rb") as source:
            shutil.copyfileobj(source, handle)
    return made


class Content:
    """The folder that becomes a bundle, and which rows need each of its files.

    Attributes:
        rows: the rows that can be packed, members before their ensembles.
        left_out: row: why it is left out, in words.
    """

    def __init__(self, folder: Path, rows: Sequence[ExperimentSpec]) -> None:
        self.folder = folder
        self.rows = list(rows)
        self.left_out: dict[str, str] = {}
        self._needed_by: dict[Path, set[str]] = {}

    def add(self, path: Path, row_ids: Iterable[str], source: Path | None = None) -> None:
        """Remember which rows need a file of the folder; copied from its source, where there is one."""
        if source is not None and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)
        self._needed_by.setdefault(path, set()).update(row_ids)

    def files(self) -> dict[Path, set[str]]:
        """Files that rows need which are left, and those rows."""
        left = {spec.id for spec in self.rows}
        return {path: needed_by & left for path, needed_by in self._needed_by.items() if needed_by & left}

    def leave_out(self, row_ids: Iterable[str], why: str) -> None:
        """Leave rows out, with ensembles of them."""
        asked = set(row_ids)
        gone = self._with_ensembles(asked)
        for spec in self.rows:
            if spec.id in asked:
                self.left_out[spec.id] = why
            elif spec.id in gone and spec.ensemble:
                lost = next(member for member in spec.ensemble.members if member in gone)
                self.left_out[spec.id] = f"its member {lost} is not in the bundle"
        self.rows = [spec for spec in self.rows if spec.id not in gone]

    def _with_ensembles(self, row_ids: set[str]) -> set[str]:
        return row_ids | {one.id for one in self.rows if one.ensemble and not row_ids.isdisjoint(one.ensemble.members)}

    def leave_out_dearest_rows(self, why: str) -> bool:
        """Leave out the rows that take most space each which no other row needs; false where no row would be left."""
        files = self.files()
        best: tuple[float, set[str]] = (0.0, set())
        for needed_by in files.values():
            gone = self._with_ensembles(needed_by)
            freed = sum(path.stat().st_size for path, rows in files.items() if rows <= gone)
            if len(gone) < len(self.rows):
                best = max(best, (freed / len(gone), needed_by), key=lambda one: one[0])
        self.leave_out(best[1], why)
        return bool(best[1])


class _Packing:
    """A bundle in the making: its files, and what its index says of them.

    Attributes:
        flank: positions to either side that the widest base network reads.
    """

    def __init__(self, content: Content, options: Options) -> None:
        self.content, self.options = content, options
        self.flank = 0
        self.wheels = pack_wheels(options.wheels, content.folder) if options.wheels is not None else []
        self.data: dict[Path, dict[str, Any]] = {}
        self.encoders: dict[str, Path] = {}
        self.absent: dict[str, list[str]] = {}
        self._cache = ScoreCache.default() if options.scores else None
        self._models: dict[tuple[str, tuple[int, ...] | None], tuple[BaseModel, dict[Path, Path]]] = {}
        self._networks: dict[BaseSpec, dict[str, Any]] = {}
        self._entries: dict[BaseSpec, dict[bytes, Entry]] = {}
        self._scores: dict[Path, dict[str, Any]] = {}

    def pack_encoders(self) -> None:
        """Copy the pretrained encoders that are here; rows without theirs are left out, or told of."""
        for spec in list(self.content.rows):
            name, weights = spec.encoder.name, str(spec.encoder.settings.get("weights", HUB))
            if spec.ensemble or spec.fusion or name not in PUBLISHED or weights == "scratch":
                continue
            there = folder_at_hand(name) if weights == HUB else None
            why = "not in the hub's cache here" if weights == HUB else f"the folder {weights} is not packed"
            if there is not None:
                self.encoders[name] = self.content.folder / ENCODERS / name
                for file in HUB_FILES:
                    self.content.add(self.encoders[name] / there.name / file, [spec.id], there / file)
            elif self.options.leave_out:
                # Without its encoder's weights a row's variants and scores would travel for nothing.
                self.content.leave_out([spec.id], f"no weights of {name} ({why})")
            else:
                self.absent.setdefault(f"weights of {name} ({why})", []).append(spec.id)

    def pack_data(self, group: Sequence[ExperimentSpec], callback: Callback) -> None:
        """Pack one data set and the base networks of the rows that use it; without it, its rows are left out."""
        wanted, ids = group[0].data, [spec.id for spec in group]
        place = self.content.folder / DATA / f"{len(self.data)}-{wanted.name}"
        try:
            loaded = load_rows_of(wanted)
            table = _drawn_by(group, loaded)
            with callback.stage(f"data set {wanted.name}: {len(table):,} variants"):
                self._pack_networks(group, loaded, table)
                stretches = list(_stretches(group, loaded, table, self.flank))
                bases, files = store_dataset(loaded, wanted.options, stretches, place)
        except MetaSpliceAIError as error:
            if not self.options.leave_out:
                raise
            self.content.leave_out(ids, str(error))
            return
        for file in files:
            self.content.add(file, ids)
        self.data[place] = {
            "name": wanted.name,
            "options": dict(wanted.options),
            "digest": loaded.digest,
            "variants": len(table),
            "bases": bases,
            "licence": loaded.dataset.licence,
        }

    def _pack_networks(self, group: Sequence[ExperimentSpec], loaded: Loaded, table: pd.DataFrame) -> None:
        """Pack the networks of rows, and find their scores of these variants in the cache."""
        for spec in group:
            read = [] if spec.trunk_network is None else [spec.trunk_network]  # its features are computed there
            for wanted in (*spec.networks, *as_smoke(spec).networks, *read):
                self._model(wanted, spec.id)
        neighbours = table.sort_values(["chrom", "strand", "pos", "alt"])
        for wanted in dict.fromkeys(_scored(one) for spec in group for one in spec.networks):
            model, _ = self._models[wanted.name, wanted.members]
            digest = digest_in(model, wanted.precision)
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
                "digits": self.options.digits,
                "left_out": 0,
            }
            known = self._networks.setdefault(wanted, {**told, "scores": 0, "of": 0})
            known["scores"] += len(found)
            known["of"] += len(set(keys))
            self._entries.setdefault(wanted, {}).update(found)

    def _model(self, wanted: BaseSpec, row_id: str) -> None:
        """Load a network once, and pack the files that were read for it."""
        if ":" in wanted.name:
            raise InputError(
                f"base network '{wanted.name}' is a file of your own, and bundles carry published networks only; "
                "leave its rows out"
            )
        which = (wanted.name, wanted.members)
        if which not in self._models:
            with files_used() as used:
                model = load_base_model(wanted.name, members=wanted.members)
            self._models[which] = model, {self.content.folder / path: Path(found) for path, found in used.items()}
        model, files = self._models[which]
        for path, source in files.items():
            self.content.add(path, [row_id], source)
        self.flank = max(self.flank, model.flank)

    def pack_scores(self) -> None:
        """Write the scores into the folder, a file for each network."""
        for wanted, entries in self._entries.items():
            if entries:
                told = self._networks[wanted]
                name = f"{told['digest'][:16]}-{told['distance']}-{told['precision']}.npz"
                path = self.content.folder / SCORES / name
                self._scores[path] = told
                write_packed_scores(entries, told["digest"], told["distance"], path, self.options.digits)

    def shrink(self) -> bool:
        """Leave something out that makes the file smaller, scores first, then rows; false where nothing may be."""
        if self._scores:
            largest = max(self._scores, key=lambda path: path.stat().st_size)
            self._scores.pop(largest).update(scores=0, left_out=largest.stat().st_size)
            return True
        why = f"left out so that the file has no more than {self.options.most_bytes / 1e6:.1f} MB"
        return self.options.leave_out and self.content.leave_out_dearest_rows(why)

    def write(self, draft: Path, out: Path) -> Made:
        """Write the file, as it is to be at `out`."""
        folder, needed = self.content.folder, self.content.files()
        ids = [spec.id for spec in self.content.rows]
        wanted = {_scored(one) for spec in self.content.rows for one in spec.networks}
        networks = [told for network, told in self._networks.items() if network in wanted]
        scores = [path for path, told in self._scores.items() if told in networks]
        with atomic_write(folder / ROWS) as handle:
            json.dump([spec.model_dump(mode="json") for spec in self.content.rows], handle, ensure_ascii=False)
        missing = [f"row {row_id}: {why}" for row_id, why in self.content.left_out.items()]
        for what, wanting in self.absent.items():
            if needed_by := [row_id for row_id in wanting if row_id in ids]:
                missing.append(f"{what}: needed by {', '.join(needed_by)}")
        folders = {parent for path in needed for parent in path.parents}
        index = {
            "made": now(),
            "version": __version__,
            "code": code_version(),
            "rows": ids,
            "data": [told for place, told in self.data.items() if place in folders],
            "networks": networks,
            "encoders": [name for name, at in self.encoders.items() if at in folders],
            "missing": missing,
            "wheels": {"needed": versions(NEEDED), "better_with": BETTER_WITH, "packed": self.wheels},
        }
        wheels = [folder / WHEELS / name for name in self.wheels]
        parts: dict[str, int] = {}
        for name, size in write_archive(folder, [*needed, *scores, *wheels, folder / ROWS], index, draft).items():
            words = next(words for place, words in PARTS.items() if name.startswith(place))
            parts[words] = parts.get(words, 0) + size
        return Made(out, draft.stat().st_size, dict(sorted(parts.items(), key=lambda part: -part[1])), index)


def _scored(base: BaseSpec) -> BaseSpec:
    """A network as its scores are known: the method computes the same ones."""
    return base.model_copy(update={"method": "incremental"})


def _drawn_by(group: Sequence[ExperimentSpec], loaded: Loaded) -> pd.DataFrame:
    """Every variant that some row draws, as it stands or in a smoke run."""
    drawn = [
        choose_rows(loaded.variants, loaded.coverage, one.data, one.seed, in_turn=one.smoke).table["variant_id"]
        for spec in group
        for one in (spec, as_smoke(spec))
    ]
    return loaded.variants[loaded.variants["variant_id"].isin(pd.concat(drawn))].reset_index(drop=True)


def _stretches(group: Sequence[ExperimentSpec], loaded: Loaded, table: pd.DataFrame, flank: int) -> Iterator[Interval]:
    """What windows and base scoring read of the genome around each variant, and somewhat more."""
    widest = max(spec.training.reach(spec.window) // 2 for spec in group)
    scoring = [one for spec in group for one in (spec.base, spec.trunk_network) if one is not None]
    distance = max(one.distance for one in scoring)
    around = max(widest, distance + flank) + SLACK
    lengths = loaded.genome.contigs()
    longest = table["ref"].str.len().combine(table["alt"].str.len(), max)
    for chrom, pos, allele in zip(table["chrom"], table["pos"].astype(int), longest, strict=True):
        contig = loaded.genome.resolve(chrom)
        if lengths[contig] <= WHOLE_CONTIG:
            yield contig, 0, lengths[contig]
        else:
            yield contig, pos - 1 - around - 2 * int(allele), pos + around + 2 * int(allele)
