"""A few real steps of a row's training on the device at hand, as a measurement for the planner."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from meta_spliceai.errors import InputError
from meta_spliceai.experiments.build_predictor import build_predictor
from meta_spliceai.experiments.environment import describe_environment
from meta_spliceai.experiments.gpu_prices import Market
from meta_spliceai.experiments.plan.bench_work import PROCESS_BYTES
from meta_spliceai.experiments.plan.calibrate import Point
from meta_spliceai.experiments.plan.demand import at_batch, is_mixed, kind_of, trace_row, without_weights
from meta_spliceai.experiments.plan.machines import CPU, Machine, card, processor
from meta_spliceai.experiments.plan.records import device_key, known_card
from meta_spliceai.experiments.spec import ExperimentSpec, parse_spec
from meta_spliceai.experiments.workspace import Workspace, now
from meta_spliceai.files import atomic_write
from meta_spliceai.splice_engine.meta_layer.fine_tuning import parameter_groups, set_trained
from meta_spliceai.splice_engine.meta_layer.models.predictor import Predictor
from meta_spliceai.splice_engine.meta_layer.peak_memory import peak_memory, reset_peak
from meta_spliceai.splice_engine.meta_layer.window_data import choose_device

STEPS = 3
"""Steps at each batch size; the first one warms up and is not counted."""

FOLDER = "probes"
"""In the folder of runs."""


@dataclass(frozen=True)
class Probe:
    """What a probe measured.

    Attributes:
        row: id of the row whose model was trained.
        spec: the row as plain values.
        device: as among runs (see `records.device_key`).
        cuda: whether that is a card.
        threads: PyTorch's threads.
        batch_sizes: variants in a step.
        seconds: of one step at each batch size: the faster of those after the first.
        peak_bytes: most memory held at each batch size: of the card, or of the process.
        at: when.
    """

    row: str
    spec: dict[str, Any]
    device: str
    cuda: bool
    threads: int
    batch_sizes: list[int]
    seconds: list[float]
    peak_bytes: list[int]
    at: str


def probe_row(spec: ExperimentSpec, workspace: Workspace, device: str = "auto") -> Probe:
    """Train three steps at the row's own batch size and at half of it, on random windows, and keep what it took.

    Args:
        spec: a row that trains a model.
        workspace: where the probe is kept.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: the row trains no model.
        RunError: no CUDA device; the folder cannot be written to.
    """
    if spec.ensemble is not None or spec.procedure == "fusion":
        raise InputError(f"row '{spec.id}' trains no network of its own; probe one that does")
    place = choose_device(device)
    environment = describe_environment()
    sizes = sorted({max(1, spec.training.batch_size // 2), spec.training.batch_size})
    measured = [_steps(spec, size, place) for size in sizes]
    name = CPU if place.type == "cpu" else str(environment["gpu"]["name"])
    probe = Probe(
        row=spec.id,
        spec=spec.model_dump(mode="json"),
        device=device_key(environment, name),
        cuda=place.type == "cuda",
        threads=torch.get_num_threads(),
        batch_sizes=sizes,
        seconds=[seconds for seconds, _ in measured],
        peak_bytes=[peak for _, peak in measured],
        at=now(),
    )
    address = hashlib.sha256(f"{probe.device} {spec.identity()}".encode()).hexdigest()[:12]
    with atomic_write(workspace.root / FOLDER / f"{spec.id}-{address}.json") as handle:
        json.dump(asdict(probe), handle, indent=2)
    return probe


def _steps(spec: ExperimentSpec, size: int, place: torch.device) -> tuple[float, int]:
    """Seconds of the fastest counted step, and the peak."""
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        torch.manual_seed(0)
        predictor = build_predictor(without_weights(spec)).to(place)
        set_trained(predictor, spec.training, None)
        optimizer = torch.optim.AdamW(parameter_groups(predictor, spec.training), lr=1e-6, fused=True)
        pair, labels = _batch(predictor, size, place)
        reset_peak(place)
        each = []
        for _ in range(STEPS):
            with _waited(place):
                started = time.perf_counter()
                with torch.autocast(place.type, torch.bfloat16, enabled=is_mixed(spec, place.type == "cuda")):
                    answer = predictor.compare(*pair) if predictor.encoder_frozen else predictor(*pair)
                    loss = predictor.loss(answer.float(), labels, spec.training)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(predictor.parameters(), max(spec.training.gradient_clip, 1e-9))
                optimizer.step()
            each.append(time.perf_counter() - started)
    return min(each[1:]), peak_memory(place)


@contextmanager
def _waited(place: torch.device) -> Iterator[None]:
    yield
    if place.type == "cuda":
        torch.cuda.synchronize(place)


def _batch(predictor: Predictor, size: int, place: torch.device) -> tuple[tuple[Any, Any], torch.Tensor]:
    labels = torch.zeros((size, predictor.head.labels), device=place)
    predictor.train()
    if predictor.encoder_frozen:
        encoder: Any = predictor.encoder
        shape = (size, int(encoder.positions), int(encoder.channels))
        return (torch.randn(shape, device=place).mT, torch.randn(shape, device=place).mT), labels
    bases = torch.randint(4, (2, size, predictor.window), device=place)
    onehot = F.one_hot(bases, 4).float().mT
    return (onehot[0].contiguous(), onehot[1].contiguous()), labels


def kept_probes(workspace: Workspace) -> list[Probe]:
    """Every probe in the folder of runs; what cannot be read is left out."""
    found = []
    for file in sorted((workspace.root / FOLDER).glob("*.json")):
        try:
            found.append(Probe(**json.loads(file.read_text(encoding="utf-8"))))
        except (json.JSONDecodeError, TypeError):
            continue  # damaged, or of another version of the planner: probing again replaces it
    return found


def probe_points(probes: Sequence[Probe], market: Market, cuda: bool) -> list[Point]:
    """Probes beside what the planner expects of the same steps.

    Args:
        probes: as kept.
        market: the cards.
        cuda: those on cards, or those on processors.
    """
    points = []
    for probe in probes:
        if probe.cuda != cuda:
            continue
        machine = _machine(probe, market)
        try:
            spec = parse_spec(probe.spec, f"probe of {probe.row}")
        except InputError:
            continue  # a field that has changed its meaning since
        if machine is None:
            continue
        dry = trace_row(spec, machine)
        traced = [at_batch(dry.training, size) for size in probe.batch_sizes]
        # The training loop's own time is not in a probe's steps, and not in what is expected of them.
        expected = sum(machine.seconds(one) for one in traced)
        held = machine.held_bytes if probe.cuda else PROCESS_BYTES
        memory = (float(traced[-1].peak_bytes + held), float(probe.peak_bytes[-1]))
        step = (expected, sum(probe.seconds))
        points.append(
            Point(
                f"probe of {probe.row}",
                True,
                kind_of(spec, known_card(market, probe.device) if probe.cuda else probe.device),
                memory,
                {"training": step},
                None,
            )
        )
    return points


def _machine(probe: Probe, market: Market) -> Machine | None:
    if not probe.cuda:
        return processor(probe.threads, 8 * 10**9)
    gpu = market.known(probe.device)
    return None if gpu is None else card(gpu)
