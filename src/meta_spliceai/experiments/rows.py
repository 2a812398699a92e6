"""The catalogue's rows: read from YAML, found by id, changed by `--set`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.experiments.spec import ExperimentSpec, explain, fields, parse_spec

OWN_FOLDER = Path("wishlist")
"""A user's own rows, `./wishlist/*.yaml`, laid over the packaged ones."""

_IDENTITY = {"id", "title", "section", "purpose", "smoke"}
"""Fields that say which row it is; `--set` leaves them alone."""

_FILE_KEYS = {"section", "purpose", "column", "defaults", "rows"}
"""A file's section, the question its rows answer, the heading of the wishlist's middle column, what its rows share."""


def load_rows(own: Path | None = OWN_FOLDER) -> dict[str, ExperimentSpec]:
    """Every row by id: the packaged catalogue, then the user's own files over it.

    Args:
        own: folder with further YAML files; a row there takes the place of a packaged one with the same id.

    Raises:
        InputError: a file that is no YAML, an unknown or bad field, the same id twice, an ensemble whose members are
            unknown or go round in a circle; names file, line, row and field.
    """
    packaged = files("meta_spliceai.experiments.catalogue")
    rows = _read_all((entry.name, entry.read_text(encoding="utf-8")) for entry in packaged.iterdir())
    if own is not None and own.is_dir():
        rows |= _read_all((str(path), path.read_text(encoding="utf-8")) for path in own.iterdir())
    _check_ensembles(rows)
    return rows


def find_row(rows: dict[str, ExperimentSpec], row_id: str) -> ExperimentSpec:
    """The row with this id.

    Raises:
        InputError: no such row; the nearest ids are named.
    """
    if row_id not in rows:
        raise unknown_value("row id", row_id, rows)
    return rows[row_id]


def change(spec: ExperimentSpec, assignments: Sequence[str]) -> ExperimentSpec:
    """The row with some fields set, as by `--set training.epochs=5`.

    Args:
        spec: the row.
        assignments: `field=value`; the field by its dotted name, the value in YAML (`5`, `true`, `[0.6, 0.2, 0.2]`).

    Raises:
        InputError: not of the form field=value, an unknown field (the nearest are named), or a value that is not
            allowed (what is allowed is named).
    """
    values = spec.model_dump(mode="json")
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        name = name.strip()
        if not sign or not name:
            raise InputError(f"--set {assignment}: write field=value, for example --set training.epochs=5")
        _assign(values, name, _yaml_value(text, f"--set {assignment}"))
    try:
        return ExperimentSpec.model_validate(values)
    except ValidationError as error:
        raise InputError(f"--set {' '.join(assignments)}: {explain(error)}") from error


def _assign(values: dict[str, Any], name: str, value: Any) -> None:
    known = [field for field in fields() if field not in _IDENTITY and not field.startswith("wish.")]
    # Settings and options belong to an encoder, a head or a data set, which check them when they are built.
    open_blocks = ("encoder.settings.", "head.settings.", "data.options.")
    if name not in known and not name.startswith(open_blocks):
        raise unknown_value("field", name, known, where="--set")
    *path, last = name.split(".")
    block = values
    for part in path:
        if block.get(part) is None:
            block[part] = {}
        block = block[part]
    block[last] = value


def _yaml_value(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{where}: the value is no YAML ({_first_line(error)})") from error


def _read_all(texts: Iterable[tuple[str, str]]) -> dict[str, ExperimentSpec]:
    rows: dict[str, ExperimentSpec] = {}
    places: dict[str, str] = {}
    for name, text in sorted(texts):
        if not name.endswith((".yaml", ".yml")):
            continue
        for spec, place in _read(name, text):
            if spec.id in rows:
                raise InputError(f"{place}: row id '{spec.id}' is already used at {places[spec.id]}")
            rows[spec.id] = spec
            places[spec.id] = place
    return rows


def _read(name: str, text: str) -> list[tuple[ExperimentSpec, str]]:
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{name}: not valid YAML ({_first_line(error)})") from error
    if not isinstance(content, dict) or not isinstance(content.get("rows"), list) or "section" not in content:
        raise InputError(f"{name}: a catalogue file has a 'section' and a list of 'rows'")
    for key in content:
        if key not in _FILE_KEYS:
            raise unknown_value("field", key, sorted(_FILE_KEYS), where=name)
    lines = _row_lines(tree)
    found = []
    for values, line in zip(content["rows"], lines, strict=True):
        place = f"{name}, line {line}"
        if not isinstance(values, dict):
            raise InputError(f"{place}: a row is a block of fields, not {values!r}")
        whole = _merged(content.get("defaults") or {}, values)
        whole = {"section": content["section"], "purpose": content.get("purpose", ""), **whole}
        if "column" in content and isinstance(whole.get("wish"), dict):
            whole["wish"] = {"column": content["column"], **whole["wish"]}
        label = f"{place}, row '{values['id']}'" if "id" in values else place
        found.append((parse_spec(whole, label), place))
    return found


def _merged(defaults: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """The file's defaults under a row's own values, block by block."""
    merged = dict(defaults)
    for key, value in values.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _row_lines(tree: Any) -> list[int]:
    """The 1-based line on which each row begins, from the file's YAML tree."""
    sequence = next(value for key, value in tree.value if key.value == "rows")
    return [item.start_mark.line + 1 for item in sequence.value]


def _check_ensembles(rows: dict[str, ExperimentSpec]) -> None:
    def visit(row_id: str, path: tuple[str, ...]) -> None:
        if row_id in path:
            raise InputError(f"ensemble '{path[0]}' goes round in a circle: {' → '.join([*path, row_id])}")
        ensemble = rows[row_id].ensemble
        for member in ensemble.members if ensemble else ():
            if member not in rows:
                raise unknown_value("ensemble member", member, rows, where=f"row '{row_id}'")
            visit(member, (*path, row_id))

    for row_id in rows:
        visit(row_id, ())


def _first_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())
