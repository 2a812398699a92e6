"""Writes new rows as YAML: a single row, checked as far as possible before it runs and appended to the user's own file;
and rows read from a document, one file per section.

A file is added to as text, so that comments and the order of what stands there stay; what was written is read back
before it takes the old file's place. Only what differs from the defaults is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, Wish, parse_spec
from meta_spliceai.experiments.spec.parts import missing_parts, offered_parts
from meta_spliceai.experiments.spec.rows import change, read_rows, read_text, read_yaml
from meta_spliceai.experiments.wishlist.document import MIDDLE, plain
from meta_spliceai.files import atomic_write

SECTION = "My experiments"


def free_id(row_id: str, rows: Mapping[str, ExperimentSpec]) -> str:
    """The id, if no row has it and it is made of small letters, digits and dashes."""
    if row_id in rows:
        taken = rows[row_id]
        raise InputError(f"--id {row_id}: a row has this id already ('{taken.title}', section {taken.section})")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", row_id):
        raise InputError(f"--id {row_id}: an id is made of small letters, digits and dashes, as in wt1-window-51")
    return row_id


def one_of(kind: str, name: str, option: str, offered: Mapping[str, tuple[str, ...]]) -> str:
    """A part's name, if the code at hand offers it; kinds of parts as in `offered_parts`."""
    for part in name.split("+") if kind == "data set" else [name]:
        if part not in offered[kind]:
            raise unknown_value(kind, part, offered[kind], where=option)
    return name


def known_section(name: str, rows: Mapping[str, ExperimentSpec]) -> str:
    """The section as the catalogue writes it, if it has one of this name; else the name as given."""
    wanted = " ".join(name.split())
    if not plain(wanted):
        raise InputError(f"--section '{name}': give the section a name")
    return next((row.section for row in rows.values() if plain(row.section) == plain(wanted)), wanted)


def split_of(data: str, rows: Mapping[str, ExperimentSpec]) -> dict[str, Any]:
    """The split of the catalogue's first row on this data set: a way of holding out that its variants allow."""
    found = next((row.split for row in rows.values() if row.data.name == data and row.split.folds is None), None)
    return found.model_dump(mode="json", exclude_defaults=True) if found else {}


def new_row(
    values: dict[str, Any], assignments: list[str], rows: Mapping[str, ExperimentSpec], heads: Mapping[str, Any]
) -> ExperimentSpec:
    """A row from plain values, with `--set` assignments over them; its target is the one that its head (`HEADS`)
    learns.

    Raises:
        InputError: a bad value, an unknown field, or a part that the code at hand does not offer.
    """
    spec = parse_spec(values, f"row '{values['id']}'")
    if assignments:
        spec = change(spec, assignments)
    if spec.ensemble is None and not any(assignment.startswith("target=") for assignment in assignments):
        spec = spec.model_copy(update={"target": getattr(heads.get(spec.head.name), "task", spec.target)})
    for member in spec.ensemble.members if spec.ensemble else ():
        if member not in rows:
            raise unknown_value("ensemble member", member, rows, where="--set ensemble.members")
    missing = missing_parts(spec, {**rows, spec.id: spec}, offered_parts())
    if missing:
        raise InputError(f"row '{spec.id}' could not run: no {', no '.join(missing)}")
    return spec


def with_middle_column(
    spec: ExperimentSpec, rows: Mapping[str, ExperimentSpec], what: str | None = None
) -> ExperimentSpec:
    """The row with the cell of its table's middle column: the words given, or what the column's heading asks for."""
    wish = spec.wish or Wish.model_validate({})
    column = next((row.wish.column for row in rows.values() if row.section == spec.section and row.wish), MIDDLE)
    several = f"{len(spec.ensemble.members)} models" if spec.ensemble else ""
    asked = {
        "Samples": f"{spec.data.rows:,}" if spec.data.rows else "all",
        "Context": f"{spec.window:,}nt",
        "Folds": "-" if spec.split.folds is None else str(spec.split.folds),
        "Task": spec.target,
        "Components": several or "1 model",
    }
    words = what if what is not None else asked.get(column, several or spec.encoder.name)
    return spec.model_copy(update={"wish": wish.model_copy(update={"what": words, "column": column})})


def append_row(spec: ExperimentSpec, folder: Path, file: Path | None = None) -> tuple[Path, int]:
    """Write a row into a user's own YAML, after the rows that are there.

    Args:
        folder: the user's folder of the catalogue (`./wishlist`), made if need be.
        file: the file; where None, the one in the folder that holds the row's section, else a new one named after it.

    Returns:
        The file, and the 1-based line on which the row begins.

    Raises:
        InputError: the file cannot be read, is of another section, or is written so that nothing can be appended.
    """
    path = file if file is not None else _file_of(spec.section, folder)
    if path.exists():
        text = _appended(spec, path)
    else:
        text = f"{_as_yaml(_head(spec))}rows:\n{_block(_values(spec, spec.purpose), 2)}"
    place = next(place for row, place in read_rows(str(path), text) if row.id == spec.id)
    with atomic_write(path) as handle:
        handle.write(text)
    return path, int(place.rpartition(" ")[2])


def _file_of(section: str, folder: Path) -> Path:
    for path in sorted(folder.glob("*.y*ml")) if folder.is_dir() else ():
        _, content = read_yaml(str(path), read_text(path))
        if isinstance(content, dict) and content.get("section") == section:
            return path
    path = folder / _file_name(section)
    if path.exists():
        raise InputError(f"{path} holds another section than '{section}'; name a file with --file")
    return path


def _appended(spec: ExperimentSpec, path: Path) -> str:
    """The file's text with the row behind its last one."""
    text = path.read_text(encoding="utf-8").removesuffix("\n") + "\n"
    before = [row for row, _ in read_rows(str(path), text)]
    tree, content = read_yaml(str(path), text)
    if content["section"] != spec.section:
        raise InputError(f"{path} holds section '{content['section']}', not '{spec.section}'; name another --file")
    assert tree is not None  # noqa: S101 - it was read above
    sequence = next(value for key, value in tree.value if key.value == "rows")
    if sequence.flow_style:
        raise InputError(f"{path}: 'rows' is written in brackets; write its rows as lines that begin with '- ' first")
    lines = text.splitlines(keepends=True)
    # The block ends where the next key begins; blank lines and comments between belong to what follows, except at the
    # end of the file, where nothing follows.
    end = sequence.end_mark.line
    notes = [not line.strip() or line.lstrip().startswith("#") for line in lines]
    if all(notes[end:]):
        end = len(lines)
    while end < len(lines) and notes[end - 1]:
        end -= 1
    # What the file's rows share would lie under the new row too: blocks that it touches are written out.
    values, whole = _values(spec, str(content.get("purpose", ""))), spec.model_dump(mode="json")
    values |= {key: whole[key] for key in content.get("defaults") or {} if key in whole}
    if spec.wish is not None and "column" in content:
        values["wish"] = {"column": spec.wish.column, **values.get("wish", {})}
    added = "".join([*lines[:end], "\n", _block(values, sequence.start_mark.column), *lines[end:]])
    if [row for row, _ in read_rows(str(path), added)] != [*before, spec]:
        raise InputError(f"{path}: its 'defaults' would change the new row; name another file with --file")
    return added


def _block(values: dict[str, Any], indent: int) -> str:
    """A row as lines of YAML below `rows:`, the dash at a column."""
    text = yaml.safe_dump([values], sort_keys=False, allow_unicode=True, width=110 - indent, default_flow_style=None)
    return "".join(f"{' ' * indent}{line}\n" for line in text.splitlines())


def rows_as_yaml(rows: Sequence[ExperimentSpec]) -> dict[str, str]:
    """File name to text: the rows of each section in one file, in the order given."""
    files = {}
    for section in dict.fromkeys(spec.section for spec in rows):
        members = [spec for spec in rows if spec.section == section]
        values = [_values(spec, members[0].purpose) for spec in members]
        files[_file_name(section)] = _as_yaml({**_head(members[0]), "rows": values})
    return files


def write_rows(rows: Sequence[ExperimentSpec], folder: Path, replace: bool = False) -> list[Path]:
    """Write rows into a user's own folder of the catalogue (`./wishlist`), made if need be.

    Raises:
        InputError: a file is there already and `replace` is not set.
    """
    texts = {folder / name: text for name, text in rows_as_yaml(rows).items()}
    for path in texts:
        if path.exists() and not replace:
            raise InputError(f"{path} is there already; write elsewhere with -o, or replace it with --force")
    for path, text in texts.items():
        with atomic_write(path) as handle:
            handle.write(text)
    return list(texts)


def _head(spec: ExperimentSpec) -> dict[str, Any]:
    """What a file's rows share: section and, where there is one, purpose."""
    return {"section": spec.section, **({"purpose": spec.purpose} if spec.purpose else {})}


def _as_yaml(content: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=110)


def _file_name(section: str) -> str:
    return f"{re.sub(r'[^a-z0-9]+', '_', section.casefold()).strip('_') or 'rows'}.yaml"


def _values(spec: ExperimentSpec, purpose: str) -> dict[str, Any]:
    """A row's fields that differ from their defaults, without the purpose where it is the file's own."""
    values = spec.model_dump(mode="json", exclude_defaults=True, exclude={"section"})
    if spec.purpose == purpose:
        values.pop("purpose", None)
    return values
