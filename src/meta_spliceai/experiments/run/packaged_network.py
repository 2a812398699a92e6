"""Whose scores travel with the package: a base network by name, distance and identity, without its weights."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from meta_spliceai import resources
from meta_spliceai.experiments.spec.experiment import BaseSpec, ExperimentSpec
from meta_spliceai.resources.registry import DESCRIPTION


@lru_cache(maxsize=1)
def packaged_network() -> dict[str, Any]:
    """What the packaged scores are of: network, networks (their number), digest, flank, channels, distance, digits,
    licence, citation."""
    content = json.loads(resources.resolve_file("packaged-human", DESCRIPTION).read_text(encoding="utf-8"))
    return dict(content["scores"])


def is_packaged(wanted: BaseSpec) -> bool:
    """Whether scores of this network, all its members, at this distance travel with the package."""
    about = packaged_network()
    every = wanted.members is None or wanted.members == tuple(range(about["networks"]))
    return every and (wanted.name, wanted.distance, wanted.precision) == (about["network"], about["distance"], "fp32")


def travel_with_package(spec: ExperimentSpec) -> bool:
    """Whether a row needs no base network of its own, because all its base scores travel with the package."""
    return spec.data.name == "packaged-human" and is_packaged(spec.base)
