"""Make a bundle: what a set of rows needs, gathered, packed and weighed."""

from __future__ import annotations

import importlib.metadata
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
from meta_spliceai.datasets.bundled import FOLDER as DATA
from meta_spliceai.datasets.bundled import genes_file, store_dataset
from meta_spliceai.errors import InputError, MetaSpliceAIError
from meta_spliceai.experiments.address import code_version
from meta_spliceai.experiments.bundle.archive import packed_sizes, write_archive
from meta_spliceai.experiments.bundle.fit import Part, least_missed, only_for, without_rows
from meta_spliceai.experiments.bundle.packed_scores import DIGITS, write_packed_scores
from meta_spliceai.experiments.bundle.wheels import FOLDER as WHEELS
from meta_spliceai.experiments.bundle.wheels import package_of
from meta_spliceai.experiments.prepare import choose_rows, load_rows_of
from meta_spliceai.experiments.rows import find_row
from meta_spliceai.experiments.smoke import as_smoke
from meta_spliceai.experiments.spec import BaseSpec, DataSpec, ExperimentSpec
from meta_spliceai.experiments.watcher import Watcher
from meta_spliceai.experiments.workspace import now
from meta_spliceai.files import atomic_write
from meta_spliceai.resources import files_used
from meta_spliceai.splice_engine.base_layer.cache import BUNDLED as SCORES
from meta_spliceai.splice_engine.base_layer.cache import Entry, ScoreCache
from meta_spliceai.splice_engine.base_layer.families import load_base_model
from meta_spliceai.splice_engine.base_layer.model import BaseModel
from meta_spliceai.splice_engine.base_layer.scoring import digest_in, score_keys
from meta_spliceai.splice_engine.genome.packed import Interval
from meta_spliceai.splice_engine.meta_layer.models.encoders.hyenadna_weights import (
    BUNDLED as ENCODERS,
)
from meta_spliceai.splice_engine.meta_layer.models.encoders.hyenadna_weights import (
    HUB,
    HUB_FILES,
    PUBLISHED,
    folder_at_hand,
)

ROWS = "bundle/rows.json"

MOST_BYTES = 45_000_000

SLACK = 1_024
"""Bases beyond what a network sees of a variant: scoring rounds its windows up to a grid."""

SAMPLED = 1_024
"""Entries by which the size of a network's scores is foreseen."""

SURELY_TOO_LARGE = 1.2
"""Times the allowed size, by a sample, from which on scores are not packed to see whether they fit after all."""

WHOLE_CONTIG = 50_000
"""A contig no longer than this (a construct) is kept whole."""

NEEDED_WHEELS = (
    "pydantic",
    "pydantic-core",
    "annotated-types",
    "typing-inspection",
    "jaxtyping",
    "wadler-lindig",
)
"""Packages that must be on the other machine beside PyTorch, Lightning, pandas, pyarrow, h5py, safetensors,
scikit-learn, typer, rich, huggingface_hub and what these bring."""

BETTER_WITH = {"seqleak": "position alone as a simple rival, and the gain over position"}
"""Packages without which something is left out there, and said to be."""

PARTS = {
    SCORES: "base scores",
    ENCODERS: "encoder weights",
    f"{DATA}/": "variants, genes and sequence",
    f"{WHEELS}/": "wheels",
    "bundle/": "rows and index",
}
"""Folder in the file: what it is in words; everything else is weights of base networks."""


@dataclass(frozen=True)
class Made:
    """A bundle that was written.

    Attributes:
        path: the file.
        bytes: its size.
        parts: bytes in the file by what they are, the largest first.
        missing: what could not be packed, in words; the rows that need it will say so.
        index: what the bundle says about itself.
    """

    path: Path
    bytes: int
    parts: dict[str, int]
    missing: list[str]
    index: dict[str, Any]


@dataclass(frozen=True)
class _DataNeed:
    """One data set and what the rows want of it."""

    wanted: DataSpec
    loaded: Loaded
    specs: tuple[ExperimentSpec, ...]

    def rows(self) -> pd.DataFrame:
        """Every variant that some row draws, as it stands or in a smoke run."""
        everything, account = self.loaded.variants, self.loaded.coverage
        drawn = [
            choose_rows(everything, account, one.data, one.seed, in_turn=one.smoke).table["variant_id"]
            for spec in self.specs
            for one in (spec, as_smoke(spec))
        ]
        return everything[everything["variant_id"].isin(pd.concat(drawn))].reset_index(drop=True)


def with_members(specs: Sequence[ExperimentSpec], rows: Mapping[str, ExperimentSpec]) -> list[ExperimentSpec]:
    """The rows, and those that the ensembles among them put together, each once, members first."""
    found: dict[str, ExperimentSpec] = {}

    def add(spec: ExperimentSpec) -> None:
        for member in spec.ensemble.members if spec.ensemble else ():
            if member not in found:
                add(next((one for one in specs if one.id == member), None) or find_row(dict(rows), member))
        found[spec.id] = spec

    for spec in specs:
        add(spec)
    return list(found.values())


def make_bundle(
    specs: Sequence[ExperimentSpec],
    rows: Mapping[str, ExperimentSpec],
    out: Path,
    watcher: Watcher,
    *,
    most_bytes: int = MOST_BYTES,
    scores: bool = True,
    digits: int | None = None,
    wheels: Path | None = None,
    leave_out: bool = False,
) -> Made:
    """Pack what rows need into one file of plain data.

    Base scores are packed as far as the cache holds them; the other machine computes the rest with the networks, which
    are packed always. Where the file would be too large, the scores of one network after the other are left out, the
    largest first, and the index says so. Nothing is computed or downloaded here.

    Args:
        specs: the rows.
        rows: the catalogue, for members of ensembles.
        out: the file.
        watcher: told what happens.
        most_bytes: a larger file is not kept.
        scores: pack base scores.
        digits: decimals to which base scores are rounded; whoever uses them is told. None: as they are.
        wheels: folder of wheels, of which those that the other machine needs are packed.
        leave_out: rows whose data or weights are not here, cannot be used, or make the file too large, are left out and
            listed among what is missing. Otherwise all rows are packed, or it is an error; only weights of encoders may
            be missing then, because the other machine may have them, and are listed.

    Raises:
        InputError: no row (that can be packed), the file would be too large even without scores (the message says what
            is), a number of decimals that scores are not rounded to, or a folder that lacks a wheel.
        MissingResourceError, MissingExtraError, IntegrityError: data or weights that a row needs are not here.
    """
    if not specs:
        raise InputError("no row was given; name rows, or pack all of them with --all")
    if digits is not None and digits not in DIGITS:
        raise InputError(f"--score-digits {digits}: base scores are rounded to {DIGITS[0]} to {DIGITS[-1]} decimals")
    whole = with_members(specs, rows)
    cache = ScoreCache.default()
    with tempfile.TemporaryDirectory(prefix="meta-spliceai-bundle-") as temporary:
        folder = Path(temporary) / "content"
        wheels_packed = [] if wheels is None else _pack_wheels(wheels, folder)
        packed = _PackedNetworks(folder, cache if scores else None, digits)
        data: dict[Path, dict[str, Any]] = {}
        unusable: dict[str, str] = {}
        if leave_out:
            # Without its encoder's weights a row's variants and scores would travel for nothing.
            unusable.update((row_id, f"no {what}") for what, ids in _find_encoders(whole)[1].items() for row_id in ids)
            whole = _without(whole, unusable)
        parts: list[Part] = []
        for number, group in enumerate(_by_data(whole)):
            place = folder / DATA / f"{number}-{group[0].data.name}"
            try:
                data[place], files = _pack_data(group, place, packed, watcher)
            except MetaSpliceAIError as error:
                if not leave_out:
                    raise
                shutil.rmtree(place, ignore_errors=True)
                unusable.update((spec.id, str(error)) for spec in group)
            else:
                parts.append(_part(f"data set {group[0].data.name}", files, [spec.id for spec in group], whole))
        whole = _without(whole, unusable)
        if not whole:
            raise InputError(f"no row can be packed: {next(iter(unusable.values()))}")
        with watcher.stage("base scores"):
            packed.finish(most_bytes)
        encoders, absent = _pack_encoders(whole, folder)
        parts = without_rows(parts, frozenset(unusable))
        parts += [*packed.parts(whole), *_encoder_parts(encoders, whole, folder)]
        draft = Path(temporary) / "bundle"

        def write() -> tuple[int, dict[str, Any]]:
            ids = [spec.id for spec in whole]
            with atomic_write(folder / ROWS) as handle:
                json.dump([spec.model_dump(mode="json") for spec in whole], handle, ensure_ascii=False)
            about = {
                "made": now(),
                "version": __version__,
                "code": code_version(),
                "rows": ids,
                "data": [told for place, told in data.items() if place.is_dir()],
                "networks": packed.told(whole),
                "encoders": [name for name in encoders if (folder / ENCODERS / name).is_dir()],
                "missing": [*(f"row {row_id}: {why}" for row_id, why in unusable.items()), *_still_missed(absent, ids)],
                "wheels": {"needed": _versions(NEEDED_WHEELS), "better_with": BETTER_WITH, "packed": wheels_packed},
            }
            return write_archive(folder, about, draft), about

        with watcher.stage("packing"):
            size, about = write()
            while size > most_bytes and packed.leave_out_largest():
                size, about = write()
            while size > most_bytes and leave_out and (found := least_missed(parts)):
                part, freed = found
                for row_id in part.rows:
                    unusable[row_id] = (
                        f"left out so that the file has no more than {most_bytes / 1e6:.1f} MB; its {part.name} would "
                        f"take up to {freed / 1e6:.1f} MB that no other row needs"
                    )
                whole = [spec for spec in whole if spec.id not in part.rows]
                _remove(only_for(parts, part.rows))
                parts = without_rows(parts, part.rows)
                size, about = write()
        shares = _by_part(packed_sizes(draft))
        if size > most_bytes:
            told = ", ".join(f"{name} {share / 1e6:.1f} MB" for name, share in shares.items())
            raise InputError(
                f"the bundle would have {size / 1e6:.1f} MB, {most_bytes / 1e6:.1f} MB are allowed: {told}; take fewer "
                "rows, --limit N variants, or a larger --max-size"
            )
        with atomic_write(out, "wb") as handle, draft.open("rb") as content:
            while piece := content.read(1 << 20):
                handle.write(piece)
    return Made(out, size, shares, about["missing"], about)


def _part(name: str, files: Iterable[Path], row_ids: Iterable[str], specs: Sequence[ExperimentSpec]) -> Part:
    """A part, with the ensembles that cannot run without the rows that need it."""
    needing = set(row_ids)
    for spec in specs:  # members stand before their ensembles
        if spec.ensemble and needing.intersection(spec.ensemble.members):
            needing.add(spec.id)
    return Part(name, frozenset(files), frozenset(needing))


def _remove(files: Iterable[Path]) -> None:
    """Delete files of the bundle, and the folders that are empty then."""
    for file in files:
        file.unlink()
        folder = file.parent
        while not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent


def _by_data(specs: Sequence[ExperimentSpec]) -> list[list[ExperimentSpec]]:
    """The rows that use one data set with the same options, together."""
    by_data: dict[str, list[ExperimentSpec]] = {}
    for spec in specs:
        key = json.dumps([spec.data.name, dict(spec.data.options)], sort_keys=True)
        by_data.setdefault(key, []).append(spec)
    return list(by_data.values())


def _without(specs: Sequence[ExperimentSpec], unusable: dict[str, str]) -> list[ExperimentSpec]:
    """The rows that are left, members before ensembles; an ensemble goes with its member, and is added."""
    left = []
    for spec in specs:
        lost = [member for member in (spec.ensemble.members if spec.ensemble else ()) if member in unusable]
        if lost:
            unusable.setdefault(spec.id, f"its member {lost[0]} is not in the bundle")
        if spec.id not in unusable:
            left.append(spec)
    return left


def _pack_data(
    group: Sequence[ExperimentSpec], place: Path, packed: _PackedNetworks, watcher: Watcher
) -> tuple[dict[str, Any], list[Path]]:
    """Pack one data set and the base networks of the rows that use it; what the index says of it, and its files."""
    wanted = group[0].data
    need = _DataNeed(wanted, load_rows_of(wanted), tuple(group))
    table = need.rows()
    with watcher.stage(f"data set {wanted.name}: {len(table):,} variants"):
        for spec in group:
            for network in spec.networks:
                packed.add(network, need.loaded, table, smoke=False)
            if spec.trunk_network is not None:  # its weights; features are computed there
                packed.add(spec.trunk_network, need.loaded, table, smoke=True)
        for spec in group:
            for network in as_smoke(spec).networks:
                packed.add(network, need.loaded, table, smoke=True)
        bases = store_dataset(need.loaded, wanted.options, list(_stretches(need, table, packed.flank)), place)
    genes = need.loaded.annotation
    files = [*place.iterdir(), *([genes_file(place, genes.digest)] if genes is not None else [])]
    return {
        "name": wanted.name,
        "options": dict(wanted.options),
        "digest": need.loaded.digest,
        "variants": len(table),
        "bases": bases,
        "licence": need.loaded.dataset.licence,
    }, files


def _stretches(need: _DataNeed, table: pd.DataFrame, flank: int) -> Iterator[Interval]:
    """What windows and base scoring read of the genome around each variant, and somewhat more."""
    widest = max(spec.training.reach(spec.window) // 2 for spec in need.specs)
    scoring = [one for spec in need.specs for one in (spec.base, spec.trunk_network) if one is not None]
    distance = max(one.distance for one in scoring)
    around = max(widest, distance + flank) + SLACK
    lengths = need.loaded.genome.contigs()
    longest = table["ref"].str.len().combine(table["alt"].str.len(), max)
    for chrom, pos, allele in zip(table["chrom"], table["pos"].astype(int), longest, strict=True):
        contig = need.loaded.genome.resolve(chrom)
        if lengths[contig] <= WHOLE_CONTIG:
            yield contig, 0, lengths[contig]
        else:
            yield contig, pos - 1 - around - 2 * int(allele), pos + around + 2 * int(allele)


class _PackedNetworks:
    """Base networks: their files once, and the scores of each that the cache holds."""

    def __init__(self, folder: Path, cache: ScoreCache | None, digits: int | None) -> None:
        self.folder, self.cache, self.digits = folder, cache, digits
        self.flank = 0
        self._models: dict[tuple[str, tuple[int, ...] | None], BaseModel] = {}
        self._entries: dict[tuple[str, int], dict[bytes, Entry]] = {}
        self._files: dict[Path, dict[str, Any]] = {}
        self._weights: dict[str, set[Path]] = {}
        self._told: dict[tuple[str, tuple[int, ...] | None, int, str], dict[str, Any]] = {}
        self._done: set[tuple[str, tuple[int, ...] | None, int, str, str]] = set()

    def add(self, wanted: BaseSpec, loaded: Loaded, table: pd.DataFrame, *, smoke: bool) -> None:
        """Pack a network's files, and its scores of these variants; a smoke run's few scores are computed there."""
        done = (wanted.name, wanted.members, wanted.distance, wanted.precision, loaded.digest)
        if done in self._done:
            return
        self._done.add(done)
        model = self._model(wanted)
        self.flank = max(self.flank, model.flank)
        if smoke:
            return
        neighbours = table.sort_values(["chrom", "strand", "pos", "alt"])
        digest = digest_in(model, wanted.precision)
        keys = score_keys(
            neighbours, loaded.genome, model, wanted.distance, loaded.annotation, precision=wanted.precision
        )
        there = {} if self.cache is None else self.cache.read(keys, digest, wanted.distance)
        # Scores that another bundle rounded are not passed on as if they were exact.
        found = {key: there[key] for key in keys if key in there and there[key].digits is None}
        self._entries.setdefault((digest, wanted.distance), {}).update(found)
        told = self._told.setdefault(
            (wanted.name, wanted.members, wanted.distance, wanted.precision),
            {
                "name": wanted.name,
                "members": None if wanted.members is None else list(wanted.members),
                "distance": wanted.distance,
                "licence": model.licence,
                "digest": digest,
                "precision": wanted.precision,
                "scores": 0,
                "of": 0,
                "digits": self.digits,
                "left_out": 0,
            },
        )
        told["scores"] += len(found)
        told["of"] += len(set(keys))

    def _model(self, wanted: BaseSpec) -> BaseModel:
        if (wanted.name, wanted.members) not in self._models:
            if ":" in wanted.name:
                raise InputError(
                    f"base network '{wanted.name}' is a file of your own, and bundles carry published networks only; "
                    "leave its rows out"
                )
            with files_used() as used:
                model = load_base_model(wanted.name, members=wanted.members)
            for path, found in used.items():
                with atomic_write(self.folder / path, "wb") as handle:
                    handle.write(found.read_bytes())
                self._weights.setdefault(wanted.name, set()).add(self.folder / path)
            self._models[wanted.name, wanted.members] = model
        return self._models[wanted.name, wanted.members]

    def parts(self, specs: Sequence[ExperimentSpec]) -> list[Part]:
        """The weights of each network, whichever of its members rows want."""
        return [
            _part(f"base network {name}", files, [spec.id for spec in specs if _uses(spec, name)], specs)
            for name, files in self._weights.items()
        ]

    def told(self, specs: Sequence[ExperimentSpec]) -> list[dict[str, Any]]:
        """What was packed for these rows, for the index."""
        wanted = {(one.name, one.members, one.distance, one.precision) for spec in specs for one in spec.networks}
        return [told for key, told in self._told.items() if key in wanted]

    def finish(self, most_bytes: int) -> None:
        """Write the scores.

        Packing takes minutes, so that scores which will hardly fit beside all else are found by a sample of them.
        """
        beside = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
        wanted = [told for told in self._told.values() if self._entries[told["digest"], told["distance"]]]
        sizes = {number: self._foreseen(told) for number, told in enumerate(wanted)}
        while sizes and beside + sum(sizes.values()) > SURELY_TOO_LARGE * most_bytes:
            largest = max(sizes, key=lambda number: sizes[number])
            wanted[largest].update(scores=0, left_out=sizes.pop(largest))
        for number in sizes:
            told = wanted[number]
            file = self.folder / SCORES / f"{told['digest'][:16]}-{told['distance']}-{told['precision']}.npz"
            entries = self._entries[told["digest"], told["distance"]]
            write_packed_scores(entries, told["digest"], told["distance"], file, self.digits)
            self._files[file] = told

    def _foreseen(self, told: dict[str, Any]) -> int:
        """Bytes that a network's scores should take, by a stretch of neighbours in their middle."""
        entries = list(self._entries[told["digest"], told["distance"]].items())
        first = max(0, (len(entries) - SAMPLED) // 2)
        some = dict(entries[first : first + SAMPLED])
        with tempfile.TemporaryDirectory() as temporary:
            sample = Path(temporary) / "sample.npz"
            write_packed_scores(some, told["digest"], told["distance"], sample, self.digits)
            return sample.stat().st_size * len(entries) // len(some)

    def leave_out_largest(self) -> bool:
        """Take the largest file of scores out again, and say so in what is `told`; false if there is none."""
        if not self._files:
            return False
        largest = max(self._files, key=lambda file: file.stat().st_size)
        self._files.pop(largest).update(scores=0, left_out=largest.stat().st_size)
        largest.unlink()
        return True


def _uses(spec: ExperimentSpec, network: str) -> bool:
    read = spec.trunk_network
    scoring = [one for row in (spec, as_smoke(spec)) for one in row.networks] + ([] if read is None else [read])
    return any(one.name == network for one in scoring)


def _pack_encoders(specs: Sequence[ExperimentSpec], folder: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Copy the pretrained encoders that are here; their names, and what is missing, in words, with the rows' ids."""
    found, missing = _find_encoders(specs)
    for name, (there, _) in found.items():
        for file in HUB_FILES:
            with atomic_write(folder / ENCODERS / name / there.name / file, "wb") as handle:
                handle.write((there / file).read_bytes())
    return {name: ids for name, (_, ids) in found.items()}, missing


def _find_encoders(
    specs: Sequence[ExperimentSpec],
) -> tuple[dict[str, tuple[Path, list[str]]], dict[str, list[str]]]:
    """Pretrained encoders that are here, with their folders; what is not here, in words; each with the rows' ids."""
    found: dict[str, tuple[Path, list[str]]] = {}
    missing: dict[str, list[str]] = {}
    for spec in specs:
        name = spec.encoder.name
        if spec.ensemble is not None or spec.fusion is not None or name not in PUBLISHED:
            continue
        weights = str(spec.encoder.settings.get("weights", HUB))
        if weights not in (HUB, "scratch"):
            missing.setdefault(f"weights of {name} (the folder {weights} is not packed)", []).append(spec.id)
        if weights != HUB:
            continue
        there = folder_at_hand(name)
        if there is None:
            missing.setdefault(f"weights of {name} (not in the hub's cache here)", []).append(spec.id)
            continue
        found.setdefault(name, (there, []))[1].append(spec.id)
    return found, missing


def _encoder_parts(encoders: Mapping[str, Sequence[str]], specs: Sequence[ExperimentSpec], folder: Path) -> list[Part]:
    return [
        _part(f"encoder {name}", (path for path in (folder / ENCODERS / name).rglob("*") if path.is_file()), ids, specs)
        for name, ids in encoders.items()
    ]


def _still_missed(absent: Mapping[str, Sequence[str]], row_ids: Sequence[str]) -> list[str]:
    """What is not there and packed rows need, in words."""
    needed = {what: [row_id for row_id in ids if row_id in row_ids] for what, ids in absent.items()}
    return [f"{what}: needed by {', '.join(ids)}" for what, ids in needed.items() if ids]


def _pack_wheels(wheels: Path, folder: Path) -> list[str]:
    """Copy the wheels that the other machine needs; their names.

    Raises:
        InputError: one is missing, or there in two versions.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(wheels.glob("*.whl")):
        found.setdefault(package_of(path.name), []).append(path)
    missing = [package for package in NEEDED_WHEELS if package not in found]
    if missing:
        raise InputError(
            f"--wheels {wheels}: no wheel of {', '.join(missing)}; get them with: python -m pip download --no-deps "
            f"--only-binary=:all: --python-version 3.12 -d {wheels} {' '.join(_versions(missing))}"
        )
    wanted = [path for package in (*NEEDED_WHEELS, *BETTER_WITH) for path in found.get(package, [])]
    for package in (*NEEDED_WHEELS, *BETTER_WITH):
        if len(found.get(package, [])) > 1:
            raise InputError(f"--wheels {wheels}: {package} is there in two versions; leave one")
    for path in wanted:
        with atomic_write(folder / WHEELS / path.name, "wb") as handle:
            handle.write(path.read_bytes())
    return [path.name for path in wanted]


def _by_part(sizes: Mapping[str, int]) -> dict[str, int]:
    parts: dict[str, int] = {}
    for name, size in sizes.items():
        words = next((words for place, words in PARTS.items() if name.startswith(place)), "weights of base networks")
        parts[words] = parts.get(words, 0) + size
    return dict(sorted(parts.items(), key=lambda part: -part[1]))


def _versions(packages: Sequence[str]) -> list[str]:
    """The packages as pip takes them, with the versions that are installed here."""
    return [f"{name}=={importlib.metadata.version(name)}" for name in packages]
