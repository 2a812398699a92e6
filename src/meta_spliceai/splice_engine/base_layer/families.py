"""The base models by name: where their weights come from, and how third-party files are converted to our networks.

All published code makes the layers of a network in one order, that of `module_names`; files differ in what they call
them. SpliceAI's are Keras files, CI-SpliceAI's a frozen TensorFlow graph, OpenSpliceAI's and Pangolin's PyTorch state
dicts. Every reader gives the tensors under our names, and `load_state` compares names, shapes and values.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from meta_spliceai import resources
from meta_spliceai.errors import InputError, IntegrityError, unknown_value
from meta_spliceai.read_hostile import one_error
from meta_spliceai.resources import packaged_file, resolve_file, verified
from meta_spliceai.splice_engine.base_layer.network import SPLICEAI_STAGES, Architecture, BaseModel, SpliceAINetwork
from meta_spliceai.splice_engine.base_layer.tensorflow_graph import read_constants

T = TypeVar("T")
Module = TypeVar("Module", bound=nn.Module)

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

CISPLICEAI_FILE = "cispliceai/data/CI-SpliceAI.pb"
CISPLICEAI_SHA256 = "34330c2fd844f73cbf2f8acef85f519cabc4350016e6f19ac2b935aa53b43d06"
"""Of the frozen graph of five networks as PyPI package `cispliceai` 1.2.2 carries it."""
CISPLICEAI_MEMBERS = 5

KERAS = Architecture(SPLICEAI_STAGES, norm_eps=1e-3)

OPENSPLICEAI = {
    context: Architecture(SPLICEAI_STAGES[:stages], slope=0.1)
    for context, stages in ((80, 1), (400, 2), (2000, 3), (10000, 4))
}
"""Context in nucleotides (both sides together): architecture, with LeakyReLU."""

TISSUES = ("heart", "liver", "brain", "testis")
"""Channels of Pangolin's scores."""

TISSUE_INDEX = {"heart": 0, "liver": 2, "brain": 4, "testis": 6}
"""Number in the published file names; the head of tissue `i` is `conv_last<i + 1>`."""

PANGOLIN = Architecture(SPLICEAI_STAGES, outputs=1)

_COUNTER = "num_batches_tracked"
"""A normalisation's training counter: of no meaning when scoring, and not in every file."""

_MOST_VALUES = 1 << 24
"""Of one Keras layer's weights; the largest of a published network has 42,000."""


def module_names(architecture: Architecture) -> list[str]:
    """Names of all layers with weights of a `SpliceAINetwork`, in the order in which published code makes them."""
    names = ["first", "first_skip"]
    for number, stage in enumerate(architecture.stages):
        for block in range(stage.blocks):
            names += [f"stages.{number}.{block}.{part}" for part in ("norm1", "conv1", "norm2", "conv2")]
        names.append(f"skips.{number}")
    return [*names, "head.conv"]


def load_state(network: Module, state: Mapping[str, Tensor], where: str) -> Module:
    """The network, filled in place with exactly the tensors it has.

    Raises:
        IntegrityError: a tensor is missing, superfluous, of another shape, not of floating point, or not finite.
    """
    for name, value in state.items():
        if not name.endswith(_COUNTER) and not (value.is_floating_point() and torch.isfinite(value).all()):
            raise IntegrityError(
                f"{where}: {name} holds values that are not finite floating point numbers; get it anew"
            )
    counters = {name: value for name, value in network.state_dict().items() if name.endswith(_COUNTER)}
    try:
        network.load_state_dict({**counters, **state})
    except RuntimeError as error:
        raise IntegrityError(f"{where} is of another architecture: {error}") from error
    return network


# SpliceAI: Keras files.

_KERAS_PARTS = {
    "conv1d": {"kernel": "weight", "bias": "bias"},
    "batch_normalization": {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    },
}


def load_keras_weights(path: Path, architecture: Architecture = KERAS) -> SpliceAINetwork:
    """The network of a Keras file (.h5); layers of a kind are numbered as they are made.

    Raises:
        IntegrityError: no readable HDF5 file, another number of layers, or what `load_state` refuses.
    """
    layers = _keras_layers(path)
    state: dict[str, Tensor] = {}
    for kind, parts in _KERAS_PARTS.items():
        modules = [name for name in module_names(architecture) if ("norm" in name) == (kind != "conv1d")]
        found = [name for name in layers if re.fullmatch(rf"{kind}_\d+", name)]
        if len(found) != len(modules):
            raise IntegrityError(f"{path}: {len(found)} {kind} layers, expected {len(modules)}")
        found.sort(key=lambda name: int(name.rsplit("_", 1)[-1]))
        for layer, module in zip(found, modules, strict=True):
            for theirs, values in layers[layer].items():
                state[f"{module}.{parts.get(theirs, theirs)}"] = _turned(values)
    return load_state(SpliceAINetwork(architecture), state, str(path))


def _turned(values: Float32[np.ndarray, "*shape"]) -> Tensor:
    """Kernels are (position, in, out) in TensorFlow, (out, in, position) in PyTorch; vectors stay."""
    return torch.from_numpy(np.array(values.transpose(2, 1, 0) if values.ndim == 3 else values))


def _keras_layers(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Layer name -> weight name ("kernel", "beta" …) -> values."""
    layers: dict[str, dict[str, np.ndarray]] = {}

    def collect(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            if item.size > _MOST_VALUES:
                raise ValueError(f"{name} claims {item.size:,} values")
            weight = name.rsplit("/", 1)[-1].split(":")[0]
            layers.setdefault(name.split("/")[0], {})[weight] = np.asarray(item[...], dtype=np.float32)

    with one_error(path, "fetch it again"), h5py.File(path, "r") as file:
        file["model_weights"].visititems(collect)
    return layers


# CI-SpliceAI: a frozen TensorFlow graph that calls one Keras model five times with five sets of weights.


def load_cispliceai(path: Path) -> tuple[SpliceAINetwork, ...]:
    """The five networks of a frozen CI-SpliceAI graph, in the order of their calls."""
    constants = read_constants(path)
    networks = []
    for member in range(CISPLICEAI_MEMBERS):
        try:
            state = {name: _turned(constants[theirs]) for name, theirs in _cispliceai_names(member).items()}
        except KeyError as error:
            raise IntegrityError(f"{path} lacks the constant {error}; it is not CI-SpliceAI's graph") from error
        networks.append(load_state(SpliceAINetwork(KERAS), state, f"{path}: network {member}"))
    return tuple(networks)


def _cispliceai_names(member: int) -> dict[str, str]:
    """Our name of each weight of one call of the model: that of its constant, which carries the suffix `_k` (none for
    the first call) behind the name of the operation it feeds."""
    call = f"_{member}" if member else ""
    names: dict[str, str] = {}
    convolutions = norms = 0
    for module in module_names(KERAS):
        if "norm" in module:
            norms += 1
            layer = f"model_1/batch_normalization_{norms}/batchnorm{call}"
            names[f"{module}.weight"] = f"{layer}/mul/ReadVariableOp/resource"
            names[f"{module}.bias"] = f"{layer}/ReadVariableOp_2/resource"
            names[f"{module}.running_mean"] = f"{layer}/ReadVariableOp_1/resource"
            names[f"{module}.running_var"] = f"{layer}/ReadVariableOp/resource"
        else:
            convolutions += 1
            layer = f"model_1/conv1d_{convolutions}"
            names[f"{module}.weight"] = f"{layer}/conv1d{call}/ExpandDims_1/ReadVariableOp/resource"
            names[f"{module}.bias"] = f"{layer}/BiasAdd{call}/ReadVariableOp/resource"
    return names


# OpenSpliceAI and Pangolin: PyTorch state dicts.


def load_openspliceai(path: Path) -> SpliceAINetwork:
    """One network of OpenSpliceAI; how much context it sees is read off its layers. Their `residual_units` count blocks
    and skip connections in one row: four blocks, a skip, four blocks, a skip …
    """
    state = _read_torch_state(path)
    units = {name.split(".")[1] for name in state if name.startswith("residual_units.")}
    per_stage = SPLICEAI_STAGES[0].blocks + 1
    by_units = {per_stage * len(architecture.stages): architecture for architecture in OPENSPLICEAI.values()}
    architecture = by_units.get(len(units))
    if architecture is None:
        raise IntegrityError(
            f"{path} has {len(units)} residual units, which is none of OpenSpliceAI's architectures {list(by_units)}"
        )

    def theirs(module: str) -> str:
        match module.split("."):
            case ["stages", stage, block, part]:
                unit = int(stage) * per_stage + int(block)
                return f"residual_units.{unit}.{part.replace('norm', 'batchnorm')}"
            case ["skips", stage]:
                return f"residual_units.{int(stage) * per_stage + per_stage - 1}.conv"
        return {"first": "initial_conv", "first_skip": "initial_skip.conv", "head.conv": "final_conv"}[module]

    return load_state(SpliceAINetwork(architecture), _renamed(state, architecture, theirs, path), str(path))


class SiteHead(nn.Module):
    """Probability that a position is a splice site: the second of two softmax outputs."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, 2, 1)

    def forward(self, x: Float[Tensor, "batch channels length"]) -> Float[Tensor, "batch 1 length"]:
        return torch.softmax(self.conv(x), dim=1)[:, 1:]


def load_pangolin(path: Path, tissue: str) -> SpliceAINetwork:
    """One network of Pangolin with the head of the tissue it was trained on last.

    A published file carries eight heads: for four tissues the probability that a position is a splice site, and its
    usage. Its last training was on one tissue, whose index stands in the file's name
    (`final.<replicate>.<index>.3.v2`), and only that tissue's probability is used (channels 1, 4, 7 and 10 of the
    published code's twelve).
    """
    state = _read_torch_state(path)

    def theirs(module: str) -> str:
        match module.split("."):
            case ["stages", stage, block, part]:
                number = int(stage) * PANGOLIN.stages[0].blocks + int(block)
                return f"resblocks.{number}.{part.replace('norm', 'bn')}"
            case ["skips", stage]:
                return f"convs.{stage}"
        return {"first": "conv1", "first_skip": "skip", "head.conv": f"conv_last{TISSUE_INDEX[tissue] + 1}"}[module]

    network = SpliceAINetwork(PANGOLIN, head=SiteHead(PANGOLIN.channels))
    return load_state(network, _renamed(state, PANGOLIN, theirs, path), str(path))


def gain_and_loss(
    delta: Float32[np.ndarray, "variants positions tissues"],
) -> tuple[Float32[np.ndarray, "variants positions"], Float32[np.ndarray, "variants positions"]]:
    """Pangolin's result: largest and smallest Δ over the tissues, each of which is its replicates' mean, at each
    position (Zeng and Li 2022, 10.1186/s13059-022-02664-4); loss is negative where a site weakens."""
    return delta.max(axis=2), delta.min(axis=2)


UNREADABLE = (RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, pickle.UnpicklingError)
"""What PyTorch's reader raises for files that are cut off, altered, or no PyTorch files."""


def read_torch(path: Path, what: str, remedy: str) -> dict[Any, Any]:
    """What `torch.save` wrote by name, on the CPU: tensors and plain values; nothing else is unpickled. IntegrityError:
    the file is truncated or altered, holds something else, or wants code to be run."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:  # whose own words are left out: they advise to read the file unsafely
        why = error.strerror if isinstance(error, OSError) and error.strerror else "damaged"
        raise IntegrityError(f"{what} {path} cannot be read ({why}); {remedy}") from error
    if not isinstance(content, dict):
        raise IntegrityError(f"{what} {path} cannot be read (it holds nothing by name); {remedy}")
    return content


def _read_torch_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch state dict; IntegrityError where it holds anything else."""
    state = read_torch(path, "PyTorch weights", "fetch it again")
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()):
        raise IntegrityError(f"{path} holds no state dict (tensors by name), so it is not a file of weights")
    return state


def _renamed(
    state: Mapping[str, Tensor], architecture: Architecture, theirs: Callable[[str], str], path: Path
) -> dict[str, Tensor]:
    """A state dict under our names; `theirs` gives their module's name for ours, both without ".weight"."""
    ours: dict[str, Tensor] = {}
    for module in module_names(architecture):
        name = theirs(module)
        found = {key.rpartition(".")[2]: value for key, value in state.items() if key.rpartition(".")[0] == name}
        if not found:
            raise IntegrityError(f"{path} lacks the layer {name}; it is of another architecture")
        ours |= {f"{module}.{part}": value for part, value in found.items()}
    return ours


# The families by name.


def _chosen(family: str, available: Collection[T], members: Sequence[int] | None) -> list[T]:
    """The wanted members (0-based), all of them for None; InputError for none, or one that is not there."""
    there = list(available)
    wanted = range(len(there)) if members is None else members
    if not wanted or not all(0 <= member < len(there) for member in wanted):
        raise InputError(f"base model {family} has members 0 to {len(there) - 1}; asked for {list(wanted)}")
    return [there[member] for member in wanted]


def _files_at(path: Path, pattern: str, family: str) -> list[Path]:
    """The weight files a user points to: the file itself, or those in a folder whose name matches, sorted by name."""
    if path.is_file():
        return [path]
    found = sorted(file for file in path.glob("*") if re.fullmatch(pattern, file.name))
    if not found:
        raise InputError(
            f"no weights of {family} at {path}: give a file, or a folder with files named like /{pattern}/"
        )
    return found


def _spliceai(members: Sequence[int] | None, path: Path | None) -> BaseModel:
    if path is None:
        names = _chosen("spliceai", SPLICEAI_FILES, members)
        files = [verified(packaged_file("spliceai", name), SPLICEAI_FILES[name], name) for name in names]
    else:
        files = _chosen("spliceai", _files_at(path, r"spliceai.*\.h5", "spliceai"), members)
    licence = "CC BY-NC 4.0 (non-commercial use)"
    citation = "Jaganathan et al. 2019, 10.1016/j.cell.2018.12.015"
    return BaseModel("spliceai", tuple(map(load_keras_weights, files)), licence, citation)


def _cispliceai(members: Sequence[int] | None, path: Path | None) -> BaseModel:
    if path is None:
        carried = packaged_file("cispliceai", CISPLICEAI_FILE, extra="cispliceai")
        path = verified(carried, CISPLICEAI_SHA256, CISPLICEAI_FILE)
    else:
        (path,) = _files_at(path, r"CI-SpliceAI\.pb", "cispliceai")
    networks = _chosen("cispliceai", load_cispliceai(path), members)
    licence = "CC BY 4.0 (commercial use allowed, with attribution)"
    return BaseModel("cispliceai", tuple(networks), licence, "Strauch et al. 2022, 10.1371/journal.pone.0269159")


def _openspliceai(members: Sequence[int] | None, path: Path | None) -> BaseModel:
    resource = resources.get("openspliceai-mane-10000nt")
    if path is None:
        files = [resolve_file(resource.name, one.path) for one in _chosen("openspliceai", resource.files, members)]
    else:
        files = _chosen("openspliceai", _files_at(path, r".*\.pt", "openspliceai"), members)
    networks = tuple(map(load_openspliceai, files))
    contexts = sorted({2 * network.flank for network in networks})
    if len(contexts) != 1:
        raise InputError(f"{path}: networks for different contexts ({contexts} nt); give a folder with one kind")
    return BaseModel("openspliceai", networks, "GPL-3.0", resource.citation)


def _pangolin(members: Sequence[int] | None, path: Path | None) -> BaseModel:
    """Tissues as slots: Pangolin does not tell acceptors from donors, and its channels are the tissues."""
    of_name = {f"final.{r}.{TISSUE_INDEX[t]}.3.v2": t for t in TISSUES for r in (1, 2, 3)}
    names = list(of_name)
    if path is None:
        files = [resolve_file("pangolin", f"pangolin/{name}") for name in _chosen("pangolin", names, members)]
    else:
        there = _files_at(path, r"final\.[123]\.[0246]\.3\.v2", "pangolin")
        if there[0].name not in of_name:  # a file that the user named
            raise InputError(f"{path.name} does not say which tissue it is of; names are {', '.join(names)}")
        files = _chosen("pangolin", sorted(there, key=lambda file: names.index(file.name)), members)
    tissues = [of_name[file.name] for file in files]
    channels = tuple(tissue for tissue in TISSUES if tissue in tissues)
    networks = tuple(map(load_pangolin, files, tissues))
    slots = tuple(map(channels.index, tissues))
    return BaseModel("pangolin", networks, "GPL-3.0", resources.get("pangolin").citation, channels, slots)


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
        name: one of FAMILIES (the published weights, checked by their checksums), or "family:path" for the user's own
            weights: a file, or a folder of files named as the family's published ones (checked by their shapes).
        members: 0-based members of the ensemble; all by default.

    Raises:
        MissingExtraError, MissingResourceError: the weights are not there.
    """
    family, colon, path = name.partition(":")
    if family not in FAMILIES or (colon and not path):
        raise unknown_value("base model", name, [*FAMILIES, *(f"{family}:PATH" for family in FAMILIES)])
    model = FAMILIES[family](members, Path(path) if path else None)
    for network in model.networks:
        network.to(device)
    return model
