"""Floating-point operations of incremental base scoring, counted from the networks' shape."""

from __future__ import annotations

from collections.abc import Iterator

from meta_spliceai.experiments.spec import BaseSpec
from meta_spliceai.splice_engine.base_layer.families import FAMILIES, load_base_model
from meta_spliceai.splice_engine.base_layer.network import SPLICEAI_STAGES, Architecture

ENSEMBLES = {"spliceai": 5, "cispliceai": 5, "openspliceai": 5, "pangolin": 12}
"""Networks of the families with SpliceAI's trunk, so that their weights need not be read to count work."""


def scoring_flops(base: BaseSpec, rows: int, neighbourhoods: int, spread: int) -> float:
    """Operations of scoring variants.

    Each variant costs, in every convolution, the zone that it can change and that reaches an output asked for; the
    reference of its neighbourhood is computed once for all who share it (see `base_layer.incremental`).

    Args:
        base: family, members, distance and method.
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
        return networks * rows * (alternative + reference)
    return networks * (rows * alternative + neighbourhoods * reference + spread * per_base)


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
