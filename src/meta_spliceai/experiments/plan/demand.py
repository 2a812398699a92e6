"""What a row demands of a machine, before it has ever been run: peak memory by phase, seconds by step."""

from __future__ import annotations

import inspect
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from meta_spliceai.experiments.plan import dry_trace, run_work
from meta_spliceai.experiments.plan.dry_trace import DryRun, dry_run
from meta_spliceai.experiments.plan.run_work import FEATURES, FEATURES_FOUND, FOUND, FOUND_BYTES_SECOND, Machine, Parts
from meta_spliceai.experiments.run.build import build_predictor
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.experiments.spec.rows import travel_with_package
from meta_spliceai.experiments.store.address import source_state
from meta_spliceai.files import cached_json, sha256_file
from meta_spliceai.splice_engine.meta_layer.features import (
    PREDICTED_AT_ONCE,
    SHARE_OF_DEVICE,
    frozen_features,
    rows_at_a_time,
    validation_rows,
)
from meta_spliceai.splice_engine.meta_layer.settings import TRUNK_STEP

HYENADNA = "hyenadna"
"""How the names of encoders begin whose weights are published, and which are frozen unless told otherwise."""

READING_SECONDS = 10.0  # assumed time to read a data set that was never read here
STEP_SECONDS = 1.5e-3  # assumed, of the training loop around each step


class Batch(NamedTuple):
    """Variants in a training batch, and batches whose gradients are added before a step."""

    size: int
    accumulate: int

    @classmethod
    def of(cls, spec: ExperimentSpec) -> Batch:
        return cls(spec.training.batch_size, spec.training.accumulate)


class ToCompute(NamedTuple):
    """Which parts of a row's work are not cached; all of it by default.

    Attributes:
        scores: variants whose base scores have to be computed; None for all of them.
        baselines: whether the baselines that learn have to be computed.
        features: share of a frozen encoder's features, or of a base network's hidden channels, that has to be computed.
    """

    scores: int | None = None
    baselines: bool = True
    features: float = 1.0


class Demand(NamedTuple):
    """What one row needs on one machine.

    Attributes:
        peak_bytes: most memory held, in `phase`.
        steps: seconds by step of a run, at all epochs allowed.
        epoch_seconds: seconds of training that go with the number of epochs; the rest of "training" is done once.
    """

    peak_bytes: float
    phase: str
    steps: dict[str, float]
    epoch_seconds: float

    def at_share(self, share: float) -> dict[str, float]:
        """Seconds by step where training stops after this share of its epochs."""
        if "training" not in self.steps:
            return dict(self.steps)
        once = self.steps["training"] - self.epoch_seconds
        return {**self.steps, "training": once + share * self.epoch_seconds}


def is_frozen(spec: ExperimentSpec) -> bool:
    """Whether a row trains on a frozen encoder's features, which are computed once and kept."""
    trains = spec.ensemble is None and spec.procedure != "fusion"
    frozen = spec.encoder.settings.get("freeze_encoder") is not False
    return trains and frozen and spec.encoder.name.startswith(HYENADNA)


@cache
def _source() -> str:
    """State of the code that decides about a dry run."""
    return f"{torch.__version__} {source_state()} {sha256_file(Path(dry_trace.__file__))}"


def trace_row(spec: ExperimentSpec, machine: Machine) -> DryRun:
    """The dry run of a row's model on a kind of machine; rows that differ only in data, split or batch share it."""
    if spec.encoder.name.startswith(HYENADNA):
        # Random weights: neither speed nor memory depends on them, so no checkpoint is needed.
        settings = {**spec.encoder.settings, "weights": "scratch"}
        spec = spec.model_copy(update={"encoder": spec.encoder.model_copy(update={"settings": settings})})
    training = spec.training.model_copy(update={"batch_size": 1, "epochs": 1, "accumulate": 1, "seed": 0})
    mixed = training.precision == "bfloat16" or (training.precision == "auto" and machine.cuda)
    parts = [one.model_dump(mode="json") for one in (spec.encoder, spec.head, training)]
    made_from = [spec.window, *parts, mixed, machine.cuda, _source()]
    key = json.dumps(made_from, sort_keys=True)
    if key not in _TRACED:

        def trace() -> dict[str, Any]:
            return asdict(dry_run(lambda: build_predictor(spec), spec.training, mixed=mixed, cuda=machine.cuda))

        _TRACED[key] = DryRun.from_json(cached_json("plan/trace", made_from, trace))
    return _TRACED[key]


_TRACED: dict[str, DryRun] = {}  # dry runs of this process


def demand_of(
    spec: ExperimentSpec, parts: Parts, machine: Machine, batch: Batch, work: ToCompute, reading: float = 0.0
) -> Demand:
    """What a row needs on a machine; an ensemble's members are not in it.

    Args:
        spec: the row.
        parts: what it trains on.
        machine: where.
        batch: how it is trained there.
        work: what is not in a cache.
        reading: seconds to read the data set; 0 if never measured.
    """
    steps = {"data": reading or READING_SECONDS}
    share = 1.0 if work.scores is None else min(1.0, work.scores / max(1, parts.rows))
    size = round(parts.rows * share), max(1, round(parts.neighbourhoods * share)), round(parts.spread * share)
    computed = [one for one in spec.networks if share and not (one is spec.base and travel_with_package(spec))]
    steps["base scores"] = float(sum(run_work.scoring_work(one, *size).seconds(machine) for one in computed))
    if not computed:
        steps[FOUND] = run_work.found_seconds(spec, parts)
    if spec.trunk_network is not None and work.features:
        # The work of its Δ, heads apart.
        trunk = run_work.scoring_work(spec.trunk_network, parts.rows, parts.neighbourhoods, parts.spread)
        steps[TRUNK_STEP] = work.features * trunk.seconds(machine)
    steps["labels, split, windows"] = 8e-5 * parts.rows
    steps["audit"] = run_work.audit_seconds(parts)
    held, phases = 0.0, {"base scores": 0.0}
    if not machine.cuda:
        held, phases = run_work.held_bytes(spec, parts), run_work.passing_bytes(spec, parts)
    if steps["base scores"]:
        phases["base scores"] += run_work.scoring_bytes(spec)
    epoch_seconds = 0.0
    if spec.procedure == "fusion":
        steps["features"] = run_work.features_seconds(spec, parts)
        steps["training"] = run_work.fusion_seconds(spec, parts)
    elif spec.ensemble is None:
        trained, epoch_seconds, peaks = _training(spec, parts, machine, batch, work.features)
        steps |= trained
        left = 0.0 if machine.cuda else run_work.LEFT_BEHIND
        phases |= {name: bytes_ + left for name, bytes_ in peaks.items()}
    if spec.ensemble is None:
        steps["baselines"] = run_work.baselines_seconds(parts) if work.baselines else 0.0
    steps["evaluation"] = run_work.evaluating_seconds(spec, parts)
    phase = max(phases, key=lambda name: phases[name])
    return Demand(held + phases[phase] + machine.held_bytes, phase, steps, epoch_seconds)


def _training(
    spec: ExperimentSpec, parts: Parts, machine: Machine, batch: Batch, embedded: float
) -> tuple[dict[str, float], float, dict[str, float]]:
    """Training and predicting: seconds by step, those of them that go with the epochs, and bytes held by phase."""
    dry = trace_row(spec, machine)
    validated = validation_rows(batch.size, spec.window)
    answered = rows_at_a_time(PREDICTED_AT_ONCE, spec.window)
    step, check, answer = dry.training.at(batch.size), dry.validation.at(validated), dry.validation.at(answered)
    most_validated = max((validation for _, validation in parts.folds), default=1) or 1
    phases = {
        # When the last gradient is there, so are all others, the weights and both moments, however small the batch.
        "training": max(float(step.peak_bytes), 4.0 * (dry.parameters + 3 * dry.trained)),
        "validation": float(dry.validation.at(min(validated, most_validated)).peak_bytes) + 8.0 * dry.trained,
        "predicting": float(dry.validation.at(min(answered, parts.rows)).peak_bytes),
    }
    seconds_step, seconds_check = machine.seconds(step) + STEP_SECONDS, machine.seconds(check)
    per_epoch = sum(
        -(-train // batch.size) * seconds_step + -(-validation // validated) * seconds_check
        for train, validation in parts.folds
    )
    epoch_seconds = per_epoch * spec.training.epochs
    steps = {
        "training": epoch_seconds + len(parts.folds) * 1.0,
        "predicting": len(parts.folds) * -(-parts.rows // answered) * machine.seconds(answer),
    }
    held = 2.0 * parts.rows * spec.training.reach(spec.window)
    if dry.feature_bytes:
        kept = 2.0 * parts.rows * dry.feature_bytes
        if dry.embedding and embedded:
            at_once = int(inspect.signature(frozen_features).parameters["batch_size"].default)
            read = rows_at_a_time(at_once, spec.window)
            embed = dry.embedding.at(read)
            steps[FEATURES] = embedded * -(-2 * parts.rows // read) * machine.seconds(embed)
            phases["embedding"] = float(embed.peak_bytes)
        else:  # found, or a base network computed them
            steps[FEATURES_FOUND] = kept / FOUND_BYTES_SECOND
        if not machine.cuda or kept < SHARE_OF_DEVICE * machine.memory_bytes:
            held += kept
    return steps, epoch_seconds, {name: bytes_ + held for name, bytes_ in phases.items()}


def batches_of(spec: ExperimentSpec) -> list[Batch]:
    """The row's own batch, then halves of it whose gradients add up to the same step."""
    found = [Batch.of(spec)]
    while found[-1].size > 1 and found[-1].size % 2 == 0:
        found.append(Batch(found[-1].size // 2, found[-1].accumulate * 2))
    return found


class CacheKeys(NamedTuple):
    """What a row leaves in the caches, as keys: rows with the same key reuse it. Empty for nothing.

    Attributes:
        scores: base scores.
        baselines: baselines that learn; other code does not find them.
        features: a frozen encoder's features.
    """

    scores: str
    baselines: str
    features: str


def cache_keys(spec: ExperimentSpec, rows: int) -> CacheKeys:
    """Under what a row's intermediate results are found again, its number of variants given: rows that ask for more
    than there are draw the same ones."""
    data = f"{rows} {spec.data.model_copy(update={'rows': None}).model_dump_json()}"
    scores = f"scores of {data} {' '.join(base.model_dump_json() for base in spec.networks)}"
    zero = f"baselines of {data} {spec.split.model_dump_json()} {spec.negatives} {spec.window} {spec.seed}"
    features = ""
    if spec.trunk is not None:
        features = f"trunk of {data} {spec.trunk.model_dump_json()} {'' if spec.data.rows is None else spec.seed}"
    elif is_frozen(spec):
        # The seed draws the variants, where not all are taken, and random weights.
        drawn = spec.data.rows is not None or spec.encoder.settings.get("weights") == "scratch"
        seed = spec.seed if drawn else ""
        features = f"features of {data} {spec.window} {spec.encoder.model_dump_json()} {seed}"
    return CacheKeys(scores, zero, features)
