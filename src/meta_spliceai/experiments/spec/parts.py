"""Which parts this installation offers, which of them a row lacks, and which of its data and weights are not on this
machine. Nothing is read or downloaded to find out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, get_args

from meta_spliceai import datasets
from meta_spliceai.datasets.load import options_of, state_of
from meta_spliceai.errors import MissingResourceError, install_extra
from meta_spliceai.experiments.spec.experiment import DataSpec, ExperimentSpec, Procedure
from meta_spliceai.experiments.spec.rows import member_of, travel_with_package
from meta_spliceai.resources.resolve import (
    ENCODERS,
    OFFLINE_VARIABLE,
    at_hand,
    folder_at_hand,
    offline,
    package_at_hand,
    shipped_encoders,
)
from meta_spliceai.splice_engine.genome.human_genome import AUTO, whole_genome
from meta_spliceai.splice_engine.genome.sequence import GRCH38, build_name
from meta_spliceai.splice_engine.meta_layer.settings import TRUNK

if TYPE_CHECKING:
    from meta_spliceai.experiments.store.workspace import Workspace

_PUBLIC = {"splicevardb-open", "mfass", "mapsy", "cispliceai-validated", "deep-intronic", "brca1-sge"}
"""Data sets that are read from their authors' files, and whose genes and sequence come from elsewhere."""

_USERS_OWN = "splicevardb"

_PACKAGES = {
    "spliceai": ("quickstart", "spliceai/models/spliceai1.h5"),
    "cispliceai": ("cispliceai", "cispliceai/data/CI-SpliceAI.pb"),
}
"""Base networks that a Python package of the same name carries: the extra that installs it, and a file of theirs, which
a bundle brings in the package's place."""

_RESOURCE_OF = {"openspliceai": "openspliceai-mane-10000nt", "pangolin": "pangolin"}


OFFERED: dict[str, Iterable[str]] = {
    "base network": ("spliceai", "cispliceai", "openspliceai", "pangolin"),
    "encoder": ("simple-cnn", "gated-cnn", *ENCODERS, "spliceai-trunk", "cispliceai-trunk"),
    "head": (
        *("delta", "quantile", "binary", "effect-type", "position", "magnitude", "multitask"),
        "quantile-members",
    ),
    "target": get_args(ExperimentSpec.model_fields["target"].annotation),
    "split": ("gene", "group", "exon", "position-blocks", "chromosome", "spliceai-clean"),
    "split with folds": ("gene", "group", "chromosome"),
    "procedure": get_args(Procedure),
}
"""Names of parts, by kind. The registries themselves take their place when they are loaded (see `run.build`), which
takes PyTorch and seconds: a command that only lists rows does not wait for it. A test holds these names to theirs."""


def offered_parts() -> dict[str, tuple[str, ...]]:
    """Names of the parts at hand, by kind of part."""
    return {"data set": tuple(datasets.names()), **{kind: tuple(names) for kind, names in OFFERED.items()}}


def needed_parts(spec: ExperimentSpec, rows: Mapping[str, ExperimentSpec]) -> Iterator[tuple[str, str]]:
    """The parts a row needs, as (kind, name); those of an ensemble's members, found in the catalogue, included."""
    for name in spec.data.name.split("+"):  # "a+b" is both sets together
        yield "data set", name
    for network in spec.networks:
        yield "base network", network.name.partition(":")[0]  # "family:path" is a family with the user's own weights
    yield "procedure", spec.procedure
    yield "split" if spec.split.folds is None else "split with folds", spec.split.name
    if spec.ensemble is not None:
        for member in spec.ensemble.members:
            yield from needed_parts(rows[member], rows)
    elif spec.fusion is None:
        if spec.encoder.name.endswith(TRUNK):
            yield "base network", spec.encoder.name.removesuffix(TRUNK)
        yield "encoder", spec.encoder.name
        yield "head", spec.head.name
        yield "target", spec.target


def missing_parts(
    spec: ExperimentSpec, rows: Mapping[str, ExperimentSpec], offered: Mapping[str, tuple[str, ...]] | None = None
) -> list[str]:
    """What a row needs and this installation does not offer, in words, each once; empty for a runnable row."""
    here = offered_parts() if offered is None else offered
    missing = [f"{kind} '{name}'" for kind, name in needed_parts(spec, rows) if name not in here[kind]]
    return list(dict.fromkeys(missing))


def lacking(spec: ExperimentSpec, rows: dict[str, ExperimentSpec], begun: Set[str] = frozenset()) -> list[str]:
    """What a row would lack if it were started now, as "WHAT on this machine: HOW TO GET IT"; empty if it could start.
    Parts that only this process knows (a data set or a network of a test's own) are taken to be there; members of
    ensembles are looked up in `rows`, and lack nothing where they have a run (`begun`)."""
    found = [*_data(spec.data), *_networks(spec)]
    if spec.ensemble is None:
        packaged = " with those in the package: --scale laptop, or" if spec.encoder.name in shipped_encoders() else ""
        found += _encoder(spec, f"; or run it{packaged} with random ones: --set encoder.settings.weights=scratch")
    else:
        for member in (member_of(spec, row_id, rows) for row_id in spec.ensemble.members if row_id not in begun):
            found += [*_data(member.data), *_networks(member), *_encoder(member, "")]
    return list(dict.fromkeys(found))


def _data(data: DataSpec) -> Iterator[str]:
    """Of a data set: its file and, where it is read from its authors' files, the genome around it and the genes."""
    for name in data.name.split("+"):
        if name == _USERS_OWN and "path" not in data.options:
            yield "download of SpliceVarDB on this machine: give yours with --set data.options.path=FILE"
        if name not in _PUBLIC:
            continue
        options, state = options_of(name, data.options), state_of(datasets.get(name))
        if "path" not in options and not state.here:
            yield f"data set {name} on this machine: {state.get}"
        build = build_name(str(options.get("build", GRCH38)))
        on_chromosomes = options.get("context") != "construct" and options.get("genome", AUTO) == AUTO
        if on_chromosomes and whole_genome(build) is None and not at_hand("human-regions"):
            yield f"genome of {build} on this machine: meta-spliceai data get {build.lower()}"
        if "annotation" not in options and not package_at_hand("spliceai", ["spliceai/annotations/grch37.txt"]):
            yield f"table of genes on this machine: {_extra('quickstart')}"


def _networks(spec: ExperimentSpec) -> Iterator[str]:
    for network in spec.networks:
        if not (network is spec.base and travel_with_package(spec)):
            yield from lacking_network(network.name)


def lacking_network(name: str) -> Iterator[str]:
    """As `lacking`, of the published weights of one family of base networks."""
    what = f"base network {name} on this machine"
    extra, file = _PACKAGES.get(name, ("", ""))
    if extra and not package_at_hand(name, [file]):
        yield f"{what}: {_extra(extra)}"
    elif name in _RESOURCE_OF and offline() and not at_hand(_RESOURCE_OF[name]):
        yield f"{what}: unset {OFFLINE_VARIABLE}, it is then downloaded"


def _encoder(spec: ExperimentSpec, otherwise: str) -> Iterator[str]:
    settings = spec.encoder.settings
    if spec.fusion is not None or spec.encoder.name not in ENCODERS or settings.get("weights", "hub") != "hub":
        return
    revision = settings.get("revision")
    if folder_at_hand(spec.encoder.name, None if revision is None else str(revision)) is not None:
        return
    what = f"weights of {spec.encoder.name} on this machine"
    if importlib.util.find_spec("huggingface_hub") is None:
        yield f"{what}: {_extra('hyena')}{otherwise}"
    elif offline():
        yield f"{what}: unset {OFFLINE_VARIABLE}, the run then begins by downloading them{otherwise}"


def _extra(name: str) -> str:
    return f"{install_extra(name)} (the extra '{name}')"


def require_networks(name: str) -> None:
    """Raise MissingResourceError where the published weights of a family of base networks are not here."""
    for what in lacking_network(name):
        raise MissingResourceError(f"no {what}")


def require_something(specs: Sequence[ExperimentSpec], workspace: Workspace, rows: dict[str, ExperimentSpec]) -> None:
    """Raise MissingResourceError where none of some rows would start: rows are then not begun one by one, which takes
    the libraries that they train with. A row that has a run may be shown, or go on."""
    begun = {run.row_id for run in workspace.own_runs()}
    lacks = [[] if spec.id in begun else lacking(spec, rows, begun) for spec in specs]
    if lacks and all(lacks):
        raise MissingResourceError(f"row '{specs[0].id}': no {lacks[0][0]}")
