"""Prepares everything a row's model is trained and evaluated on: variants, base scores, labels, split, windows; and
defines a run's context and the input and output of the training procedure."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int

from meta_spliceai import resources
from meta_spliceai.datasets import Loaded, load_dataset
from meta_spliceai.errors import InputError
from meta_spliceai.experiments.run.build import Wanted, make_splits, make_targets
from meta_spliceai.experiments.run.callback import Callback
from meta_spliceai.experiments.spec.experiment import BaseSpec, DataSpec, ExperimentSpec
from meta_spliceai.experiments.spec.rows import (
    MOST_SMOKE_ROWS,
    is_packaged,
    packaged_network,
    scale_note,
    smoke_notes,
)
from meta_spliceai.experiments.store.workspace import RunDirectory, Workspace
from meta_spliceai.files import cache_dir
from meta_spliceai.resources.registry import SCORES
from meta_spliceai.splice_engine.base_layer.families import load_base_model
from meta_spliceai.splice_engine.base_layer.network import BaseIdentity, BaseModel
from meta_spliceai.splice_engine.base_layer.scores import BaseScores, Entry, ScoreCache, read_scores
from meta_spliceai.splice_engine.base_layer.scoring import Computation, score_keys, score_variants
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import NEGATIVES
from meta_spliceai.splice_engine.meta_layer.prediction import EMBEDDINGS, TrunkReader, TrunkWindows
from meta_spliceai.splice_engine.meta_layer.settings import TRUNK_STEP
from meta_spliceai.splice_engine.meta_layer.targets import Targets
from meta_spliceai.splice_engine.variants.audit import Audit, audit_splits
from meta_spliceai.splice_engine.variants.families import genomic_places
from meta_spliceai.splice_engine.variants.splits import Split
from meta_spliceai.splice_engine.variants.table import (
    NORMAL,
    SPLICE_ALTERING,
    Coverage,
    Windows,
    build_windows,
    describe,
)

NOT_DRAWN = "not drawn: the row asks for fewer"
NO_LABEL = "not drawn: the row asks for Splice-altering and Normal only"
BROUGHT_BY = "the package itself"


class Scored(NamedTuple):
    """A base network, its scores of a table's rows, and how many of them were computed now; the others were found."""

    base: BaseIdentity
    scores: BaseScores
    computed: int


class Chosen(NamedTuple):
    """The variants a row uses (fresh index), the account from the source's rows to them, and notes for a reader of the
    result."""

    table: pd.DataFrame
    coverage: Coverage
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Prepared:
    """The inputs of a run; all parts are aligned with the rows of `table`.

    Attributes:
        windows: as a model predicts them; with a base network's hidden channels where the row reads those.
        training_windows: as it is trained: the same, or wider by the bases by which `window_shift` moves them.
        networks: the row's own base network, then the further ones of a fusion.
        trunk: the network whose hidden channels the windows bring along; None if they bring none.
    """

    loaded: Loaded
    table: pd.DataFrame
    coverage: Coverage
    networks: tuple[Scored, ...]
    targets: Targets
    splits: tuple[Split, ...]
    audits: tuple[Audit, ...]
    windows: Windows
    training_windows: Windows
    notes: tuple[str, ...]
    trunk: BaseModel | None = None

    @property
    def networks_used(self) -> tuple[BaseIdentity, ...]:
        """Every base network that scored or whose hidden channels are read, each family once."""
        used = {one.base.name: one.base for one in self.networks}
        if self.trunk is not None:
            used.setdefault(self.trunk.name, self.trunk.identity)
        return tuple(used.values())

    @property
    def scores(self) -> BaseScores:
        """Those of the row's own base network."""
        return self.networks[0].scores

    @property
    def all_scores(self) -> tuple[BaseScores, ...]:
        return tuple(one.scores for one in self.networks)

    @property
    def split_digest(self) -> str:
        """The split's digest; for several folds, one over all of them."""
        digests = [split.digest for split in self.splits]
        return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()

    @property
    def tested_in(self) -> Int[np.ndarray, " rows"]:
        """For every row, the 0-based number of the split in whose test part it is; -1 for none."""
        tested = np.full(len(self.table), -1)
        for number, split in enumerate(self.splits):
            tested[split.indices("test")] = number
        return tested

    @property
    def parts(self) -> np.ndarray:
        """Part of every row: that of the one split, or "test" for all that some fold tests; "" for none."""
        if len(self.splits) == 1:
            return self.splits[0].parts
        return np.where(self.tested_in >= 0, "test", "").astype(object)


class Clock:
    """Seconds spent in each step: those that passed, and those of the processor (all threads added up)."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Measure one step; a step measured twice is added up."""
        started, busy = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.add({step: time.perf_counter() - started}, {step: time.process_time() - busy})

    def add(self, seconds: dict[str, float], cpu_seconds: dict[str, float]) -> None:
        """Add seconds that were measured elsewhere, by step (fewer than none: counted twice)."""
        for kept, added in ((self.seconds, seconds), (self.cpu_seconds, cpu_seconds)):
            for step, more in added.items():
                kept[step] = kept.get(step, 0.0) + more

    def in_record(self) -> dict[str, dict[str, float]]:
        named = {"seconds_by_step": self.seconds, "cpu_seconds_by_step": self.cpu_seconds}
        return {name: {step: round(spent, 3) for step, spent in steps.items()} for name, steps in named.items()}


@dataclass(frozen=True)
class Work:
    """A run from its beginning to its record.

    Attributes:
        run, workspace: its folder; where the folder and the ledger are.
        spec, rows: the row as it is run; the catalogue.
        device: "cpu" or "cuda".
        resume: go on after the last whole epoch.
        callback, clock: told what happens; measures steps.
        price_per_hour: dollars an hour of a rented machine, if it is one.
    """

    run: RunDirectory
    spec: ExperimentSpec
    rows: dict[str, ExperimentSpec]
    workspace: Workspace
    device: str
    resume: bool
    callback: Callback
    clock: Clock
    price_per_hour: float | None = None


@dataclass(frozen=True)
class Trained:
    """A trained model's predictions on every row of the table, what they mean by name, and how training went.

    `work` says what share of the device's rate training reached (see `utilisation`); `notes` are sentences that
    belong on the result.
    """

    predictions: Float32[np.ndarray, "n outputs"]
    columns: Callable[[Float32[np.ndarray, "n outputs"]], dict[str, Float32[np.ndarray, " n"]]]
    curves: pd.DataFrame
    model: dict[str, Any]
    training: dict[str, Any]
    peak_memory_bytes: int
    work: dict[str, Any]
    notes: tuple[str, ...] = ()


def choose_rows(table: pd.DataFrame, coverage: Coverage, wanted: DataSpec, seed: int, in_turn: bool = False) -> Chosen:
    """Sample the variants that a row of the catalogue asks for.

    Args:
        coverage: the account so far; its `used` is the table's length.
        in_turn: take one variant of each chromosome in turn, for as long as there are any; of two such draws the larger
            one holds the smaller one.

    Raises:
        InputError: no row is left to draw from.
    """
    notes: list[str] = []
    drawn = Coverage(len(table))
    keep = np.ones(len(table), dtype=bool)
    if wanted.labelled_only or wanted.balanced:
        keep = table["classification"].isin([SPLICE_ALTERING, NORMAL]).to_numpy()
        drawn.leave_out(NO_LABEL, (describe(row) for _, row in table[~keep].iterrows()))
    there = np.flatnonzero(keep)
    if not len(there):
        why = "".join(f"; {count:,}: {reason}" for reason, count in coverage.then(drawn).left_out.items())
        raise InputError(f"data set {wanted.name}: no usable row of {coverage.read:,}; nothing to train on{why}")
    if wanted.rows is not None and wanted.rows > len(there):
        notes.append(
            f"{wanted.rows:,} variants were asked for; the data set has {len(there):,} usable ones: all are used"
        )
    elif wanted.rows is not None and wanted.rows < len(there):
        picked = np.sort(_draw(table, there, wanted.rows, wanted.balanced, seed, in_turn))
        left = np.setdiff1d(there, picked)
        drawn.leave_out(NOT_DRAWN, (describe(row) for _, row in table.iloc[left].iterrows()))
        notes.append(f"a subset: {len(picked):,} of {len(there):,} variants, drawn with seed {seed}")
        there = picked
    return Chosen(table.iloc[there].reset_index(drop=True), coverage.then(drawn), tuple(notes))


def _draw(
    table: pd.DataFrame, there: Int[np.ndarray, " usable"], count: int, balanced: bool, seed: int, in_turn: bool
) -> Int[np.ndarray, " drawn"]:
    """Row numbers drawn without replacement; with `balanced`, half of them from either side (or all there are)."""
    random = np.random.default_rng(seed)
    chromosomes = genomic_places(table)[0]

    def some(rows: Int[np.ndarray, " rows"], count: int) -> Int[np.ndarray, " count"]:
        if not in_turn:
            return random.choice(rows, count, replace=False)
        mixed = random.permutation(rows)
        turn = chromosomes.iloc[mixed].groupby(chromosomes.iloc[mixed]).cumcount().to_numpy()
        return mixed[turn.argsort(kind="stable")][:count]

    if not balanced:
        return some(there, count)
    classes = table["classification"].to_numpy()[there]
    sides = [there[classes == side] for side in (SPLICE_ALTERING, NORMAL)]
    return np.concatenate([some(rows, min(len(rows), count // 2)) for rows in sides])


def rows_and_splits(spec: ExperimentSpec, loaded: Loaded) -> tuple[Chosen, tuple[Split, ...]]:
    """The variants a row samples, and which of them are trained on and tested.

    A smoke run draws a few, from every chromosome in turn; where a part of the split would be empty or lack a class, it
    draws twice as many, and again, up to `MOST_SMOKE_ROWS`.

    Raises:
        InputError: no usable row; a split that cannot be made of these rows.
    """
    wanted = spec.data
    while True:
        chosen = choose_rows(loaded.variants, loaded.coverage, wanted, spec.seed, in_turn=spec.smoke)
        reach = spec.training.reach(spec.window)
        try:
            return chosen, tuple(make_splits(Wanted(chosen.table, loaded.genome, reach, spec.split, spec.seed)))
        except InputError:
            drawn = wanted.rows or len(loaded.variants)
            if not spec.smoke or drawn >= min(MOST_SMOKE_ROWS, len(loaded.variants)):
                raise
            wanted = wanted.model_copy(update={"rows": 2 * drawn})


def load_rows_of(wanted: DataSpec) -> Loaded:
    """The data set a row names, with its options; the last one is kept, as the next row often uses the same."""
    return _load(wanted.name, tuple(sorted(wanted.options.items())))


@lru_cache(maxsize=1)
def _load(name: str, options: tuple[tuple[str, str | int | float | bool], ...]) -> Loaded:
    return load_dataset(name, **dict(options))


def prepare(spec: ExperimentSpec, loaded: Loaded, device: str, callback: Callback, clock: Clock) -> Prepared:
    """Everything up to training.

    Raises:
        InputError, MissingResourceError, IntegrityError: data or weights that cannot be used.
    """
    notes: list[str] = []

    def note(*lines: str) -> None:
        for words in lines:
            callback.say(words)
            notes.append(words)

    note(*(smoke_notes(spec) if spec.smoke else scale_note(spec)))
    with clock("labels, split, windows"):
        chosen, splits = rows_and_splits(spec, loaded)
    table = chosen.table
    note(*chosen.notes)
    reader = trunk = None
    if spec.trunk is not None:
        with clock("labels, split, windows"):
            kept = cache_dir() / EMBEDDINGS
            reader = TrunkReader(spec.trunk, table, loaded.genome, loaded.annotation, kept, device)
        trunk = reader.found()
        if trunk is not None:
            callback.say(f"trunk of {reader.network}: features of all {len(table):,} variants were in the cache")
        else:  # only features that have to be computed make a step of their own
            with clock(TRUNK_STEP), callback.stage(TRUNK_STEP, len(table)) as advance:
                trunk = reader.read(lambda done, _: advance(done))
            callback.say(
                f"trunk of {reader.network}: features of {trunk.computed:,} of {len(table):,} variants computed"
            )
    with clock("base scores"):
        networks = tuple(_score(network, table, loaded, device, callback) for network in spec.networks)
    for network in networks:
        note(*_of_another_exactness(network.scores))
    with clock("labels, split, windows"):
        targets = make_targets(spec, table, networks[0].scores)
        if targets.sources():
            note(targets.sources())
        reach = spec.training.reach(spec.window)
        windows = build_windows(table, loaded.genome, spec.window)
        wide = windows if reach == spec.window else build_windows(table, loaded.genome, reach)
    if trunk is not None:
        windows = wide = TrunkWindows.joined(windows, trunk)
    with clock("audit"):
        audits = tuple(audit_splits(table, splits, loaded.genome, reach))
    if not spec.split.allow_leaks:
        for audit in audits:
            audit.require_clean()
    if leaks := [finding for audit in audits for finding in audit.leaks]:
        told = ", ".join(dict.fromkeys(f"{leak.count} {leak.check}" for leak in leaks))
        notes.insert(0, f"LEAKY SPLIT, allowed by split.allow_leaks: {told}")
    return Prepared(
        loaded,
        table,
        chosen.coverage,
        networks,
        targets,
        splits,
        audits,
        windows,
        wide,
        tuple(notes),
        None if reader is None else reader.base,
    )


def _score(wanted: BaseSpec, table: pd.DataFrame, loaded: Loaded, device: str, callback: Callback) -> Scored:
    """The scores of the table's rows by one base network.

    Raises:
        MissingExtraError, MissingResourceError: scores that did not travel with the package need networks that are not
            on this machine.
    """
    shipped = shipped_scores(wanted, table, loaded)
    if shipped is not None:
        callback.say(f"base network {shipped[0].name}, licence of the weights: {shipped[0].licence}")
        return Scored(*shipped, 0)
    base = load_base_model(wanted.name, device=device, members=wanted.members)
    callback.say(f"base network {base.name}, licence of the weights: {base.licence}")
    cache = ScoreCache.default()
    how = Computation(wanted.method, precision=wanted.precision)
    left: list[int] = []
    with callback.stage("base scores", len(table)) as advance:

        def progress(done: int, total: int) -> None:
            left.append(total - done)  # the first call tells how many were found
            advance(done)

        scores = score_variants(
            table,
            loaded.genome,
            base,
            wanted.distance,
            annotation=loaded.annotation,
            cache=cache,
            how=how,
            progress=progress,
        )
    computed = max(left, default=0)
    if not computed:
        callback.say(f"all {len(table):,} base scores were in the cache ({cache.folder})")
    return Scored(base.identity, scores, computed)


def shipped_scores(wanted: BaseSpec, table: pd.DataFrame, loaded: Loaded) -> tuple[BaseIdentity, BaseScores] | None:
    """The packaged scores of these variants, and the network's identity; None if some variant has no packaged scores.

    They are found by the same key as in the cache: bases of both alleles, networks and distance. Another network,
    distance or context is therefore not found, and is computed.

    Raises:
        IntegrityError: the packaged file is damaged.
    """
    if not is_packaged(wanted):
        return None
    about = packaged_network()
    identity = BaseIdentity(
        about["network"],
        about["licence"],
        about["citation"],
        tuple(about["channels"]),
        about["digest"],
        about["flank"],
        about["networks"],
    )
    keys = score_keys(table, loaded.genome, identity, wanted.distance, loaded.annotation)
    packaged = _packaged_scores()
    if not packaged.keys() >= set(keys):
        return None
    found = [packaged[key] for key in keys]
    scores = BaseScores(
        np.stack([entry.ref for entry in found]),
        np.stack([entry.alt for entry in found]),
        wanted.distance,
        identity.name,
        identity.digest,
        identity.channels,
        digits=found[0].digits,
        brought_by=BROUGHT_BY,
    )
    return identity, scores


@lru_cache(maxsize=1)
def _packaged_scores() -> dict[bytes, Entry]:
    return read_scores(resources.resolve_file("packaged-human", SCORES))


def _of_another_exactness(scores: BaseScores) -> Iterator[str]:
    """What a reader must know of scores that a bundle brought in fewer decimals, or that are not of float32."""
    if scores.digits is not None:
        yield (
            f"base scores of {scores.model} came from {scores.brought_by}, rounded to {scores.digits} decimals: a Δ "
            f"differs from the exact one by at most {10.0**-scores.digits:g}"
        )
    if scores.check:
        yield f"base scores of {scores.model}, {scores.check}"


def digest_of_test(table: pd.DataFrame, data_name: str, negatives: Sequence[str] = NEGATIVES) -> str:
    """Identity of a test: which variants, with which classes and measured effects, and which classes are negatives."""
    total = hashlib.sha256(data_name.encode())
    if tuple(negatives) != NEGATIVES:
        total.update("\t".join(negatives).encode())
    frame = table.sort_values("variant_id")
    for column in ("variant_id", "classification", "effect"):
        total.update(pd.util.hash_pandas_object(frame[column], index=False).to_numpy().tobytes())
    return total.hexdigest()
