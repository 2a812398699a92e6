"""A data set by name, or several as one ("mfass+mapsy"): read from its sources or from an opened bundle."""

from __future__ import annotations

import inspect

import pandas as pd

from meta_spliceai import resources
from meta_spliceai.datasets import registry
from meta_spliceai.datasets.bundled import bundled_dataset
from meta_spliceai.datasets.combined import combine
from meta_spliceai.datasets.registry import DataSet, Loaded
from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.resources.resolve import find_here, resolve_choice, sha256_once


def get(name: str) -> DataSet:
    """The data set of that name, or a combination of several ("mfass+mapsy").

    Raises:
        InputError: no such data set; the nearest names are given.
    """
    parts = [registry.get(part.strip()) for part in name.split("+")]
    return parts[0] if len(parts) == 1 else combine(parts)


def load_dataset(name: str, **options: object) -> Loaded:
    """Read a data set by name: from an opened bundle among the mirror folders, or from its sources.

    Args:
        name: as `get`.
        options: what the data set's loader takes; each is documented there.

    Raises:
        InputError: unknown data set or option, or a file whose content cannot be used.
        MissingResourceError, MissingExtraError: a file cannot be had.
        IntegrityError: a file has another checksum than the registry says.
    """
    dataset = get(name)
    bundled = bundled_dataset(dataset, options)
    if bundled is not None:
        return bundled
    allowed = inspect.signature(dataset.loader).parameters
    for option in options if not dataset.members else ():
        if not allowed:
            raise InputError(f"data set {name} takes no options; '{option}' was given")
        if option not in allowed:
            raise unknown_value("option", option, allowed, f"data set {name}")
    return dataset.loader(**options)


def check_files(name: str) -> pd.DataFrame:
    """Find every file of a data set and compare its checksum.

    Returns:
        file, edition, path on this machine, bytes, SHA-256; one row a file.

    Raises:
        MissingResourceError, MissingExtraError, IntegrityError: the first file that is not there or not right.
    """
    rows = []
    dataset = get(name)
    for part in dataset.members or (dataset,):
        resource = resources.get(part.resource)
        for choice in resource.choices:
            if part.built is not None and find_here(resource, choice) is None:
                path = part.built.find()
                rows.append((path.name, "built on this machine", str(path), path.stat().st_size, sha256_once(path)))
                continue
            found = resolve_choice(resource, choice)
            about = found.entry
            rows.append((about.path, about.edition, str(found.path), found.path.stat().st_size, about.sha256))
    return pd.DataFrame(rows, columns=["file", "edition", "path", "bytes", "sha256"])
