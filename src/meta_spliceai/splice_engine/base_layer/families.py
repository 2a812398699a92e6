"""The base models by name, and where their weights come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.resources import packaged_file, verified
from meta_spliceai.splice_engine.base_layer.keras_weights import load_keras_weights
from meta_spliceai.splice_engine.base_layer.model import BaseModel
from meta_spliceai.splice_engine.base_layer.network import SPLICEAI_STAGES, Architecture, SpliceAINetwork

Loader = Callable[[Sequence[int] | None], BaseModel]

SPLICEAI_FILES = {
    "spliceai/models/spliceai1.h5": "e1fd5adcef7489d604b10e79c40078ef790d51ef048c4ce3869c9119ac5de42b",
    "spliceai/models/spliceai2.h5": "6ab042b82ab966b6d3582cb31b96f0859ea08a864f168d69e83aa14450a3b66e",
    "spliceai/models/spliceai3.h5": "e2e790bde53dfdf410c6dc434a86122a7d12f3f38dc2ef45d85986e9ecf22fad",
    "spliceai/models/spliceai4.h5": "ca88ac9e58e69ba6fdeed319b72f063f164c9abf7392eaccef903e94c1d99dd6",
    "spliceai/models/spliceai5.h5": "791cd22c62a80a08d2ca674615a93ce8159d7b55bd157cfef2983b1bd6b41391",
}
"""SHA-256 of the five networks as PyPI package `spliceai` 1.3.1 carries them."""


def chosen_members(name: str, available: int, members: Sequence[int] | None) -> list[int]:
    """The 0-based members to load; all of them for None.

    Raises:
        InputError: none asked for, or one that is not there.
    """
    if members is None:
        return list(range(available))
    wrong = [member for member in members if not 0 <= member < available]
    if wrong or not members:
        raise InputError(f"base model {name} has members 0 to {available - 1}; asked for {list(members)}")
    return list(members)


def _spliceai(members: Sequence[int] | None) -> BaseModel:
    files = list(SPLICEAI_FILES.items())
    networks = []
    for member in chosen_members("spliceai", len(files), members):
        path, sha256 = files[member]
        network = SpliceAINetwork(Architecture(SPLICEAI_STAGES, norm_eps=1e-3))
        load_keras_weights(network, verified(packaged_file("spliceai", path), sha256, path))
        networks.append(network)
    return BaseModel(
        "spliceai",
        tuple(networks),
        licence="CC BY-NC 4.0 (non-commercial use)",
        citation="Jaganathan et al. 2019, 10.1016/j.cell.2018.12.015",
    )


FAMILIES: dict[str, Loader] = {"spliceai": _spliceai}
"""Name of a base model: what loads it (on the CPU), given the members wanted or None."""


def load_base_model(name: str, device: str | torch.device = "cpu", members: Sequence[int] | None = None) -> BaseModel:
    """A base model by name, ready to score.

    Args:
        name: one of FAMILIES.
        device: where its networks are put.
        members: 0-based members of the ensemble; all by default.

    Raises:
        InputError: unknown name or member.
        MissingExtraError, MissingResourceError: the weights are not there.
        IntegrityError: a weight file is not what it should be.
    """
    if name not in FAMILIES:
        raise unknown_value("base model", name, FAMILIES)
    model = FAMILIES[name](members)
    for network in model.networks:
        network.to(device)
    return model
