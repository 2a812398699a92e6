"""What a row demands of a machine, before anybody has run it: peak memory by phase, seconds by step."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from meta_spliceai.datasets import registry
from meta_spliceai.experiments.packaged_network import travel_with_package
from meta_spliceai.experiments.plan.bench_work import (
    AUDIT_FOLD_SECONDS,
    AUDIT_ROW_SECONDS,
    AUDIT_SECONDS,
    FEATURES,
    FEATURES_FOUND,
    FOUND,
    FOUND_BYTES_SECOND,
    LEFT_BEHIND,
    SPLIT_ROW_SECONDS,
    baselines_seconds,
    features_seconds,
    found_seconds,
    fusion_seconds,
    held_bytes,
    judging_seconds,
    passing_bytes,
)
from meta_spliceai.experiments.plan.calibrate import Kind
from meta_spliceai.experiments.plan.data_facts import Parts
from meta_spliceai.experiments.plan.dry_trace import DryRun, Traced, dry_run
from meta_spliceai.experiments.plan.kept_traces import read_trace, trace_file, write_trace
from meta_spliceai.experiments.plan.machines import STEP_SECONDS, Machine
from meta_spliceai.experiments.plan.scoring_work import scoring_work, shape_of
from meta_spliceai.experiments.spec import ExperimentSpec
from meta_spliceai.splice_engine.meta_layer.embedding_cache import SHARE_OF_DEVICE, frozen_features
from meta_spliceai.splice_engine.meta_layer.trunk_config import TRUNK_STEP
from meta_spliceai.splice_engine.meta_layer.window_data import ANSWERED_AT_ONCE, rows_at_a_time, validation_rows

READING_SECONDS = 10.0
"""Assumed time to read a data set that was never read here."""

NETWORK_BYTES = 2_900_000
"""One of SpliceAI's networks (about 700,000 numbers)."""


def _default(function: Any, parameter: str) -> int:
    return int(inspect.signature(function).parameters[parameter].default)


@dataclass(frozen=True)
class Batch:
    """Variants in a training batch, and batches whose gradients are added before a step."""

    size: int
    accumulate: int

    @classmethod
    def of(cls, spec: ExperimentSpec) -> Batch:
        """The row's own."""
        return cls(spec.training.batch_size, spec.training.accumulate)


@dataclass(frozen=True)
class ToCompute:
    """What of a row's work is not in a cache; all of it unless told otherwise.

    Attributes:
        scores: variants whose base scores have to be computed; None for all of them.
        baselines: whether the baselines that learn have to be computed.
        features: share of a frozen encoder's features, or of a base network's hidden channels, that has to be computed.
    """

    scores: int | None = None
    baselines: bool = True
    features: float = 1.0


@dataclass(frozen=True)
class Demand:
    """What one row needs on one machine.

    Attributes:
        peak_bytes: most memory held.
        phase: in which phase.
        steps: seconds by step of a run, at all epochs allowed.
        epoch_seconds: seconds of training that go with the number of epochs; the rest of "training" is done once.
        gflop: billions of floating-point operations of training, all epochs.
    """

    peak_bytes: float
    phase: str
    steps: dict[str, float]
    epoch_seconds: float
    gflop: float

    def at_share(self, share: float) -> dict[str, float]:
        """Seconds by step where training stops after this share of its epochs."""
        if "training" not in self.steps:
            return dict(self.steps)
        once = self.steps["training"] - self.epoch_seconds
        return {**self.steps, "training": once + share * self.epoch_seconds}


def family_of(spec: ExperimentSpec) -> str:
    """Kind of model whose runs are alike in speed."""
    if spec.ensemble is not None:
        return "ensemble"
    if spec.procedure == "fusion":
        return "fusion"
    return spec.encoder.name + (", fine-tuned" if spec.encoder.settings.get("freeze_encoder") is False else "")


def is_frozen(spec: ExperimentSpec) -> bool:
    """Whether a row trains on a frozen encoder's features, which are computed once and kept."""
    trains = spec.ensemble is None and spec.procedure != "fusion"
    return trains and _reads_hyenadna(spec) and spec.encoder.settings.get("freeze_encoder") is not False


def _reads_hyenadna(spec: ExperimentSpec) -> bool:
    return spec.encoder.name.startswith("hyenadna")


def kind_of(spec: ExperimentSpec, device: str) -> Kind:
    """What a row's measurements on a device are alike in."""
    fields = spec.identity()
    fields["training"].pop("seed")
    return Kind(device, family_of(spec), spec.data.name, json.dumps(fields, sort_keys=True))


def is_mixed(spec: ExperimentSpec, cuda: bool) -> bool:
    """Whether a row trains in bfloat16 mixed precision."""
    precision = spec.training.precision
    return precision == "bfloat16" or (precision == "auto" and cuda)


def without_weights(spec: ExperimentSpec) -> ExperimentSpec:
    """The row with random weights: neither speed nor memory depends on them, so no checkpoint is needed."""
    if not _reads_hyenadna(spec):
        return spec
    settings = {**spec.encoder.settings, "weights": "scratch"}
    return spec.model_copy(update={"encoder": spec.encoder.model_copy(update={"settings": settings})})


def model_key(spec: ExperimentSpec, *, mixed: bool, cuda: bool) -> tuple[Any, ...]:
    """What decides about a dry run; rows that differ only in data, split or batch size have the same."""
    encoder = without_weights(spec).encoder
    training = spec.training.model_copy(update={"batch_size": 1, "epochs": 1, "accumulate": 1, "seed": 0})
    return (
        spec.window,
        encoder.name,
        tuple(sorted((name, str(value)) for name, value in encoder.settings.items())),
        spec.head.name,
        tuple(sorted((name, str(value)) for name, value in spec.head.settings.items())),
        training.model_dump_json(),
        mixed,
        cuda,
    )


def trace_row(spec: ExperimentSpec, machine: Machine) -> DryRun:
    """The dry run of a row's model on a kind of machine; rows that share a model share it."""
    from meta_spliceai.experiments.build_predictor import build_predictor

    mixed = is_mixed(spec, machine.cuda)
    key = model_key(spec, mixed=mixed, cuda=machine.cuda)
    if key not in _TRACED:
        file = trace_file(f"{key} {TRACED_AT}")
        dry = read_trace(file)
        if dry is None:
            blank = without_weights(spec)
            dry = dry_run(lambda: build_predictor(blank), spec.training, TRACED_AT, mixed=mixed, cuda=machine.cuda)
            write_trace(file, dry)
        _TRACED[key] = dry
    return _TRACED[key]


TRACED_AT = (32, 96)
"""Batch sizes of the dry runs; between and beyond them everything is linear in the batch."""

_TRACED: dict[tuple[Any, ...], DryRun] = {}
"""Dry runs of this process."""


def at_batch(traces: dict[int, Traced], size: int) -> Traced:
    """A trace at any batch size, along the line through two.

    The two have the same operations in the same order, as the model's code does not look at the batch size.
    """
    (low, first), (high, second) = sorted(traces.items())
    x = (size - low) / (high - low)

    def line(a: Any, b: Any) -> Any:
        return np.maximum(a + x * (b - a), 0)

    peak = int(max(line(first.peak_bytes, second.peak_bytes), 0))
    return Traced(peak, line(first.flops, second.flops), line(first.moved, second.moved), first.matrix, first.half)


def demand_of(
    spec: ExperimentSpec,
    parts: Parts,
    machine: Machine,
    batch: Batch,
    work: ToCompute,
    reading: float,
) -> Demand:
    """What a row needs on a machine.

    Args:
        spec: the row; an ensemble's members are not in it.
        parts: what it trains on.
        machine: where.
        batch: how it is trained there.
        work: what is not in a cache.
        reading: seconds to read the data set; 0 if never measured.
    """
    steps = {"data": reading or READING_SECONDS}
    share = 1.0 if work.scores is None else min(1.0, work.scores / max(1, parts.rows))
    networks = getattr(spec, "networks", (spec.base,))
    scoring = [
        scoring_work(
            base, round(parts.rows * share), max(1, round(parts.neighbourhoods * share)), round(parts.spread * share)
        )
        for base in networks
        if share and not (base is spec.base and travel_with_package(spec))
    ]
    steps["base scores"] = float(sum(one.seconds(machine) for one in scoring))
    if not scoring:
        steps[FOUND] = found_seconds(spec, parts)
    if spec.trunk_network is not None and work.features:
        # The work of its Δ, heads apart.
        one = scoring_work(spec.trunk_network, parts.rows, parts.neighbourhoods, parts.spread)
        steps[TRUNK_STEP] = work.features * one.seconds(machine)
    steps["labels, split, windows"] = parts.rows * SPLIT_ROW_SECONDS
    steps["audit"] = AUDIT_SECONDS + parts.rows * (AUDIT_ROW_SECONDS + AUDIT_FOLD_SECONDS * max(1, len(parts.folds)))
    held, phases = 0.0, {"base scores": 0.0}
    if not machine.cuda:
        held = held_bytes(spec, parts, registry.get(spec.data.name).rows) + 5.0 * NETWORK_BYTES * len(networks)
        phases = passing_bytes(spec, parts)
    if steps["base scores"]:
        phases["base scores"] += _scoring_bytes(spec)
    epoch_seconds = gflop = 0.0
    if spec.procedure == "fusion":
        steps["features"] = features_seconds(spec, parts)
        steps["training"] = fusion_seconds(spec, parts)
    elif spec.ensemble is None:
        trained = _trained(spec, parts, machine, batch, work.features)
        steps |= trained.steps
        left = trained.held + (0.0 if machine.cuda else LEFT_BEHIND)
        phases |= {name: bytes_ + left for name, bytes_ in trained.phases.items()}
        epoch_seconds, gflop = trained.epoch_seconds, trained.gflop
    if spec.ensemble is None:
        steps["baselines"] = baselines_seconds(parts) if work.baselines else 0.0
    steps["judging"] = judging_seconds(spec, parts)
    phase = max(phases, key=lambda name: phases[name])
    return Demand(held + phases[phase] + machine.held_bytes, phase, steps, epoch_seconds, gflop)


@dataclass(frozen=True)
class _Training:
    steps: dict[str, float]
    epoch_seconds: float
    gflop: float
    phases: dict[str, float]
    held: float


def _trained(spec: ExperimentSpec, parts: Parts, machine: Machine, batch: Batch, embedded: float) -> _Training:
    """Training and answering: what is held by phase, and what it takes."""
    dry = trace_row(spec, machine)
    config = spec.training
    validated = validation_rows(batch.size, spec.window)
    answered = rows_at_a_time(ANSWERED_AT_ONCE, spec.window)
    step, check, answer = (
        at_batch(dry.training, batch.size),
        at_batch(dry.validation, validated),
        at_batch(dry.validation, answered),
    )
    codes = 2.0 * parts.rows * (spec.window + 2 * getattr(config, "window_shift", 0))
    phases = {
        # When the last gradient is there, so are all others, the weights and both moments, however small the batch.
        "training": max(float(step.peak_bytes), 4.0 * (dry.parameters + 3 * dry.trained)),
        "validation": float(at_batch(dry.validation, min(validated, _largest(parts, 1))).peak_bytes)
        + 8.0 * dry.trained,
        "predicting": float(at_batch(dry.validation, min(answered, parts.rows)).peak_bytes),
    }
    seconds_step = machine.seconds(step) + STEP_SECONDS
    per_epoch, flops = 0.0, 0.0
    for train, validation in parts.folds:
        batches = -(-train // batch.size)
        per_epoch += batches * seconds_step + -(-validation // validated) * machine.seconds(check)
        flops += batches * float(step.flops.sum()) + validation / validated * float(check.flops.sum())
    epoch_seconds = per_epoch * config.epochs
    training = epoch_seconds + len(parts.folds) * 1.0
    held, steps = codes, {}
    if dry.feature_bytes:
        sequences = 2 * parts.rows
        kept = float(sequences * dry.feature_bytes)
        if not dry.embedding:
            steps[FEATURES_FOUND] = kept / FOUND_BYTES_SECOND  # a base network computed them
        elif embedded:
            read = rows_at_a_time(_default(frozen_features, "batch_size"), spec.window)
            embed = at_batch(dry.embedding, read)
            steps[FEATURES] = embedded * -(-sequences // read) * machine.seconds(embed)
            phases["embedding"] = float(embed.peak_bytes)
        else:
            steps[FEATURES_FOUND] = kept / FOUND_BYTES_SECOND
        if not machine.cuda or kept < SHARE_OF_DEVICE * machine.memory_bytes:
            held += kept
    answers = len(parts.folds) * -(-parts.rows // answered) * machine.seconds(answer)
    return _Training(
        {**steps, "training": training, "predicting": answers}, epoch_seconds, flops * config.epochs / 1e9, phases, held
    )


def _largest(parts: Parts, which: int) -> int:
    return max((fold[which] for fold in parts.folds), default=1) or 1


KEPT_ACTIVATIONS, BESIDE_REFERENCE = 33, 1.6
"""Activations kept of each reference for the alternatives to take from, and what base scoring held in all beside them:
1.6 times as much in a run of 566 variants on one thread."""


def _scoring_bytes(spec: ExperimentSpec) -> float:
    """What base scoring holds: every network's reference around a neighbourhood, and alternatives."""
    most = 0.0
    for base in getattr(spec, "networks", (spec.base,)):
        architecture, networks = shape_of(base)
        positions = 2 * (base.distance + architecture.flank) + 1
        reference = KEPT_ACTIVATIONS * positions * architecture.channels * 4.0
        most = max(most, networks * reference * BESIDE_REFERENCE)
    return most


def batches_of(spec: ExperimentSpec) -> list[Batch]:
    """The row's own batch, then halves of it whose gradients add up to the same step."""
    found = [Batch.of(spec)]
    while found[-1].size > 1 and found[-1].size % 2 == 0:
        found.append(Batch(found[-1].size // 2, found[-1].accumulate * 2))
    return found
