"""Make a bundle: what a set of rows needs, gathered, packed and weighed."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from meta_spliceai import __version__
from meta_spliceai.datasets import Loaded
from meta_spliceai.datasets.bundled import FOLDER as DATA
from meta_spliceai.datasets.bundled import store_dataset
from meta_spliceai.errors import InputError, MetaSpliceAIError
from meta_spliceai.experiments.bundle.archive import write_archive
from meta_spliceai.experiments.bundle.content import Content
from meta_spliceai.experiments.bundle.networks import Networks
from meta_spliceai.experiments.bundle.packed_scores import DIGITS
from meta_spliceai.experiments.bundle.wheels import BETTER_WITH, NEEDED, pack_wheels, versions
from meta_spliceai.experiments.bundle.wheels import FOLDER as WHEELS
from meta_spliceai.experiments.run.callback import Callback
from meta_spliceai.experiments.run.prepare import choose_rows, load_rows_of
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.spec.rows import find_row
from meta_spliceai.experiments.spec.smoke import as_smoke
from meta_spliceai.experiments.store.address import code_version
from meta_spliceai.experiments.store.workspace import now
from meta_spliceai.files import atomic_write
from meta_spliceai.resources.hub import BUNDLED as ENCODERS
from meta_spliceai.resources.hub import HUB_FILES, folder_at_hand
from meta_spliceai.splice_engine.base_layer.cache import BUNDLED as SCORES
from meta_spliceai.splice_engine.genome.packed import Interval
from meta_spliceai.splice_engine.meta_layer.models.encoders.hyenadna_weights import HUB, PUBLISHED

ROWS = "bundle/rows.json"

SLACK = 4_352
"""Bases beyond what a network sees of a variant: every layer of a reference is computed in blocks on a grid of its own,
so that the first layer's may reach that far (see `CompiledNetwork.bases`)."""

WHOLE_CONTIG = 50_000
"""A contig no longer than this (a construct) is kept whole."""

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
    """A bundle that was written: its size, bytes by what they are (the largest first), what the index says, and what
    could not be packed, in words."""

    path: Path
    bytes: int
    parts: dict[str, int]
    index: dict[str, Any]

    @property
    def missing(self) -> list[str]:
        """What could not be packed; the rows that need it will say so."""
        return list(self.index["missing"])


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
        content = Content(Path(temporary) / "content", with_members(specs, rows))
        packing = _Packing(content, Networks(content, options.scores, options.digits))
        if options.wheels is not None:
            packing.wheels = pack_wheels(options.wheels, content.folder)
        packing.pack_encoders(options.leave_out)
        for group in _by_data(content.rows):
            packing.pack_data(group, options.leave_out, callback)
        if not content.rows:
            raise InputError(f"no row can be packed: {next(iter(content.left_out.values()))}")
        with callback.stage("base scores"):
            packing.networks.write_scores()
        draft = Path(temporary) / "bundle"
        with callback.stage("packing"):
            parts = packing.write(draft)
            while (size := draft.stat().st_size) > options.most_bytes and packing.shrink(options):
                parts = packing.write(draft)
        if size > options.most_bytes:
            told = ", ".join(f"{name} {share / 1e6:.1f} MB" for name, share in parts.items())
            raise InputError(
                f"the bundle would have {size / 1e6:.1f} MB, {options.most_bytes / 1e6:.1f} MB are allowed: {told}; "
                "take fewer rows, --limit N variants, or a larger --max-size"
            )
        with atomic_write(out, "wb") as handle, draft.open("rb") as source:
            shutil.copyfileobj(source, handle)
    return Made(out, size, parts, packing.index)


@dataclass
class _Packing:
    """A bundle in the making: its files, and what its index says of them."""

    content: Content
    networks: Networks
    wheels: list[str] = field(default_factory=list)
    data: dict[Path, dict[str, Any]] = field(default_factory=dict)
    encoders: dict[str, Path] = field(default_factory=dict)
    absent: dict[str, list[str]] = field(default_factory=dict)
    index: dict[str, Any] = field(default_factory=dict)

    def pack_encoders(self, leave_out: bool) -> None:
        """Copy the pretrained encoders that are here; rows without theirs are left out, or told of."""
        for spec in list(self.content.rows):
            name = spec.encoder.name
            weights = str(spec.encoder.settings.get("weights", HUB))
            if spec.ensemble or spec.fusion or name not in PUBLISHED or weights == "scratch":
                continue
            there = folder_at_hand(name) if weights == HUB else None
            if there is not None:
                self.encoders[name] = self.content.folder / ENCODERS / name
                for file in HUB_FILES:
                    target = self.encoders[name] / there.name / file
                    with atomic_write(target, "wb") as handle:
                        handle.write((there / file).read_bytes())
                    self.content.add(target, [spec.id])
                continue
            why = "not in the hub's cache here" if weights == HUB else f"the folder {weights} is not packed"
            if leave_out:
                # Without its encoder's weights a row's variants and scores would travel for nothing.
                self.content.leave_out([spec.id], f"no weights of {name} ({why})")
            else:
                self.absent.setdefault(f"weights of {name} ({why})", []).append(spec.id)

    def pack_data(self, group: Sequence[ExperimentSpec], leave_out: bool, callback: Callback) -> None:
        """Pack one data set and the base networks of the rows that use it; without it, its rows are left out."""
        wanted, ids = group[0].data, [spec.id for spec in group]
        place = self.content.folder / DATA / f"{len(self.data)}-{wanted.name}"
        try:
            loaded = load_rows_of(wanted)
            table = _drawn_by(group, loaded)
            with callback.stage(f"data set {wanted.name}: {len(table):,} variants"):
                self.networks.add(group, loaded, table)
                stretches = list(_stretches(group, loaded, table, self.networks.flank))
                bases, files = store_dataset(loaded, wanted.options, stretches, place)
        except MetaSpliceAIError as error:
            if not leave_out:
                raise
            shutil.rmtree(place, ignore_errors=True)
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

    def shrink(self, options: Options) -> bool:
        """Leave something out that makes the file smaller; false where nothing may be."""
        why = f"left out so that the file has no more than {options.most_bytes / 1e6:.1f} MB"
        return self.networks.leave_out_largest_scores() or (
            options.leave_out and self.content.leave_out_dearest_rows(why)
        )

    def write(self, draft: Path) -> dict[str, int]:
        """Write the file; bytes in it by what they are, the largest first."""
        with atomic_write(self.content.folder / ROWS) as handle:
            json.dump([spec.model_dump(mode="json") for spec in self.content.rows], handle, ensure_ascii=False)
        self.index = self.about()
        parts: dict[str, int] = {}
        for name, size in write_archive(self.content.folder, self.index, draft).items():
            words = next(words for place, words in PARTS.items() if name.startswith(place))
            parts[words] = parts.get(words, 0) + size
        return dict(sorted(parts.items(), key=lambda part: -part[1]))

    def about(self) -> dict[str, Any]:
        """What the index says beside the members."""
        ids = [spec.id for spec in self.content.rows]
        missing = [f"row {row_id}: {why}" for row_id, why in self.content.left_out.items()]
        for what, wanting in self.absent.items():
            if needed_by := [row_id for row_id in wanting if row_id in ids]:
                missing.append(f"{what}: needed by {', '.join(needed_by)}")
        return {
            "made": now(),
            "version": __version__,
            "code": code_version(),
            "rows": ids,
            "data": [told for place, told in self.data.items() if any(place.glob("*"))],
            "networks": self.networks.told(),
            "encoders": [name for name, place in self.encoders.items() if any(place.glob("*/*"))],
            "missing": missing,
            "wheels": {"needed": versions(NEEDED), "better_with": BETTER_WITH, "packed": self.wheels},
        }


def _by_data(specs: Sequence[ExperimentSpec]) -> list[list[ExperimentSpec]]:
    """The rows that use one data set with the same options, together."""
    by_data: dict[str, list[ExperimentSpec]] = {}
    for spec in specs:
        key = json.dumps([spec.data.name, dict(spec.data.options)], sort_keys=True)
        by_data.setdefault(key, []).append(spec)
    return list(by_data.values())


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
