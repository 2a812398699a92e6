"""What each named resource is, as `registry.toml` lists them: source, licence, citation, and every file's checksum."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from meta_spliceai.errors import unknown_value

FOLDER = "meta_spliceai/datasets/packaged"
VARIANTS = f"{FOLDER}/variants.parquet"
SEQUENCE = f"{FOLDER}/sequence.npz"
SCORES = f"{FOLDER}/scores-cispliceai.npz"
DESCRIPTION = f"{FOLDER}/description.json"
"""The files of the resource packaged-human, inside this package, that `tools/make_packaged_data.py` makes."""

ORIGINAL, DEVELOPMENT = "original", "development copy"
"""Editions: the authors' own file at a pinned commit, and a copy of it without chromosomes 1 and 9."""


@dataclass(frozen=True)
class ResourceFile:
    """One file of a resource.

    Attributes:
        path: its place under a mirror and under the cache, e.g. "mapsy/mapsy.txt" (also its name in messages).
        sha256: checksum of the bytes, hexadecimal; always compared before the file is used.
        url: where to download these bytes (or, ending in .gz where `path` does not, these bytes gzipped); None where
            there is no such place.
        edition: which edition of the resource it is; empty where there is only one. Editions stand in for each other:
            the first that is at hand is read.
    """

    path: str
    sha256: str
    size: int
    url: str | None = None
    edition: str = ""


@dataclass(frozen=True)
class Resource:
    """A named set of files from one source.

    Attributes:
        source: public URL, with the commit where it is known, or "PyPI <package> <version>".
        licence: SPDX name or the source's own words; "none stated" where the source says nothing.
        citation: author, year, DOI.
        how_to_get: what a user does when it is neither in a mirror nor downloadable (sites that want a login, say).
        package: name of the installed Python package that carries the files ("" for all other resources); the files'
            paths are then those the package lists.
    """

    name: str
    title: str
    source: str
    licence: str
    citation: str
    files: tuple[ResourceFile, ...]
    how_to_get: str = ""
    package: str = ""

    @property
    def choices(self) -> tuple[tuple[ResourceFile, ...], ...]:
        """The files that are needed, each as those of which one will do: editions are one choice."""
        return (self.files,) if any(entry.edition for entry in self.files) else tuple((one,) for one in self.files)

    def file(self, path: str) -> ResourceFile:
        """The file at `path`; InputError where the resource has none."""
        for candidate in self.files:
            if candidate.path == path:
                return candidate
        raise unknown_value("file", path, [candidate.path for candidate in self.files], f"resource {self.name}")


def _resource(name: str, fields: Mapping[str, Any]) -> Resource:
    about = {key: value for key, value in fields.items() if key not in ("files", "folder")}
    files = [ResourceFile(**one) for one in fields.get("files", [])]
    if "folder" in fields:
        files = [replace(one, url=f"{fields['folder']}/{Path(one.path).name}") for one in files]
    return Resource(name, files=tuple(files), **about)


_RESOURCES = {
    name: _resource(name, fields)
    for name, fields in tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")).items()
}


def register(resource: Resource) -> Resource:
    """Make a further resource known under its name (data sets and networks of other packages), and return it;
    ValueError where another resource has the name already."""
    if _RESOURCES.setdefault(resource.name, resource) != resource:
        raise ValueError(f"two resources are named '{resource.name}'")
    return resource


def get(name: str) -> Resource:
    """The resource of that name; InputError with the nearest names where there is none."""
    if name not in _RESOURCES:
        raise unknown_value("resource", name, names())
    return _RESOURCES[name]


def names() -> list[str]:
    return sorted(_RESOURCES)
