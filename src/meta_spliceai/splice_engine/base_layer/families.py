"""The base models by name, and where their weights come from."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from meta_spliceai import resources
from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.resources import packaged_file, resolve_file, verified
from meta_spliceai.splice_engine.base_layer.cispliceai import MEMBERS as CISPLICEAI_MEMBERS
from meta_spliceai.splice_engine.base_layer.cispliceai import load_cispliceai
from meta_spliceai.splice_engine.base_layer.keras_weights import load_keras_weights
from meta_spliceai.splice_engine.base_layer.model import BaseModel
from meta_spliceai.splice_engine.base_layer.network import SPLICEAI_STAGES, Architecture, SpliceAINetwork
from meta_spliceai.splice_engine.base_layer.openspliceai import load_openspliceai
from meta_spliceai.splice_engine.base_layer.pangolin import REPLICATES, TISSUE_INDEX, TISSUES, load_pangolin

Loader = Callable[[Sequence[int] | None, Path | None], BaseModel]
"""Members wanted (None: all), and the path of the user's own weights (None: the published ones) -> model on the CPU."""

SPLICEAI_FILES = {
    "spliceai/models/spliceai1.h5": "e1fd5adcef7489d604b10e79c40078ef790d51ef048c4ce3869c9119ac5de42b",
    "spliceai/models/spliceai2.h5": "6ab042b82ab966b6d3582cb31b96f0859ea08a864f168d69e83aa14450a3b66e",
    "spliceai/models/spliceai3.h5": "e2e790bde53dfdf410c6dc434a86122a7d12f3f38dc2ef45d85986e9ecf22fad",
    "spliceai/models/spliceai4.h5": "ca88ac9e58e69ba6fdeed319b72f063f164c9abf7392eaccef903e94c1d99dd6",
    "spliceai/models/spliceai5.h5": "791cd22c62a80a08d2ca674615a93ce8159d7b55bd157cfef2983b1bd6b41391",
}
"""SHA-256 of the five networks as PyPI package `spliceai` 1.3.1 carries them."""

CISPLICEAI_FILES = {
    "cispliceai/data/CI-SpliceAI.pb": "34330c2fd844f73cbf2f8acef85f519cabc4350016e6f19ac2b935aa53b43d06",
}
"""SHA-256 of the frozen graph of five networks as PyPI package `cispliceai` 1.2.2 carries it."""


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


def files_at(path: Path, pattern: str, family: str) -> list[Path]:
    """The weight files a user points to: the file itself, or those in a folder whose name matches, sorted by name.

    Raises:
        InputError: nothing there that can be of this family.
    """
    if path.is_file():
        return [path]
    found = sorted(file for file in path.glob("*") if re.fullmatch(pattern, file.name)) if path.is_dir() else []
    if not found:
        raise InputError(
            f"no weights of {family} at {path}: give a file, or a folder with files named like /{pattern}/"
        )
    return found


def _spliceai(members: Sequence[int] | None, path: Path | None) -> BaseModel:
    if path is None:
        packaged = list(SPLICEAI_FILES.items())
        chosen = [packaged[member] for member in chosen_members("spliceai", len(packaged), members)]
        files = [verified(packaged_file("spliceai", name), sha256, name) for name, sha256 in chosen]
    else:
        there = files_at(path, r"spliceai.*\.h5", "spliceai")
        files = [there[member] for member in chosen_members("spliceai", len(there), members)]
    networks = []
    for file in files:
        network = SpliceAINetwork(Architecture(SPLICEAI_STAGES, norm_eps=1e-3))
        load_keras_weights(network, file)
        networks.append(network)
    return BaseModel(
        "spliceai",
        tuple(networks),
        licence="CC BY-NC 4.0 (non-commercial use)",
        citation="Jaganathan et al. 2019, 10.1016/j.cell.2018.12.015",
    )


def _cispliceai(members: Sequence[int] | None, path: Path | None) -> BaseModel:
    chosen = chosen_members("cispliceai", CISPLICEAI_MEMBERS, members)
    if path is None:
        (packaged, sha256), *_ = CISPLICEAI_FILES.items()
        path = verified(packaged_file("cispliceai", packaged, extra="cispliceai"), sha256, packaged)
    else:
        (path,) = files_at(path, r"CI-SpliceAI\.pb", "cispliceai")
    networks = load_cispliceai(path)
    return BaseModel(
        "cispliceai",
        tuple(networks[member] for member in chosen),
        licence="CC BY 4.0 (commercial use allowed, with attribution)",
        citation="Strauch et al. 2022, 10.1371/journal.pone.0269159",
    )


def _openspliceai(members: Sequence[int] | None, path: Path | None) -> BaseModel:
    resource = resources.get("openspliceai-mane-10000nt")
    if path is None:
        chosen = chosen_members("openspliceai", len(resource.files), members)
        files = [resolve_file(resource.name, resource.files[member].path) for member in chosen]
    else:
        there = files_at(path, r".*\.pt", "openspliceai")
        files = [there[member] for member in chosen_members("openspliceai", len(there), members)]
    networks = tuple(load_openspliceai(file) for file in files)
    contexts = sorted({2 * network.flank for network in networks})
    if len(contexts) != 1:
        raise InputError(f"{path}: networks for different contexts ({contexts} nt); give a folder with one kind")
    return BaseModel("openspliceai", networks, licence="GPL-3.0", citation=resource.citation)


def _pangolin(members: Sequence[int] | None, path: Path | None) -> BaseModel:
    of_name = {f"final.{r}.{TISSUE_INDEX[t]}.3.v2": t for t in TISSUES for r in REPLICATES}
    if path is None:
        names = list(of_name)
        chosen = [names[member] for member in chosen_members("pangolin", len(names), members)]
        files = [resolve_file("pangolin", f"pangolin/{name}") for name in chosen]
    else:
        there = files_at(path, r"final\.[123]\.[0246]\.3\.v2", "pangolin")
        strange = [file.name for file in there if file.name not in of_name]
        if strange:
            raise InputError(f"{strange[0]} does not say which tissue it is of; names are {', '.join(of_name)}")
        there.sort(key=lambda file: list(of_name).index(file.name))
        files = [there[member] for member in chosen_members("pangolin", len(there), members)]
    tissues = [of_name[file.name] for file in files]
    channels = tuple(tissue for tissue in TISSUES if tissue in tissues)
    return BaseModel(
        "pangolin",
        tuple(load_pangolin(file, tissue) for file, tissue in zip(files, tissues, strict=True)),
        licence="GPL-3.0",
        citation=resources.get("pangolin").citation,
        channels=channels,
        slots=tuple(channels.index(tissue) for tissue in tissues),
    )


FAMILIES: dict[str, Loader] = {
    "spliceai": _spliceai,
    "cispliceai": _cispliceai,
    "openspliceai": _openspliceai,
    "pangolin": _pangolin,
}
"""Name of a base model: what loads it."""


def load_base_model(name: str, device: str | torch.device = "cpu", members: Sequence[int] | None = None) -> BaseModel:
    """A base model by name, ready to score.

    Args:
        name: one of FAMILIES (the published weights, checked by their checksums), or "family:path" for weights of the
            user's own: a file, or a folder of files named as the family's published ones (checked by their shapes).
        device: where its networks are put.
        members: 0-based members of the ensemble; all by default.

    Raises:
        InputError: unknown name or member.
        MissingExtraError, MissingResourceError: the weights are not there.
        IntegrityError: a weight file is not what it should be.
    """
    family, colon, path = name.partition(":")
    if family not in FAMILIES or (colon and not path):
        raise unknown_value("base model", name, [*FAMILIES, *(f"{family}:PATH" for family in FAMILIES)])
    model = FAMILIES[family](members, Path(path) if path else None)
    for network in model.networks:
        network.to(device)
    return model
