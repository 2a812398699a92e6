"""Where HyenaDNA weights come from: the hub at a pinned revision, a local folder in either format, or scratch by name.

What is asked for is loaded, or an error says how to get it; nothing ever takes its place.

The authors' own format is a whole run as PyTorch Lightning and Hydra save it: beside `state_dict` it may hold the run's
settings as OmegaConf objects and the states of callbacks. PyTorch's reader refuses a file that names a class of a third
party. Here the names of those packages are read as empty shells, so that the weights beside them can be had; a file
that names anything else is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from meta_spliceai.errors import InputError, IntegrityError, MissingExtraError, MissingResourceError, unknown_value
from meta_spliceai.files import atomic_write, sha256_file
from meta_spliceai.resources.resolve import (
    ENCODERS,
    HUB_FILES,
    OFFLINE_VARIABLE,
    WEIGHTS,
    folder_at_hand,
    offline,
    shipped_encoders,
)
from meta_spliceai.splice_engine.base_layer.families import UNREADABLE, load_state, read_torch
from meta_spliceai.splice_engine.meta_layer.models.hyenadna import HyenaConfig, HyenaDNA
from meta_spliceai.splice_engine.meta_layer.models.predictor import READ_NEXT, SCRATCH

HUB = "hub"
PACKAGED = "packaged"


class PublishedModel(NamedTuple):
    """One published checkpoint: its shape, its name on the model hub, the commit this package was written against."""

    config: HyenaConfig
    repository: str
    revision: str


PUBLISHED: dict[str, PublishedModel] = {
    name: PublishedModel(
        HyenaConfig(d_model=width, n_layer=layers, d_inner=4 * width, max_seq_len=longest), *ENCODERS[name]
    )
    for name, layers, width, longest in (
        ("hyenadna-tiny-1k", 2, 128, 1_026),
        ("hyenadna-small-32k", 4, 256, 32_770),
        ("hyenadna-medium-160k", 8, 256, 160_002),
        ("hyenadna-medium-450k", 8, 256, 450_002),
        ("hyenadna-large-1m", 8, 256, 1_000_002),
    )
}
"""Licence of the checkpoints: BSD-3-Clause by their model cards; the authors' code is Apache-2.0."""

_SHAPE = (
    *("d_model", "n_layer", "d_inner", "max_seq_len", "emb_dim"),
    *("filter_order", "num_inner_mlps", "short_filter_order", "vocabulary"),
)
"""What a folder's config must share with the published model that it is asked for as."""

_SHELLS = ("argparse.", "hydra.", "lightning.", "lightning_fabric.", "omegaconf.", "pathlib.", "pytorch_lightning.")
"""Packages whose names may stand beside the weights in the original format."""

_PLAIN = {f"builtins.{kind}" for kind in ("bool", "dict", "float", "int", "list", "str", "tuple")} | {"typing.Any"}
"""Plain types, which OmegaConf's settings name as the kind of what they hold."""


def model_config(name: str) -> HyenaConfig:
    """The shape of a published model; InputError if there is none of this name."""
    if name not in PUBLISHED:
        raise unknown_value("HyenaDNA model", name, PUBLISHED)
    return PUBLISHED[name].config


def load_hyenadna(
    name: str,
    weights: str = HUB,
    revision: str | None = None,
    *,
    endpoint: str | None = None,
    seed: int = 0,
    gradient_checkpointing: bool = False,
) -> tuple[HyenaDNA, str]:
    """A HyenaDNA model and where its weights come from, in words.

    Args:
        name: a published model's name ("hyenadna-small-32k").
        weights: "hub" for the published checkpoint (from the local cache, else downloaded), a folder that holds one
            in the hub's format (config.json, model.safetensors) or the original one (config.json, weights.ckpt),
            "packaged" for an encoder that was pre-trained by this project and is included in the package, or "scratch"
            for random weights.
        revision: another commit on the hub than the pinned one.
        endpoint: another hub than the public one (also: the variable HF_ENDPOINT).
        seed: of random weights.
        gradient_checkpointing: see HyenaDNA.

    Raises:
        InputError: an unknown name, or a folder with a model of another size.
        MissingResourceError: the weights cannot be had; the message names the ways out.
        MissingExtraError: the hub was asked for and huggingface_hub is not installed.
        IntegrityError: a file is truncated or does not hold what its config says.
    """
    expected = model_config(name)
    if weights == SCRATCH or READ_NEXT.get():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return HyenaDNA(expected, gradient_checkpointing), f"scratch (random, seed {seed})"
    folder, origin = _found(name, weights, revision, endpoint)
    found = read_config(folder)
    for field in _SHAPE:
        if getattr(found, field) != getattr(expected, field):
            raise InputError(
                f"{folder} does not hold {name}: its {field} is {getattr(found, field)}, not {getattr(expected, field)}"
            )
    model, digest = read_folder(folder, gradient_checkpointing)
    place = "packaged encoder" if weights == PACKAGED else "folder"
    told = f"{found.origin}; " if found.origin else ""
    return model, origin or f"{place} {folder.name} ({told}sha256 {digest[:12]})"


def require_weights(name: str, weights: str = HUB, revision: str | None = None) -> None:
    """Make sure that a model's weights can be loaded, as far as that shows without reading them: downloaded if they are
    the hub's and not here. Arguments and errors are those of `load_hyenadna`."""
    model_config(name)
    if weights != SCRATCH:
        folder, _ = _found(name, weights, revision, None)
        _weights_file(folder)


def missing_here(name: str, weights: str = HUB, revision: str | None = None) -> str:
    """Why a model's weights are not on this machine, in words; nothing is downloaded. Empty where they are."""
    if weights == HUB:
        published, here = PUBLISHED[name], folder_at_hand(name, revision) is not None
        where = f"{published.repository} at {revision or published.revision}"
        words = f"the weights of {name} are not on this machine; a run begins by downloading them ({where})"
        return "" if here else words
    try:
        require_weights(name, weights, revision)
    except MissingResourceError as error:
        return str(error)
    return ""


def _found(name: str, weights: str, revision: str | None, endpoint: str | None) -> tuple[Path, str]:
    """The folder of weights that are not random, and where they are from if that is not the folder itself; the hub's
    are in an opened bundle or in its local cache, and downloaded if they are in neither."""
    if weights == PACKAGED:
        shipped = shipped_encoders()
        if name not in shipped:
            raise _unavailable(name, f"none are included in the package, only those of {', '.join(shipped) or 'none'}")
        return shipped[name], ""
    if weights != HUB:
        own = Path(weights).expanduser()
        if not own.is_dir():
            raise _unavailable(name, f"'{weights}' is neither 'hub', 'packaged', 'scratch' nor a folder")
        return own, ""
    published, folder = PUBLISHED[name], folder_at_hand(name, revision)
    if folder is None:
        if offline():
            raise _unavailable(name, f"not in the cache, and {OFFLINE_VARIABLE} is set")
        folder = _download(name, revision or published.revision, endpoint)
    # The snapshot folder is named by the commit it holds, also where a branch or tag was asked for.
    return folder, f"{published.repository} at {folder.name}"


def _unavailable(name: str, why: str) -> MissingResourceError:
    published = PUBLISHED[name]
    packaged = ", take those in the package, weights='packaged'" if name in shipped_encoders() else ""
    return MissingResourceError(
        f"the weights of {name} cannot be had ({why}); ways out: fill the cache once on a machine with the "
        f"network (hf download {published.repository} --revision {published.revision}) and copy it here, give a local "
        f"folder as weights (meta-spliceai pretrain makes one){packaged}, or ask for random weights with "
        "weights='scratch'"
    )


def _download(name: str, commit: str, endpoint: str | None) -> Path:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingExtraError("downloading HyenaDNA's weights from the hub", "hyena") from error
    # The bases of the hub's own error are those of its HTTP library; which library that is depends on its version.
    failures: tuple[Any, ...] = (*HfHubHTTPError.__bases__, HFValidationError, OSError)
    repository = PUBLISHED[name].repository
    try:
        paths = [hf_hub_download(repository, file, revision=commit, endpoint=endpoint) for file in HUB_FILES]
    except LocalEntryNotFoundError as error:
        why = _short(error.__cause__ or error)
        raise _unavailable(name, f"not in the cache, and the hub does not give it: {why}") from error
    except failures as error:
        raise _unavailable(name, _short(error)) from error
    return Path(paths[0]).parent


def _short(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:160]


def read_folder(folder: Path, gradient_checkpointing: bool = False) -> tuple[HyenaDNA, str]:
    """A model from a folder in the hub's or the original format, and the SHA-256 of its weights file.

    Raises:
        MissingResourceError: config.json or the weights file is not there, or may not be read.
        IntegrityError: a file is damaged, or the weights are not those of the config's model.
    """
    config, path = read_config(folder), _weights_file(folder)
    if path.suffix == ".safetensors":
        content = _content(path)
        if content.startswith(b"version https://git-lfs"):
            raise IntegrityError(f"{path} is Git LFS's note of where the file is; run git lfs pull in {folder}")
        try:
            state = {name.removeprefix("hyena."): value for name, value in load(content).items()}
        except SafetensorError as error:
            raise IntegrityError(f"{path} cannot be read ({_short(error)})") from error
    else:
        state = read_original(path)
    model = HyenaDNA(config, gradient_checkpointing)
    # The language-model head is not part of it; the tables of positions, which follow from their length, may be absent.
    own = {name: value for name, value in model.state_dict().items() if ".pos_emb." in name}
    own |= {name: value for name, value in state.items() if name.startswith("backbone.")}
    sines = {name.rsplit(".", 2)[0]: value for name, value in own.items() if name.endswith(".freq")}
    for name in model.state_dict().keys() - own.keys():
        # What writes shared tensors once keeps one of the names that a filter's sine has.
        if name.endswith(".freq") and name.rsplit(".", 2)[0] in sines:
            own[name] = sines[name.rsplit(".", 2)[0]]
    load_state(model, own, str(path))
    return model, sha256_file(path)


def read_config(folder: Path) -> HyenaConfig:
    """The shape of the model in a folder, from either format's config.json; the original keeps the filter's part under
    `layer`, and some of it under other names.

    Raises:
        MissingResourceError: config.json or the weights file is not there, or may not be read.
        IntegrityError: config.json does not describe a HyenaDNA.
    """
    _weights_file(folder)
    path = folder / "config.json"
    content = _content(path)
    try:
        raw = json.loads(content)
        given = {**raw.get("layer", {}), **raw}
        given.setdefault("max_seq_len", given.get("l_max"))
        given.setdefault("activation_freq", given.get("w", 1))
        given.setdefault("hyena_order", given.get("order", 2))
        given.setdefault("emb_dim", 3)
        return HyenaConfig.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        why = f"{first['loc'][0]} is {first['input']!r}: {first['msg']}"
    except (AttributeError, TypeError, ValueError) as error:
        why = _short(error)
    raise IntegrityError(f"{path} does not describe a HyenaDNA ({why})")


def _weights_file(folder: Path) -> Path:
    """The weights in a folder that has them and their config.json."""
    safe, original = folder / WEIGHTS, folder / "weights.ckpt"
    weights_file = safe if safe.is_file() else original
    if not (folder / "config.json").is_file() or not weights_file.is_file():
        raise MissingResourceError(
            f"{folder} holds no HyenaDNA: it needs config.json with model.safetensors or with weights.ckpt"
        )
    return weights_file


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MissingResourceError(f"{path} cannot be read ({error.strerror or error})") from error


def write_hub_format(
    model: HyenaDNA, head: nn.Linear, folder: Path, origin: str, facts: Mapping[str, Any] | None = None
) -> None:
    """Write a model and its head as the hub's own format; `origin` says in words what the weights saw, `facts` in plain
    values how they were trained."""
    state = {f"hyena.{name}": tensor for name, tensor in model.state_dict().items()}
    state["lm_head.weight"] = head.weight
    content = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
    with atomic_write(folder / WEIGHTS, "wb") as handle:
        handle.write(save(content))
    kind = {"model_type": "hyenadna", "architectures": ["HyenaDNAForCausalLM"], "tie_word_embeddings": False}
    told = {"train_freq": True, "use_bias": True, "origin": origin, "pretraining": dict(facts or {})}
    with atomic_write(folder / "config.json") as handle:
        json.dump({**kind, **model.config.model_dump(), **told}, handle)


class _Shell:
    """Takes the place of an object that is not wanted: made from anything, keeps nothing."""

    def __new__(cls, *_: Any, **__: Any) -> _Shell:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


def read_original(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint in the authors' own format, by the names they have in the hub's format without its
    prefix ("backbone.layers.0.…"). Nothing that the file names is run.

    Raises:
        IntegrityError: the file is truncated, is no checkpoint, or names what no checkpoint of a HyenaDNA holds.
    """
    with torch.serialization.safe_globals(_stand_ins(path)):
        state = read_torch(path, "checkpoint", "get it anew").get("state_dict")
    if not isinstance(state, Mapping):
        raise IntegrityError(f"{path} cannot be read: it holds no state_dict")
    # The larger models were trained with recomputation, whose wrapper stands in the names of what it wraps.
    return {
        name.replace(".mixer.layer.", ".mixer.").replace(".mlp.layer.", ".mlp.").removeprefix("model."): value
        for name, value in state.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }


def _stand_ins(path: Path) -> list[Any]:
    """What each of the file's unusual names stands for, as PyTorch's reader wants it."""
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except UNREADABLE:  # PyTorch's old file format, read without any names but PyTorch's own, or a damaged file
        return []
    stand_ins: list[Any] = []
    for name in sorted(named):
        if name == "collections.defaultdict":
            stand_ins.append((lambda *_: {}, name))  # the checkpoint writes into it
        elif name in _PLAIN or name.startswith(_SHELLS):
            stand_ins.append((_Shell, name))
        else:
            raise IntegrityError(f"{path} cannot be read: it names {name}, which no checkpoint of a HyenaDNA needs")
    return stand_ins
