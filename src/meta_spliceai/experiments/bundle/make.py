"""Make a bundle: collect and pack what a set of rows needs, and check its size."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from meta_spliceai import __version__
from meta_spliceai.datasets import Loaded
from meta_spliceai.datasets.load import FOLDER as DATA
from meta_spliceai.datasets.load import store_dataset
from meta_spliceai.errors import InputError, MetaSpliceAIError
from meta_spliceai.experiments.bundle.archive import ROWS, write_archive
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
from meta_spliceai.splice_engine.base_layer.families import load_base_model
from meta_spliceai.splice_engine.base_layer.network import BaseModel
from meta_spliceai.splice_engine.base_layer.scores import BUNDLED as SCORES
from meta_spliceai.splice_engine.base_layer.scores import DIGITS, Entry, ScoreCache, write_scores
from meta_spliceai.splice_engine.base_layer.scoring import digest_in, score_keys
from meta_spliceai.splice_engine.genome.packed import Interval
from meta_spliceai.splice_engine.meta_layer.models.hyenadna_weights import HUB, PACKAGED, PUBLISHED, SCRATCH

WHEELS = "wheels"  # where wheels lie in the file

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

NEEDED = ("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "jaxtyping", "wadler-lindig")
"""Packages that must be on the other machine beside PyTorch, pandas, pyarrow, h5py, safetensors,
scikit-learn, typer, rich, huggingface_hub and what these bring."""

BETTER_WITH = {"seqleak": "position alone as a baseline, and the gain over position"}
"""Packages without which something is left out there, and said to be."""


@dataclass(frozen=True)
class Options:
    """How a bundle is made.

    Attributes:
        most_bytes: a larger file is an error, which names what is large.
        scores: pack the base scores that the cache holds; the other machine computes the rest.
        digits: decimals to which base scores are rounded; whoever uses them is told. None: as they are.
        wheels: folder of wheels, of which those that the other machine needs are packed.
        leave_out: rows whose data or weights are not here, or cannot be used, are left out and listed among what is
            missing. Otherwise all rows are packed, or it is an error; only weights of encoders may be missing then,
            because the other machine may have them, and are listed.
    """

    most_bytes: int = 64_000_000
    scores: bool = True
    digits: int | None = None
    wheels: Path | None = None
    leave_out: bool = False


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
) -> dict[str, Any]:
    """Pack what rows need into one file of plain data. Nothing is computed or downloaded here.

    Args:
        specs: the rows.
        rows: the catalogue, for members of ensembles.
        out: the file.
        callback: told what happens.
        options: how.

    Returns:
        what its index says; beside that `file`, its size in `bytes`, and in `parts` bytes by what they are, the largest
        first.

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
        packing = _Packing(Path(temporary) / "content", with_members(specs, rows), options)
        packing.find_encoders()
        by_data: dict[str, list[ExperimentSpec]] = {}
        for spec in packing.rows:
            key = json.dumps([spec.data.name, dict(spec.data.options)], sort_keys=True)
            by_data.setdefault(key, []).append(spec)
        for group in by_data.values():
            packing.pack_data(group, callback)
        if not packing.rows:
            raise InputError(f"no row can be packed: {next(iter(packing.left_out.values()))}")
        with callback.stage("base scores"):
            packing.pack_scores()
        with callback.stage("packing"):
            packing.pack_encoders()
            return packing.write(out)


class _Packing:
    """A bundle in the making: the folder that becomes the file, and what its index says.

    Attributes:
        rows: the rows that can be packed, members before their ensembles.
        left_out: row: why it is left out, in words.
        flank: positions to either side that the widest base network reads.
    """

    def __init__(self, folder: Path, rows: Sequence[ExperimentSpec], options: Options) -> None:
        self.folder, self.rows, self.options = folder, list(rows), options
        self.left_out: dict[str, str] = {}
        self.flank = 0
        self.wheels = [] if options.wheels is None else pack_wheels(options.wheels, folder)
        self.data: list[dict[str, Any]] = []
        self.encoders: dict[str, Path] = {}
        self.absent: dict[str, list[str]] = {}
        self._cache = ScoreCache.default() if options.scores else None
        self._models: dict[tuple[str, tuple[int, ...] | None], BaseModel] = {}
        self._networks: dict[BaseSpec, dict[str, Any]] = {}
        self._entries: dict[BaseSpec, dict[bytes, Entry]] = {}

    def leave_out(self, row_ids: Sequence[str], why: str) -> None:
        """Leave rows out, with ensembles of them."""
        self.left_out |= dict.fromkeys(row_ids, why)
        for spec in self.rows:
            for member in spec.ensemble.members if spec.ensemble else ():
                if member in self.left_out:
                    self.left_out.setdefault(spec.id, f"its member {member} is not in the bundle")
        self.rows = [spec for spec in self.rows if spec.id not in self.left_out]

    def find_encoders(self) -> None:
        """Find the pretrained encoders that are here; rows without theirs are left out, or told of."""
        for spec in list(self.rows):
            name, weights = spec.encoder.name, str(spec.encoder.settings.get("weights", HUB))
            if spec.ensemble or spec.fusion or name not in PUBLISHED or weights in (PACKAGED, SCRATCH):
                continue
            there = folder_at_hand(name) if weights == HUB else None
            why = "not in the hub's cache here" if weights == HUB else f"the folder {weights} is not packed"
            if there is not None:
                self.encoders[name] = there
            elif self.options.leave_out:
                # Without its encoder's weights a row's variants and scores would travel for nothing.
                self.leave_out([spec.id], f"no weights of {name} ({why})")
            else:
                self.absent.setdefault(f"weights of {name} ({why})", []).append(spec.id)

    def pack_encoders(self) -> None:
        needed = {spec.encoder.name for spec in self.rows if not (spec.ensemble or spec.fusion)}
        self.encoders = {name: there for name, there in self.encoders.items() if name in needed}
        for name, there in self.encoders.items():
            for file in HUB_FILES:
                _copy(there / file, self.folder / ENCODERS / name / there.name / file)

    def pack_data(self, group: Sequence[ExperimentSpec], callback: Callback) -> None:
        """Pack one data set and the base networks of the rows that use it; without it, its rows are left out."""
        wanted = group[0].data
        try:
            loaded = load_rows_of(wanted)
            table = _drawn_by(group, loaded)
            with callback.stage(f"data set {wanted.name}: {len(table):,} variants"):
                self._pack_networks(group, loaded, table)
                stretches = list(_stretches(group, loaded, table, self.flank))
                place = self.folder / DATA / f"{len(self.data)}-{wanted.name}"
                bases = store_dataset(loaded, wanted.options, stretches, place)
        except MetaSpliceAIError as error:
            if not self.options.leave_out:
                raise
            self.leave_out([spec.id for spec in group], str(error))
            return
        self.data.append(
            {
                "name": wanted.name,
                "options": dict(wanted.options),
                "digest": loaded.digest,
                "variants": len(table),
                "bases": bases,
                "licence": loaded.dataset.licence,
            }
        )

    def _pack_networks(self, group: Sequence[ExperimentSpec], loaded: Loaded, table: pd.DataFrame) -> None:
        """Pack the networks of rows, and find their scores of these variants in the cache."""
        for spec in group:
            read = [] if spec.trunk_network is None else [spec.trunk_network]  # its features are computed there
            for wanted in (*spec.networks, *as_smoke(spec).networks, *read):
                self._pack_network(wanted)
        neighbours = table.sort_values(["chrom", "strand", "pos", "alt"])
        for wanted in dict.fromkeys(_scored(one) for spec in group for one in spec.networks):
            model = self._models[wanted.name, wanted.members]
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
            }
            known = self._networks.setdefault(wanted, {**told, "scores": 0, "of": 0})
            known["scores"] += len(found)
            known["of"] += len(set(keys))
            self._entries.setdefault(wanted, {}).update(found)

    def _pack_network(self, wanted: BaseSpec) -> None:
        """Load a network once, and pack the files that were read for it."""
        if ":" in wanted.name:
            raise InputError(
                f"base network '{wanted.name}' is a file of your own, and bundles carry published networks only; "
                "leave its rows out"
            )
        which = (wanted.name, wanted.members)
        if which not in self._models:
            with files_used() as used:
                self._models[which] = load_base_model(wanted.name, members=wanted.members)
            for path, found in used.items():
                _copy(Path(found), self.folder / path)
        self.flank = max(self.flank, self._models[which].flank)

    def pack_scores(self) -> None:
        """Write the scores into the folder, a file for each network."""
        for wanted, entries in self._entries.items():
            if entries:
                told = self._networks[wanted]
                name = f"{told['digest'][:16]}-{told['distance']}-{told['precision']}.npz"
                write_scores(self.folder / SCORES / name, entries, self.options.digits)

    def write(self, out: Path) -> dict[str, Any]:
        """Write the file (see `make_bundle`); InputError where it is larger than it may be."""
        ids = [spec.id for spec in self.rows]
        with atomic_write(self.folder / ROWS) as handle:
            json.dump([spec.model_dump(mode="json") for spec in self.rows], handle, ensure_ascii=False)
        index = {
            "made": now(),
            "version": __version__,
            "code": code_version(),
            "rows": ids,
            "data": self.data,
            "networks": list(self._networks.values()),
            "encoders": list(self.encoders),
            "missing": [
                *(f"row {row_id}: {why}" for row_id, why in self.left_out.items()),
                *(f"{what}: needed by {', '.join(wanting)}" for what, wanting in self.absent.items()),
            ],
            "wheels": {"needed": versions(NEEDED), "better_with": BETTER_WITH, "packed": self.wheels},
        }
        draft = self.folder.with_name("bundle")
        sizes = write_archive(self.folder, index, draft)
        parts: dict[str, int] = {}
        for name, packed in sizes.items():
            words = next(words for place, words in PARTS.items() if name.startswith(place))
            parts[words] = parts.get(words, 0) + packed
        parts = dict(sorted(parts.items(), key=lambda part: -part[1]))
        size = draft.stat().st_size
        if size > self.options.most_bytes:
            largest = sorted(sizes, key=lambda name: -sizes[name])[:5]
            raise InputError(
                f"the bundle would have {size / 1e6:.1f} MB, {self.options.most_bytes / 1e6:.1f} MB are allowed: "
                f"{_sizes(parts)}; the largest files: {_sizes({name: sizes[name] for name in largest})}; take fewer "
                "rows (--without), --limit N variants, --score-digits, --no-scores, or a larger --max-size"
            )
        _copy(draft, out)
        return {"file": str(out), "bytes": size, "parts": parts, **index}


def _sizes(parts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in parts.items())


def _copy(source: Path, path: Path) -> None:
    with source.open("rb") as handle, atomic_write(path, "wb") as copy:
        shutil.copyfileobj(handle, copy)


def versions(packages: Sequence[str]) -> list[str]:
    return [f"{name}=={importlib.metadata.version(name)}" for name in packages]


def pack_wheels(wheels: Path, folder: Path) -> list[str]:
    """Copy the wheels that the other machine needs; their names. InputError: one is missing, or there in two
    versions."""
    found: dict[str, list[Path]] = {}
    for path in sorted(wheels.glob("*.whl")):
        found.setdefault(path.name.partition("-")[0].replace("_", "-").lower(), []).append(path)
    if missing := [package for package in NEEDED if package not in found]:
        raise InputError(
            f"--wheels {wheels}: no wheel of {', '.join(missing)}; get them with: python -m pip download --no-deps "
            f"--only-binary=:all: --python-version 3.12 -d {wheels} {' '.join(versions(missing))}"
        )
    packed = []
    for package in (*NEEDED, *(name for name in BETTER_WITH if name in found)):
        path, *others = found[package]
        if others:
            raise InputError(f"--wheels {wheels}: {package} is there in two versions; leave one")
        _copy(path, folder / WHEELS / path.name)
        packed.append(path.name)
    return packed


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
