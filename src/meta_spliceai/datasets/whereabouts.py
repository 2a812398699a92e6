"""Where the files of a data set, a network or a genome are, and bringing them to this machine."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from meta_spliceai import resources
from meta_spliceai.datasets import registry
from meta_spliceai.datasets.human import LIFT_OVER_CHAIN, human_annotation
from meta_spliceai.datasets.registry import DataSet
from meta_spliceai.errors import IntegrityError, MissingExtraError, MissingResourceError, unknown_value
from meta_spliceai.resources import Resource, ResourceFile
from meta_spliceai.resources.resolve import addresses_of, find_here, resolve_choice
from meta_spliceai.splice_engine.genome.get_genome import BYTES, genome_addresses, get_genome
from meta_spliceai.splice_engine.genome.human_genome import UCSC_NAMES, whole_genome

GENOMES = {name: build for build, ucsc in UCSC_NAMES.items() for name in (build.lower(), ucsc)}
"""What a genome may be asked for by: its build."""


class State(NamedTuple):
    """Whether a data set's files are on this machine.

    Attributes:
        here: which edition, "yes" where there is only one, what is wrong; empty if they are not.
        paths: where they are.
        get: what brings them.
    """

    here: str
    paths: tuple[str, ...]
    get: str


def state_of(dataset: DataSet) -> State:
    """What of a data set is at hand; nothing is downloaded."""
    resource = resources.get(dataset.resource)
    brings = resource.how_to_get or f"meta-spliceai data get {dataset.name}"
    try:
        found = [find_here(resource, choice) for choice in resource.choices]
        if found and all(found):
            files = [one for one in found if one is not None]
            return State(files[0].entry.edition or "yes", tuple(str(one.path) for one in files), brings)
        if dataset.built is not None:
            return State("built here", (str(dataset.built.find()),), brings)
    except (IntegrityError, MissingExtraError) as error:
        return State("" if isinstance(error, MissingExtraError) else "damaged", (), str(error))
    except MissingResourceError:
        pass
    return State("", (), brings)


def files_in_words(dataset: DataSet) -> list[str]:
    """A line a registered file: edition, name, bytes, checksum, address."""
    files = resources.get(dataset.resource).files
    return [
        "  ".join(part for part in (one.edition, one.path, f"{one.size:,} bytes", one.sha256, one.url or "") if part)
        for one in files
    ]


def _needed_by(name: str) -> list[Resource]:
    """The resources behind a data set or another name of `data get`."""
    if name not in registry.names():
        if name not in resources.names():
            raise unknown_value("name", name, sorted({*registry.names(), *resources.names(), *GENOMES}), "data get")
        return [resources.get(name)]
    dataset = registry.get(name)
    if dataset.built is not None:
        needed = ["mfass", "mapsy", "cispliceai-validated", "deep-intronic", LIFT_OVER_CHAIN]
    elif "chain" in inspect.signature(dataset.loader).parameters:
        needed = [dataset.resource, LIFT_OVER_CHAIN]
    else:
        needed = [dataset.resource]
    return [resources.get(one) for one in needed]


def get_named(name: str) -> list[Path]:
    """Bring a data set, a resource or a genome to this machine; where its files are.

    Raises:
        InputError: no such name.
        MissingResourceError, IntegrityError, RunError: as the download, or making the file, says.
    """
    build = GENOMES.get(name.lower())
    if build is not None:
        return [whole_genome(build) or get_genome(build, lambda: human_annotation(build))]
    dataset = registry.get(name) if name in registry.names() else None
    if dataset is not None and dataset.built is not None:
        here = state_of(dataset)
        return [Path(path) for path in here.paths] if here.paths else [dataset.built.make()]
    found = []
    for resource in _needed_by(name):
        if not resource.files:
            raise MissingResourceError(f"{name}: {resource.how_to_get}")
        found += [resolve_choice(resource, choice).path for choice in resource.choices]
    if any(path.suffix == ".RData" for path in found) and importlib.util.find_spec("pyreadr") is None:
        raise MissingExtraError(f"{name} is here ({found[0]}), and reading it, an R object,", "r-objects")
    return found


def plan_of(name: str) -> list[str]:
    """What `get_named` would do, a line a file: where it is, or how many bytes come from where."""
    build = GENOMES.get(name.lower())
    if build is not None:
        here = whole_genome(build)
        return [f"{name}: here  {here}" if here else f"{name}: {BYTES[build]:,} bytes  {genome_addresses(build)[-1]}"]
    return [_planned(resource, choice) for resource in _needed_by(name) for choice in resource.choices]


def _planned(resource: Resource, choice: Sequence[ResourceFile]) -> str:
    found = find_here(resource, choice)
    if found is not None:
        edition = f" ({found.entry.edition})" if found.entry.edition else ""
        return f"{resource.name}: here{edition}  {found.path}"
    for address, entry in addresses_of(choice):
        return f"{resource.name}: {entry.size:,} bytes  {address}"
    return f"{resource.name}: no public address; {resource.how_to_get}"
