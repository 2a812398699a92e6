"""Entries of the catalogue as YAML, one file a section, holding only what differs from the defaults."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from meta_spliceai.errors import InputError
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from meta_spliceai.files import atomic_write


def rows_as_yaml(rows: Sequence[ExperimentSpec]) -> dict[str, str]:
    """File name to text: the rows of each section in one file, in the order given."""
    sections: dict[str, list[ExperimentSpec]] = {}
    for spec in rows:
        sections.setdefault(spec.section, []).append(spec)
    files = {}
    for section, members in sections.items():
        purpose = members[0].purpose
        whole: dict[str, Any] = {"section": section}
        if purpose:
            whole["purpose"] = purpose
        whole["rows"] = [row_values(spec, purpose) for spec in members]
        files[file_name(section)] = yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=110)
    return files


def file_name(section: str) -> str:
    """Name of the file that holds a section."""
    return f"{re.sub(r'[^a-z0-9]+', '_', section.casefold()).strip('_') or 'rows'}.yaml"


def row_values(spec: ExperimentSpec, purpose: str) -> dict[str, Any]:
    """A row's fields that differ from their defaults.

    Args:
        spec: the row.
        purpose: the file's own, which the row need not repeat.
    """
    values = spec.model_dump(mode="json", exclude_defaults=True, exclude={"section"})
    if spec.purpose == purpose:
        values.pop("purpose", None)
    return values


def write_rows(rows: Sequence[ExperimentSpec], folder: Path, replace: bool = False) -> list[Path]:
    """Write the rows into a user's own folder of the catalogue.

    Args:
        rows: what to write.
        folder: the folder (`./wishlist`), made if need be.
        replace: overwrite files that are there.

    Raises:
        InputError: a file is there already and `replace` is not set.
    """
    texts = rows_as_yaml(rows)
    for name in texts:
        if (folder / name).exists() and not replace:
            raise InputError(
                f"{folder / name} is there already; write elsewhere with --out, or replace it with --force"
            )
    written = []
    for name, text in texts.items():
        with atomic_write(folder / name) as handle:
            handle.write(text)
        written.append(folder / name)
    return written
