"""Named data sets: what each is, where it comes from, how its classes are defined, and how it is loaded."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from meta_spliceai import resources
from meta_spliceai.errors import unknown_value
from meta_spliceai.splice_engine.genome.annotation import GeneAnnotation
from meta_spliceai.splice_engine.genome.sequence import SequenceSource
from meta_spliceai.splice_engine.variants.table import SCHEMA, Coverage


@dataclass(frozen=True)
class Loaded:
    """A data set in memory.

    Attributes:
        variants: the variant table, classes set (see `variants.table`), every reference allele checked.
        options: the options it was loaded with (context, build …), as a result must show them.
        origin: what it was read from, in words: a bundle, or the edition of its file and the genome.
    """

    variants: pd.DataFrame
    coverage: Coverage
    genome: SequenceSource
    annotation: GeneAnnotation | None
    dataset: DataSet
    options: Mapping[str, str]
    origin: str = ""

    @property
    def digest(self) -> str:
        hashed = hashlib.sha256(self.genome.digest.encode())
        hashed.update(repr(sorted(self.options.items())).encode())
        hashed.update(self.variants[list(SCHEMA)].to_csv(index=False).encode())
        return hashed.hexdigest()


class Built(NamedTuple):
    """A data set's file that is made on this machine: where it is (an error says how to make it), and making it."""

    find: Callable[[], Path]
    make: Callable[[], Path]


@dataclass(frozen=True)
class DataSet:
    """What a data set is, before anything is read.

    Attributes:
        resource: name of the resource that holds its files (source, licence, citation and checksums stand there).
        build: "GRCh37", "GRCh38", or the construct the measurements were made in.
        rows: rows its source file holds (of two editions, the development copy).
        effect: unit and sign of the column `effect`.
        label_rule: the function that gives the classes; its docstring is the rule in words.
        evidence: the numbers the label rule is argued from, computed from the loaded data; None if it has none.
        replicates: columns with the effect as each of two replicates has it; the label rule takes either alone.
        built: how its file is found and put together on this machine, where it is made of other data sets.
        members: of a combination ("mfass+mapsy"), which has no resource of its own.
    """

    name: str
    title: str
    resource: str
    build: str
    rows: int
    effect: str
    label_rule: Callable[..., str | list[str]]
    loader: Callable[..., Loaded]
    evidence: Callable[[Loaded], pd.DataFrame] | None = None
    notes: str = ""
    replicates: Sequence[str] | None = None
    built: Built | None = None
    members: tuple[DataSet, ...] = ()

    @property
    def source(self) -> str:
        return self._told("source")

    @property
    def licence(self) -> str:
        """The source's licence; "none stated" where it has none."""
        return self._told("licence")

    @property
    def citation(self) -> str:
        return self._told("citation")

    def _told(self, what: str) -> str:
        if self.members:
            return "; ".join(f"{member.name}: {member._told(what)}" for member in self.members)
        return str(getattr(resources.get(self.resource), what))

    @property
    def checksums(self) -> dict[str, str]:
        if self.members:
            return {path: sha256 for member in self.members for path, sha256 in member.checksums.items()}
        files = resources.get(self.resource).files
        return {f"{one.path} ({one.edition})" if one.edition else one.path: one.sha256 for one in files}

    @property
    def rule_in_words(self) -> str:
        """The label rule's docstring, without its part on arguments."""
        return (inspect.getdoc(self.label_rule) or "").partition("\nArgs:")[0].strip()


ABOUT = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
"""What registry.toml says of each data set of the package; what reads one is imported when it is asked for."""

_DATASETS: dict[str, DataSet] = {}


def register(dataset: DataSet) -> DataSet:
    """Make a data set known under its name, and return it; ValueError for a defect: the name is taken, or the label
    rule is not documented."""
    if dataset.name in _DATASETS:
        raise ValueError(f"two data sets are named '{dataset.name}'")
    if not dataset.rule_in_words:
        raise ValueError(f"the label rule of '{dataset.name}' has no docstring")
    _DATASETS[dataset.name] = dataset
    return dataset


def of_package(
    name: str,
    label_rule: Callable[..., str | list[str]],
    loader: Callable[..., Loaded],
    evidence: Callable[[Loaded], pd.DataFrame] | None = None,
    built: Built | None = None,
) -> DataSet:
    """Make a data set that registry.toml describes known, and return it; its files are the resource of its name."""
    about = {key: value for key, value in ABOUT[name].items() if key != "module"}
    return register(
        DataSet(name, resource=name, label_rule=label_rule, loader=loader, evidence=evidence, built=built, **about)
    )


def get(name: str) -> DataSet:
    """The data set of that name; InputError with the nearest names where there is none."""
    if name not in _DATASETS and name in ABOUT:
        module = ABOUT[name].get("module", name.replace("-", "_"))
        importlib.import_module(f"meta_spliceai.datasets.{module}")
    if name not in _DATASETS:
        raise unknown_value("data set", name, names())
    return _DATASETS[name]


def names() -> list[str]:
    return sorted({*ABOUT, *_DATASETS})
