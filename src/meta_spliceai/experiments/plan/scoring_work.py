"""Floating-point operations of incremental base scoring, counted from the networks' shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from meta_spliceai.experiments.plan.machines import Machine
from meta_spliceai.experiments.spec import BaseSpec
from meta_spliceai.splice_engine.base_layer.families import FAMILIES, load_base_model
from meta_spliceai.splice_engine.base_layer.network import SPLICEAI_STAGES, Architecture
from meta_spliceai.splice_engine.base_layer.scoring import CHECKED
from meta_spliceai.splice_engine.base_layer.split_products import products_in

ENSEMBLES = {"spliceai": 5, "cispliceai": 5, "openspliceai": 5, "pangolin": 12}
"""Networks of the families with SpliceAI's trunk, so that their weights need not be read to count work."""


class ScoringWork(NamedTuple):
    """Floating-point operations of base scoring: of float32 numbers, and of those in parts of bfloat16."""

    whole: float
    half: float

    def seconds(self, machine: Machine) -> float:
        """What they take."""
        return self.whole / machine.scoring + self.half / machine.scoring_half

    def __add__(self, other: tuple[float, ...]) -> ScoringWork:  # type: ignore[override]
        return ScoringWork(self.whole + other[0], self.half + other[1])


def scoring_work(base: BaseSpec, rows: int, neighbourhoods: int, spread: int) -> ScoringWork:
    """Operations of scoring variants.

    Each variant costs, in every convolution, the zone that it can change and that reaches an output asked for; the
    reference of its neighbourhood is computed once for all who share it (see `base_layer.incremental`). In bfloat16
    three products take the place of each of an alternative's, references stay in float32, and a sample is scored both
    ways first.

    Args:
        base: family, members, distance, method and precision.
        rows: variants.
        neighbourhoods: groups that share a reference.
        spread: bases between the first and last variant of each group, summed.
    """
    architecture, networks = shape_of(base)
    outputs = 2 * base.distance + 1
    alternative = reference = per_base = 0.0
    for taps, depth, reach in _convolutions(architecture):
        zone = 2 * min(depth, base.distance + reach) + 1
        whole = outputs + 2 * reach
        alternative += taps * (zone if base.method == "incremental" else whole)
        reference += taps * whole
        per_base += taps
    if base.method == "full":
        return ScoringWork(networks * rows * (alternative + reference), 0.0)
    references = neighbourhoods * reference + spread * per_base
    if base.precision == "fp32":
        return ScoringWork(networks * (rows * alternative + references), 0.0)
    checked = min(CHECKED, rows)
    checking = checked * alternative + 2 * min(checked, neighbourhoods) * reference
    half = products_in(base.precision) * (rows + checked) * alternative
    return ScoringWork(networks * (references + checking), networks * half)


def shape_of(base: BaseSpec) -> tuple[Architecture, int]:
    """A family's architecture and the number of its networks that score."""
    family = base.name.partition(":")[0]
    if family in ENSEMBLES and ":" not in base.name:
        return Architecture(SPLICEAI_STAGES), len(base.members) if base.members else ENSEMBLES[family]
    if family not in FAMILIES:
        return Architecture(SPLICEAI_STAGES), 1  # an unknown family is reported as a missing part of the row
    model = load_base_model(base.name, members=base.members)
    return model.networks[0].architecture, len(model.networks)


def _convolutions(architecture: Architecture) -> Iterator[tuple[float, int, int]]:
    """For each convolution: operations a position, bases seen so far to either side, bases still to be seen."""
    depth = 0
    for stage in architecture.stages:
        for _ in range(2 * stage.blocks):
            depth += stage.radius
            yield 2.0 * stage.kernel * architecture.channels**2, depth, architecture.flank - depth
