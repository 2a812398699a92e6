"""The catalogue's rows: read from YAML, found by id, changed by `--set`, at laptop scale, in miniature."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from meta_spliceai import resources
from meta_spliceai.errors import InputError, unknown_value
from meta_spliceai.experiments.spec.experiment import (
    ENSEMBLE_TARGET,
    BaseSpec,
    ExperimentSpec,
    explain,
    fields,
    first_problem,
    parse_spec,
)
from meta_spliceai.resources.registry import DESCRIPTION
from meta_spliceai.splice_engine.meta_layer.settings import TRUNK, BoostingConfig

OWN_FOLDER = Path("wishlist")
"""A user's own rows, `./wishlist/*.yaml`, laid over the packaged ones."""

OWN_PRICES = OWN_FOLDER / "gpus.yaml"
"""A user's own GPUs and prices, laid over the packaged ones."""

_IDENTITY = {"id", "title", "section", "purpose", "scale", "smoke"}
"""Fields that say which row it is; `--set` leaves them alone."""

SCALES = ("full", "laptop")

_FILE_KEYS = {"section", "purpose", "column", "defaults", "rows"}
"""A file's section, the question its rows answer, the heading of the wishlist's middle column, what its rows share."""

Placed = tuple[ExperimentSpec, str]
"""A row with its place ("wishlist/mine.yaml, line 3")."""


def load_rows(own: Path | None = OWN_FOLDER) -> dict[str, ExperimentSpec]:
    """Every row by id: the packaged catalogue, then the user's own files over it.

    Args:
        own: folder with further YAML files; a row there takes the place of a packaged one with the same id.

    Raises:
        InputError: a file that is no YAML, an unknown or bad field, the same id twice, an ensemble of rows
            that cannot be combined; names file, line, row and field.
    """
    packaged = files("meta_spliceai.experiments.catalogue")
    found = _read_all(
        (entry.name, entry.read_text(encoding="utf-8")) for entry in packaged.iterdir() if _is_yaml(entry)
    )
    if own is not None and own.is_dir():
        # The user's GPUs and prices lie in the same folder.
        own_rows = (path for path in own.iterdir() if _is_yaml(path) and path.name != OWN_PRICES.name)
        found |= _read_all((str(path), read_text(path)) for path in own_rows)
    rows = {row_id: spec for row_id, (spec, _) in found.items()}
    for row_id, (spec, place) in found.items():
        check_members(spec, rows, f"{place}, row '{row_id}'")
    return rows


def find_row(rows: dict[str, ExperimentSpec], row_id: str) -> ExperimentSpec:
    """The row with this id; InputError names the nearest ids where there is none."""
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
        _assign(values, name, read_yaml(f"--set {assignment}", text)[1])
    return parse_spec(values, f"--set {' '.join(assignments)}")


def at_scale(spec: ExperimentSpec, scale: str) -> ExperimentSpec:
    """The row as it stands in the catalogue at one of its two sizes: `full`, the row itself, or `laptop`, with the
    values of its block `laptop`. InputError: no such scale, or a value there that is not allowed."""
    if scale not in SCALES:
        raise unknown_value("scale", scale, SCALES, where="--scale")
    if scale == "full":
        return spec
    values = _merged(spec.model_dump(mode="json"), spec.laptop) | {"scale": scale}
    return parse_spec(values, f"row '{spec.id}', block 'laptop'")


def member_of(spec: ExperimentSpec, row_id: str, rows: dict[str, ExperimentSpec]) -> ExperimentSpec:
    """A member of an ensemble as it is run for it: with the ensemble's seed and smallness, and with the ensemble's
    data, base network, split or training settings where those were changed from the catalogue.

    InputError: no such row in the catalogue.
    """
    member = find_row(rows, row_id)
    own = rows.get(spec.id)
    member, own = at_scale(member, spec.scale), at_scale(own, spec.scale) if own else None
    if spec.smoke:
        member, own = as_smoke(member), as_smoke(own) if own else None
    changed = {
        block: getattr(spec, block)
        for block in ("data", "base", "split")
        if own is not None and getattr(spec, block) != getattr(own, block)
    }
    trained = {
        field: getattr(spec.training, field)
        for field in type(spec.training).model_fields
        if own is not None and getattr(spec.training, field) != getattr(own.training, field)
    }
    training = member.training.model_copy(update={**trained, "seed": spec.seed})
    return member.model_copy(update={**changed, "training": training})


def scale_note(spec: ExperimentSpec) -> tuple[str, ...]:
    """What a reader of a result at laptop scale must know; nothing for a row at full scale."""
    if spec.scale == "full":
        return ()
    changed = ", ".join(f"{name} = {value}" for name, value in _set_by(spec.laptop, spec.model_dump(mode="json")))
    return (f"laptop scale: {changed or 'nothing differs from full scale'}",)


def _set_by(block: Mapping[str, Any], row: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    """Fields that a block names, with the values that they have in the row: `--set` may have changed them since."""
    for name, value in block.items():
        if isinstance(value, dict):
            yield from _set_by(value, row.get(name) or {}, f"{above}{name}.")
        else:
            yield f"{above}{name}", row.get(name)


def _assign(values: dict[str, Any], name: str, value: Any) -> None:
    known = [field for field in fields() if field not in _IDENTITY and not field.startswith(("wish.", "laptop"))]
    # Settings and options belong to an encoder, a head or a data set, which check them when they are built.
    open_blocks = ("encoder.settings.", "head.settings.", "data.options.")
    if name not in known and not name.startswith(open_blocks):
        raise unknown_value("field", name, known, where="--set")
    opened = next((block for block in open_blocks if name.startswith(block)), "")
    # What follows there is one name: "mfass.context" is an option for one member of a combined data set.
    *path, last = [*opened.split(".")[:-1], name.removeprefix(opened)] if opened else name.split(".")
    block = values
    for part in path:
        if block.get(part) is None:
            block[part] = {}
        block = block[part]
    block[last] = value


def _is_yaml(entry: Traversable) -> bool:
    return entry.name.endswith((".yaml", ".yml"))


def _read_all(texts: Iterable[tuple[str, str]]) -> dict[str, Placed]:
    """Rows with their places by id; the files in the order of their names."""
    rows: dict[str, Placed] = {}
    for name, text in sorted(texts):
        for spec, place in read_rows(name, text):
            if spec.id in rows:
                raise InputError(f"{place}: row id '{spec.id}' is already used at {rows[spec.id][1]}")
            rows[spec.id] = spec, place
    return rows


def read_rows(name: str, text: str) -> list[Placed]:
    """The rows of one file, each with its place.

    Args:
        name: the file, for messages.
        text: its YAML.

    Raises:
        InputError: no YAML, a field that is unknown, doubled or bad; names file, line, row, field and what is allowed.
    """
    tree, content = read_yaml(name, text)
    form = InputError(f"{name}: a catalogue file has a 'section' and a list of 'rows'")
    if tree is None or not isinstance(content, dict):
        raise form
    for key in content:
        if key not in _FILE_KEYS:
            raise unknown_value("field", key, sorted(_FILE_KEYS), where=f"{name}, line {line_of(tree, (key,))}")
    if not isinstance(content.get("rows"), list) or "section" not in content:
        raise form
    defaults = content.get("defaults") or {}
    if not isinstance(defaults, dict):
        raise InputError(
            f"{name}, line {line_of(tree, ('defaults',))}: 'defaults' is a block of fields, not {defaults!r}"
        )
    found = []
    for number, values in enumerate(content["rows"]):
        place = f"{name}, line {line_of(tree, ('rows', number))}"
        if not isinstance(values, dict):
            raise InputError(f"{place}: a row is a block of fields, not {values!r}")
        whole = _merged(defaults, values)
        whole = {"section": content["section"], "purpose": content.get("purpose", ""), **whole}
        if "column" in content and isinstance(whole.get("wish"), dict):
            whole["wish"] = {"column": content["column"], **whole["wish"]}
        try:
            spec = ExperimentSpec.model_validate(whole)
        except ValidationError as error:
            # The field's own line: in the row, else among what the file's rows share.
            field = first_problem(error)["loc"]
            starts: list[tuple[object, ...]] = [("rows", number), ("defaults",), ()]
            start = max(starts, key=lambda start: len(nodes_along(tree, (*start, *field))) - len(start))
            label = f", row '{values['id']}'" if "id" in values else ""
            raise InputError(f"{name}, line {line_of(tree, (*start, *field))}{label}: {explain(error)}") from error
        if spec.laptop:
            try:
                at_scale(spec, "laptop")
            except InputError as error:
                raise InputError(f"{place}: {error}") from error
        found.append((spec, place))
    return found


def _merged(defaults: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """The file's defaults under a row's own values, block by block."""
    merged = dict(defaults)
    for key, value in values.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def check_members(spec: ExperimentSpec, rows: Mapping[str, ExperimentSpec], where: str) -> None:
    """Whether the rows that an ensemble names can be combined at all; nothing for other rows.

    Args:
        spec: the row.
        rows: the catalogue.
        where: file and row, for the message.

    Raises:
        InputError: a member that is no row, or one that is not one model's prediction of validated Δ.
    """
    for member_id in spec.ensemble.members if spec.ensemble else ():
        if member_id not in rows:
            raise unknown_value("ensemble member", member_id, rows, where=f"{where}, field 'ensemble.members'")
        member = rows[member_id]
        why = ""
        if member.ensemble is not None:
            why = f"is an ensemble itself; name its members: {', '.join(member.ensemble.members)}"
        elif member.fusion is not None:
            why = "is a fusion, whose prediction is a probability and no Δ"
        elif member.split.folds is not None:
            why = "has folds; make a row of it with one split"
        elif member.target != ENSEMBLE_TARGET:
            why = f"learns '{member.target}'; only rows that learn '{ENSEMBLE_TARGET}' predict the same"
        if why:
            raise InputError(f"{where}: field 'ensemble.members': '{member_id}' {why}")


SMOKE_ROWS = 96
MOST_SMOKE_ROWS = 8 * SMOKE_ROWS
"""Variants that a smoke run draws at first, from every chromosome in turn, and at most: a draw is doubled for as long
as some part of the split would lack a class (see `prepare.rows_and_splits`)."""

SMOKE_WINDOW = 101
SMOKE_HIDDEN = 8
SMALL_TREES = {"most_trees": 10, "learning_rate": 0.3, "leaves": 4, "fewest_in_leaf": 5, "folds": 2, "seeds": 1}

SMOKE_NOTE = (
    f"a smoke run: a few variants, one base network where scores must be computed, windows of at most {SMOKE_WINDOW} "
    "bases, tiny sizes, one epoch, random initial weights, where nothing else was asked for; it shows that the row "
    "runs and says nothing about its model"
)


def smoke_notes(spec: ExperimentSpec) -> tuple[str, ...]:
    """What a reader of a smoke run's result must know."""
    if spec.procedure in ("single", "cross-validation") and spec.encoder.settings.get("weights") == "scratch":
        scratch = "has random weights (weights=scratch) in place of the published ones"
        return (SMOKE_NOTE, f"a smoke run: the encoder {spec.encoder.name} {scratch}")
    return (SMOKE_NOTE,)


@lru_cache(maxsize=1)
def packaged_network() -> dict[str, Any]:
    """What the packaged scores are of: network, networks (their number), digest, flank, channels, distance, digits,
    licence, citation."""
    content = json.loads(resources.resolve_file("packaged-human", DESCRIPTION).read_text(encoding="utf-8"))
    return dict(content["scores"])


def is_packaged(wanted: BaseSpec) -> bool:
    """Whether scores of this network, all its members, at this distance travel with the package."""
    about = packaged_network()
    every = wanted.members is None or wanted.members == tuple(range(about["networks"]))
    return every and (wanted.name, wanted.distance, wanted.precision) == (about["network"], about["distance"], "fp32")


def travel_with_package(spec: ExperimentSpec) -> bool:
    """Whether a row needs no base network of its own, because all its base scores travel with the package."""
    return spec.data.name == "packaged-human" and is_packaged(spec.base)


def as_smoke(spec: ExperimentSpec) -> ExperimentSpec:
    """The row in miniature, to see that it runs, and never a result: everything small; encoder, head, target and split
    stay what they are. A pretrained encoder gets random weights, because a smoke run downloads nothing."""
    settings: dict[str, Any] = {**spec.encoder.settings, "hidden_dim": SMOKE_HIDDEN}
    if spec.encoder.name.startswith("hyenadna"):
        settings["weights"] = "scratch"
    elif spec.encoder.name.endswith(TRUNK):
        settings["members"] = 1
    else:
        settings.pop("layers", None)
    fusion = spec.fusion
    if fusion is not None:
        trees = fusion.settings.model_copy(update={"trees": BoostingConfig.from_mapping(SMALL_TREES)})
        beside = tuple(network.model_copy(update={"members": (0,)}) for network in fusion.beside)
        fusion = fusion.model_copy(update={"beside": beside, "settings": trees})
    training = {"epochs": 1, "batch_size": 16, "accumulate": 1, "patience": 0, "precision": "float32"}
    drawn = {"rows": SMOKE_ROWS, "labelled_only": True, "balanced": True}
    small = {
        "smoke": True,
        "data": spec.data.model_copy(update=drawn),
        "base": spec.base if travel_with_package(spec) else spec.base.model_copy(update={"members": (0,)}),
        "window": min(spec.window, SMOKE_WINDOW),
        "encoder": spec.encoder.model_copy(update={"settings": settings}),
        "training": spec.training.model_copy(update=training),
        "bootstrap": 20,
        "evidence": "none",
        "fusion": fusion,
    }
    return spec.model_copy(update=small)


MOST_VALUES = 100_000
"""Values of a YAML file, aliases written out; the packaged catalogue has a few thousand."""


def read_text(path: Path) -> str:
    """A file's text; InputError where it is none."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def read_yaml(name: str, text: str) -> tuple[yaml.Node | None, Any]:
    """The tree of a YAML text, which knows its lines, and its content.

    Args:
        name: the file, for messages.
        text: the YAML.

    Raises:
        InputError: no YAML, or a field that stands twice in one block; names file, line and field.
    """
    try:
        loader = yaml.SafeLoader(text)
        tree = loader.get_single_node()
        if tree is not None and _checked_size(name, tree, {}) > MOST_VALUES:
            raise InputError(f"{name}: more than {MOST_VALUES:,} values, with what its aliases (*name) repeat")
        return tree, None if tree is None else loader.construct_document(tree)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or a number that is none
        mark = getattr(error, "problem_mark", None)
        where = f"{name}, line {mark.line + 1}" if mark is not None else name
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise InputError(f"{where}: not valid YAML ({problem})") from error
    except RecursionError as error:
        raise InputError(f"{name}: not valid YAML (nested too deeply)") from error


def _checked_size(name: str, node: yaml.Node, sizes: dict[int, int]) -> int:
    """Values in a node, with what each alias repeats, once no key stands twice in one block (YAML's reader would keep
    the last one without a word). `sizes`: of nodes seen before."""
    if id(node) in sizes:
        return sizes[id(node)]
    sizes[id(node)] = MOST_VALUES + 1  # for a block within itself, which never ends
    parts: list[yaml.Node] = [] if isinstance(node, yaml.ScalarNode) else node.value
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise InputError(f"{name}, line {line}: the name of a field is a word, not a block")
            if key.value in first:
                raise InputError(
                    f"{name}, line {line}: field '{key.value}' stands twice, first on line {first[key.value]}"
                )
            first[key.value] = line
        parts = [*chain(*node.value)]
    sizes[id(node)] = 1 + sum(_checked_size(name, part, sizes) for part in parts)
    return sizes[id(node)]


def line_of(tree: yaml.Node, path: Sequence[object]) -> int:
    """The 1-based line of the deepest node along a path of keys and places."""
    nodes = nodes_along(tree, path)
    return (nodes[-1] if nodes else tree).start_mark.line + 1


def nodes_along(tree: yaml.Node, path: Sequence[object]) -> list[yaml.Node]:
    """The nodes along a path of keys and places, as far as the file has them; a key stands for its own node."""
    nodes = []
    for step in path:
        if isinstance(tree, yaml.MappingNode):
            pair = next(((key, value) for key, value in tree.value if key.value == str(step)), None)
            if pair is None:
                break
            nodes.append(pair[0])
            tree = pair[1]
        elif isinstance(tree, yaml.SequenceNode) and isinstance(step, int) and step < len(tree.value):
            tree = tree.value[step]
            nodes.append(tree)
        else:
            break
    return nodes
